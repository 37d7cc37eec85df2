"""The label file: read by name, written in the published form, every damage named."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from input_pipeline.datasets.market1501.folder import (
    MARKET_LABEL_FILE,
    read_market_labels,
    write_market_labels,
)
from input_pipeline.datasets.market1501.schema import MARKET_FIELDS
from input_pipeline.datasets.person_labels import PersonLabels, category_facts
from input_pipeline.errors import DataError

LABEL_FILE_NAME = MARKET_LABEL_FILE.name

REAL = Path(__file__).resolve().parents[2] / "shared" / "labels" / LABEL_FILE_NAME
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the published {REAL} is not here")


def some_labels(count: int = 3) -> PersonLabels:
    rng = np.random.default_rng(0)

    def person() -> dict[str, int]:
        return {name: int(rng.integers(1, 3)) for name in MARKET_FIELDS}

    return PersonLabels(
        train={2 * i + 2: person() for i in range(count)},
        test={2 * i + 1: person() for i in range(count)},
    )


def damaged(tmp_path: Path, change) -> Path:
    """A label file after change(halves), halves = {half: {field: array}}."""
    file = tmp_path / LABEL_FILE_NAME
    write_market_labels(file, some_labels())
    struct = scipy.io.loadmat(file)["market_attribute"]
    halves = {
        half: {name: struct[half].item()[name].item() for name in struct[half].item().dtype.names}
        for half in struct.dtype.names
    }
    change(halves)
    scipy.io.savemat(file, {"market_attribute": halves})
    return file


def test_write_then_read_and_equal_bytes(tmp_path):
    labels = some_labels()
    first, second = tmp_path / "a.mat", tmp_path / "b.mat"
    write_market_labels(first, labels)
    write_market_labels(second, labels)
    assert read_market_labels(first) == labels
    assert first.read_bytes() == second.read_bytes()
    assert b"Created on" not in first.read_bytes()


def test_a_single_person_is_no_special_case(tmp_path):
    labels = some_labels(1)
    write_market_labels(tmp_path / "one.mat", labels)
    assert read_market_labels(tmp_path / "one.mat") == labels


def test_field_order_does_not_matter(tmp_path):
    def reverse(halves):
        halves["train"] = dict(reversed(halves["train"].items()))

    assert read_market_labels(damaged(tmp_path, reverse)) == some_labels()


@needs_real
def test_published_counts():
    assert category_facts(MARKET_LABEL_FILE, read_market_labels(REAL)) == {
        "train_persons": 751,
        "test_persons": 750,
        "train_categories": 508,
        "test_categories": 484,
        "unseen_test_categories": 315,
    }


@needs_real
def test_written_file_has_the_published_form(tmp_path):
    file = tmp_path / LABEL_FILE_NAME
    write_market_labels(file, read_market_labels(REAL))
    ours = scipy.io.loadmat(file)["market_attribute"]
    theirs = scipy.io.loadmat(REAL)["market_attribute"]
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    for half in ("train", "test"):
        our_half, their_half = ours[half].item(), theirs[half].item()
        assert our_half.dtype.names == their_half.dtype.names
        for name in their_half.dtype.names:
            our_values, their_values = our_half[name].item(), their_half[name].item()
            assert our_values.dtype == their_values.dtype
            assert our_values.tolist() == their_values.tolist()


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_market_labels(tmp_path / "none.mat")
    with pytest.raises(DataError, match="does not exist"):
        read_market_labels(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a matlab file", b"\x00" * 300])
def test_not_a_matlab_file(tmp_path, content):
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(DataError, match="not a readable MATLAB file"):
        read_market_labels(tmp_path / "x.mat")


def test_cut_off_file(tmp_path):
    write_market_labels(tmp_path / "x.mat", some_labels())
    content = (tmp_path / "x.mat").read_bytes()
    (tmp_path / "x.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a readable MATLAB file"):
        read_market_labels(tmp_path / "x.mat")


def test_other_struct(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"duke_attribute": {"train": 1, "test": 2}})
    with pytest.raises(DataError, match=r"holds \['duke_attribute'\], expected one struct"):
        read_market_labels(tmp_path / "x.mat")
    scipy.io.savemat(tmp_path / "x.mat", {"market_attribute": np.ones(3)})
    with pytest.raises(DataError, match="expected one struct"):
        read_market_labels(tmp_path / "x.mat")


def set_value(half: str, field: str, value):
    def change(halves):
        halves[half][field] = halves[half][field].copy()
        halves[half][field][0, 1] = value

    return change


DAMAGES = {
    "missing field": (lambda h: h["train"].pop("hat"), r"'train'.*lacks \['hat'\]"),
    "extra field": (
        lambda h: h["test"].update(shoes=h["test"]["hat"]),
        r"'test'.*has the extra \['shoes'\]",
    ),
    "no ids": (lambda h: h["test"].pop("image_index"), r"lacks \['image_index'\]"),
    "person missing": (
        lambda h: h["train"].update(image_index=h["train"]["image_index"][:, :-1]),
        "3 values for 2 persons: a person is missing",
    ),
    "out of range": (set_value("test", "gender", 3), r"test\.gender.*holds 3.*from 1 to 2"),
    "age out of range": (set_value("train", "age", 5), r"train\.age.*holds 5.*from 1 to 4"),
    "text for numbers": (
        lambda h: h["train"].update(age=np.array(["a", "b", "c"], object)),
        r"train\.age",
    ),
    "malformed id": (set_value("train", "image_index", np.array(["x7"])), "holds 'x7'"),
    "duplicate id": (
        set_value("train", "image_index", np.array(["0002"])),
        "lists person 0002 2 times",
    ),
    "in both halves": (
        set_value("test", "image_index", np.array(["0002"])),
        "person 0002 in both train and test",
    ),
    "half missing": (lambda h: h.pop("test"), "with 'train' and 'test'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(tmp_path, damage):
    change, message = DAMAGES[damage]
    with pytest.raises(DataError, match=message):
        read_market_labels(damaged(tmp_path, change))


def test_fractional_value(tmp_path):
    def change(halves):
        halves["train"]["hat"] = halves["train"]["hat"].astype(float) + 0.5

    with pytest.raises(DataError, match=r"train\.hat.*expected whole numbers"):
        read_market_labels(damaged(tmp_path, change))
