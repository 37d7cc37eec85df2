"""PA-100K: the coding, orientation by choice, every fault of a folder, its look-alike."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from pictures_of_noise import write_noise_layout

from input_pipeline import splits
from input_pipeline.datasets.image_labels import attributes_of
from input_pipeline.datasets.listing import ReaderOptions
from input_pipeline.datasets.load import load_data_set
from input_pipeline.datasets.pa100k.folder import (
    PA100KLabels,
    read_pa100k_folder,
    read_pa100k_labels,
    write_pa100k_labels,
)
from input_pipeline.datasets.pa100k.schema import PA100K_NAMES, pa100k_schema
from input_pipeline.errors import DataError
from input_pipeline.rendering import looks, render
from input_pipeline.rendering.layouts.pa100k import orientation, pa100k_names
from input_pipeline.rendering.population import draw_population

EXCERPT = (
    Path(__file__).resolve().parents[2] / "shared" / "labels" / "pa100k_excerpt_annotation.mat"
)
needs_excerpt = pytest.mark.skipif(
    not EXCERPT.exists(), reason=f"the excerpt {EXCERPT} is not here"
)
SIZE = {"train_persons": 9, "test_persons": 6}
IMAGES_PER_PERSON = 4
SCHEMA, COLUMNS = pa100k_schema(orientation=False)
FULL_SCHEMA, FULL_COLUMNS = pa100k_schema(orientation=True)
WITH_ORIENTATION = ReaderOptions(orientation=True)
PARTS = {"train": "train", "val": "val", "gallery": "test"}
IMAGES = "release_data/release_data"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A look-alike of 9 + 6 persons with noise for pictures, never changed by a test."""
    out = tmp_path_factory.mktemp("pa100k") / "data"
    write_noise_layout(
        out,
        layout="pa100k",
        **SIZE,
        images_per_person=IMAGES_PER_PERSON,
    )
    return out


@pytest.fixture
def data_dir(pristine, tmp_path) -> Path:
    """A copy for one test to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def mended_excerpt() -> dict[str, np.ndarray]:
    """The excerpt, whose first test image has its name in a variable of another name."""
    content = scipy.io.loadmat(EXCERPT)
    content["test_images_name"][0, 0] = content["text_images_name"][0, 0]
    return {name: value for name, value in content.items() if name[0] != "_"}


def test_the_coding_is_a_permutation_of_the_bits():
    assert sorted(FULL_COLUMNS) == sorted(PA100K_NAMES) and len(set(PA100K_NAMES)) == 26
    assert FULL_COLUMNS[: len(COLUMNS)] == COLUMNS
    assert set(FULL_COLUMNS) - set(COLUMNS) == {"Front", "Side", "Back"}
    bits = np.random.default_rng(0).integers(0, 2, (50, 26)).astype(bool)
    shuffled = [str(name) for name in np.random.default_rng(1).permutation(PA100K_NAMES)]
    for schema, columns in ((SCHEMA, COLUMNS), (FULL_SCHEMA, FULL_COLUMNS)):
        coded = attributes_of(bits, shuffled, columns, schema)
        assert coded.dtype == np.int8 and coded.shape == (50, len(columns))
        for column, name in enumerate(columns):
            np.testing.assert_array_equal(coded[:, column] > 0, bits[:, shuffled.index(name)])
        # However strange, every row can be put in words.
        assert all(schema.describe(row) for row in coded)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "adult woman, long sleeves, skirt, shoulder bag",
            "Female Age18-60 LongSleeve Skirt&Dress ShoulderBag",
        ),
        ("striped top, shorts, cap, held object", "UpperStride Shorts Hat HoldObjectsInFront"),
        (
            "over 60, long coat, striped trousers, boots",
            "AgeOver60 LongCoat LowerStripe Trousers boots",
        ),
    ],
)
def test_words_mean_what_the_attributes_mean(text, names):
    query = SCHEMA.parse(text)
    assert {COLUMNS[i] for i in np.flatnonzero(query > 0)} == set(names.split())


def test_orientation_is_a_word_only_where_it_is_an_attribute():
    query = FULL_SCHEMA.parse("male, side view")
    assert [FULL_COLUMNS[i] for i in np.flatnonzero(query > 0)] == ["Side"]
    with pytest.raises(DataError, match="unknown word 'side'"):
        SCHEMA.parse("male, side view")


@needs_excerpt
@pytest.mark.parametrize("schema", [SCHEMA, FULL_SCHEMA])
def test_real_descriptions_are_read_back(schema):
    content = mended_excerpt()
    columns = pa100k_schema(orientation=schema is FULL_SCHEMA)[1]
    coded = attributes_of(content["train_label"] > 0, PA100K_NAMES, columns, schema)
    for vector in np.unique(coded, axis=0):
        said = schema.parse(schema.describe(vector))
        np.testing.assert_array_equal(said > 0, vector > 0)
        assert not (vector[said < 0] > 0).any()


@needs_excerpt
def test_the_excerpt_is_read(tmp_path):
    content = mended_excerpt()
    scipy.io.savemat(tmp_path / "annotation.mat", content)
    names = {
        split: [str(cell[0]) for cell in content[f"{part}_images_name"].ravel()]
        for split, part in PARTS.items()
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "one.jpg").write_bytes(b"never decoded")
    for name in [name for its_names in names.values() for name in its_names]:
        os.link(tmp_path / "one.jpg", tmp_path / "data" / name)
    listing = read_pa100k_folder(tmp_path)
    assert [len(images.files) for images in listing.splits.values()] == [1_599, 200, 200]
    for split, images in listing.splits.items():
        assert [file.name for file in images.files] == [f"data/{n}" for n in sorted(names[split])]
        rows = np.argsort(names[split])
        label = content[f"{PARTS[split]}_label"][rows]
        for column, name in enumerate(COLUMNS):
            expected = label[:, PA100K_NAMES.index(name)]
            np.testing.assert_array_equal(images.attributes[:, column] > 0, expected)
        assert set(images.person_id) == set(images.camera_id) == {-1}
    full = read_pa100k_folder(tmp_path, WITH_ORIENTATION)
    assert full.schema == FULL_SCHEMA and full.fingerprint() != listing.fingerprint()
    assert len(full.train_categories) > len(listing.train_categories)
    # An excerpt is not the set.
    for found in (listing, full):
        assert found.expected == {
            "train_images": 80_000,
            "val_images": 10_000,
            "gallery_images": 10_000,
        }
        assert (
            "train images: found 1,599, but the published set has 80,000"
            in (found.failed_facts()[0])
        )


@needs_excerpt
def test_an_image_without_a_name_is_named():
    with pytest.raises(DataError, match=r"test_images_name .* has no text in row 1"):
        read_pa100k_labels(EXCERPT)


@needs_excerpt
def test_written_file_has_the_published_form(tmp_path):
    content = mended_excerpt()
    scipy.io.savemat(tmp_path / "theirs.mat", content)
    for name in ("a.mat", "b.mat"):
        write_pa100k_labels(tmp_path / name, read_pa100k_labels(tmp_path / "theirs.mat"))
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()
    ours = scipy.io.loadmat(tmp_path / "a.mat")
    assert {name for name in ours if name[0] != "_"} == set(content) - {"text_images_name"}
    for name in set(content) - {"text_images_name"}:
        assert ours[name].dtype == content[name].dtype and ours[name].shape == content[name].shape
        assert ours[name].tolist() == content[name].tolist()


def damage(change):
    """change(variables) of annotation.mat."""

    def apply(data_dir: Path):
        content = scipy.io.loadmat(data_dir / "annotation.mat")
        content = {name: value for name, value in content.items() if name[0] != "_"}
        change(content)
        scipy.io.savemat(data_dir / "annotation.mat", content)

    return apply


def set_value(variable: str, row: int, value):
    def change(content):
        content[variable][row, 0] = value

    return damage(change)


def replace(variable: str, new):
    return damage(lambda content: content.update({variable: new(content[variable])}))


def link_out(data_dir: Path):
    (data_dir / IMAGES / "000001.jpg").rename(data_dir.parent / "outside.jpg")
    (data_dir / IMAGES / "000001.jpg").symlink_to("../../../outside.jpg")


def link_folder_out(data_dir: Path):
    (data_dir / "release_data").rename(data_dir.parent / "elsewhere")
    (data_dir / "release_data").symlink_to(data_dir.parent / "elsewhere")


def linked_subfolder(data_dir: Path):
    (data_dir.parent / "outside").mkdir()
    (data_dir / IMAGES / "000001.jpg").rename(data_dir.parent / "outside" / "000001.jpg")
    (data_dir / IMAGES / "below").symlink_to(data_dir.parent / "outside")
    set_value("train_images_name", 0, "below/000001.jpg")(data_dir)


def image_is_folder(data_dir: Path):
    (data_dir / IMAGES / "000001.jpg").unlink()
    (data_dir / IMAGES / "000001.jpg").mkdir()


def remove_images(data_dir: Path):
    for number in (2, 3, 5, 7):
        (data_dir / IMAGES / f"{number:06d}.jpg").unlink()


FAULTS = {
    "no label file": (
        lambda d: (d / "annotation.mat").unlink(),
        r"annotation\.mat does not exist: put .* PA-100K",
    ),
    "no MATLAB file": (
        lambda d: (d / "annotation.mat").write_text("words"),
        "is not a readable MATLAB file",
    ),
    "no labels": (
        damage(lambda content: content.pop("val_label")),
        r"lacks \['val_label'\]: use the annotation\.mat",
    ),
    "no names": (
        damage(lambda content: content.pop("test_images_name")),
        r"lacks \['test_images_name'\]",
    ),
    "a strange attribute": (
        set_value("attributes", 0, "Tall"),
        r"attributes in .* lacks \['Female'\] and has the extra \['Tall'\]",
    ),
    "an attribute too few": (replace("attributes", lambda a: a[1:]), r"lacks \['Female'\]"),
    "an attribute twice": (
        replace("attributes", lambda a: np.concatenate([a, a[:1]])),
        "names one twice: expected the 26 published",
    ),
    "a column too few": (
        replace("train_label", lambda label: label[:, 1:]),
        r"train_label .* has the shape \(32, 25\): expected \(32, 26\)",
    ),
    "a row too few": (
        replace("test_label", lambda label: label[1:]),
        r"test_label .* has the shape \(23, 26\): expected \(24, 26\)",
    ),
    "not 0 or 1": (set_value("val_label", 2, 2), "val_label .* holds 2 in row 3: expected 0 or 1"),
    "unknown": (
        replace("val_label", lambda label: np.where(label, 1.0, np.nan)),
        "val_label .* holds nan in row 1: expected 0 or 1",
    ),
    "texts for numbers": (
        replace("val_label", lambda label: label.astype(object)),
        "val_label .* expected 0 or 1",
    ),
    "numbers for names": (
        replace("val_images_name", lambda names: np.ones((4, 1))),
        "val_images_name .* is no list of texts",
    ),
    "a number for a name": (
        set_value("val_images_name", 3, 7),
        "val_images_name .* has no text in row 4",
    ),
    "a blank name": (set_value("val_images_name", 3, "  "), "has no text in row 4"),
    "no image in a part": (
        replace("val_images_name", lambda names: names[:0]),
        "val_images_name .* lists no image",
    ),
    "an image twice": (
        set_value("train_images_name", 0, "000002.jpg"),
        "lists the image '000002.jpg' twice",
    ),
    "an image in two parts": (
        set_value("test_images_name", 0, "000002.jpg"),
        "lists the image '000002.jpg' twice",
    ),
    "an image twice in other words": (
        set_value("train_images_name", 0, "./000002.jpg"),
        "lists the image '000002.jpg' twice",
    ),
    "above the folder": (
        set_value("train_images_name", 0, "../../annotation.mat"),
        "names the image '../../annotation.mat', which is not inside release_data",
    ),
    "an absolute name": (
        set_value("train_images_name", 0, "/etc/hostname"),
        "names the image '/etc/hostname', which is not inside",
    ),
    "a Windows name": (set_value("train_images_name", 0, "..\\x.jpg"), "which is not inside"),
    "no image folder": (
        lambda d: shutil.rmtree(d / "release_data"),
        "has neither the folder data nor release_data/release_data: unpack",
    ),
    "images missing": (
        remove_images,
        r"4 of the 60 images that the label file lists are not in .*data "
        rf"\({IMAGES}/000002\.jpg, {IMAGES}/000003\.jpg, {IMAGES}/000005\.jpg, \.\.\.\): copy",
    ),
    "a folder for an image": (image_is_folder, r"1 of the 60 images .*000001\.jpg\): copy"),
    "link out of the folder": (link_out, r"000001\.jpg is a link out of .*: put the image itself"),
    "link below the folder": (linked_subfolder, r"below/000001\.jpg is a link out of"),
    "images are elsewhere": (link_folder_out, "is a link out of .*: put the images there"),
    "manifest": (
        lambda d: (d / "manifest.json").write_text('{"facts": {}}'),
        "does not say train_images",
    ),
    "taken for the published set": (
        lambda d: (d / "manifest.json").unlink(),
        "train images: found 32, but the published set has 80,000; .*2 further counts",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_and_nothing_written(data_dir, fault):
    change, message = FAULTS[fault]
    change(data_dir)
    with pytest.raises(DataError, match=message) as raised:
        load_data_set("pa100k", str(data_dir))
    assert "\n" not in str(raised.value)
    assert not (data_dir / "prepared").exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist.*annotation\.mat"):
        read_pa100k_folder(tmp_path / "none")


def test_the_folder_data_is_read_too(data_dir):
    before = read_pa100k_folder(data_dir)
    (data_dir / IMAGES).rename(data_dir / "data")
    after = read_pa100k_folder(data_dir)
    assert after.facts == before.facts and after.failed_facts() == []
    assert all(file.name.startswith("data/") for file in after.splits["val"].files)


@pytest.mark.parametrize("options", [ReaderOptions(), WITH_ORIENTATION])
def test_records_of_the_look_alike(data_dir, options):
    schema, columns = pa100k_schema(orientation=options.orientation)
    data = load_data_set("pa100k", str(data_dir), options=options)
    assert data.schema == schema and data.listing.is_rendered and not data.listing.warnings
    market = draw_population(seed=0, **SIZE)
    persons = list({**market.train, **market.test}.items())
    counts = {"train": 32, "val": 4, "gallery": 24}
    number = 0
    for split, count in counts.items():
        read = data.read(split)
        assert len(read.images) == count == data.facts[f"{split}_images"]
        for row, name in enumerate(read.file_name):
            person_id, fields = persons[number // IMAGES_PER_PERSON]
            index = number % IMAGES_PER_PERSON
            number += 1
            assert name == f"{IMAGES}/{number:06d}.jpg"
            assert read.images[row] == (data_dir / name).read_bytes()
            assert read.person_id[row] == read.camera_id[row] == -1
            names = pa100k_names(fields, person_id=person_id, seed=0)
            names |= {orientation(0, person_id, index)}
            expected = [1 if column in names else -1 for column in columns]
            assert read.attributes[row].tolist() == expected
    _, validation = splits.train_and_validation(data, validation_fraction=0.1, seed=0)
    assert validation is not None
    assert list(validation.file_name) == data.read("val").file_name


def test_the_orientation_is_that_of_the_picture(monkeypatch):
    """Against the angle with which the renderer draws the person; 0 faces the camera."""
    fields = draw_population(seed=3, train_persons=4, test_persons=4).train
    turned = []
    draw_person = render.draw_person

    def watched(*arguments, yaw, **kwargs):
        turned.append(yaw)
        return draw_person(*arguments, yaw=yaw, **kwargs)

    monkeypatch.setattr(render, "draw_person", watched)
    found = set()
    for person_id, row in list(fields.items())[:2]:
        for index in range(6):
            turned.clear()
            render.render_crop(
                row, seed=3, person_id=person_id, image_index=index, camera_id=1, image_height=32
            )
            # The person is drawn first, passers-by after.
            angle = abs(np.degrees(np.arctan2(np.sin(turned[0]), np.cos(turned[0]))))
            expected = "Front" if angle < 45 else "Side" if angle < 135 else "Back"
            assert orientation(3, person_id, index) == expected
            found.add(expected)
    assert found == {"Front", "Side", "Back"}


def test_look_alikes_show_what_their_labels_say():
    drawn = draw_population(seed=1, train_persons=300, test_persons=200)
    ever: set[str] = set()
    for person_id, row in {**drawn.train, **drawn.test}.items():
        names = pa100k_names(row, person_id=person_id, seed=1)
        look = looks.draw_look(row, seed=1, person_id=person_id)
        ever |= names
        for name, field, value in [
            ("Female", "gender", 2),
            ("Hat", "hat", 2),
            ("Backpack", "backpack", 2),
            ("ShoulderBag", "bag", 2),
            ("HandBag", "handbag", 2),
            ("ShortSleeve", "up", 2),
            ("LongSleeve", "up", 1),
            ("Skirt&Dress", "clothes", 1),
            ("AgeOver60", "age", 4),
            ("Age18-60", "age", 3),
        ]:
            assert (name in names) == (row[field] == value), name
        assert len({"Trousers", "Shorts", "Skirt&Dress"} & names) == 1
        assert ("UpperPlaid" in names) == (look.upper.pattern == looks.CHECKS)
    never = {"Glasses", "HoldObjectsInFront", "LongCoat", "Front", "Side", "Back"}
    assert ever == set(PA100K_NAMES) - never


def test_labels_survive_writing(tmp_path):
    rng = np.random.default_rng(0)
    counts = {"train": 5, "val": 1, "test": 2}
    labels = PA100KLabels(
        images={part: [f"{part}{i}.jpg" for i in range(n)] for part, n in counts.items()},
        bits={part: rng.integers(0, 2, (n, 26)).astype(bool) for part, n in counts.items()},
        names=PA100K_NAMES,
    )
    write_pa100k_labels(tmp_path / "annotation.mat", labels)
    again = read_pa100k_labels(tmp_path / "annotation.mat")
    assert again.images == labels.images and again.names == labels.names
    for part, bits in labels.bits.items():
        np.testing.assert_array_equal(again.bits[part], bits)
