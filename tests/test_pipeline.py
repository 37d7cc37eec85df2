import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import device_batches, pipeline
from input_pipeline.augmentation import Augmentation
from input_pipeline.errors import DataError
from input_pipeline.preprocessing import MEAN, STD, decode, resize

SIZE = (16, 8)
ALL_ON = Augmentation(flip=0.5, crop=0.2, erase=0.5, brightness=0.2, contrast=0.2)


def jpeg(value: int, size=SIZE) -> bytes:
    buffer = io.BytesIO()
    array = np.full((*size, 3), value, np.uint8)
    array[: size[0] // 2, : size[1] // 2] = 255 - value
    Image.fromarray(array).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def data():
    count = 13
    return (
        [jpeg(10 * i) for i in range(count)],
        np.eye(count, dtype=np.int8),
        np.arange(count, dtype=np.int32),
    )


def endless(data, **options):
    images, attributes, label = data
    defaults = {"batch_size": 4, "seed": 3, "augmentation": ALL_ON, "description_dropout": 0.0}
    groups = {"group_sizes": (1,) * attributes.shape[1]}
    options = defaults | groups | options
    return pipeline.train_batches(images, attributes, label, image_size=SIZE, **options)


def batches(data, count: int, **options):
    stream = endless(data, **options)
    return [next(stream) for _ in range(count)]


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_batches_are_a_function_of_seed_and_step(data):
    whole = batches(data, 9)
    for step in (0, 1, 4, 7):
        for expected, got in zip(whole[step:], batches(data, 2, start_step=step), strict=False):
            assert_equal(expected, got)
    other = batches(data, 3, seed=4)
    assert any((a["label"] != b["label"]).any() for a, b in zip(whole, other, strict=False))


def test_every_epoch_holds_every_example_once_in_a_new_order(data):
    labels = np.concatenate([batch["label"] for batch in batches(data, 13)])
    epochs = labels.reshape(4, 13)
    for epoch in epochs:
        assert sorted(epoch) == list(range(13))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_images_keep_their_labels(data):
    for batch in batches(data, 6, augmentation=Augmentation()):
        for image, attributes, label in zip(
            batch["image"], batch["attributes"], batch["label"], strict=True
        ):
            assert attributes.argmax() == label
            corner = image[-1, -1] * np.array(STD) + np.array(MEAN)
            np.testing.assert_allclose(corner, 10 * label, atol=4)


def test_hosts_share_the_global_batch_without_overlap(data):
    whole = batches(data, 6)
    parts = [batches(data, 6, host_index=h, host_count=2) for h in range(2)]
    for step, expected in enumerate(whole):
        joined = {k: np.concatenate([part[step][k] for part in parts]) for k in expected}
        assert_equal(expected, joined)


def test_partial_descriptions_say_something_of_who_is_known_in_part():
    """Of four groups one to four are known: one is kept at least, and never all of several."""
    rng = np.random.default_rng(0)
    known = np.stack([rng.permutation(4) < 1 + row % 4 for row in range(400)])
    attributes = np.where(np.repeat(known, (2, 2, 3, 2), axis=1), 1.0, 0.0).astype(np.float32)
    seeds = np.stack([np.arange(400), np.arange(400)], axis=1)
    said = pipeline.partial_descriptions(attributes, seeds, group_sizes=(2, 2, 3, 2), dropout=1.0)
    kept = (np.asarray(said) != 0)[:, [0, 2, 4, 7]]
    assert not (kept & ~known).any()
    counts, of = kept.sum(axis=1), known.sum(axis=1)
    assert set(counts[of == 1]) == {1} and set(counts[of == 2]) == {1}
    assert set(counts[of == 3]) == {1, 2} and set(counts[of == 4]) == {1, 2, 3}


def test_partial_descriptions_keep_whole_groups_and_every_number_of_them(data):
    images, _, label = data
    sizes = (3, 1, 2, 4)
    attributes = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (13, sum(sizes)))
    options = {"group_sizes": sizes, "description_dropout": 0.5}
    several = batches((images, attributes, label), 100, **options)
    said = np.concatenate([batch["description"] for batch in several])
    known = np.concatenate([batch["attributes"] for batch in several])
    assert ((said == 0) | (said == known)).all()
    starts = np.cumsum([0, *sizes])[:-1]
    columns = np.add.reduceat(np.abs(said), starts, axis=1)
    assert set(map(tuple, columns)) <= set(itertools.product(*((0, size) for size in sizes)))
    counts = np.bincount((columns > 0).sum(axis=1), minlength=5)
    # Half of the 400 keep all four groups, the others one to three.
    assert counts[0] == 0 and 160 < counts[4] < 240 and (counts[1:4] > 40).all()
    assert_equal(several[7], batches((images, attributes, label), 1, start_step=7, **options)[0])


def test_without_dropout_descriptions_say_everything(data):
    for batch in batches(data, 3):
        np.testing.assert_array_equal(batch["description"], batch["attributes"])


def test_an_image_differs_between_epochs(data):
    """Augmentation is drawn anew for every position, not once per image."""
    images, attributes, label = data
    one = (images[3:4], attributes[3:4], label[3:4])
    first, second = batches(one, 2, batch_size=1)
    assert np.abs(first["image"] - second["image"]).max() > 0.1


def test_images_of_another_size_are_resized_before_they_are_augmented(data):
    """And change none of the others."""
    images, attributes, label = data
    images = [*images[:5], jpeg(50, (32, 16)), *images[6:]]
    assert label[5] == 5
    for first, second in zip(
        batches(data, 4), batches((images, attributes, label), 4), strict=True
    ):
        same = first["label"] != 5
        np.testing.assert_array_equal(first["image"][same], second["image"][same])
    assert second["image"].shape == (4, *SIZE, 3)


def test_large_batches_are_those_of_small_ones(data):
    """Batches beyond what one call loads are put together from several."""
    whole = batches(data, 1, batch_size=96)[0]
    parts = batches(data, 24)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, np.concatenate([part[name] for part in parts]))


def test_a_batch_that_is_held_keeps_its_pixels(data):
    """Memory is used again; a slice of a batch holds it too."""
    stream = endless(data)
    held = [next(stream)["image"][1:, ::2] for _ in range(12)]
    expected = [batch["image"][1:, ::2] for batch in batches(data, 12)]
    np.testing.assert_array_equal(held, expected)
    assert len({image.ctypes.data for image in held}) == 12


def test_gallery_batches_are_padded_and_masked(data):
    images = data[0]
    got = list(pipeline.image_batches(images, batch_size=5, image_size=SIZE))
    assert [batch["image"].shape for batch in got] == [(5, *SIZE, 3)] * 3
    assert [batch["mask"].sum() for batch in got] == [5, 5, 3]
    last = got[-1]
    assert (last["image"][3:] == 0).all()
    assert last["mask"].tolist() == [True] * 3 + [False] * 2
    rows = list(pipeline.array_batches(np.arange(12.0).reshape(6, 2), batch_size=4))
    assert [row["mask"].sum() for row in rows] == [4, 2]
    np.testing.assert_array_equal(rows[1]["array"][:2], [[8, 9], [10, 11]])


def test_images_of_any_size_are_resized():
    (batch,) = pipeline.image_batches([jpeg(200, (64, 40))], batch_size=1, image_size=SIZE)
    assert batch["image"].shape == (1, *SIZE, 3)
    corner = batch["image"][0, -1, -1] * np.array(STD) + np.array(MEAN)
    np.testing.assert_allclose(corner, 200, atol=4)


def test_a_resized_image_is_rounded_to_the_nearest_levels():
    image = np.random.default_rng(0).integers(0, 256, (31, 23, 3), np.uint8)
    exact = tf.image.resize(image, SIZE, antialias=True)
    got = resize(tf.constant(image), height=SIZE[0], width=SIZE[1])
    assert got.dtype == tf.uint8
    assert np.abs(np.asarray(got, np.float32) - np.asarray(exact)).max() <= 0.5


def test_enlarging_is_as_it_would_be_with_smoothing():
    image = np.random.default_rng(0).integers(0, 256, (SIZE[0] - 5, SIZE[1] // 2, 3), np.uint8)
    exact = tf.image.resize(image, SIZE, antialias=True)
    got = resize(tf.constant(image), height=SIZE[0], width=SIZE[1])
    assert np.abs(np.asarray(got, np.float32) - np.asarray(exact)).max() <= 0.51


def test_a_truncated_image_is_an_error_not_a_grey_picture():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(jpeg(50, (64, 64))[:-200])


def test_devices_get_equal_shares():
    batch = {"image": np.arange(24.0).reshape(12, 2), "label": np.arange(12)}
    split = device_batches.split_batch(batch, 4)
    assert split["image"].shape == (4, 3, 2)
    np.testing.assert_array_equal(split["label"].reshape(-1), np.arange(12))


@pytest.mark.parametrize(
    ("size", "message"), [(10, "set it to 8 or 12"), (3, "set it to 4"), (0, "set it to 4")]
)
def test_a_batch_that_devices_do_not_divide_is_refused(size, message):
    device_batches.check_batch_size(12, devices=4, field="train.batch_size")
    with pytest.raises(DataError, match=message):
        device_batches.check_batch_size(size, devices=4, field="train.batch_size")


def test_micro_batches_that_do_not_fit_are_refused():
    device_batches.check_batch_size(24, devices=4, field="train.batch_size", parts=3)
    with pytest.raises(DataError, match=r"4 devices, each with 3 micro-batches: set it to 12 or"):
        device_batches.check_batch_size(16, devices=4, field="train.batch_size", parts=3)


def test_hosts_that_do_not_divide_and_no_images_are_refused(data):
    with pytest.raises(DataError, match=r"train\.batch_size is 4, .* the 3 hosts"):
        batches(data, 1, host_count=3)
    with pytest.raises(DataError, match="no image"):
        batches(([], data[1][:0], data[2][:0]), 1)
