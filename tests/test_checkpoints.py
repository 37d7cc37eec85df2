import errno
import json
import shutil
import subprocess
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from games import make_game, make_state

from jsreid_jax import checkpoints as checkpoints_module
from jsreid_jax import export, parallel
from jsreid_jax.checkpoints import (
    CHECKSUMS,
    DAMAGED,
    Checkpoints,
    damage,
    pacing,
    says_disk_full,
    write_checksums,
)
from jsreid_jax.errors import ModelError

META = {"num_categories": 6, "schema": {"name": "x"}}


@pytest.fixture(scope="module")
def state():
    return parallel.replicate(make_state(make_game(optimizer="adam")))


def shifted(state, amount):
    return jax.tree.map(lambda x: x + np.asarray(amount, x.dtype), state)


@pytest.mark.parametrize("most_lost", [1, 2, 4, 5, 7, 500])
def test_a_kill_never_costs_more_than_it_may(most_lost):
    """Even where a save takes until the loop waits for it, as the training loop does."""
    every, whole_after = pacing(most_lost)
    whole = saved = worst = 0
    for step in range(1, 10 * most_lost + 1):
        if step == saved + whole_after + 1:
            whole = saved
        worst = max(worst, step - whole)
        if step % every == 0:
            saved = step
    assert worst == most_lost


def test_a_checkpoint_gives_back_every_leaf(tmp_path, state):
    saved = shifted(state, 2)
    writer = Checkpoints(tmp_path / "checkpoints")
    assert writer.latest_step() is None
    writer.save(7, saved, META, {"mAP": 0.5})
    writer.close()
    reader = Checkpoints(tmp_path / "checkpoints", read_only=True)
    assert reader.latest_step() == reader.best_step() == 7
    assert reader.restore_meta(7) == META
    restored = reader.restore_state(7, state)
    reader.close()
    for a, b in zip(jax.tree.leaves(saved), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.sharding == b.sharding


def test_the_chosen_and_the_newest_are_kept(tmp_path, state):
    writer = Checkpoints(tmp_path / "checkpoints")
    for step, score in [(1, 0.9), (2, 0.8), (3, None), (4, 0.5), (5, None), (6, 0.4)]:
        metrics = None if score is None else {"mAP": score}
        writer.save(step, state, META, metrics, is_chosen=step < 3)
    writer.save(6, state, META, {"mAP": 1.0}, is_chosen=True)  # exists already: left as it is
    assert writer.latest_step() == 6
    assert writer.best_step() == 2
    writer.close()
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == [2, 5, 6]


def test_runs_of_older_versions_choose_by_their_score(tmp_path, state):
    """Their checkpoints do not say whether they were chosen."""
    folder = tmp_path / "checkpoints"
    writer = Checkpoints(folder)
    for step, score in [(1, 0.9), (2, 0.8)]:
        writer.save(step, state, META, {"mAP": score}, is_chosen=True)
    writer.close()
    for step in (1, 2):
        file = folder / str(step) / "metrics" / "metrics"
        metrics = json.loads(file.read_text())
        assert metrics.pop("preference") == step
        file.write_text(json.dumps(metrics))
        write_checksums(folder / str(step))
    writer = Checkpoints(folder)
    assert writer.best_step() == 1
    writer.save(3, state, META, {"mAP": 0.7}, is_chosen=False)
    assert writer.best_step() == 1
    writer.save(4, state, META, {"mAP": 0.7}, is_chosen=True)
    assert writer.best_step() == 4
    writer.close()


def test_without_the_chosen_one_the_score_decides(tmp_path, state):
    folder = tmp_path / "checkpoints"
    for step, score in [(1, 0.9), (2, 0.8), (3, 0.7)]:
        writer = Checkpoints(folder, keep=2)
        writer.save(step, state, META, {"mAP": score}, is_chosen=step == 1)
        assert writer.best_step() == 1
        writer.close()
    flip_a_byte(folder / "1" / "meta" / "metadata")
    checkpoints = Checkpoints(folder)
    assert len(checkpoints.set_aside) == 1 and checkpoints.best_step() == 2
    checkpoints.close()


def test_a_step_that_is_asked_for_is_kept_too(tmp_path, state):
    for step in range(1, 6):
        # As an interrupted run would: every save by a process of its own.
        writer = Checkpoints(tmp_path / "checkpoints", keep=2)
        writer.save(step, state, META, None)
        writer.close()
    reader = Checkpoints(tmp_path / "checkpoints", read_only=True)
    assert [step for step in range(1, 6) if reader.has_step(step)] == [2, 4, 5]
    reader.close()


def test_a_checkpoint_of_another_model_is_refused(tmp_path, state):
    writer = Checkpoints(tmp_path / "checkpoints")
    writer.save(1, state, META, None)
    writer.close()
    other = parallel.replicate(make_state(make_game(optimizer="adam", num_categories=7)))
    reader = Checkpoints(tmp_path / "checkpoints", read_only=True)
    with pytest.raises(ModelError, match=r"of another model: .* \(6,\) .* \(7,\)"):
        reader.restore_state(1, other)
    without = parallel.replicate(make_state(make_game(optimizer="adam", attention="none")))
    with pytest.raises(ModelError, match="another model"):
        reader.restore_state(1, without)
    reader.close()


def variables_of(state):
    return state.variables


def test_a_bundle_gives_back_variables_and_description(tmp_path, state):
    variables = variables_of(shifted(state, 3))
    export.write_bundle(tmp_path / "bundle", variables, {"step": 5})
    described = json.loads((tmp_path / "bundle" / "config.json").read_text())
    checksum = described.pop("variables_checksum")
    assert described == {"step": 5}
    restored = export.read_variables(tmp_path / "bundle", variables_of(state), checksum=checksum)
    # Bundles of older versions have none.
    export.read_variables(tmp_path / "bundle", variables_of(state), checksum=None)
    with pytest.raises(ModelError, match=r"are not those that config\.json was"):
        export.read_variables(tmp_path / "bundle", variables_of(state), checksum="of another")
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(a, b)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_a_bundle_never_overwrites(tmp_path, state):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine.txt").write_text("keep")
    with pytest.raises(ModelError, match="not an empty folder"):
        export.write_bundle(tmp_path / "bundle", variables_of(state), {})
    assert (tmp_path / "bundle" / "mine.txt").read_text() == "keep"


def test_a_bundle_that_is_none_is_refused(tmp_path, state):
    with pytest.raises(ModelError, match="variables: not found"):
        export.read_variables(tmp_path, variables_of(state), checksum=None)


def test_a_full_disk_leaves_no_half_written_bundle(tmp_path, state, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "json", types.SimpleNamespace(dumps=full))
    with pytest.raises(ModelError, match="disk is full"):
        export.write_bundle(tmp_path / "bundle", variables_of(state), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["save", "wait_until_finished"])
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, state, monkeypatch, moment):
    folder = tmp_path / "checkpoints"
    writer = Checkpoints(folder)
    writer.save(1, state, META, None)
    writer.close()

    def full(*args, **kwargs):
        raise ValueError("write failed") from OSError(errno.ENOSPC, "No space left on device")

    writer = Checkpoints(folder)
    monkeypatch.setattr(writer._manager, moment, full)
    with pytest.raises(ModelError, match="checkpoints: the disk is full"):
        writer.save(2, state, META, None)
        writer.close()
    monkeypatch.undo()
    reader = Checkpoints(folder, read_only=True)
    restored = reader.restore_state(1, state)
    reader.close()
    np.testing.assert_array_equal(restored.step, state.step)


def test_a_full_disk_is_found_behind_other_errors():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise ValueError("could not write") from cause
    except ValueError as error:
        assert says_disk_full(error)
    assert says_disk_full(RuntimeError("write: Disk quota exceeded"))
    assert not says_disk_full(ValueError("something else"))


# --- Damage ---------------------------------------------------------------------------------------


def files_of(checkpoint):
    return sorted(file for file in checkpoint.rglob("*") if file.is_file())


def cut_short(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory, state):
    """A folder with the checkpoints of steps 1 and 2; state 1 and the metrics of both differ."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    writer = Checkpoints(folder)
    for step in (1, 2):
        meta, metrics = META | {"step": step}, {"mAP": 0.5 + step / 10}
        writer.save(step, shifted(state, step), meta, metrics, is_chosen=True)
    writer.close()
    assert all(damage(folder / str(step)) == "" for step in (1, 2))
    return folder


@pytest.mark.parametrize("harm", [cut_short, flip_a_byte, Path.unlink])
def test_harm_to_any_file_is_found_or_harmless(two_saved, state, tmp_path, harm):
    """Whatever file it is, what is restored is what was saved, of this step or the one before."""
    names = [str(file.relative_to(two_saved / "2")) for file in files_of(two_saved / "2")]
    assert len(names) > 8
    for number, name in enumerate(names):
        folder = tmp_path / str(number) / "checkpoints"
        shutil.copytree(two_saved, folder)
        harm(folder / "2" / name)
        checkpoints = Checkpoints(folder)
        step = checkpoints.latest_step()
        if name not in ("_CHECKPOINT_METADATA", "commit_success.txt"):
            [sentence] = checkpoints.set_aside
            assert "2: this checkpoint is damaged" in sentence
            assert name in sentence or name == CHECKSUMS, name
            assert step == checkpoints.best_step() == 1, name
            assert (folder.with_name(DAMAGED) / "2").is_dir()
        else:
            assert step == checkpoints.best_step() == 2
            restored = checkpoints.restore_state(2, state)
            for a, b in zip(
                jax.tree.leaves(restored), jax.tree.leaves(shifted(state, 2)), strict=True
            ):
                np.testing.assert_array_equal(a, b)
        assert step is not None and checkpoints.restore_meta(step)["step"] == step
        checkpoints.close()


def test_checkpoints_that_are_all_damaged_are_all_set_aside(two_saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    for step in ("1", "2"):
        flip_a_byte(next((folder / step / "state").rglob("d/*")))
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest_step() is None and len(checkpoints.set_aside) == 2
    checkpoints.close()
    assert sorted(p.name for p in folder.with_name(DAMAGED).iterdir()) == ["1", "2"]


def test_a_disk_that_does_not_answer_says_nothing_of_a_checkpoint(two_saved, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)

    def no_answer(file):
        raise OSError(errno.EIO, "Input/output error", str(file))

    monkeypatch.setattr(checkpoints_module, "_checksum", no_answer)
    with pytest.raises(ModelError, match=r"cannot be read now \(Input/output error\).*try again"):
        Checkpoints(folder)
    assert sorted(p.name for p in folder.iterdir() if p.name.isdigit()) == ["1", "2"]


def test_evaluation_refuses_what_is_damaged_and_moves_nothing(two_saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    flip_a_byte(folder / "1" / "metrics" / "metrics")
    with pytest.raises(ModelError, match=r"checkpoints/1: this checkpoint is damaged \(metrics/"):
        Checkpoints(folder, read_only=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints"]


def test_checksums_are_those_of_sha256sum(two_saved):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", CHECKSUMS],
        cwd=two_saved / "2",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.count(": OK") > 5, done.stderr
