"""Evaluate a run or a bundle as zero-shot retrieval, or search a gallery for one description.

python eval.py --workdir runs/rendered_market [--split test|validation] [--protocol category]
python eval.py --checkpoint DIR [--data_dir DIR] [--output_dir DIR]
python eval.py --workdir runs/rendered_market --query "female, long hair, red upper" [--top 20]
python eval.py --workdir runs/rendered_market --export_dir DIR
On several hosts, each with the same command: --distributed (README, Many devices, many hosts).
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import command_line
import experiment
import inside
from experiment import Config
from input_pipeline import preprocessing, splits
from input_pipeline.attributes import Schema
from jsreid_jax import (
    comparison,
    evaluation,
    export,
    hosts,
    pictures,
    protocols,
    report,
    retrieval,
)
from jsreid_jax.errors import ModelError
from jsreid_jax.types import PyTree
from trained_model import (
    OF_FOLDER,
    OF_MACHINE,
    Model,
    Searcher,
    before_adversary,
    choose_weights,
    load_bundle,
    load_run,
    read_set,
)

# Images of which the report shows where the model looks.
_LOOKS = 4
# In the picture of a search: images, and pixels along the longer side of each.
_MOST_PICTURED = 50
_LARGEST_SHOWN = 512

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of train.py.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of a bundle (--export_dir).")
_WHICH = flags.DEFINE_enum(
    "which", "best", ["best", "last"], "Checkpoint of the run: validation's choice, or the last."
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol", None, protocols.PROTOCOLS, "Evaluation protocol, if not the config's."
)
_QUERY = flags.DEFINE_string(
    "query", None, "A description to search the gallery for; groups that it leaves out are open."
)
_TOP = flags.DEFINE_integer("top", 20, "Images that --query lists.", lower_bound=1)
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "What to rank.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Data set to evaluate on, if not the run's own.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where results go; by default eval_<split> in the run or bundle."
)
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "Write the bundle for evaluation here.")
_FIELDS = command_line.define_field_flags((*OF_MACHINE, *OF_FOLDER))
command_line.define_host_flags()


def main(argv: Sequence[str]) -> None:
    """Command line of evaluation."""
    del argv
    if (_WORKDIR.value is None) == (_CHECKPOINT.value is None):
        raise ModelError("expected either --workdir or --checkpoint, and not both: give one")
    _refuse_ignored_flags()
    command_line.join_hosts()
    source = Path(_WORKDIR.value or str(_CHECKPOINT.value))
    overrides = {name: flag.value for name, flag in _FIELDS.items() if flag.present}
    model = (
        load_run(source, _WHICH.value, overrides)
        if _WORKDIR.value
        else load_bundle(source, overrides)
    )
    hosts.check_agreement({"checkpoint": str(model.description["step"])})
    choose_weights(model)
    if _EXPORT_DIR.value is not None and hosts.is_first():
        export.write_bundle(Path(_EXPORT_DIR.value), model.variables, model.description)
        print(f"Bundle written to {_EXPORT_DIR.value}")
    if _EXPORT_DIR.value is not None and not _asks_too():
        return
    output_dir = Path(_OUTPUT_DIR.value or source / _question(model))
    if _QUERY.value is not None:
        search(model, _QUERY.value, data_dir=_DATA_DIR.value, output_dir=output_dir, top=_TOP.value)
    else:
        evaluate(
            model,
            split=_SPLIT.value,
            protocol=_PROTOCOL.value or model.config.eval.protocol,
            data_dir=_DATA_DIR.value,
            output_dir=output_dir,
            before=before_adversary(source, model) if _WORKDIR.value else None,
        )
    hosts.leave()


def _asks_too() -> bool:
    """Whether a flag besides --export_dir asks for an evaluation or a search."""
    return any(f.present for f in (_QUERY, _SPLIT, _PROTOCOL, _DATA_DIR, _OUTPUT_DIR))


def _refuse_ignored_flags() -> None:
    """Raise ModelError for a flag that would not count."""
    reasons = {
        "--workdir": _WORKDIR.value == "" and "it is empty: give the folder of a run",
        "--export_dir": _EXPORT_DIR.value == "" and "it is empty: give the bundle's folder",
        "--which": (_WHICH.present and _CHECKPOINT.value is not None)
        and "a bundle holds one checkpoint: leave it out, or give --workdir",
        "--distributed": (flags.FLAGS.distributed and _EXPORT_DIR.value is not None)
        and "one host writes a bundle: leave it out with --export_dir",
        "--split": (_SPLIT.present and _QUERY.value is not None)
        and "--query searches the test images: leave it out",
        "--protocol": (_PROTOCOL.present and _QUERY.value is not None)
        and "--query is judged by no protocol: leave it out",
    }
    reasons |= {
        f"--config.{name}": (_FIELDS[name].present and _DATA_DIR.value is None)
        and "it is of the folder --data_dir: give that too"
        for name in OF_FOLDER
    }
    for flag, reason in reasons.items():
        if reason:
            raise ModelError(f"{flag} would not count, {reason}")


def _question(model: Model) -> str:
    """A folder name for what is asked, so that one answer does not overwrite another's."""
    parts = ["eval", _SPLIT.value]
    if _QUERY.value is not None:
        words = re.findall(r"[a-z0-9]+", _QUERY.value.lower())
        parts = ["query", *words[:8]]
        # What the name leaves out still tells it from another.
        if len(words) > 8 or not _QUERY.value.isascii():
            parts.append(hashlib.sha256(_QUERY.value.encode()).hexdigest()[:6])
    elif _PROTOCOL.value and _PROTOCOL.value != model.config.eval.protocol:
        parts.append(_PROTOCOL.value)
    if model.description["which"] == "last":
        parts.append("last")
    if _DATA_DIR.value:
        folder = Path(_DATA_DIR.value).resolve()
        # Folders of one name are told apart.
        parts += ["on", folder.name, hashlib.sha256(str(folder).encode()).hexdigest()[:6]]
    return "_".join(parts)


def evaluate(
    model: Model,
    *,
    split: str,
    protocol: str,
    data_dir: str | None,
    output_dir: Path,
    before: tuple[int, PyTree] | None = None,
) -> None:
    """Rank a split, print the report, and write it with its page and picture into output_dir.

    Several hosts rank together, the first one reports.

    before: step and variables from just before the adversary began.
    """
    config = model.config
    retrieval_set = splits.labelled(read_set(model, split=split, data_dir=data_dir))
    hosts.check_agreement({f"{split} set": splits.digest(retrieval_set)})
    if split == "validation" and protocol == "per_image":
        raise ModelError(
            "config.eval.protocol is per_image, but validation images are carved from the training "
            "split and hold no query images: use --protocol category"
        )
    candidates = experiment.candidates(retrieval_set)
    task = protocols.create_task(protocol, candidates)
    searcher = Searcher(model)
    images = [retrieval_set.images[i] for i in task.images]
    gallery = searcher.images(images)
    queries = searcher.descriptions(task.queries)
    seen = retrieval_set.seen[task.category]
    judgement = evaluation.judge(
        task,
        queries,
        gallery,
        seen,
        block_size=config.eval.block_size,
        top_k=config.eval.pictured_images,
        second_look=searcher.second_look(task.queries, images) if config.eval.rerank else None,
        look_at=config.eval.rerank,
    )
    attributes = retrieval_set.attributes[task.images]
    result = {
        "protocol": task.protocol,
        "protocol_says": protocols.EXPLANATIONS[task.protocol],
        "average_precision": task.average_precision,
        "ties": "by gallery index",
        "score": {
            "kind": config.eval.score,
            "fusion_weight": model.description.get("fusion_weight"),
            # Weights, by validation; else the smallest was taken.
            "chosen": config.data.validation_fraction > 0,
            "reranked": config.eval.rerank,
            "rerank_weight": model.description.get("rerank_weight"),
        },
        "split": split,
        "data": {"name": config.data.name, "dir": data_dir or config.data.dir},
        "step": model.description["step"],
        "which": model.description["which"],
        "queries": len(task.queries),
        "gallery": len(task.images),
        "metrics": judgement.metrics,
        "intervals": evaluation.bootstrap(task, judgement, seen, seed=config.seed),
        "cmc": judgement.cmc,
        "wrong_top1": evaluation.wrong_top1(
            task, judgement, attributes, model.schema.group_names, model.schema.group_sizes
        ),
        "partial": partial_queries(model, searcher, task, gallery, attributes, seen),
    }
    result["single_groups"] = inside.single_groups(model, searcher, task, gallery, attributes)
    result["modalities"], points = None, []
    # Recognition does not use the joint space.
    if config.eval.score != "recognition":
        result["modalities"], points = inside.both_modalities(
            config,
            searcher,
            task,
            queries,
            gallery,
            images,
            retrieval_set.label[task.images],
            step=model.description["step"],
            before=before,
        )
    result = experiment.without_nan(result)
    if not hosts.is_first():
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    # Written last, because its presence says that the evaluation is complete.
    (output_dir / "metrics.json").unlink(missing_ok=True)
    pictured = _pictured_queries(config, len(task.queries))
    lists = _ranked_lists(model.schema, retrieval_set, task, judgement, seen, pictured)
    picture, page = output_dir / "ranked_lists.png", output_dir / "report.html"
    pictures.draw_ranked_lists(picture, lists)
    shown = [query for query in pictured if judgement.top[query, 0] >= 0][:_LOOKS]
    looks = inside.where_it_looks(
        model.schema,
        searcher,
        task.queries[shown],
        [images[judgement.top[query, 0]] for query in shown],
    )
    experiment.write_text(page, report.html(result, lists, looks, points))
    descriptions = [model.schema.describe(query) for query in task.queries]
    per_query = comparison.Queries(descriptions, seen, judgement.per_query)
    experiment.write_text(output_dir / "per_query.csv", comparison.as_csv(per_query))
    experiment.write_json(output_dir / "metrics.json", result)
    print(table(result))
    print(f"Written: {output_dir / 'metrics.json'}, {page}, {picture}")


def partial_queries(
    model: Model,
    searcher: Searcher,
    task: protocols.Task,
    gallery: np.ndarray,
    attributes: np.ndarray,
    seen: np.ndarray,
) -> dict[str, Any]:
    """Metrics against the number of groups that a query knows, from one to all; not re-ranked."""
    sizes = model.schema.group_sizes
    curve = []
    for known in range(1, len(sizes) + 1):
        part = protocols.partial_task(task, attributes, sizes, known=known, seed=model.config.seed)
        judgement = evaluation.judge(
            part,
            searcher.descriptions(part.queries),
            gallery,
            seen,
            block_size=model.config.eval.block_size,
        )
        curve.append({"known": known} | judgement.metrics)
    return {"groups": len(sizes), "curve": curve}


def search(model: Model, text: str, *, data_dir: str | None, output_dir: Path, top: int) -> None:
    """Rank the gallery for one typed description and write the best images into output_dir."""
    description = model.schema.parse(text)
    known = model.schema.understood(description)
    retrieval_set = read_set(model, split="test", data_dir=data_dir)
    searcher = Searcher(model)
    [query] = searcher.descriptions(description[None])
    scores = searcher.images(retrieval_set.images) @ query
    best = np.argsort(-scores, kind="stable")[: max(top, model.config.eval.rerank)]
    if rerank := min(model.config.eval.rerank, len(best)):
        second_look = searcher.second_look(description[None], retrieval_set.images)
        [again] = second_look(best[None, :rerank], scores[best][None, :rerank])
        order = np.argsort(-again, kind="stable")
        best[:rerank] = best[order]
        scores[best[:rerank]] = again[order]
    best = best[:top].tolist()
    if not hosts.is_first():
        return
    right, undecided = protocols.match(description[None], retrieval_set.attributes[best])
    verdict: dict[int, bool | None] = dict.fromkeys(range(len(best)), False)
    verdict |= dict.fromkeys(right.gallery.tolist(), True)
    verdict |= dict.fromkeys(undecided.gallery.tolist(), None)
    names = [retrieval_set.file_name[row] for row in best]
    said = ", ".join(f"{group}: {value}" for group, value in known.items())
    left_open = [group for group in model.schema.group_names if group not in known]
    print(f"Understood as {said}; left open: {', '.join(left_open) or 'nothing'}")
    print(f"{'rank':>4} {'score':>7}  {'label':<6} file")
    for place, (row, name) in enumerate(zip(best, names, strict=True)):
        word = {True: "right", False: "wrong", None: "?"}[verdict[place]]
        print(f"{place + 1:>4} {scores[row]:>7.4f}  {word:<6} {name}")
    output_dir.mkdir(parents=True, exist_ok=True)
    result = {
        "query": text,
        "understood": known,
        "gallery": len(scores),
        "images": [
            {"rank": place + 1, "file": name, "score": float(scores[row]), "right": verdict[place]}
            for place, (row, name) in enumerate(zip(best, names, strict=True))
        ],
    }
    experiment.write_json(output_dir / "ranking.json", result)
    images = [
        _ranked_image(retrieval_set, row, verdict[place])
        for place, row in enumerate(best[:_MOST_PICTURED])
    ]
    ranked = pictures.RankedList(title=text, novelty="", images=images)
    pictures.draw_ranked_lists(output_dir / "ranked_lists.png", [ranked])
    print(f"Written: {output_dir / 'ranking.json'}, {output_dir / 'ranked_lists.png'}")


def _title(schema: Schema, query: np.ndarray) -> str:
    """A description for a heading, with the groups that its labels leave open."""
    known = schema.understood(query)
    left_open = [name.replace("_", " ") for name in schema.group_names if name not in known]
    said = schema.describe(query, mention_absent=False)
    return f"{said}; open: {', '.join(left_open)}" if left_open else said


def _ranked_lists(
    schema: Schema,
    retrieval_set: splits.RetrievalSet,
    task: protocols.Task,
    judgement: evaluation.Judgement,
    seen: np.ndarray,
    pictured: Sequence[int],
) -> list[pictures.RankedList]:
    """The best images of some queries, with what is right among them."""
    positives_of = protocols.rows_of(task.positives)
    lists = []
    for query in pictured:
        rows = [int(place) for place in judgement.top[query] if place >= 0]
        positives = set(positives_of[query].tolist())
        lists.append(
            pictures.RankedList(
                title=_title(schema, task.queries[query]),
                novelty="seen" if seen[query] else "unseen",
                images=[
                    _ranked_image(retrieval_set, int(task.images[row]), row in positives)
                    for row in rows
                ],
            )
        )
    return lists


def _ranked_image(
    retrieval_set: splits.RetrievalSet, row: int, right: bool | None
) -> pictures.RankedImage:
    return pictures.RankedImage(
        pixels=_shown(retrieval_set.images[row]),
        caption=retrieval_set.file_name[row],
        right=right,
    )


def _shown(encoded: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of an encoded image, large ones made smaller: lists hold many."""
    pixels = preprocessing.decode(encoded).numpy()  # pyright: ignore
    step = -(-max(pixels.shape[:2]) // _LARGEST_SHOWN)
    return pixels[::step, ::step]


def _pictured_queries(config: Config, queries: int) -> list[int]:
    """Some queries, drawn evenly by the run's seed."""
    rng = np.random.default_rng(config.seed)
    count = min(config.eval.pictured_queries, queries)
    return np.sort(rng.choice(queries, count, replace=False)).tolist()


def _scored_by(result: dict[str, Any]) -> str:
    """How images were scored, for a sentence."""
    score = result["score"]
    weight = score["fusion_weight"]
    again = ""
    if score["reranked"]:
        again = f", the best {score['reranked']} ranked again (weight {score['rerank_weight']})"
    return score["kind"] + (f" (weight {weight})" if weight is not None else "") + again


def table(result: dict[str, Any]) -> str:
    """The report as text, metrics in per cent; both forms of average precision."""
    names = [*(f"rank{k}" for k in retrieval.RANKS), "mAP", "mAP_step", "mAP_trapezoid", "mINP"]
    lines = [
        f"protocol {result['protocol']}: {result['protocol_says']}",
        f"mAP is the {result['average_precision']} form; images scored by {_scored_by(result)}",
        f"split {result['split']} of {result['data']['dir']}, {result['which']} checkpoint, "
        f"step {result['step']}: {result['queries']} queries x {result['gallery']} images",
        f"{'':8}{'queries':>9}" + "".join(f"{name:>{max(8, len(name) + 2)}}" for name in names),
    ]
    for subset, metrics in result["metrics"].items():
        cells = "".join(
            f"{report.percent(metrics[name]):>{max(8, len(name) + 2)}}" for name in names
        )
        lines.append(f"{subset:8}{metrics['valid_queries']:>9}{cells}")
    for name in ("rank1", "mAP"):
        spans = [
            f"{subset} {report.percent(low)} to {report.percent(high)}"
            for subset, intervals in result["intervals"].items()
            for low, high in [intervals[name]]
        ]
        lines.append(f"95 % interval of {name}: {', '.join(spans)}")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main)
