"""Train the joint embedder and its adversary in turn, as a config says; resumes where it stopped.

python train.py --config configs/rendered_market.py --workdir runs/rendered_market [--config.x=y]
On several hosts, each with the same command: --distributed (README, Many devices, many hosts).
Exit code 0 also after SIGTERM: the run is saved, and the same command goes on.
"""

import contextlib
import functools
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags, logging
from clu import metric_writers, parameter_overview, periodic_actions
from ml_collections import config_flags

import command_line
import config_check
import experiment
from experiment import Config
from input_pipeline import device_batches, pipeline, splits
from input_pipeline.augmentation import Augmentation
from input_pipeline.datasets.records import DataSet
from input_pipeline.whole_folder import only_writer
from jsreid_jax import comparison, evaluation, hosts, parallel
from jsreid_jax.checkpoints import Checkpoints, pacing
from jsreid_jax.errors import ModelError
from jsreid_jax.pretrained import with_pretrained_backbone
from jsreid_jax.train_state import create_train_state
from jsreid_jax.train_step import train_step
from jsreid_jax.types import Array, Batch, TrainState

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, results.")
_PROFILE = flags.DEFINE_integer(
    "profile", 0, "Write a trace of so many steps to WORKDIR/profile.", lower_bound=0
)
command_line.define_host_flags()
flags.mark_flags_as_required(["config", "workdir"])

# Steps before the profiler's first: they compile, and fill the queues of batches.
PROFILED_FROM = 5


def main(argv: Sequence[str]) -> None:
    """Command line of training."""
    del argv
    workdir = Path(str(_WORKDIR.value))
    config_check.check_training(_CONFIG.value)
    experiment.check_workdir(_CONFIG.value, workdir)
    finished = workdir / "finished.json"
    if finished.exists():
        logging.info("%s: this run is finished: %s", workdir, finished.read_text().strip())
        return
    command_line.end_well_when_terminated()
    command_line.join_hosts()
    with contextlib.ExitStack() as stack:
        # Of several hosts one that ended by itself would be missed: all stop after their next step.
        joined = jax.distributed.is_initialized()
        told = stack.enter_context(command_line.stop_signals()) if joined else None
        experiment.set_up_devices(_CONFIG.value)
        stopped = train_and_evaluate(
            _CONFIG.value, workdir, profiled_steps=_PROFILE.value, told_to_stop=told
        )
        hosts.leave()
    if stopped == signal.SIGINT:
        sys.exit(command_line.INTERRUPTED_EXIT_CODE)


def train_batches(
    config: Config, train: splits.TrainSet, group_sizes: Sequence[int], start_step: int
) -> Iterator[Batch]:
    """The run's batches from start_step on, on their devices."""
    data = config.data
    batches = pipeline.train_batches(
        train.images,
        train.attributes,
        train.label,
        group_sizes=group_sizes,
        batch_size=config.train.batch_size,
        image_size=experiment.image_size(config),
        augmentation=Augmentation(
            flip=data.flip,
            crop=data.crop,
            erase=data.erase,
            brightness=data.brightness,
            contrast=data.contrast,
        ),
        description_dropout=data.description_dropout,
        seed=config.seed,
        start_step=start_step,
        host_index=jax.process_index(),
        host_count=jax.process_count(),
    )
    devices = jax.local_device_count()
    split = (Batch(**device_batches.split_batch(batch, devices)) for batch in batches)
    return parallel.prefetch_to_devices(split)


def train_and_evaluate(
    config: Config,
    workdir: Path,
    *,
    profiled_steps: int = 0,
    told_to_stop: Sequence[int] | None = None,
) -> int | None:
    """The whole run: data, model, steps, validation, checkpoints; from the newest checkpoint on.

    profiled_steps: of so many steps, once the first ones are over, JAX's profiler writes a trace.
    told_to_stop: signals that came, from `command_line.stop_signals`; None: taken from the first
        step on.

    Returns None at its end, or the signal that stopped it before; then the last step is saved.
    """
    data = experiment.load_data(config)
    train, validation = splits.train_and_validation(
        data, validation_fraction=config.data.validation_fraction, seed=config.seed
    )
    _warn_of_doubts(config, data, validation)
    steps_per_epoch = max(len(train.images) // config.train.batch_size, 1)
    if config.train.batch_size > len(train.images):
        logging.warning(
            "config.train.batch_size is %d, but there are %d training images: every step sees some "
            "of them more than once, a smaller one trains better",
            config.train.batch_size,
            len(train.images),
        )
    num_train_steps = round(config.train.num_epochs * steps_per_epoch)
    logging.info(
        "%d images of %d categories to train on, %d steps of %d images on %d devices",
        len(train.images),
        len(train.categories),
        num_train_steps,
        config.train.batch_size,
        jax.device_count(),
    )
    if validation is not None:
        logging.info(
            "%d images of %d descriptions to validate on",
            len(validation.images),
            len(validation.categories),
        )
    code = experiment.code_version()
    digest = splits.digest(train)
    judged_by = "" if validation is None else splits.digest(validation)
    hosts.check_agreement({"training set": digest, "validation set": judged_by})

    embedder = experiment.create_embedder(config, data.schema, len(train.categories))
    game = experiment.create_game(config, embedder)
    options = experiment.create_options(
        config, train, steps_per_epoch=steps_per_epoch, num_train_steps=num_train_steps
    )
    state = create_train_state(
        game,
        seed=config.seed,
        image_size=experiment.image_size(config),
        num_attributes=data.schema.num_attributes,
    )
    if config.model.pretrained:
        file = Path(config.model.pretrained)
        state = with_pretrained_backbone(state, file, config.model.backbone)
    state = parallel.replicate(state)

    adversary_begins = experiment.adversary_begins(
        config, steps_per_epoch=steps_per_epoch, num_train_steps=num_train_steps
    )
    meta = {
        "schema": data.schema.to_dict(),
        "num_categories": len(train.categories),
        # What an evaluation on any data calls seen.
        "seen_categories": experiment.as_text(data.listing.train_categories),
        "data": digest,
        # The checkpoint from just before it is kept, to see what the adversary does.
        "adversary_begins": adversary_begins,
    }
    with contextlib.ExitStack() as stack:
        if hosts.is_first():
            # A second run in this folder is refused; the lock goes with the process.
            stack.enter_context(only_writer(workdir / "checkpoints", wait=False))
            # Again: another run may have begun here in the meantime.
            experiment.check_workdir(config, workdir)
            if not (workdir / "config.json").exists():
                experiment.write_json(workdir / "config.json", experiment.as_json(config))
        hosts.wait_for_all("the workdir is there")
        if not _appears(workdir / "config.json"):
            raise ModelError(
                f"{workdir}: host {jax.process_index()} does not see what host 0 wrote there; "
                "expected a folder that all hosts share (a network file system)"
            )
        checkpoints = stack.enter_context(
            Checkpoints(workdir / "checkpoints", keep=adversary_begins)
        )
        start_step, before, state = resume(checkpoints, state, meta, config.data.dir)
        seconds = before.get("seconds", 0.0)
        # Nothing is there before the first validation, and in runs that older code began.
        highest = highest_validation(before, judged_by)
        # Of the part that each version of the code has trained; a study asks before it compares.
        versions = before.get("code", [])
        versions = versions if versions[-1:] == [code] else [*versions, code]
        hosts.check_agreement({"newest checkpoint": str(start_step)})
        step_fn = parallel.parallel_step(functools.partial(train_step, game, options))
        batches = train_batches(config, train, data.schema.group_sizes, start_step)
        writer = create_writer(workdir)
        actions: list[periodic_actions.PeriodicAction] = [
            periodic_actions.ReportProgress(num_train_steps=num_train_steps, writer=writer),
            *traces(workdir, start_step, num_train_steps, profiled_steps),
        ]
        embedders = evaluation.Embedders(
            embedder, mirror=config.eval.mirror, score=config.eval.score
        )
        watch = GameWatch()
        eval_every_steps = max(round(config.train.eval_every_epochs * steps_per_epoch), 1)
        history: list[dict[str, Array]] = []
        if told_to_stop is None:
            told_to_stop = stack.enter_context(command_line.stop_signals())
        stopping = hosts.Stops(told_to_stop)
        save_every_steps, whole_after = pacing(config.train.checkpoint_every_steps)
        saved = start_step
        since = time.monotonic()
        for step in range(start_step + 1, num_train_steps + 1):
            if step == saved + whole_after + 1:
                checkpoints.wait()
            state, metrics = step_fn(state, next(batches))
            history.append(metrics)
            for action in actions:
                action(step)
            stops = stopping.after_step()
            evaluates = step % eval_every_steps == 0 or step == num_train_steps
            is_time = step - saved >= save_every_steps
            saves = evaluates or stops or is_time or step == adversary_begins
            if saves or step % config.train.log_every_steps == 0:
                means = summarise(history, step)
                writer.write_scalars(step, means)
                if warning := watch.see(means, len(history)):
                    logging.warning("step %d: %s", step, warning)
                history.clear()
            if not saves:
                continue
            # The metrics have just been read, so every step so far is computed.
            seconds += time.monotonic() - since
            scores, is_chosen = None, False
            if evaluates and validation is not None:
                scores, precisions = experiment.validate(
                    config, embedders, state.variables, validation
                )
                writer.write_scalars(step, {f"validation/{k}": v for k, v in scores.items()})
                is_chosen, highest = comparison.choose(precisions, highest)
            told = {
                "seconds": seconds,
                "code": versions,
                "validation": scores,
                "best_validation": {"of": judged_by, "average_precisions": highest},
            }
            checkpoints.save(step, state, meta | told, scores, is_chosen=is_chosen)
            saved = step
            if stops and step < num_train_steps:
                checkpoints.wait()
                writer.close()
                logging.info(
                    "Told to stop: step %d of %d is saved, the same command goes on from there",
                    step,
                    num_train_steps,
                )
                return told_to_stop[0] if told_to_stop else signal.SIGTERM
            since = time.monotonic()
        writer.close()
        checkpoints.wait()
        best_step = checkpoints.best_step()
        finished = {"step": num_train_steps, "best_step": best_step, "seconds": round(seconds, 1)}
        finished["code"] = versions
        if hosts.is_first():
            experiment.write_json(workdir / "finished.json", finished)
    logging.info("Finished: step %d, chosen by validation: %s", num_train_steps, best_step)
    if best_step is not None and adversary_begins is not None and best_step <= adversary_begins:
        logging.warning(
            "The checkpoint that validation chose, step %d, is from before the adversary's "
            "first step, %d: it has learned nothing of it (eval.py --which last)",
            best_step,
            adversary_begins + 1,
        )
    return None


# Of so few descriptions validation says little; among the images of one, every ranking is perfect.
_FEW_DESCRIPTIONS = 10


def _warn_of_doubts(config: Config, data: DataSet, validation: splits.RetrievalSet | None) -> None:
    """Say in the log what this config will not learn or choose well from this data."""
    if validation is None and data.has("val"):
        logging.warning(
            "%s has images of the split 'val', but config.data.validation_fraction is 0: nothing "
            "is validated, and they are not used; set it above 0",
            data.data_dir,
        )
    if validation is not None and len(validation.categories) < _FEW_DESCRIPTIONS:
        logging.warning(
            "Validation asks for %d description(s), too few to choose a checkpoint well: give "
            "more images the split 'val', or set a larger config.data.validation_fraction",
            len(validation.categories),
        )
    sided = data.schema.groups_with_sides()
    if sided and (config.data.flip or config.eval.mirror):
        logging.warning(
            "%s of %s may tell left from right, which mirrored images do not: set "
            "--config.data.flip=0 and --config.eval.mirror=False, or it cannot be learned",
            ", ".join(sided),
            data.data_dir,
        )


def create_writer(workdir: Path) -> metric_writers.MetricWriter:
    """TensorBoard and the log, on the first host."""
    if not hosts.is_first():
        return metric_writers.MultiWriter([])
    return metric_writers.create_default_writer(workdir, asynchronous=False)


def traces(
    workdir: Path, start_step: int, num_train_steps: int, steps: int
) -> list[periodic_actions.PeriodicAction]:
    """JAX's profiler over some steps, on the first host; nothing where so many are not left."""
    first = start_step + PROFILED_FROM
    if not steps or not hosts.is_first():
        return []
    if first + steps > num_train_steps:
        logging.warning(
            "--profile=%d: from step %d to the end at %d there are fewer, nothing is traced",
            steps,
            first,
            num_train_steps,
        )
        return []
    return [
        periodic_actions.Profile(
            logdir=workdir / "profile",
            first_profile=first,
            num_profile_steps=steps,
            profile_duration_ms=None,
            every_secs=None,
        )
    ]


def _appears(file: Path, *, patience: float = 60.0) -> bool:
    """Whether a file that another host has just written is there, or soon is.

    A network file system may go on saying for some time that there is none.
    """
    deadline = time.monotonic() + patience
    while not file.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


class GameWatch:
    """Notices when an adversarial game has collapsed: nothing to learn for one side, for long."""

    STEPS = 200
    # By metric of its accuracy: the weight of the loss that plays against it, and what it is.
    DISCRIMINATORS = {  # noqa: RUF012
        "discriminator_accuracy": ("adversary", "discriminator"),
        "feature_discriminator_accuracy": ("synthesis", "discriminator of made features"),
    }
    # Accuracies of the discriminator that teach the other side nothing: it guesses, or never errs.
    GUESSES, NEVER_ERRS = (0.48, 0.52), 0.995

    def __init__(self):
        self._steps: Counter[tuple[str, str]] = Counter()

    def see(self, means: dict[str, float], steps: int) -> str:
        """A sentence if the last `steps`, with these means, complete STEPS of collapse."""
        low, high = self.GUESSES
        sentences = []
        for metric, (loss, name) in self.DISCRIMINATORS.items():
            if f"train/{metric}" not in means:
                continue
            accuracy = means[f"train/{metric}"]
            is_played = means[f"train/{loss}_weight"] > 0
            now: dict[str, bool] = {
                "guesses": low <= accuracy <= high,
                "never errs": accuracy >= self.NEVER_ERRS,
            }
            for state, holds in now.items():
                before = self._steps[metric, state]
                self._steps[metric, state] = before + steps if holds and is_played else 0
                if before < self.STEPS <= self._steps[metric, state]:
                    sentences.append(
                        f"the {name} {state} (accuracy {accuracy:.3f}) for {self.STEPS} steps and "
                        f"more: it teaches nothing; change config.losses.{loss}.weight or "
                        "config.optimizer.discriminator_learning_rate"
                        # It is of images' and descriptions' alone.
                        + (" or config.losses.gradient_penalty" if loss == "adversary" else "")
                    )
        return "; ".join(sentences)


def resume(
    checkpoints: Checkpoints, state: TrainState, meta: dict[str, Any], data_dir: str
) -> tuple[int, dict[str, Any], TrainState]:
    """The newest checkpoint's step, what it tells of itself, and state; 0, {} and the fresh one.

    It tells of the seconds of the steps that led to it (validation and saving do not count,
    compiling does), of the best validation until then, and of the versions of the code.

    Raises:
        ModelError: the checkpoint was trained on other data than there is now, or does not fit;
            or all were damaged.
    """
    step = checkpoints.latest_step()
    if step is None and checkpoints.set_aside:
        raise ModelError(
            f"{'; '.join(checkpoints.set_aside)}; no other is left, expected a whole one: put one "
            "back, or run the same command again to begin at step 0"
        )
    for sentence in checkpoints.set_aside:
        logging.warning("%s, and the run goes on from the newest whole one", sentence)
    if step is None:
        for player in ("embedder", "discriminator"):
            params = getattr(state, player).params
            parameter_overview.log_parameter_overview(params, msg=f"{player.capitalize()}:")
        return 0, {}, state
    logging.info("Resuming from the checkpoint of step %d", step)
    stored = checkpoints.restore_meta(step)
    # These tell of the checkpoint, all else of what it was trained on.
    of_itself = ("seconds", "validation", "best_validation", "code")
    told = {name: stored.pop(name) for name in of_itself if name in stored}
    if stored != meta:
        names = ", ".join(name for name in meta if stored.get(name) != meta[name])
        raise ModelError(
            f"{data_dir}: the training data differs from what this run began with ({names}); "
            "restore it, or train in another --workdir"
        )
    return step, told, checkpoints.restore_state(step, state)


def highest_validation(before: dict[str, Any], judged_by: str) -> list[float]:
    """The average precisions of the best validation that a checkpoint tells of, for `choose`.

    None where validation images have changed since (their digest is judged_by now): then no
    description is paired with itself.
    """
    best = before.get("best_validation") or {"of": judged_by, "average_precisions": []}
    if best["of"] == judged_by:
        return best["average_precisions"]
    logging.warning(
        "The validation images are not those that this run has been judged by so far: the next "
        "checkpoint that is validated is chosen, without a comparison"
    )
    return []


def summarise(history: list[dict[str, Array]], step: int) -> dict[str, float]:
    """Means of the metrics of the steps up to `step`, as "train/<name>".

    Raises:
        ModelError: a value that is not finite; with the first step and loss that went bad.
    """
    values: list[dict[str, Any]] = jax.device_get(history)
    first_step = step - len(values) + 1
    for offset, metrics in enumerate(values):
        # The parts before what they lead to, so that the sentence names the part.
        consequences = ("embedder_loss", "gradient_norm", "parameter_norm")
        for name in sorted(metrics, key=lambda name: (name in consequences, name)):
            if not math.isfinite(metrics[name]):
                raise ModelError(
                    f"step {first_step + offset}: {name} is {metrics[name]}, expected a finite "
                    "number; the last checkpoint is from before; lower "
                    "config.optimizer.*_learning_rate or set config.optimizer.clip_norm, "
                    "in a new workdir"
                )
    names = values[0] if values else {}
    return {
        f"train/{name}": float(sum(metrics[name] for metrics in values) / len(values))
        for name in names
    }


if __name__ == "__main__":
    command_line.run(main)
