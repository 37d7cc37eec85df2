"""A folder that appears whole or not at all."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from input_pipeline.errors import DataError


@contextlib.contextmanager
def only_writer(out: Path, *, wait: bool = True) -> Iterator[int]:
    """Holds the one right to write below out's parent folder, which is made if missing.

    Several runs may find the same data missing at the same moment; the others wait here and then
    find it. Yields the lock's file descriptor: the lock goes with the last process that has it, so
    a killed one leaves nothing behind, and child processes that write are given it too.

    wait: False raises DataError where another process has it.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(out.parent, os.O_RDONLY)
    except OSError as error:
        raise _cannot_write(out, error) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{out.parent}: another process is writing there: wait until it has ended, or "
                "choose another folder"
            ) from error
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """Yields the empty folder `<out>.partial`, renamed to out at the end, removed on any error.

    Call it under `only_writer`: a `.partial` that is already there is the rest of a killed run and
    is replaced. DataError: the disk is full or not writable.
    """
    partial = out.with_name(out.name + ".partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        yield partial
        partial.rename(out)
    except OSError as error:
        raise _cannot_write(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cannot_write(out: Path, error: OSError) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"the disk is full, {out} was not written and nothing of it is left: free space or "
            "choose another folder"
        )
    return DataError(f"{out} cannot be written ({error}): choose another folder")
