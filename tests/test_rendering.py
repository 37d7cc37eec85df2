"""The pedestrian renderer: determinism, visibility of every attribute, no bare feet, no holes."""

import hashlib
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import DataError
from input_pipeline.rendering import colours, looks, materials
from input_pipeline.rendering.body import load_assets
from input_pipeline.rendering.contact_sheet import write_contact_sheet
from input_pipeline.rendering.pack_assets import ETHNICITIES, from_bytes, to_bytes
from input_pipeline.rendering.render import MARKET_FIELDS, render_crop, render_jpeg, render_labels

SKIN = (materials.HEAD_SKIN, materials.ARM_SKIN, materials.LEG_SKIN)


def description(**changes: int) -> dict[str, int]:
    """An adult man in a black long-sleeved top and blue trousers, with changes."""
    fields = dict.fromkeys(MARKET_FIELDS, 1) | {"age": 3, "clothes": 2}
    if not any(name in changes for name in looks.UPPER_CHOICES):
        fields["upblack"] = 2
    if not any(name in changes for name in looks.LOWER_CHOICES):
        fields["downblue"] = 2
    return fields | changes


def random_description(rng: np.random.Generator) -> dict[str, int]:
    fields = dict.fromkeys(MARKET_FIELDS, 1)
    fields["age"] = int(rng.integers(1, 5))
    for name in ("gender", "hair", "up", "down", "clothes", "hat"):
        fields[name] = int(rng.integers(1, 3))
    bag = int(rng.integers(5))
    if bag < 3:
        fields[("backpack", "bag", "handbag")[bag]] = 2
    fields[looks.UPPER_CHOICES[rng.integers(8)]] = 2
    fields[looks.LOWER_CHOICES[rng.integers(9)]] = 2
    return fields


def labels_of(fields: dict[str, int], *, person_id: int = 5, image_index: int = 0) -> np.ndarray:
    return render_labels(fields, seed=3, person_id=person_id, image_index=image_index, camera_id=2)[
        1
    ]


@pytest.fixture(scope="module")
def crowd() -> list[tuple[dict[str, int], np.ndarray, np.ndarray]]:
    """Fields, crop and labels of 40 random persons in random poses."""
    rng = np.random.default_rng(0)
    people = []
    for person_id in range(40):
        fields = random_description(rng)
        crop, labels = render_labels(
            fields,
            seed=1,
            person_id=person_id,
            image_index=person_id % 8,
            camera_id=1 + person_id % 6,
        )
        people.append((fields, crop, labels))
    return people


def test_the_packed_body_is_small_and_whole():
    assets = load_assets()
    file = Path(looks.__file__).parent / "assets" / "body.npz"
    assert file.stat().st_size < 1_500_000
    assert len(assets.bones) == 53 and assets.joints.shape == (53, 3)
    assert assets.vertices.shape == (16_774, 3) and assets.quads.shape == (16_712, 4)
    assert assets.quads.min() == 0 and assets.quads.max() == 16_773
    assert (assets.parents < np.arange(53)).all()
    np.testing.assert_allclose(assets.bone_weight.sum(1), 1, atol=1e-6)
    assert len(assets.target_index) == 44


def test_packing_loses_half_a_step_at_most():
    deltas = np.random.default_rng(0).normal(0, 0.4, (3, 50, 3))
    unpacked = from_bytes(to_bytes(deltas, 0.005), 0.005)
    np.testing.assert_allclose(unpacked, deltas, atol=0.00251)


def test_bytes_depend_on_nothing_but_the_arguments():
    jobs = [(p, i, c) for p in (1, 2, 3) for i, c in ((0, 1), (5, 4))]

    def digest(job: tuple[int, int, int]) -> str:
        person, index, camera = job
        data = render_jpeg(
            description(hair=person % 2 + 1),
            seed=9,
            person_id=person,
            image_index=index,
            camera_id=camera,
        )
        return hashlib.sha256(data).hexdigest()

    forward = [digest(job) for job in jobs]
    backward = [digest(job) for job in reversed(jobs)]
    assert forward == backward[::-1]
    assert len(set(forward)) == len(jobs)
    script = (
        "import hashlib; from input_pipeline.rendering.render import render_jpeg;"
        f"data = render_jpeg({description(hair=2)!r},"
        " seed=9, person_id=3, image_index=5, camera_id=4);"
        "print(hashlib.sha256(data).hexdigest())"
    )
    # Person 3 has hair 2 above as well.
    root = Path(looks.__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == forward[-1]


@pytest.mark.parametrize("height", [128, 256])
def test_sizes_and_jpeg(height: int):
    arguments = {
        "seed": 0,
        "person_id": 1,
        "image_index": 2,
        "camera_id": 3,
        "image_height": height,
    }
    crop, labels = render_labels(description(), **arguments)
    assert crop.shape == (height, height // 2, 3) and crop.dtype == np.uint8
    assert labels.shape == (height, height // 2)
    decoded = np.asarray(Image.open(BytesIO(render_jpeg(description(), **arguments))))
    assert decoded.shape == crop.shape
    assert np.abs(decoded.astype(float) - crop).mean() < 12
    np.testing.assert_array_equal(render_crop(description(), **arguments), crop)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"hat": 2}, materials.HAT),
        ({"backpack": 2}, materials.BACKPACK),
        ({"bag": 2}, materials.BAG),
        ({"handbag": 2}, materials.HANDBAG),
        ({"down": 2}, materials.LEG_SKIN),
    ],
)
def test_an_attribute_shows_where_it_should_and_only_then(change: dict[str, int], label: int):
    shares = []
    for index in range(6):
        without = labels_of(description(), image_index=index)
        with_it = labels_of(description(**change), image_index=index)
        assert not (without == label).any()
        person = (with_it != materials.BACKGROUND) & (with_it != materials.OCCLUDER)
        shares.append((with_it == label).sum() / person.sum())
    assert np.median(shares) > 0.01, shares
    assert sum(share > 0.003 for share in shares) >= 4, shares


def test_hat_changes_the_head_and_trousers_colour_the_legs():
    def changed_rows(index: int, **change: int) -> np.ndarray:
        place = {"seed": 3, "person_id": 6, "image_index": index, "camera_id": 2}
        before = render_crop(description(gender=2), **place).astype(int)
        after = render_crop(description(gender=2, **change), **place)
        return (np.abs(after - before).max(2) > 30).sum(1)

    hats = [changed_rows(index, hat=2) for index in range(5)]
    assert np.median([rows.sum() for rows in hats]) > 50
    assert np.median([rows[:85].sum() / rows.sum() for rows in hats]) > 0.9
    pinks = [changed_rows(index, downpink=2) for index in range(5)]
    assert np.median([rows.sum() for rows in pinks]) > 500
    assert np.median([rows[85:].sum() / rows.sum() for rows in pinks]) > 0.9


def test_hair_sleeve_and_skirt_change_their_labels():
    def count(fields: dict[str, int], label: int) -> float:
        return float(np.mean([(labels_of(fields, image_index=i) == label).sum() for i in range(5)]))

    assert count(description(hair=2), materials.HAIR) > 1.8 * count(description(), materials.HAIR)
    bare, sleeved = description(up=2), description()
    assert count(bare, materials.ARM_SKIN) > 1.6 * count(sleeved, materials.ARM_SKIN)
    skirt, shorts = description(clothes=1, down=1), description(down=1)
    assert count(skirt, materials.LOWER) != count(shorts, materials.LOWER)


def person_height(fields: dict[str, int], person_id: int) -> int:
    shown = labels_of(fields, person_id=person_id)
    rows = np.flatnonzero(((shown > 0) & (shown != materials.OCCLUDER)).any(1))
    return int(rows[-1] - rows[0])


def test_children_are_smaller_and_the_old_are_gray():
    people = range(20, 32)
    adults = np.median([person_height(description(age=3), p) for p in people])
    children = np.median([person_height(description(age=1), p) for p in people])
    assert children < 0.93 * adults
    for person in people:
        old = looks.draw_look(description(age=4), seed=3, person_id=person).hair_colour
        grown = looks.draw_look(description(age=3), seed=3, person_id=person).hair_colour
        assert max(old) - min(old) < 0.06 and min(old) > 0.5
        assert min(grown) < 0.45


def test_gender_changes_the_body_shape():
    changed = [
        (
            labels_of(description(gender=1), person_id=p)
            != labels_of(description(gender=2), person_id=p)
        ).mean()
        for p in range(40, 44)
    ]
    assert min(changed) > 0.02


def named_colour(pixels: np.ndarray) -> str:
    """A crude reader of colours: the named colour whose shades come nearest to the median."""
    median = np.median(pixels, axis=0)
    pixel = median.astype(np.uint8)[None, None]
    hue, saturation, value = cv2.cvtColor(pixel, cv2.COLOR_RGB2HSV)[0, 0].tolist()
    if saturation < 46 or value < 52:
        return "black" if value < 78 else ("gray" if value < 172 else "white")
    if hue >= 160 or hue < 8:
        return "pink" if value > 150 and saturation < 140 else "red"
    if hue < 18:
        return "brown"
    if hue < 35:
        return "yellow"
    if hue < 88:
        return "green"
    if hue < 132:
        return "blue"
    return "purple"


@pytest.mark.parametrize("part", ["up", "down"])
def test_cloth_has_the_named_colour(part: str):
    names = colours.UPPER_COLOURS if part == "up" else colours.LOWER_COLOURS
    label = materials.UPPER if part == "up" else materials.LOWER
    right, total = 0, 0
    for number, name in enumerate(names):
        for person in range(4):
            crop, labels = render_labels(
                description(**{part + name: 2}),
                seed=2,
                person_id=100 + 10 * number + person,
                image_index=0,
                camera_id=1 + (person + number) % 6,
            )
            right += named_colour(crop[labels == label]) == name
            total += 1
    assert right >= 0.85 * total, (right, total)


def test_shoes_always_and_never_bare_feet(crowd):
    for fields, _, labels in crowd:
        if (labels == materials.OCCLUDER).any():
            continue
        shoes = labels == materials.SHOE
        assert shoes.sum() > 40, fields
        lowest = np.flatnonzero(np.isin(labels, [*SKIN, materials.LOWER, materials.SHOE]).any(1))[
            -1
        ]
        foot = labels[lowest - 3 : lowest + 1]
        person = foot[(foot > 0) & (foot != materials.HANDBAG)]
        assert (person == materials.SHOE).mean() > 0.9, fields


def test_skin_does_not_poke_through_cloth(crowd):
    """Small islands of skin wholly surrounded by cloth are holes."""
    kernel = np.ones((3, 3), np.uint8)
    holes, cloth = 0, 0
    for _, _, labels in crowd:
        garment = np.isin(labels, [materials.UPPER, materials.LOWER])
        cloth += garment.sum()
        count, islands, statistics, _ = cv2.connectedComponentsWithStats(
            np.isin(labels, SKIN).astype(np.uint8), connectivity=8
        )
        for island in range(1, count):
            inside = (islands == island).astype(np.uint8)
            ring = (cv2.dilate(inside, kernel) > 0) & (inside == 0)
            if statistics[island, cv2.CC_STAT_AREA] < 60 and garment[ring].mean() > 0.95:
                holes += statistics[island, cv2.CC_STAT_AREA]
    assert holes / cloth < 0.001, (holes, cloth)


def test_no_skin_between_trousers_and_top(crowd):
    for fields, _, labels in crowd:
        if fields["down"] == 1 and fields["clothes"] == 2:
            assert (labels == materials.LEG_SKIN).sum() <= 60, fields


def test_the_person_stands_inside_the_frame(crowd):
    for fields, _, labels in crowd:
        person = (labels > 0) & (labels != materials.OCCLUDER)
        rows, columns = np.flatnonzero(person.any(1)), np.flatnonzero(person.any(0))
        assert columns[0] > 0 and columns[-1] < labels.shape[1] - 1, fields
        assert rows[0] > 0 and rows[-1] < labels.shape[0] - 1, fields
        assert rows[-1] - rows[0] > 0.55 * labels.shape[0], fields


def test_ethnicity_and_skin_are_drawn_evenly():
    people = [looks.draw_look(description(), seed=4, person_id=p) for p in range(3000)]
    for ethnicity in ETHNICITIES:
        share = np.mean([look.ethnicity == ethnicity for look in people])
        assert abs(share - 1 / 3) < 0.04
    histogram = np.histogram([look.skin_position for look in people], 5, (0, 1))[0] / 3000
    assert np.abs(histogram - 0.2).max() < 0.04


def test_one_field_leaves_the_rest_of_the_person_alone():
    base = looks.draw_look(description(), seed=4, person_id=8)
    changed = looks.draw_look(description(handbag=2, hat=2), seed=4, person_id=8)
    assert base.skin == changed.skin and base.body_weights == changed.body_weights
    assert base.upper == changed.upper and base.shoe == changed.shoe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (description(upred=2, upblue=2), "up has 2 colours"),
        ({"age": 1}, "exactly the 27 Market fields"),
        (description(age=5), "field age is 5"),
        (description(hat=0), "field hat is 0"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, int], message: str):
    with pytest.raises(DataError, match=message):
        render_crop(fields, seed=0, person_id=0, image_index=0, camera_id=1)


def test_bad_numbers_are_refused():
    with pytest.raises(DataError, match="camera_id is 7"):
        render_crop(description(), seed=0, person_id=0, image_index=0, camera_id=7)
    with pytest.raises(DataError, match="person_id is -1"):
        render_crop(description(), seed=0, person_id=-1, image_index=0, camera_id=1)


def test_contact_sheet(tmp_path: Path):
    crops = [np.full((64, 32, 3), 40 * i, np.uint8) for i in range(5)]
    write_contact_sheet(tmp_path / "sheet.png", crops, ["a long title " * 5] * 5, columns=3)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 3 * 150 and sheet.shape[0] > 2 * (64 + 14)
    assert (sheet == 160).any()
