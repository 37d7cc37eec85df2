"""A look inside a trained model, for its report: where it looks, single groups, both modalities."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiment import Config
from input_pipeline import preprocessing
from input_pipeline.attributes import Schema
from jsreid_jax import evaluation, modalities, pictures, protocols
from jsreid_jax.types import PyTree
from trained_model import Model, Searcher

# Of how many images and descriptions the modalities are compared, drawn evenly.
_IMAGES, _DESCRIPTIONS = 600, 300


def single_groups(
    model: Model,
    searcher: Searcher,
    task: protocols.Task,
    gallery: np.ndarray,
    attributes: np.ndarray,
) -> list[dict[str, Any]]:
    """How well each single answer is found, "hat" or "red upper", and nothing else asked.

    share: of the gallery's images that are right, about what a random order's AP would be.
    """
    schema = model.schema
    single, groups = protocols.single_group_task(task, attributes, schema.group_sizes)
    if not len(groups):
        return []
    judgement = evaluation.judge(
        single,
        searcher.descriptions(single.queries),
        gallery,
        np.zeros(len(groups), bool),
        block_size=model.config.eval.block_size,
    )
    found = judgement.per_query
    counts = np.diff(single.positives.starts)
    return [
        {
            "group": schema.group_names[group],
            "value": schema.understood(query)[schema.group_names[group]],
            "share": float(count / len(gallery)),
            "rank1": float(found["rank1"][row]),
            "AP": float(found[f"AP_{task.average_precision}"][row]),
        }
        for row, (group, query, count) in enumerate(
            zip(groups, single.queries, counts, strict=True)
        )
    ]


def both_modalities(
    config: Config,
    searcher: Searcher,
    task: protocols.Task,
    queries: np.ndarray,
    gallery: np.ndarray,
    images: Sequence[bytes],
    label: np.ndarray,
    *,
    step: int,
    before: tuple[int, PyTree] | None,
) -> tuple[dict[str, Any], list[tuple[str, tuple[np.ndarray, np.ndarray]]]]:
    """How far the modalities can be told apart, now and just before the adversary began.

    Args:
        config: of the run.
        searcher: with the model.
        task: whose descriptions and gallery are compared.
        queries: (Q, V) vectors of its descriptions.
        gallery: (G, V) vectors of its images.
        images: the same, encoded.
        label: (G,) category of each, -1 where nothing is known.
        step: of the model.
        before: step and variables from before the adversary.

    Returns:
        {"probe", "step", "before": {"probe", "step"} or None}, and titled pairs of points of images
        and descriptions, the earlier first.
    """
    rng = np.random.default_rng(config.seed)
    known = np.flatnonzero(label >= 0)
    rows = np.sort(rng.permutation(known)[:_IMAGES])
    categories, first = np.unique(task.category, return_index=True)
    chosen = np.sort(rng.permutation(len(categories))[:_DESCRIPTIONS])
    asked = first[chosen]

    def look(
        of_images: np.ndarray, of_descriptions: np.ndarray
    ) -> tuple[float, tuple[np.ndarray, np.ndarray] | None]:
        pair = of_images[:, : searcher.width], of_descriptions[:, : searcher.width]
        labels = label[rows], categories[chosen]
        return (
            modalities.probe(*pair, *labels, seed=config.seed),
            modalities.project(*pair, seed=config.seed),
        )

    probe, points = look(gallery[rows], queries[asked])
    found: dict[str, Any] = {"probe": probe, "step": step, "before": None}
    shown = [(f"step {step:,}", points)]
    if before is not None:
        early_step, variables = before
        early = searcher.with_variables(variables)
        early_probe, early_points = look(
            early.images([images[row] for row in rows]), early.descriptions(task.queries[asked])
        )
        found["before"] = {"probe": early_probe, "step": early_step}
        shown = [
            (f"before the adversary, step {early_step:,}", early_points),
            (f"with the adversary, step {step:,}", points),
        ]
    return found, [(title, points) for title, points in shown if points is not None]


def where_it_looks(
    schema: Schema, searcher: Searcher, descriptions: np.ndarray, images: Sequence[bytes]
) -> list[pictures.Looks]:
    """Attention maps drawn over images, one picture per group.

    descriptions: (N, A), one for each of the N encoded images; of conditioned attention the groups
    that it leaves open are not shown.
    """
    if not len(images):
        return []
    found = searcher.attention(descriptions, images)
    shown = []
    for row, (description, image) in enumerate(zip(descriptions, images, strict=True)):
        pixels: np.ndarray = preprocessing.decode(image).numpy()  # pyright: ignore
        known = schema.understood(description)
        for kind, maps in found.items():
            overlays = [
                (name.replace("_", " "), pictures.overlay(pixels, maps[row, group]))
                for group, name in enumerate(schema.group_names)
                if kind == "guided" or name in known
            ]
            shown.append(
                pictures.Looks(
                    title=schema.describe(description, mention_absent=False),
                    kind=kind,
                    pixels=pixels,
                    overlays=overlays,
                )
            )
    return shown
