"""Who may write in a folder, and folders that appear whole or not at all."""

import errno
import fcntl
import os
import subprocess

import pytest

from input_pipeline import whole_folder
from input_pipeline.errors import DataError
from input_pipeline.whole_folder import LOCK_NAME, only_writer, written_whole


def test_writers_take_turns_by_a_file_that_stays(tmp_path):
    out = tmp_path / "new" / "out"
    for _ in range(2):
        with only_writer(out):
            refused = pytest.raises(DataError, match="new: another process is writing there")
            with refused, only_writer(out, wait=False):
                pass
    [file] = out.parent.iterdir()
    assert file.name == LOCK_NAME and not file.read_bytes()
    # Whoever shares the folder shares the lock.
    assert file.stat().st_mode & 0o777 == 0o666


def test_a_child_that_lives_on_keeps_the_lock(tmp_path):
    with only_writer(tmp_path / "out") as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    try:
        refused = pytest.raises(DataError, match="another process is writing there")
        with refused, only_writer(tmp_path / "out", wait=False):
            pass
    finally:
        child.kill()
        child.wait()
    with only_writer(tmp_path / "out", wait=False):
        pass


@pytest.mark.parametrize("is_there", [True, False])
def test_what_lies_in_a_folder_that_cannot_be_written_can_still_be_read(
    tmp_path, monkeypatch, is_there
):
    opened = os.open
    if is_there:
        (tmp_path / LOCK_NAME).touch()

    def read_only(path, how, *others):
        if how & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, how, *others)

    monkeypatch.setattr(whole_folder.os, "open", read_only)
    with only_writer(tmp_path / "out") as lock:
        locked = tmp_path / LOCK_NAME if is_there else tmp_path
        assert os.path.samestat(os.fstat(lock), locked.stat())
        refused = pytest.raises(DataError, match="another process is writing there")
        with refused, only_writer(tmp_path / "out", wait=False):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME] * is_there


def test_a_file_system_without_locks_is_told_of_and_used(tmp_path, monkeypatch, caplog):
    def flock(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path / "out"), written_whole(tmp_path / "out"):
        pass
    assert (tmp_path / "out").is_dir()
    assert "has no locks (No locks available)" in caplog.text


def test_another_failure_of_a_lock_is_one(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(fcntl, "flock", flock)
    refused = pytest.raises(DataError, match=r"out cannot be written .*Stale file handle")
    with refused, only_writer(tmp_path / "out"):
        pass
