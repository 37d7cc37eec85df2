import errno
import json
import types

import jax
import numpy as np
import pytest
from games import make_game, make_state

from jsreid_jax import export, parallel
from jsreid_jax.checkpoints import Checkpoints, says_disk_full
from jsreid_jax.errors import ModelError

META = {"num_categories": 6, "schema": {"name": "x"}}


@pytest.fixture(scope="module")
def state():
    return parallel.replicate(make_state(make_game(optimizer="adam")))


def shifted(state, amount):
    return jax.tree.map(lambda x: x + np.asarray(amount, x.dtype), state)


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


def test_the_best_and_the_newest_are_kept(tmp_path, state):
    writer = Checkpoints(tmp_path / "checkpoints")
    for step, score in [(1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, None), (6, 0.4)]:
        writer.save(step, state, META, None if score is None else {"mAP": score})
    writer.save(6, state, META, {"mAP": 1.0})  # exists already: left as it is
    assert writer.latest_step() == 6
    assert writer.best_step() == 2
    writer.close()
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == [2, 5, 6]


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
    assert json.loads((tmp_path / "bundle" / "config.json").read_text()) == {"step": 5}
    restored = export.read_variables(tmp_path / "bundle", variables_of(state))
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
        export.read_variables(tmp_path, variables_of(state))


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
