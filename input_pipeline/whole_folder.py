"""A folder that appears whole or not at all."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from input_pipeline.errors import DataError

# In a folder whose writers take turns. Empty, and it stays there: were it removed, another host of
# a network file system might lock what is no longer there.
LOCK_NAME = ".jsreid.lock"

# What a file system says that has no such locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)


@contextlib.contextmanager
def only_writer(out: Path, *, wait: bool = True) -> Iterator[int]:
    """Holds the one right to write below out's parent folder, which is made if missing.

    Several runs may find the same data missing at the same moment; the others wait here and then
    find it. Yields the lock's file descriptor: the lock goes with the last process that has it, so
    a killed one keeps nobody out, and child processes that write are given it too. It is of a file,
    because network file systems tell other hosts of nothing else.

    wait: False raises DataError where another process has it.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(out.parent, wait=wait)
    except BlockingIOError as error:
        raise DataError(
            f"{out.parent}: another process is writing there: wait until it has ended, or "
            "choose another folder"
        ) from error
    except OSError as error:
        raise _cannot_write(out, error) from error
    try:
        yield lock
    finally:
        os.close(lock)


def _locked(folder: Path, *, wait: bool) -> int:
    """The descriptor of what is locked: the lock's file, or the folder where there can be none."""
    lock = _opened(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(lock)
            raise
        logging.warning(
            "%s: this file system has no locks (%s), so nothing keeps a second run from writing "
            "there at the same time",
            folder,
            error.strerror,
        )
    return lock


def _opened(folder: Path) -> int:
    file = folder / LOCK_NAME
    with contextlib.suppress(OSError):
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.suppress(OSError):
            # Other users of a folder that they share may lock it too, whatever the umask.
            os.fchmod(lock, 0o666)
        return lock
    # What others prepared there can be read all the same, where nothing can be written.
    try:
        return os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(folder, os.O_RDONLY)


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
