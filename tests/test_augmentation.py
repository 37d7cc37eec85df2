import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import augmentation, preprocessing
from input_pipeline.augmentation import Augmentation

PARTS = {"flip": 0.5, "crop": 0.3, "erase": 0.5, "brightness": 0.2, "contrast": 0.2}


def seeds(count: int) -> tf.Tensor:
    return tf.stack(
        [tf.fill([count], tf.constant(3, tf.int64)), tf.range(count, dtype=tf.int64)], 1
    )


def augmented(images: np.ndarray, parts: Augmentation) -> np.ndarray:
    """In a graph, as the pipeline does it."""
    function = tf.function(lambda x, s: augmentation.augment(x, augmentation.draw(s), parts))
    return np.asarray(function(tf.constant(images), seeds(len(images))))


def by_tensorflow(image: np.ndarray, draws: tf.Tensor, parts: Augmentation) -> np.ndarray:
    """One image, one TensorFlow operation after the other: what the fused loop must equal."""
    height, width, _ = image.shape
    result = tf.cast(tf.constant(image), tf.float32)
    if draws[0] < parts.flip:
        result = tf.reverse(result, [1])
    size = 1.0 - parts.crop * draws[1:3]
    corner = (1.0 - size) * draws[3:5]
    window = tf.concat([corner, corner + size], 0)[None]
    result = tf.image.crop_and_resize(result[None], window, [0], (height, width))[0]
    if parts.brightness or parts.contrast:
        mean = tf.reduce_mean(result)
        result = mean + (result - mean) * (1.0 + parts.contrast * (2.0 * draws[6] - 1.0))
        result *= 1.0 + parts.brightness * (2.0 * draws[5] - 1.0)
        result = tf.clip_by_value(result, 0.0, 255.0)
    area, aspect = 0.02 + 0.18 * draws[8], tf.exp(tf.math.log(0.5) + tf.math.log(4.0) * draws[9])
    tall = tf.minimum(tf.sqrt(area * aspect), 1.0)
    wide = tf.minimum(tf.sqrt(area / aspect), 1.0)
    top, left = draws[10] * (1.0 - tall) * height, draws[11] * (1.0 - wide) * width
    rows, columns = tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32)
    in_rows = (rows >= top) & (rows < top + tall * height)
    in_columns = (columns >= left) & (columns < left + wide * width)
    inside = in_rows[:, None] & in_columns[None, :] & (draws[7] < parts.erase)
    result = tf.where(inside[..., None], tf.constant(preprocessing.MEAN), result)
    return np.asarray(preprocessing.normalise(result))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "parts",
    [
        Augmentation(),
        Augmentation(**PARTS),
        Augmentation(flip=1.0),
        Augmentation(crop=0.9, erase=1.0),
    ],
    ids=["none", "all", "flip", "crop"],
)
@pytest.mark.parametrize("size", [(24, 12), (17, 5), (1, 1)])
def test_the_loop_equals_tensorflows_operations_to_the_last_bit(parts, dtype, size):
    images = np.random.default_rng(0).uniform(0, 255, (20, *size, 3)).astype(dtype)
    found = augmented(images, parts)
    for image, seed, got in zip(images, seeds(20), found, strict=True):
        draws = tf.random.stateless_uniform([augmentation.NUM_DRAWS], seed)
        np.testing.assert_array_equal(got, by_tensorflow(image, draws, parts))


@pytest.mark.parametrize("name", PARTS)
def test_every_part_changes_something_and_keeps_the_range(name):
    images = np.random.default_rng(0).uniform(0, 255, (8, 16, 8, 3)).astype(np.float32)
    same, changed = (
        augmented(images, parts) for parts in (Augmentation(), Augmentation(**{name: 0.9}))
    )
    assert np.abs(changed - same).max() > 0.01
    pixels = changed * preprocessing.STD + preprocessing.MEAN
    assert pixels.min() >= -0.001 and pixels.max() <= 255.001


def test_a_window_beyond_the_last_pixel_ends_at_it():
    """What rounding may do to a window's edge: no black line comes in."""
    image = np.full((1, 6, 4, 3), 200, np.uint8)
    out = np.empty(image.shape, np.float32)
    one = np.ones(3, np.float32)
    window = np.array([[0.0, 0.0, 1.0001, 1.0001]], np.float32)
    augmentation.resample(
        image, np.zeros(1, bool), window, np.zeros((1, 4), np.int32), 0 * one, one, out
    )
    np.testing.assert_array_equal(out, 200.0)


def test_memory_is_used_again_once_its_array_is_gone():
    memory = augmentation._Memory()
    first, second = memory.array((5, 3)), memory.array((5, 3))
    places = {first.ctypes.data, second.ctypes.data}
    assert len(places) == 2
    assert all(place % 64 == 0 for place in places)
    del first, second
    again = [memory.array((5, 3)) for _ in range(2)]
    assert {array.ctypes.data for array in again} == places
    # No more of it is kept than is soon taken again.
    again += [memory.array((5, 3)) for _ in range(20)]
    del again
    assert len(memory._unused) == memory._KEPT


def test_a_process_ends_that_has_not_read_its_batches_to_the_end():
    """The graph's threads call Python, which may be gone: the process once waited for ever."""
    code = """
import numpy as np, tensorflow as tf
from input_pipeline import pipeline
from input_pipeline.augmentation import Augmentation
picture = tf.io.encode_jpeg(tf.zeros((256, 128, 3), tf.uint8)).numpy()
stream = pipeline.train_batches(
    [picture] * 3, np.ones((3, 2), np.int8), np.zeros(3, np.int32), group_sizes=(2,),
    batch_size=256, image_size=(256, 128), augmentation=Augmentation(crop=0.1),
    description_dropout=0.0, seed=0)
for _ in range(4):
    next(stream)
print("read")
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout) == (0, "read\n"), run.stderr
