"""PETA: a coding that loses nothing, SAL's split to the image, every fault, its look-alike."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from pictures_of_noise import write_noise_layout

from input_pipeline.check import findings
from input_pipeline.datasets.listing import ReaderOptions
from input_pipeline.datasets.load import load_data_set
from input_pipeline.datasets.peta.folder import (
    PetaLabels,
    read_peta_folder,
    read_peta_labels,
    sal_split,
    write_peta_labels,
)
from input_pipeline.datasets.peta.schema import (
    PETA_COLUMNS,
    PETA_NAMES,
    PETA_SCHEMA,
    bits_to_attributes,
)
from input_pipeline.errors import DataError
from input_pipeline.rendering import looks
from input_pipeline.rendering.layouts.peta import PETA_LAYOUT, peta_names
from input_pipeline.rendering.population import draw_population

REAL = Path(__file__).resolve().parents[2] / "shared" / "labels" / "PETA.mat"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the published {REAL} is not here")
SIZE = {"train_persons": 20, "test_persons": 10}
IMAGES_PER_PERSON = 3


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A look-alike of 20 + 10 persons with noise for pictures, never changed by a test."""
    out = tmp_path_factory.mktemp("peta") / "data"
    write_noise_layout(
        out,
        layout="peta",
        **SIZE,
        images_per_person=IMAGES_PER_PERSON,
    )
    return out


@pytest.fixture
def data_dir(pristine, tmp_path) -> Path:
    """A copy for one test to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The published label file with 19,000 hard links to one file, never changed by a test."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copy(REAL, folder)
    (folder / "images").mkdir()
    first = folder / "images" / "00001.png"
    first.write_bytes(b"never decoded")
    for number in range(2, 19_001):
        os.link(first, folder / "images" / f"{number:05d}.png")
    return folder


def official(number: int) -> ReaderOptions:
    return ReaderOptions(peta_split=f"official_{number}")


def attributes_with(*names: str) -> np.ndarray:
    return bits_to_attributes(np.array([[name in names for name in PETA_NAMES]]), PETA_NAMES)[0]


def test_the_coding_is_a_permutation_of_the_bits():
    assert sorted(PETA_COLUMNS) == sorted(PETA_NAMES) and len(set(PETA_NAMES)) == 105
    bits = np.random.default_rng(0).integers(0, 2, (50, 105)).astype(bool)
    shuffled = [str(name) for name in np.random.default_rng(1).permutation(PETA_NAMES)]
    coded = bits_to_attributes(bits, shuffled)
    assert coded.dtype == np.int8 and set(np.unique(coded)) == {-1, 1}
    for column, name in enumerate(PETA_COLUMNS):
        np.testing.assert_array_equal(coded[:, column] > 0, bits[:, shuffled.index(name)])
    # However strange, every row can be put in words.
    assert all(PETA_SCHEMA.describe(row) for row in coded)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "male, red upper, backpack",
            ["personalMale", "upperBodyRed", "carryingBackpack"],
        ),
        (
            "woman with long blond hair",
            ["personalFemale", "hairLong", "hairYellow"],
        ),
        (
            "old man, bald, black suit, grey suit trousers, black leather shoes, umbrella",
            [
                *("personalLarger60", "personalMale", "hairBald", "upperBodyBlack"),
                *("upperBodySuit", "lowerBodyGrey", "lowerBodySuits", "footwearBlack"),
                *("footwearLeatherShoes", "carryingUmbrella"),
            ],
        ),
        (
            "female, long black hair, plaid shirt, casual blue jeans, white sneakers, sunglasses",
            [
                *("personalFemale", "hairLong", "hairBlack", "upperBodyPlaid"),
                *("lowerBodyCasual", "lowerBodyBlue", "lowerBodyJeans", "footwearWhite"),
                *("footwearSneaker", "accessorySunglasses"),
            ],
        ),
        (
            "short sleeves, formal black long skirt, no accessories, carrying nothing",
            [
                *("upperBodyShortSleeve", "lowerBodyFormal", "lowerBodyBlack"),
                *("lowerBodyLongSkirt", "accessoryNothing", "carryingNothing"),
            ],
        ),
    ],
)
def test_words_mean_what_the_attributes_mean(text, names):
    query = PETA_SCHEMA.parse(text)
    assert {PETA_COLUMNS[i] for i in np.flatnonzero(query > 0)} == set(names)
    assert not (query < 0).any()


def test_both_genders_and_neither_are_descriptions():
    both, neither = attributes_with("personalMale", "personalFemale"), attributes_with()
    assert PETA_SCHEMA.decode(both)["gender"] == "male+female"
    assert PETA_SCHEMA.decode(neither)["gender"] == "absent"
    said = PETA_SCHEMA.parse(PETA_SCHEMA.describe(neither))
    np.testing.assert_array_equal(said, neither)
    assert "male+female" in PETA_SCHEMA.describe(both)


@needs_real
def test_the_published_label_file():
    labels = read_peta_labels(REAL)
    assert labels.bits.shape == (19_000, 105) and labels.names == PETA_NAMES
    assert len(np.unique(labels.person_id)) == 8_699
    attributes = bits_to_attributes(labels.bits, labels.names)
    assert len(np.unique(attributes, axis=0)) == len(np.unique(labels.bits, axis=0)) == 7_769
    counts = dict(zip(PETA_COLUMNS, (attributes > 0).sum(0).tolist(), strict=True))
    assert counts["personalMale"] == 10_421 and counts["personalFemale"] == 8_578
    assert counts["hairBald"] == 390 and counts["carryingUmbrella"] == 77
    for vector in np.unique(attributes, axis=0)[::20]:
        said = PETA_SCHEMA.parse(PETA_SCHEMA.describe(vector))
        np.testing.assert_array_equal(said > 0, vector > 0)
        assert not (vector[said < 0] > 0).any()


@needs_real
def test_the_split_is_that_of_sal():
    """Against a plain account of what SAL's code does: dictionaries, in the file's order."""
    labels = read_peta_labels(REAL)
    images_of: dict[bytes, list[int]] = {}
    for row, bits in enumerate(labels.bits):
        images_of.setdefault(bits.tobytes(), []).append(row)
    kept = [rows for rows in images_of.values() if len(rows) > 1]
    assert len(images_of) == 7_769 and len(kept) == 2_090
    drawn = np.random.RandomState(1).choice(2_090, 1_890, replace=False)
    train = sorted(row for category in drawn for row in kept[category])
    test = sorted({row for rows in kept for row in rows} - set(train))
    split = sal_split(labels.bits, REAL)
    assert split["train"].tolist() == train and split["gallery"].tolist() == test
    assert len(train) == 11_886 and len(test) == 1_435


@needs_real
def test_the_published_set_by_its_counts(published):
    listing = read_peta_folder(published)
    assert listing.failed_facts() == [] and not listing.is_rendered
    assert dict(listing.facts) == {
        "train_categories": 1_890,
        "test_categories": 200,
        "unseen_test_categories": 200,
        "train_images": 11_886,
        "gallery_images": 1_435,
    }
    assert listing.expected == listing.facts and set(listing.splits) == {"train", "gallery"}
    labels = read_peta_labels(REAL)
    for images in listing.splits.values():
        rows = [int(file.name.removeprefix("images/")[:5]) - 1 for file in images.files]
        assert rows == sorted(rows)
        assert images.person_id.tolist() == labels.person_id[rows].tolist()
        assert set(images.camera_id) == {-1}
        expected = bits_to_attributes(labels.bits[rows], labels.names)
        np.testing.assert_array_equal(images.attributes, expected)
    persons = {split: images.person_id for split, images in listing.splits.items()}
    assert findings.shared_persons(persons) == []


@needs_real
@pytest.mark.parametrize("number", [1, 5])
def test_the_published_partitions(published, number):
    listing = read_peta_folder(published, official(number))
    assert listing.failed_facts() == [] and list(listing.splits) == ["train", "val", "gallery"]
    sizes = {split: len(images.files) for split, images in listing.splits.items()}
    assert sizes == {"train": 9_500, "val": 1_900, "gallery": 7_600}
    struct = scipy.io.loadmat(REAL)["peta"]["partion_attribute"].item()[number - 1, 0]
    for split, part in (("train", "train"), ("val", "val"), ("gallery", "test")):
        numbers = [int(file.name[7:12]) for file in listing.splits[split].files]
        assert numbers == sorted(struct[part].item().ravel().tolist())
    persons = {split: images.person_id for split, images in listing.splits.items()}
    assert len(findings.shared_persons(persons)) == 3


def assert_same(ours: np.ndarray, theirs: np.ndarray, where: str = "") -> None:
    """Equal in structure, types and values."""
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
    if theirs.dtype.names:
        for name in theirs.dtype.names:
            assert_same(ours[name], theirs[name], f"{where}.{name}")
    elif theirs.dtype == object:
        for first, second in zip(ours.ravel(), theirs.ravel(), strict=True):
            assert_same(first, second, where + "{}")
    else:
        np.testing.assert_array_equal(ours, theirs, where)


@needs_real
def test_written_file_has_the_published_form(tmp_path):
    for name in ("a.mat", "b.mat"):
        write_peta_labels(tmp_path / name, read_peta_labels(REAL))
    assert_same(scipy.io.loadmat(tmp_path / "a.mat")["peta"], scipy.io.loadmat(REAL)["peta"])
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()


def damage(change):
    """change(fields) of the struct in PETA.mat."""

    def apply(data_dir: Path):
        struct = scipy.io.loadmat(data_dir / "PETA.mat")["peta"]
        fields = {name: struct[name].item() for name in struct.dtype.names}
        change(fields)
        scipy.io.savemat(data_dir / "PETA.mat", {"peta": fields})

    return apply


def set_cell(row: int, column: int, value: int):
    def change(fields):
        fields["data"][row, column] = value

    return damage(change)


def set_partition(part: str, value: int):
    def change(fields):
        fields["partion_attribute"][0, 0][part].item()[0, 0] = value

    return damage(change)


def same_name_twice(fields):
    fields["attribute"][0, 0] = fields["attribute"][1, 0]


def other_name(fields):
    fields["attribute"][0, 0] = "personalTall"


def empty_name(fields):
    fields["attribute"][3, 0] = ""


def in_two_parts(fields):
    parts = fields["partion_attribute"][2, 0]
    parts["train"].item()[0, 0] = parts["test"].item()[0, 0]


def all_differ(fields):
    fields["data"] = fields["data"][::IMAGES_PER_PERSON]
    fields["data"][:, 0] = range(1, 1 + len(fields["data"]))
    # As many images as persons, each with a description of its own.
    rows = range(len(fields["data"]))
    fields["data"][:, 4:10] = [[int(bit) for bit in f"{row:06b}"] for row in rows]
    for (cell,) in fields["partion_attribute"]:
        for part in cell.dtype.names:
            cell[part][0, 0] = np.zeros((0, 1), np.uint16)


def drop(name: str):
    return damage(lambda fields: fields.pop(name))


def other_struct(data_dir: Path):
    scipy.io.savemat(data_dir / "PETA.mat", {"market_attribute": {"data": 1}})


def link_out(data_dir: Path):
    outside = data_dir.parent / "outside.png"
    image = next(iter(read_peta_folder(data_dir).splits["train"].files)).name
    (data_dir / image).rename(outside)
    (data_dir / image).symlink_to(outside)


def link_folder_out(data_dir: Path):
    (data_dir / "images").rename(data_dir.parent / "elsewhere")
    (data_dir / "images").symlink_to(data_dir.parent / "elsewhere")


def remove_images(data_dir: Path):
    for file in sorted((data_dir / "images").iterdir())[:40]:
        file.unlink()


FAULTS = {
    "no label file": (lambda d: (d / "PETA.mat").unlink(), r"PETA\.mat does not exist: put"),
    "no MATLAB file": (
        lambda d: (d / "PETA.mat").write_text("words"),
        r"PETA\.mat is not a readable MATLAB file",
    ),
    "another struct": (other_struct, r"holds \['market_attribute'\], expected one struct 'peta'"),
    "no data": (drop("data"), "expected one struct 'peta' with .*'data'"),
    "no partitions": (drop("partion_attribute"), "expected one struct 'peta'"),
    "a name twice": (damage(same_name_twice), r"peta\.attribute.* lacks \['personalLess30'\]"),
    "a strange name": (damage(other_name), r"has the extra \['personalTall'\].* 105 published"),
    "no name": (damage(empty_name), r"peta\.attribute.* has no text in row 4"),
    "names are numbers": (
        damage(lambda fields: fields.update(attribute=np.ones((105, 1)))),
        r"peta\.attribute.* is no list of texts",
    ),
    "a column too few": (
        damage(lambda fields: fields.update(data=fields["data"][:, 1:])),
        r"peta\.data.* has the shape \(90, 108\): expected .* 109 columns",
    ),
    "no rows": (
        damage(lambda fields: fields.update(data=fields["data"][:0])),
        r"peta\.data.* has the shape",
    ),
    "not 0 or 1": (set_cell(4, 20, 2), r"peta\.data.* holds 2 in row 5: expected 0 or 1"),
    "fractions": (
        damage(lambda fields: fields.update(data=fields["data"] + 0.5)),
        r"column 1 of peta\.data.* holds 1\.5: expected whole numbers",
    ),
    "texts for numbers": (
        damage(lambda fields: fields.update(data=np.full((90, 109), "x", object))),
        r"column 1 of peta\.data.* expected whole numbers",
    ),
    "not counted": (set_cell(4, 0, 77), "does not count the images from 1 to 90"),
    "partition of no image": (set_partition("val", 91), r"partion.*val.* holds 91.* from 1 to 90"),
    "partition from 0": (set_partition("train", 0), r"partion.*train.* holds 0.* from 1 to 90"),
    "in two parts": (damage(in_two_parts), r"names image \d+ twice in one partition"),
    "four partitions": (
        damage(lambda f: f.update(partion_attribute=f["partion_attribute"][:4])),
        "is not five partitions into 'train', 'val' or 'test'",
    ),
    "partitions are numbers": (
        damage(lambda fields: fields.update(partion_attribute=np.ones((5, 1)))),
        "is not five partitions",
    ),
    "an empty part": (damage(all_differ), "has an empty part"),
    "no images": (lambda d: shutil.rmtree(d / "images"), "images does not exist"),
    "images missing": (
        remove_images,
        r"\d+ of the \d+ images that the label file lists are not in .*"
        r"\(images/\d{5}\.png, images/\d{5}\.png, images/\d{5}\.png, \.\.\.\): copy them there",
    ),
    "link out of the folder": (link_out, r"\.png is a link out of .*: put the image itself"),
    "images are elsewhere": (link_folder_out, "images is a link out of .*: put the images there"),
    "manifest": (
        lambda d: (d / "manifest.json").write_text('{"facts": {}}'),
        "does not say train_images",
    ),
    "taken for the published set": (
        lambda d: (d / "manifest.json").unlink(),
        "train categories: found 26, but the published set has 1,890; .*4 further counts",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_and_nothing_written(data_dir, fault):
    change, message = FAULTS[fault]
    change(data_dir)
    with pytest.raises(DataError, match=message) as raised:
        load_data_set("peta", str(data_dir))
    assert "\n" not in str(raised.value)
    assert not (data_dir / "prepared").exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist.*PETA\.mat"):
        read_peta_folder(tmp_path / "none")
    with pytest.raises(DataError, match="split of PETA is 'official_6': expected 'sal', 'official"):
        read_peta_folder(tmp_path, official(6))


def test_sal_needs_two_descriptions_of_several_images(tmp_path):
    with pytest.raises(DataError, match=r"^1 descriptions in .*peta_split=official_1"):
        sal_split(np.repeat(np.eye(2, 105, dtype=bool), [1, 3], axis=0), tmp_path)
    split = sal_split(np.repeat(np.eye(3, 105, dtype=bool), [2, 1, 3], axis=0), tmp_path)
    assert sorted(len(rows) for rows in split.values()) == [2, 3]


def test_images_may_be_links_within_the_folder(data_dir):
    image = read_peta_folder(data_dir).splits["train"].files[0].name
    (data_dir / image).rename(data_dir / "moved.png")
    (data_dir / image).symlink_to(data_dir / "moved.png")
    assert read_peta_folder(data_dir).failed_facts() == []


def test_records_of_the_look_alike(data_dir):
    data = load_data_set("peta", str(data_dir))
    assert data.schema == PETA_SCHEMA and data.listing.is_rendered and not data.listing.warnings
    market = draw_population(seed=0, **SIZE)
    persons = list({**market.train, **market.test}.items())
    seen = 0
    for split in ("train", "gallery"):
        read = data.read(split)
        assert len(read.images) == data.facts[f"{split}_images"]
        for row, name in enumerate(read.file_name):
            number = int(name.removeprefix("images/").removesuffix(".png"))
            person_id, fields = persons[(number - 1) // IMAGES_PER_PERSON]
            assert read.person_id[row] == person_id and read.camera_id[row] == -1
            assert read.images[row] == (data_dir / name).read_bytes()
            expected = attributes_with(*peta_names(fields, person_id=person_id, seed=0))
            np.testing.assert_array_equal(read.attributes[row], expected)
            seen += 1
    assert seen == 90
    # As large a share of the descriptions as the published 200 of 2,090.
    categories = data.facts["train_categories"] + data.facts["test_categories"]
    assert data.facts["test_categories"] == round(categories * 200 / 2_090) > 1
    assert data.facts["unseen_test_categories"] == data.facts["test_categories"]


def test_the_look_alike_has_partitions_too(data_dir):
    several = [read_peta_folder(data_dir, official(number)) for number in range(1, 6)]
    for listing in several:
        sizes = [len(listing.splits[split].files) for split in ("train", "val", "gallery")]
        assert sizes == [45, 9, 36] and listing.failed_facts() == []
    assert len({listing.fingerprint() for listing in several}) == 5
    data = load_data_set("peta", str(data_dir), options=official(2))
    assert len(data.read("val").images) == 9


@needs_real
def test_the_look_alike_has_the_published_form(pristine):
    ours = scipy.io.loadmat(pristine / "PETA.mat")["peta"]
    theirs = scipy.io.loadmat(REAL)["peta"]
    assert ours.dtype == theirs.dtype
    for name in ("attribute", "selected_attribute"):
        assert_same(ours[name], theirs[name], name)
    assert ours["data"].item().dtype == theirs["data"].item().dtype
    assert ours["data"].item().shape == (90, 109)


def test_look_alikes_show_what_their_labels_say():
    drawn = draw_population(seed=1, train_persons=300, test_persons=200)
    ever: set[str] = set()
    for person_id, row in {**drawn.train, **drawn.test}.items():
        names = peta_names(row, person_id=person_id, seed=1)
        look = looks.draw_look(row, seed=1, person_id=person_id)
        assert names <= set(PETA_NAMES)
        ever |= names
        assert ("personalFemale" in names) == (row["gender"] == 2) == ("personalMale" not in names)
        assert ("upperBodyShortSleeve" in names) == (row["up"] == 2)
        assert ("accessoryHat" in names) == (row["hat"] == 2) == ("accessoryNothing" not in names)
        assert ("carryingBackpack" in names) == (row["backpack"] == 2)
        assert ("carryingMessengerBag" in names) == (row["bag"] == 2)
        skirt = {"lowerBodyShortSkirt", "lowerBodyLongSkirt"} & names
        assert bool(skirt) == (row["clothes"] == 1)
        assert ("footwearSneaker" in names) == (look.shoe_style == "sneaker")
        for prefix, part in (("up", "upperBody"), ("down", "lowerBody")):
            named = {
                n.removeprefix(prefix).replace("gray", "grey").capitalize()
                for n, value in row.items()
                if n.startswith(prefix) and n != prefix and value == 2
            }
            said = {n.removeprefix(part) for n in names if n.startswith(part)}
            colours = {n.removeprefix("hair") for n in PETA_NAMES if n.startswith("hair")}
            assert (said & colours) - {"Orange"} == named
    # Each kind of thing occurs in several of its values.
    for part, least in (("personal", 5), ("hair", 6), ("footwear", 8), ("carrying", 4)):
        assert len([name for name in ever if name.startswith(part)]) >= least, part


def test_more_images_than_the_label_file_can_number():
    labels = draw_population(seed=0, train_persons=40, test_persons=40)
    with pytest.raises(DataError, match=r"80,000 images are more than PETA's .*65,535"):
        PETA_LAYOUT.plan(labels, 1_000, 0)


def test_labels_survive_writing(tmp_path):
    rng = np.random.default_rng(0)
    numbers = 1 + rng.permutation(10)
    labels = PetaLabels(
        person_id=rng.integers(1, 9_999, 10),
        subset=rng.integers(1, 11, 10),
        original_id=rng.integers(0, 9_999, 10),
        bits=rng.integers(0, 2, (10, 105)).astype(bool),
        names=PETA_NAMES,
        partitions=({"train": numbers[:5], "val": numbers[5:6], "test": numbers[6:]},) * 5,
    )
    write_peta_labels(tmp_path / "PETA.mat", labels)
    again = read_peta_labels(tmp_path / "PETA.mat")
    for name in ("person_id", "subset", "original_id", "bits"):
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))
    assert again.names == labels.names
    for part, its_numbers in labels.partitions[3].items():
        np.testing.assert_array_equal(again.partitions[3][part], its_numbers)
