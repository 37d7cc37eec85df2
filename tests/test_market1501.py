"""The reader: every record as it lies on the disk, prepared once, every fault of a folder named."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from pictures_of_noise import noise_jpeg, write_noise_layout

from input_pipeline.datasets import records
from input_pipeline.datasets.load import load_data_set
from input_pipeline.datasets.market1501.builder import Market1501
from input_pipeline.datasets.market1501.folder import (
    MARKET_FOLDERS,
    MARKET_LABEL_FILE,
    read_market_folder,
    read_market_labels,
    write_market_labels,
)
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.datasets.person_labels import PersonLabels
from input_pipeline.errors import DataError
from input_pipeline.whole_folder import LOCK_NAME

LABEL_FILE_NAME = MARKET_LABEL_FILE.name
SPLITS = ("train", "query", "gallery")
REAL = Path(__file__).resolve().parents[2] / "shared" / "labels" / LABEL_FILE_NAME
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the published {REAL} is not here")


def load_market1501(data_dir: str, **options) -> records.DataSet:
    return load_data_set("market1501", data_dir, **options)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A rendered folder of 8 + 6 persons with noise for pictures, never changed by a test."""
    out = tmp_path_factory.mktemp("market") / "data"
    write_noise_layout(
        out,
        train_persons=8,
        test_persons=6,
        images_per_person=5,
    )
    return out


@pytest.fixture
def data_dir(pristine, tmp_path) -> Path:
    """A copy for one test to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def first_image(data_dir: Path, folder: str = "bounding_box_train") -> Path:
    return min((data_dir / folder).glob("0*_c*.jpg"))


def test_records_are_the_files(data_dir):
    data = load_market1501(str(data_dir))
    labels = read_market_labels(data_dir / LABEL_FILE_NAME)
    assert data.schema == MARKET_SCHEMA and list(data.skipped) == []
    for split in SPLITS:
        records = data.read(split)
        persons = labels.train if split == "train" else labels.test
        known = data.listing.known_categories(split)
        assert records.file_name == sorted(records.file_name)
        folder = records.file_name[0].split("/")[0]
        on_disk = [f"{folder}/{file.name}" for file in (data_dir / folder).iterdir()]
        kept = [name for name in on_disk if not name.split("/")[1].startswith(("-1", "0000"))]
        assert records.file_name == sorted(kept) and len(kept) == data.facts[f"{split}_images"]
        attributes = labels.attributes(MARKET_LABEL_FILE, "train" if split == "train" else "test")
        for row, name in enumerate(records.file_name):
            assert records.images[row] == (data_dir / name).read_bytes()
            person_id = int(name.split("/")[1][:4])
            assert records.person_id[row] == person_id
            assert records.camera_id[row] == int(name.split("_c")[1][0])
            expected = attributes[list(persons).index(person_id)]
            np.testing.assert_array_equal(records.attributes[row], expected)
            np.testing.assert_array_equal(known[records.label[row]], expected)
        assert records.attributes.dtype == np.int8
        assert records.person_id.dtype == records.label.dtype == np.int32
    known = {row.tobytes() for row in data.listing.train_categories}
    unseen = [row for row in data.listing.test_categories if row.tobytes() not in known]
    assert len(unseen) == data.facts["unseen_test_categories"] > 0


def test_is_a_builder_whose_images_decode(data_dir, tmp_path):
    builder = Market1501(data_dir=str(tmp_path / "records"))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(data_dir))
    )
    [example] = tfds.as_numpy(builder.as_dataset(split="query").take(1))  # pyright: ignore
    assert example["image"].shape == (32, 16, 3) and example["image"].dtype == np.uint8
    assert builder.info.splits["train"].num_examples == 40


def test_prepared_once_and_again_when_the_content_changes(data_dir, monkeypatch):
    first = load_market1501(str(data_dir))
    prepare = records._prepare
    monkeypatch.setattr(records, "_prepare", None)
    assert load_market1501(str(data_dir)).prepared == first.prepared
    monkeypatch.setattr(records, "_prepare", prepare)
    image = first_image(data_dir)
    image.write_bytes(first_image(data_dir, "query").read_bytes())
    os.utime(image, ns=(1, 1))
    second = load_market1501(str(data_dir))
    assert second.prepared != first.prepared and not first.prepared.exists()
    assert second.read("train").images[0] == image.read_bytes()


def test_damaged_records_are_made_again_or_named(data_dir):
    data = load_market1501(str(data_dir))
    (data.prepared / "prepared.json").unlink()
    assert len(load_market1501(str(data_dir)).read("train").images) == 40
    [records_file] = data.prepared.glob("*/*/*train.tfrecord*")
    whole = records_file.read_bytes()
    for damage in (
        lambda: records_file.write_bytes(whole[: len(whole) // 2]),
        records_file.unlink,
        next(data.prepared.glob("*/*/features.json")).unlink,
    ):
        damage()
        with pytest.raises(DataError, match=r"records .* are damaged .*'train'.*: remove this"):
            load_market1501(str(data_dir)).read("train")


def test_a_folder_that_cannot_be_written_asks_for_another_place(data_dir, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    read_only = tmp_path / "read_only"
    shutil.copytree(data_dir, read_only, ignore=shutil.ignore_patterns("prepared"))
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"read_only/prepared: .*--config\.data\.prepared_dir"):
        load_market1501(str(read_only))


def test_data_sets_share_a_prepared_dir(data_dir, tmp_path):
    other = Path(shutil.copytree(data_dir, tmp_path / "other"))
    shared = str(tmp_path / "shared")
    first = load_market1501(str(data_dir), prepared_dir=shared)
    second = load_market1501(str(other), prepared_dir=shared)
    assert first.prepared.exists() and second.prepared.exists()
    assert not (data_dir / "prepared").exists()


@pytest.mark.parametrize("content", [b"", b"text", "truncated"])
def test_bad_image_is_named_or_skipped(data_dir, content):
    image = first_image(data_dir)
    bad = image.read_bytes()[:-40] if content == "truncated" else content
    image.write_bytes(bad)
    name = f"bounding_box_train/{image.name}"
    with pytest.raises(DataError, match=rf"1 of the images.*\({name}\).*skip_bad_images=True"):
        load_market1501(str(data_dir))
    assert [path.name for path in (data_dir / "prepared").iterdir()] == [LOCK_NAME]
    data = load_market1501(str(data_dir), skip_bad_images=True)
    assert list(data.skipped) == [name]
    records = data.read("train")
    assert len(records.images) == 39 and name not in records.file_name
    assert data.facts["train_images"] == 40
    with pytest.raises(DataError, match="1 of the images"):
        load_market1501(str(data_dir))


def test_many_bad_images_are_counted(data_dir):
    for file in sorted((data_dir / "query").iterdir())[:6]:
        file.write_bytes(b"text")
    with pytest.raises(DataError, match=r"6 of the images.*, \.\.\.\)"):
        load_market1501(str(data_dir))
    for file in (data_dir / "bounding_box_train").iterdir():
        file.write_bytes(b"text")
    with pytest.raises(DataError, match=r"no image of .*bounding_box_train \(train\) decodes"):
        load_market1501(str(data_dir), skip_bad_images=True)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
    ],
)
def test_a_full_disk_while_writing_leaves_nothing(data_dir, monkeypatch, error):
    def failing(self, listing, split):
        yield from ()
        raise error

    monkeypatch.setattr(Market1501, "_generate_examples", failing)
    with pytest.raises(DataError, match="the disk is full"):
        load_market1501(str(data_dir))
    assert [path.name for path in (data_dir / "prepared").iterdir()] == [LOCK_NAME]


def remove(name: str):
    def change(data_dir: Path):
        path = data_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def rename_first(name: str, folder: str = "bounding_box_train"):
    return lambda data_dir: first_image(data_dir, folder).rename(data_dir / folder / name)


def empty(data_dir: Path):
    for file in (data_dir / "query").iterdir():
        file.unlink()


def folder_as_file(data_dir: Path):
    shutil.rmtree(data_dir / "query")
    (data_dir / "query").write_text("")


def person_without_row(data_dir: Path):
    labels = read_market_labels(data_dir / LABEL_FILE_NAME)
    train = dict(list(labels.train.items())[1:])
    write_market_labels(data_dir / LABEL_FILE_NAME, PersonLabels(train=train, test=labels.test))


def other_attributes(data_dir: Path):
    labels = read_market_labels(data_dir / LABEL_FILE_NAME)
    for fields in labels.test.values():
        fields["age"] = 4
    write_market_labels(data_dir / LABEL_FILE_NAME, labels)


FAULTS = {
    "no folder": (remove("query"), "query does not exist"),
    "no label file": (remove(LABEL_FILE_NAME), f"{LABEL_FILE_NAME} does not exist"),
    "a file for a folder": (folder_as_file, "query is a file, not a folder"),
    "name": (rename_first("person7.jpg"), "person7.jpg does not parse.*0002_c1s1_000451_03.jpg"),
    "camera": (rename_first("0002_c7s1_000451_03.jpg"), "0002_c7s1_000451_03.jpg does not parse"),
    "suffix": (rename_first("0002_c1s1_000451_03.png"), "0002_c1s1_000451_03.png does not parse"),
    "person": (person_without_row, r"person \d{4} of .* has no row in 'train'"),
    "distractor": (rename_first("0000_c1s1_000451_03.jpg"), "person 0000 of .* has no row"),
    "empty": (empty, "query holds no image"),
    "image missing": (
        lambda data_dir: first_image(data_dir).unlink(),
        r"train images: found 39, but .*manifest\.json has 40; probably image files are missing",
    ),
    "attributes": (other_attributes, r"unseen test categories: found|test categories: found"),
    "manifest": (
        lambda data_dir: (data_dir / "manifest.json").write_text("{}"),
        r"manifest\.json is damaged",
    ),
    "manifest without a count": (
        lambda data_dir: (data_dir / "manifest.json").write_text('{"facts": {}}'),
        "does not say train_persons",
    ),
    "taken for the published set": (
        remove("manifest.json"),
        "train persons: found 8, but the published set has 751",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_and_nothing_written(data_dir, fault):
    change, message = FAULTS[fault]
    change(data_dir)
    with pytest.raises(DataError, match=message):
        load_market1501(str(data_dir))
    assert not (data_dir / "prepared").exists()


def test_missing_data_dir(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist.*input_pipeline\.rendering"):
        load_market1501(str(tmp_path / "none"))
    assert not list(tmp_path.iterdir())


def test_files_of_file_managers_are_ignored(data_dir):
    (data_dir / "query" / "Thumbs.db").write_bytes(b"x")
    (data_dir / "query" / ".DS_Store").write_bytes(b"x")
    assert read_market_folder(data_dir).facts["query_images"] == 6


@needs_real
def test_the_published_set_by_its_counts(tmp_path):
    """As many file names as the published set has, all hard links to one image."""
    labels = read_market_labels(REAL)
    shutil.copy(REAL, tmp_path / LABEL_FILE_NAME)
    image = tmp_path / "image.jpg"
    image.write_bytes(
        noise_jpeg({}, seed=0, person_id=1, image_index=0, camera_id=1, image_height=8)
    )
    wanted = {
        "bounding_box_train": (labels.train, MARKET_FOLDERS.published["train_images"]),
        "query": (labels.test, MARKET_FOLDERS.published["query_images"]),
        "bounding_box_test": (labels.test, MARKET_FOLDERS.published["gallery_images"]),
    }
    for folder, (persons, count) in wanted.items():
        (tmp_path / folder).mkdir()
        ids = list(persons)
        for index in range(count):
            name = f"{ids[index % len(ids)]:04d}_c1s1_{index:06d}_00.jpg"
            os.link(image, tmp_path / folder / name)
    os.link(image, tmp_path / "bounding_box_test" / "-1_c1s1_000000_00.jpg")
    folder = read_market_folder(tmp_path)
    assert dict(folder.facts) == MARKET_FOLDERS.published and not folder.is_rendered
    assert folder.failed_facts() == []
    assert folder.train_categories.shape == (508, 30)
    assert folder.test_categories.shape == (484, 30)
    next((tmp_path / "query").iterdir()).unlink()
    with pytest.raises(
        DataError, match="query images: found 3,367, but the published set has 3,368"
    ):
        read_market_folder(tmp_path).require_facts()
