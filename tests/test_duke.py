"""DukeMTMC: the published counts, the odd rows of its label file, its rendered look-alike."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from pictures_of_noise import write_noise_layout

from input_pipeline.datasets.duke.folder import (
    DUKE_FOLDERS,
    DUKE_LABEL_FILE,
    WITHDRAWN,
    read_duke_folder,
)
from input_pipeline.datasets.duke.schema import (
    DUKE_FIELDS,
    DUKE_SCHEMA,
    duke_field_range,
    duke_fields_to_attributes,
)
from input_pipeline.datasets.load import load_data_set
from input_pipeline.datasets.person_labels import (
    PersonLabels,
    category_facts,
    read_person_labels,
    write_person_labels,
)
from input_pipeline.errors import DataError
from input_pipeline.rendering import looks
from input_pipeline.rendering.layouts.duke import adapt, duke_fields
from input_pipeline.rendering.population import draw_population

LABEL_FILE_NAME = DUKE_LABEL_FILE.name
REAL = Path(__file__).resolve().parents[2] / "shared" / "labels" / LABEL_FILE_NAME
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the published {REAL} is not here")
SIZE = {"train_persons": 8, "test_persons": 6}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A look-alike of 8 + 6 persons with noise for pictures, never changed by a test."""
    out = tmp_path_factory.mktemp("duke") / "data"
    write_noise_layout(
        out,
        layout="duke",
        **SIZE,
        images_per_person=5,
    )
    return out


@pytest.fixture
def data_dir(pristine, tmp_path) -> Path:
    """A copy for one test to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def fields(**changed: int) -> dict[str, int]:
    return dict.fromkeys(DUKE_FIELDS, 1) | changed


def words(**changed: int) -> str:
    return DUKE_SCHEMA.describe(duke_fields_to_attributes(fields(**changed)), mention_absent=False)


def test_every_raw_field_changes_the_vector():
    assert len(DUKE_FIELDS) == 23
    for name in DUKE_FIELDS:
        low, high = duke_field_range(name)
        values = range(low, high + 1)
        vectors = {duke_fields_to_attributes(fields(**{name: v})).tobytes() for v in values}
        assert len(vectors) == len(values), name


def test_words_mean_what_the_fields_mean():
    assert words(gender=2, top=2, shoes=2, upred=2, downblue=2, boots=2) == (
        "female, long red top, boots, light shoes, blue lower"
    )
    assert words(downblack=2, downblue=2) == "male, short top, dark shoes, black+blue lower"
    assert words(top=0, upbrown=2) == "male, brown top, dark shoes"
    query = DUKE_SCHEMA.parse("woman, long black coat, light shoes, backpack, grey trousers")
    assert DUKE_SCHEMA.understood(query) == {
        "gender": "female",
        "upper_length": "long",
        "backpack": "yes",
        "shoes": "light",
        "upper_colour": "black",
        "lower_colour": "gray",
    }


@needs_real
def test_published_counts():
    labels = read_person_labels(REAL, DUKE_LABEL_FILE)
    facts = category_facts(DUKE_LABEL_FILE, labels)
    assert facts == {name: DUKE_FOLDERS.published[name] for name in facts}
    assert facts["train_categories"] == 300 and facts["test_categories"] == 387
    assert facts["unseen_test_categories"] == 229
    assert [person for person, row in labels.train.items() if row["top"] == 0] == [370, 679]
    for person in (370, 679):
        labels.train[person]["top"] = 1
    assert category_facts(DUKE_LABEL_FILE, labels)["train_categories"] == 299
    several = [
        sum(value == 2 for name, value in row.items() if name.startswith("down"))
        for row in labels.test.values()
    ]
    assert np.bincount(several).tolist() == [11, 1076, 22, 1]


@needs_real
def test_every_published_description_is_read_back():
    labels = read_person_labels(REAL, DUKE_LABEL_FILE)
    for half in ("train", "test"):
        for vector in np.unique(labels.attributes(DUKE_LABEL_FILE, half), axis=0):
            said = DUKE_SCHEMA.parse(DUKE_SCHEMA.describe(vector))
            # "black+blue lower" does not deny that there is green in it.
            unsaid = said == 0
            assert ((said == vector) | unsaid).all() and (vector[unsaid] < 0).all()
            *_, lower_colour = DUKE_SCHEMA.slices
            assert np.flatnonzero(unsaid).min(initial=99) >= lower_colour.start


@needs_real
def test_written_file_has_the_published_form(tmp_path):
    labels = read_person_labels(REAL, DUKE_LABEL_FILE)
    write_person_labels(tmp_path / "x.mat", labels, DUKE_LABEL_FILE)
    ours = scipy.io.loadmat(tmp_path / "x.mat")["duke_attribute"]
    theirs = scipy.io.loadmat(REAL)["duke_attribute"]
    assert ours.shape == theirs.shape and ours.dtype.names == theirs.dtype.names
    for half in theirs.dtype.names:
        our_half, their_half = ours[half].item(), theirs[half].item()
        assert our_half.dtype.names == their_half.dtype.names
        for name in their_half.dtype.names:
            our_values, their_values = our_half[name].item(), their_half[name].item()
            assert our_values.dtype == their_values.dtype
            assert our_values.tolist() == their_values.tolist()


@needs_real
def test_the_published_set_by_its_counts(tmp_path):
    """As many file names as the published set has, all hard links to one image."""
    labels = read_person_labels(REAL, DUKE_LABEL_FILE)
    shutil.copy(REAL, tmp_path / LABEL_FILE_NAME)
    image = tmp_path / "image.jpg"
    image.write_bytes(b"never decoded")
    published = DUKE_FOLDERS.published
    # 408 of the test persons are nobody's query.
    wanted = {
        "bounding_box_train": (list(labels.train), published["train_images"]),
        "query": (list(labels.test)[:702], published["query_images"]),
        "bounding_box_test": (list(labels.test), published["gallery_images"]),
    }
    for folder, (ids, count) in wanted.items():
        (tmp_path / folder).mkdir()
        for index in range(count):
            name = f"{ids[index % len(ids)]:04d}_c{1 + index % 8}_f{index:07d}.jpg"
            os.link(image, tmp_path / folder / name)
    listing = read_duke_folder(tmp_path)
    assert dict(listing.facts) == published and not listing.is_rendered
    assert listing.failed_facts() == [] and list(listing.warnings) == [WITHDRAWN]
    assert listing.train_categories.shape == (300, 24)
    assert listing.test_categories.shape == (387, 24)
    assert listing.facts["query_images"] + listing.facts["gallery_images"] == 19_889
    assert set(listing.splits["gallery"].camera_id) == set(range(1, 9))
    next((tmp_path / "query").iterdir()).unlink()
    with pytest.raises(DataError, match="query images: found 2,227, but the published set has 2,2"):
        read_duke_folder(tmp_path).require_facts()


def rename_first(name: str):
    def change(data_dir: Path):
        folder = data_dir / "bounding_box_train"
        min(folder.iterdir()).rename(folder / name)

    return change


def relabel(change):
    """change(labels) of the label file."""

    def damage(data_dir: Path):
        labels = read_person_labels(data_dir / LABEL_FILE_NAME, DUKE_LABEL_FILE)
        change(labels)
        write_person_labels(data_dir / LABEL_FILE_NAME, labels, DUKE_LABEL_FILE)

    return damage


def set_first(half: str, name: str, value: int):
    return relabel(lambda labels: next(iter(getattr(labels, half).values())).update({name: value}))


def market_file(data_dir: Path):
    scipy.io.savemat(data_dir / LABEL_FILE_NAME, {"market_attribute": {"train": 1, "test": 2}})


FAULTS = {
    "no folder": (lambda d: shutil.rmtree(d / "query"), "query does not exist"),
    "no label file": (
        lambda d: (d / LABEL_FILE_NAME).unlink(),
        f"{LABEL_FILE_NAME} does not exist.*DukeMTMC",
    ),
    "no MATLAB file": (
        lambda d: (d / LABEL_FILE_NAME).write_text("words"),
        "is not a readable MATLAB file",
    ),
    "label file of another set": (market_file, "expected one struct 'duke_attribute'"),
    "Market's name": (rename_first("0002_c1s1_000451_03.jpg"), r"does not parse.*0005_c2_f0046985"),
    "camera": (rename_first("0002_c9_f0046985.jpg"), "does not parse"),
    "person": (relabel(lambda labels: labels.train.popitem()), r"has no row in 'train'"),
    "shoes": (set_first("test", "shoes", 0), r"test\.shoes.*holds 0: expected .* 1 to 2"),
    "top": (set_first("train", "top", 3), r"train\.top.*holds 3: expected .* 0 to 2"),
    "taken for the published set": (
        lambda d: (d / "manifest.json").unlink(),
        "train persons: found 8, but the published set has 702",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_and_nothing_written(data_dir, fault):
    change, message = FAULTS[fault]
    change(data_dir)
    with pytest.raises(DataError, match=message):
        load_data_set("duke", str(data_dir))
    assert not (data_dir / "prepared").exists()


def test_a_missing_field_is_named(data_dir):
    form = DUKE_LABEL_FILE
    labels = read_person_labels(data_dir / LABEL_FILE_NAME, form)
    halves = {
        half: {
            name: np.array([[row[name] for row in getattr(labels, half).values()]], np.uint8)
            for name in form.orders[half][1:]
        }
        | {"image_index": np.array([[f"{i:04d}" for i in getattr(labels, half)]], object)}
        for half in ("train", "test")
    }
    scipy.io.savemat(data_dir / LABEL_FILE_NAME, {form.struct: halves})
    with pytest.raises(DataError, match=r"lacks \['backpack'\].*23 DukeMTMC fields"):
        read_duke_folder(data_dir)


def test_records_of_the_look_alike(data_dir):
    data = load_data_set("duke", str(data_dir))
    assert data.schema == DUKE_SCHEMA and data.listing.is_rendered and not data.listing.warnings
    market = adapt(draw_population(seed=0, **SIZE))
    asked = set()
    for split in ("train", "query", "gallery"):
        read = data.read(split)
        persons = market.train if split == "train" else market.test
        assert len(read.images) == data.facts[f"{split}_images"] > 0
        for row, name in enumerate(read.file_name):
            person_id = int(name.split("/")[1][:4])
            assert read.person_id[row] == person_id
            assert read.camera_id[row] == int(name.split("_c")[1][0])
            assert read.images[row] == (data_dir / name).read_bytes()
            drawn = duke_fields(persons[person_id], person_id=person_id, seed=0)
            expected = duke_fields_to_attributes(drawn)
            np.testing.assert_array_equal(read.attributes[row], expected)
        if split == "query":
            asked = set(read.person_id.tolist())
    # As the published set's distractors: labelled, in the gallery, and never asked for.
    assert len(asked) == 4 and set(data.read("gallery").person_id.tolist()) == set(market.test)


def test_look_alikes_show_what_their_labels_say():
    drawn = draw_population(seed=1, train_persons=300, test_persons=200)
    shown = adapt(drawn)
    # Both colours occur, so that this tests something.
    assert any(row["upyellow"] == 2 for row in drawn.train.values())
    assert any(row["downpink"] == 2 for row in drawn.train.values())
    seen = {"boots": set(), "shoes": set()}
    for person_id, row in {**shown.train, **shown.test}.items():
        labels = duke_fields(row, person_id=person_id, seed=1)
        look = looks.draw_look(row, seed=1, person_id=person_id)
        for name in ("gender", "hat", "backpack", "bag", "handbag"):
            assert labels[name] == row[name]
        for prefix in ("up", "down"):
            # A colour that is drawn is said, and nothing else is.
            names = [name for name in (*row, *labels) if name.startswith(prefix)]
            colours = {n for n in names if n not in ("up", "down")}
            assert {n for n in colours if row.get(n) == 2} == {
                n for n in colours if labels.get(n) == 2
            }
        covered = not look.short_lower and not look.dress
        assert (labels["boots"] == 2) == (look.shoe_style == "boot" and not covered)
        if min(look.shoe) > 0.8 or max(look.shoe) < 0.2:
            assert labels["shoes"] == (2 if min(look.shoe) > 0.8 else 1)
        for name, values in seen.items():
            values.add(labels[name])
    assert seen == {"boots": {1, 2}, "shoes": {1, 2}}


def test_the_look_alike_has_the_published_orders_and_fixed_bytes(pristine, tmp_path):
    struct = scipy.io.loadmat(pristine / LABEL_FILE_NAME)["duke_attribute"]
    for half in ("train", "test"):
        assert struct[half].item().dtype.names == (*DUKE_LABEL_FILE.orders[half], "image_index")
    labels = read_person_labels(pristine / LABEL_FILE_NAME, DUKE_LABEL_FILE)
    assert isinstance(labels, PersonLabels)
    write_person_labels(tmp_path / "again.mat", labels, DUKE_LABEL_FILE)
    assert (tmp_path / "again.mat").read_bytes() == (pristine / LABEL_FILE_NAME).read_bytes()
