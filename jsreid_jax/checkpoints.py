"""Checkpoints of a run: the newest two, the chosen one, one asked for; each whole or absent.

With export.py the only file that knows orbax. Orbax writes beside the target and renames, so a kill
in the middle of a save leaves the checkpoint before it as the newest. Just before the renaming a
checkpoint gets the checksums of its files; one whose files do not hold what was written is set
aside, and the one before it is the newest (`cd checkpoints/STEP && sha256sum -c checksums.sha256`
tells the same).
"""

import contextlib
import errno
import hashlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    CustomSteps,
    LatestN,
)

from jsreid_jax import hosts, parallel
from jsreid_jax.errors import ModelError
from jsreid_jax.types import PyTree, TrainState

# Metric of a checkpoint: its step if validation chose it when it was saved; all others are below
# that, by mAP, and matter only where the chosen one is damaged.
_PREFERENCE = "preference"

CHECKSUMS = "checksums.sha256"
# Orbax writes these while it commits, after the checksums; nothing is restored from them.
_NOT_CHECKED = ("_CHECKPOINT_METADATA", "commit_success.txt")
# Beside the folder of checkpoints: those whose files do not hold what was written.
DAMAGED = "damaged_checkpoints"

# How long reads that have failed, or the removal of a checkpoint, may still go on for.
_STRAGGLERS_SECONDS = 0.5


def pacing(most_lost: int) -> tuple[int, int]:
    """How many steps lie between saves, and after how many more a save must be whole.

    So paced, a kill at any moment, also during a save, costs at most that many steps: saves that
    run beside the steps are a fifth closer than that, and waited for after another fifth.
    """
    slack = most_lost // 5
    return most_lost - slack, slack


def _selection_metric(metrics: Any) -> float:
    """Highest for the checkpoint that was chosen last; those of older code have mAP alone."""
    return metrics[_PREFERENCE if _PREFERENCE in metrics else "mAP"]


class Checkpoints:
    """The checkpoints in a folder.

    A checkpoint is the train state, a JSON dict that says what it is of (config, schema), and after
    an evaluation, its validation metrics. Saving is asynchronous; `close` waits.

    Args:
        folder: made if it does not exist, unless read_only.
        read_only: evaluation never touches what training wrote.
        keep: a step whose checkpoint is kept too, once it is saved.

    Attributes:
        set_aside: a sentence for every damaged checkpoint that was moved away.

    Raises:
        ModelError: read_only, and a checkpoint is damaged: it might be the chosen one.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, keep: int | None = None):
        self._folder = folder
        self.set_aside = self._set_aside_damaged(read_only=read_only)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(
                [
                    LatestN(2),
                    CustomSteps([] if keep is None else [keep]),
                    BestN(
                        get_metric_fn=_selection_metric,
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            best_fn=_selection_metric,
            read_only=read_only,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._add_checksums),
        )
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_names=("state", "meta")
        )

    def _set_aside_damaged(self, *, read_only: bool) -> list[str]:
        """Move away every checkpoint whose files changed; a sentence for each.

        With several hosts the first one does it.
        """
        sentences = []
        for path in _step_folders(self._folder) if hosts.is_first() or read_only else []:
            reason = damage(path)
            if reason and read_only:
                # The run may be removing this very checkpoint.
                time.sleep(_STRAGGLERS_SECONDS)
                reason = damage(path)
            if not reason:
                continue
            if read_only:
                raise ModelError(
                    f"{path}: this checkpoint is damaged ({reason}), and which one is best cannot "
                    "be told without it: run train.py again, which sets it aside and goes on from "
                    "the one before, or, where the run is finished, move this folder away"
                )
            target = self._folder.with_name(DAMAGED) / path.name
            target.parent.mkdir(exist_ok=True)
            while target.exists():
                target = target.with_name(f"{target.name}_again")
            path.rename(target)
            sentences.append(
                f"{path}: this checkpoint is damaged ({reason}); it now lies in {target}"
            )
        return sentences if read_only else json.loads(hosts.first_says(json.dumps(sentences)))

    def _add_checksums(self) -> None:
        """Called by orbax when all files of a save are written, before it commits."""
        if hosts.is_first():
            # One save at a time, and the rests of killed ones are gone.
            [partial] = self._folder.glob("*.orbax-checkpoint-tmp")
            write_checksums(partial)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Close, unless another host is gone: closing would wait for it."""
        if error is None or not hosts.says_host_gone(error):
            self.close()

    def latest_step(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step that validation chose last, or None before the first evaluation."""
        return self._manager.best_step()

    def has_step(self, step: int) -> bool:
        """Whether there is a checkpoint of this step."""
        return step in self._manager.all_steps()

    def save(
        self,
        step: int,
        state: TrainState,
        meta: dict,
        metrics: dict[str, float] | None,
        *,
        is_chosen: bool = False,
    ) -> None:
        """Write a checkpoint in the background; an existing one of this step is kept.

        metrics: of its validation, if there was one; has "mAP". is_chosen: whether validation
            chose it (`comparison.choose`).

        Raises:
            ModelError: a full disk, at this save or noticed from the one before.
        """
        if self.has_step(step):
            return
        if metrics is not None:
            metrics = metrics | {_PREFERENCE: step if is_chosen else metrics["mAP"] - 1.0}
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(parallel.as_global(state)),
                    meta=ocp.args.JsonSave(meta),
                ),
                metrics=metrics,
            )
        except Exception as error:
            self._raise_if_disk_full(error)
            raise

    def restore_meta(self, step: int) -> dict:
        """The JSON dict of a checkpoint.

        Raises:
            ModelError: it does not read.
        """
        try:
            args = ocp.args.Composite(meta=ocp.args.JsonRestore())
            return self._manager.restore(step, args=args)["meta"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ModelError(unreadable(self._folder / str(step) / "meta", error)) from error

    def restore_state(self, step: int, like: TrainState) -> TrainState:
        """The train state of a checkpoint, in the structure, shapes and placement of `like`.

        like: a state as `parallel.replicate` places it, or `parallel.replicated_shapes` of one, on
        the devices of all hosts.

        Raises:
            ModelError: the checkpoint is of another model, or does not read.
        """
        path = self._folder / str(step) / "state"
        check_fits(path, like)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, parallel.as_global(like))
        try:
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            )
        except Exception as error:  # orbax raises bare ones for arrays that do not read
            if hosts.says_host_gone(error):
                raise
            raise ModelError(unreadable(path, error)) from error
        return parallel.as_local(restored["state"])

    def wait(self) -> None:
        """Wait for the save under way.

        Raises:
            ModelError: a full disk.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._raise_if_disk_full(error)
            raise

    def close(self) -> None:
        """Wait for the save under way, and let the folder go.

        Raises:
            ModelError: a full disk.
        """
        self.wait()
        try:
            self._manager.close()
        except Exception as error:
            self._raise_if_disk_full(error)
            raise

    def _raise_if_disk_full(self, error: Exception) -> None:
        """Raise ModelError if the error says so, after clearing away what was half written."""
        if says_disk_full(error):
            for rest in self._folder.glob("*.orbax-checkpoint-tmp"):
                shutil.rmtree(rest, ignore_errors=True)
            steps = [path.name for path in _step_folders(self._folder)]
            newest = f"the newest is of step {steps[-1]}" if steps else "there is none yet"
            raise ModelError(
                f"{self._folder}: the disk is full, a checkpoint could not be written; {newest}: "
                "free some space and run the same command again"
            ) from error


def _step_folders(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))


def _checked_files(path: Path) -> dict[str, Path]:
    """The files of a checkpoint that have checksums, by their names below it."""
    files = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    return {
        name: file for name, file in sorted(files.items()) if name not in (*_NOT_CHECKED, CHECKSUMS)
    }


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_checksums(path: Path) -> None:
    """Write the checksums of a checkpoint's files beside them, as `sha256sum` has them."""
    lines = [f"{_checksum(file)}  {name}\n" for name, file in _checked_files(path).items()]
    (path / CHECKSUMS).write_text("".join(lines))


def damage(path: Path) -> str:
    """What is wrong with the files of a checkpoint; "" if they hold what was written.

    Raises:
        ModelError: a file that does not read, for a reason that is not its own.
    """
    try:
        lines = (path / CHECKSUMS).read_text().splitlines()
        expected = {name: checksum for checksum, name in (line.split("  ", 1) for line in lines)}
        found = _checked_files(path)
        for name in sorted(expected.keys() | found.keys()):
            if name not in expected:
                return f"{CHECKSUMS} does not list {name}"
            if name not in found:
                return f"{name} is missing"
            if _checksum(found[name]) != expected[name]:
                return f"{name} does not hold what was written"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        if not path.exists():
            return ""  # removed in the meantime by the run that it belongs to
        return f"{CHECKSUMS} or a file that it lists does not read: {error}"
    except OSError as error:
        raise ModelError(
            f"{error.filename or path}: cannot be read now ({error.strerror}), which says nothing "
            "of what it holds; expected a disk that answers, and permission: try again"
        ) from error
    return ""


def check_fits(path: Path, like: PyTree) -> None:
    """Raise ModelError unless the arrays saved at path have the names and shapes of `like`.

    Asked before restoring, because a restore that fails leaves orbax's readers running.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: not found; expected a saved model there, check the path")
    # Where files are damaged, reads that orbax does not wait for print stack traces of their own.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                metadata = checkpointer.metadata(path.absolute()).item_metadata
                if metadata is None:
                    raise ValueError("files of it are missing or cut short")
                saved = metadata.tree
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            time.sleep(_STRAGGLERS_SECONDS)
            raise ModelError(unreadable(path, error)) from error
    found, expected = _shapes(saved), _shapes(ocp.tree.serialize_tree(like, keep_empty_nodes=True))
    differing = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    if differing:
        name = differing[0]
        raise ModelError(
            f"{path}: this checkpoint is of another model: {name} has shape "
            f"{found.get(name, 'none (not there)')} in the checkpoint and "
            f"{expected.get(name, 'none (not there)')} in the model, {len(differing)} arrays "
            "differ; use the config, and the version of the code, that it was trained with"
        )


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Shape by path of every array in a tree of plain dicts."""
    flat = ocp.tree.to_flat_dict(tree)
    return {"/".join(path): leaf.shape for path, leaf in flat.items() if hasattr(leaf, "shape")}


def unreadable(path: Path, error: Exception) -> str:
    """The sentence for a checkpoint that does not read."""
    reason = " ".join(str(error).split())
    return (
        f"{path}: this checkpoint does not read ({reason[:200]}); expected what train.py or "
        "eval.py --export_dir wrote; export the bundle again, or remove the folder of this step, "
        "and train.py goes on from the one before"
    )


def says_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that no space is left."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(text in str(error) for text in ("No space left", "quota exceeded")):
            return True
        error = error.__cause__ or error.__context__
    return False
