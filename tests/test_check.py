"""The check of a data set: what it counts, what it finds wrong, what it leaves behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pictures_of_noise import write_noise_layout

from configs import market1501
from input_pipeline.attributes import Group, Schema
from input_pipeline.check import findings, images, report
from input_pipeline.check.run import check
from input_pipeline.datasets.market1501.folder import read_market_folder

SCHEMA = Schema(
    "small",
    (
        Group("hat", ("no", "yes"), binary=True),
        Group("hair", ("short", "long"), binary=True),
        Group("colour", ("red", "blue")),
    ),
)
ROWS = np.array(
    [[1, -1, 1, -1], [1, 1, -1, -1], [-1, 1, -1, 1], [0, 1, 0, 0]],
    np.int8,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """12 + 8 persons with noise for pictures, never changed by a test."""
    out = tmp_path_factory.mktemp("market") / "data"
    write_noise_layout(
        out,
        train_persons=12,
        test_persons=8,
        images_per_person=5,
    )
    return out


@pytest.fixture
def data_dir(pristine, tmp_path) -> Path:
    """A copy for one test to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def run_check(data_dir: Path) -> tuple[bool, dict[str, Any]]:
    data: Any = market1501.get_config().data
    data.dir = str(data_dir)
    output_dir = data_dir / "check"
    is_well = check(data, output_dir)
    return is_well, json.loads((output_dir / report.JSON_NAME).read_text())


def image_files(data_dir: Path, folder: str) -> list[Path]:
    """Of known persons."""
    files = (data_dir / folder).glob("*.jpg")
    return sorted(file for file in files if not file.name.startswith(("-1", "0000")))


def test_a_whole_folder_is_well(data_dir, capsys):
    is_well, found = run_check(data_dir)
    said = capsys.readouterr().out
    assert is_well and found["ok"] and found["problems"] == []
    listing = read_market_folder(data_dir)
    assert found["images"] == {name: len(part.files) for name, part in listing.splits.items()}
    assert found["persons"] == {"train": 12, "test": 8}
    facts = {fact["name"]: fact for fact in found["facts"]}
    assert all(fact["found"] == fact["expected"] for fact in facts.values())
    assert found["unseen_categories"] == listing.facts["unseen_test_categories"]
    assert sum(found["unseen_distances"].values()) == found["unseen_categories"]
    assert found["image_sizes"]["smallest"] == [32, 16]
    assert "Result: all is well" in said and "holds  train persons" in said
    picture = cv2.imread(str(data_dir / "check" / report.PICTURE_NAME))
    assert picture is not None and picture.std() > 20
    assert sorted(entry.name for entry in (data_dir / "check").iterdir()) == [
        *("check.json", "check.png")
    ]


def test_marginals_are_those_of_the_images(data_dir):
    _, found = run_check(data_dir)
    listing = read_market_folder(data_dir)
    columns = {name: i for i, name in enumerate(listing.schema.attribute_names)}
    by_value = {(entry["group"], entry["value"]): entry for entry in found["marginals"]}
    codes = listing.splits["train"].attributes
    for group, value in (("backpack", "yes"), ("gender", "female"), ("upper_colour", "white")):
        expected = int((codes[:, columns[f"{group}={value}"]] > 0).sum())
        assert by_value[group, value]["count"]["train"] == expected
        assert by_value[group, value]["share"]["train"] == expected / len(codes)
    female, male = (by_value["gender", value]["count"]["train"] for value in ("female", "male"))
    assert female + male == len(codes)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:200], "is truncated"),
        (lambda content: b"", "is empty"),
        (lambda content: b"no picture at all", "is not a JPEG, PNG, GIF or BMP file"),
        (lambda content: content[:4] + b"\xff" * 40 + content[44:], "damaged"),
    ],
)
def test_an_image_that_cannot_be_read_is_named_with_the_reason(data_dir, capsys, damage, reason):
    victim = image_files(data_dir, "bounding_box_train")[7]
    victim.write_bytes(damage(victim.read_bytes()))
    is_well, found = run_check(data_dir)
    assert not is_well
    [unreadable] = found["unreadable"]
    assert unreadable["name"] == f"bounding_box_train/{victim.name}"
    assert unreadable["split"] == "train" and reason in unreadable["reason"]
    assert f"1 image cannot be read (bounding_box_train/{victim.name}" in found["problems"][0]
    assert victim.name in capsys.readouterr().out


def test_the_same_image_in_two_splits_is_a_leak(data_dir, capsys):
    train, gallery = (
        image_files(data_dir, folder)[0] for folder in ("bounding_box_train", "bounding_box_test")
    )
    gallery.write_bytes(train.read_bytes())
    is_well, found = run_check(data_dir)
    assert not is_well
    [duplicate] = found["duplicates"]
    assert duplicate["names"] == [
        *(f"bounding_box_train/{train.name}", f"bounding_box_test/{gallery.name}")
    ]
    assert duplicate["splits"] == ["train", "gallery"]
    assert ["1 image in more than one split" in problem for problem in found["problems"]] == [True]
    assert "LEAK: the same image in several splits: 1" in capsys.readouterr().out


def test_the_same_image_twice_in_a_split_is_told_and_harmless(data_dir, capsys):
    first, second = image_files(data_dir, "bounding_box_train")[:2]
    assert first.name[:4] == second.name[:4], "images of one person"
    second.write_bytes(first.read_bytes())
    is_well, found = run_check(data_dir)
    assert is_well and len(found["duplicates"]) == 1
    assert "Duplicate images: 1" in capsys.readouterr().out


def test_the_same_image_of_two_persons_contradicts_itself(data_dir, capsys):
    files = image_files(data_dir, "bounding_box_train")
    labels = read_market_folder(data_dir).splits["train"]
    row_of = {file.name: row for file, row in zip(labels.files, labels.attributes, strict=True)}
    first = files[0]
    other = next(
        file
        for file in files
        if (
            row_of[f"bounding_box_train/{file.name}"] != row_of[f"bounding_box_train/{first.name}"]
        ).any()
    )
    other.write_bytes(first.read_bytes())
    _, found = run_check(data_dir)
    assert len(found["duplicates"][0]["descriptions"]) == 2
    assert "CONTRADICTION" in capsys.readouterr().out


def test_a_count_that_fails_is_told_with_what_was_expected(data_dir, capsys):
    image_files(data_dir, "query")[0].unlink()
    is_well, found = run_check(data_dir)
    assert not is_well
    assert "query images: found 7, but" in found["problems"][0]
    assert "has 8; probably image files are missing" in found["problems"][0]
    said = capsys.readouterr().out
    assert "FAILS  query images" in said and "expected 8" in said


def test_persons_in_train_and_test_are_a_leak_unless_the_protocol_has_them():
    ids = {"train": np.array([1, 2, -1]), "test": np.array([2, 3, -1])}
    [leak] = findings.shared_persons(ids)
    assert (leak.parts, leak.person_ids, leak.by_protocol) == (("train", "test"), [2], "")
    [told] = findings.shared_persons(ids, by_protocol="by design")
    assert told.by_protocol == "by design"
    assert findings.shared_persons({"train": np.array([1]), "test": np.array([2])}) == []


def test_values_are_counted_where_they_are_known():
    marginals = {
        (entry.group, entry.value): entry
        for entry in findings.marginals(SCHEMA, {"train": ROWS[:3], "test": ROWS[3:]})
    }
    hat = marginals["hat", "yes"]
    assert (hat.count, hat.known) == ({"train": 2, "test": 0}, {"train": 3, "test": 0})
    assert hat.share("train") == 2 / 3 and hat.share("test") is None
    assert marginals["hair", "short"].count == {"train": 1, "test": 0}
    assert marginals["colour", "red"].count == {"train": 1, "test": 0}
    assert marginals["colour", findings.NONE].count == {"train": 1, "test": 0}
    assert marginals["colour", findings.NOT_KNOWN].count == {"train": 0, "test": 1}
    assert findings.unknown_groups(SCHEMA, ROWS[3:]) == ["hat", "colour"]
    assert findings.absent_values(SCHEMA, ROWS[3:]) == ["hair=short"]


def test_distances_are_columns_that_differ():
    rng = np.random.default_rng(0)
    known = rng.integers(-1, 2, (50, 9)).astype(np.int8)
    rows = rng.integers(-1, 2, (1500, 9)).astype(np.int8)
    expected = [min((row != other).sum() for other in known) for row in rows]
    assert findings.nearest_distances(rows, known).tolist() == expected


def test_samples_come_from_all_over_the_set():
    attributes = np.tile(ROWS[:1], (100, 1))
    samples = findings.choose_samples(SCHEMA, attributes)
    assert samples["hat", "yes"] == [10, 30, 50, 70, 90]
    assert samples["colour", "blue"] == []


def test_every_image_is_read_once_whatever_is_wanted_or_at_fault(data_dir):
    paths = [str(path) for path in image_files(data_dir, "bounding_box_train")]
    Path(paths[20]).write_bytes(b"\xff\xd8\xff")
    counts = []
    pixels = images.read_images(paths, {3, 20, 40}, counts.append)
    assert sum(counts) == len(paths) > 3 * 16
    assert set(pixels.faults) == {20} and set(pixels.crops) == {3, 40}
    assert (np.delete(pixels.size, 20, axis=0) == [32, 16]).all()
    assert pixels.size[20].tolist() == [0, 0]
    expected = np.asarray(cv2.imread(paths[3]))[..., ::-1]
    assert pixels.crops[3].shape == (96, 48, 3)
    small = cv2.resize(pixels.crops[3], (16, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 12
    assert len(np.unique(np.delete(pixels.fingerprint, 20))) == len(paths) - 1


def test_equal_fingerprints_are_not_yet_equal_files(data_dir):
    paths = [str(path) for path in image_files(data_dir, "bounding_box_train")[:3]]
    Path(paths[2]).write_bytes(Path(paths[0]).read_bytes())
    pixels = images.read_images(paths)
    pixels.fingerprint[:] = 7
    assert images.identical_files(paths, pixels) == [[0, 2]]


def test_a_report_is_whole_or_the_one_before(tmp_path):
    file = tmp_path / "check.json"
    file.write_text("before")

    def fails(partial: Path) -> None:
        partial.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        report.write_whole(file, fails)
    assert file.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["check.json"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        ([], 0, "Result: all is well"),
        (["--config.data.name=marked"], 2, "error: config.data.name is 'marked': expected"),
    ],
)
def test_the_command_exits_as_it_promises(root, data_dir, tmp_path, arguments, exit_code, sentence):
    command = [sys.executable, "-m", "input_pipeline.check", "--config", "configs/market1501.py"]
    command += [f"--config.data.dir={data_dir}", f"--output_dir={tmp_path / 'out'}"]
    done = subprocess.run([*command, *arguments], cwd=root, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == exit_code, said
    assert sentence in said and "Traceback" not in said
