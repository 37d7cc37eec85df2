"""What training does to the images of a batch: flip, crop, colour, erase, normalise.

What happens to an image depends on its own draws alone. The arithmetic of pixels is one numba loop:
as TensorFlow operations, image by image, it took several times as long as decoding.
"""

import dataclasses
import math
import weakref
from typing import cast

import numba
import numpy as np
import tensorflow as tf

from input_pipeline import preprocessing

# How many uniform numbers an image consumes: they serve all operations.
NUM_DRAWS = 12

_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What training does to an image; zero switches a part off.

    flip: probability of a mirrored image.
    crop: largest share of the height and width that a random crop leaves out.
    erase: probability that a rectangle of 2 to 20 % of the area is replaced by the mean colour
        (Zhong et al. 2020).
    brightness, contrast: largest relative change, the same for all three channels, so that a
        colour keeps its name.
    """

    flip: float = 0.0
    crop: float = 0.0
    erase: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0


def draw(seeds: tf.Tensor) -> tf.Tensor:
    """(N, NUM_DRAWS) uniform numbers of seeds (N, 2) int64, each row a function of its seed."""
    return tf.stack([tf.random.stateless_uniform([NUM_DRAWS], seed) for seed in tf.unstack(seeds)])


def augment(images: tf.Tensor, draws: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Apply every operation that is switched on, then normalise.

    Args:
        images: (B, H, W, 3) in 0..255, uint8 or float32.
        draws: (B, NUM_DRAWS) of `draw`, which decide everything.
        augmentation: what to do.

    Returns:
        (B, H, W, 3) float32, what `preprocessing.normalise` makes of the augmented images.
    """
    count, height, width, _ = cast("list[int]", images.shape.as_list())
    mirrored = draws[:, 0] < augmentation.flip
    windows = _windows(draws[:, 1:5], augmentation.crop)
    erased = _rectangles(draws[:, 7:12], probability=augmentation.erase, height=height, width=width)
    if augmentation.brightness or augmentation.contrast:
        images = _pixels(
            images,
            mirrored,
            windows,
            tf.zeros_like(erased),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        images = _recolour(images, draws[:, 5:7], augmentation)
        mirrored, windows = tf.zeros_like(mirrored), tf.tile(tf.constant([_WHOLE]), (count, 1))
    return _pixels(
        images, mirrored, windows, erased, mean=preprocessing.MEAN, std=preprocessing.STD
    )


def _windows(draws: tf.Tensor, amount: float) -> tf.Tensor:
    """(B, 4) top, left, bottom, right of windows at most `amount` smaller than 1; draws (B, 4)."""
    size = 1.0 - amount * draws[:, :2]
    origin = (1.0 - size) * draws[:, 2:]
    return tf.concat([origin, origin + size], axis=1)


def _rectangles(draws: tf.Tensor, *, probability: float, height: int, width: int) -> tf.Tensor:
    """(B, 4) int32 first and last + 1 of the erased rows and columns; empty for others."""
    area = 0.02 + 0.18 * draws[:, 1]
    aspect = tf.exp(tf.math.log(0.5) + tf.math.log(4.0) * draws[:, 2])
    erased_height = tf.minimum(tf.sqrt(area * aspect), 1.0)
    erased_width = tf.minimum(tf.sqrt(area / aspect), 1.0)
    top = draws[:, 3] * (1.0 - erased_height) * height
    left = draws[:, 4] * (1.0 - erased_width) * width
    ends = [top, top + erased_height * height, left, left + erased_width * width]
    is_erased = draws[:, 0] < probability
    rectangles = tf.where(is_erased[:, None], tf.math.ceil(tf.stack(ends, axis=1)), 0.0)
    return tf.minimum(tf.cast(rectangles, tf.int32), (height, height, width, width))


def _recolour(images: tf.Tensor, draws: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Scale brightness, and contrast around each image's mean; draws (B, 2)."""
    gains = 2.0 * draws[:, :, None, None, None] - 1.0
    centre = tf.map_fn(tf.reduce_mean, images)
    centre = centre[:, None, None, None]
    images = centre + (images - centre) * (1.0 + augmentation.contrast * gains[:, 1])
    images *= 1.0 + augmentation.brightness * gains[:, 0]
    return tf.clip_by_value(images, 0.0, 255.0)


class _Memory:
    """float32 arrays of one shape, made again of the memory of those that are gone.

    Fresh memory of a large batch costs a page fault for every few kB, a good part of the time of
    decoding.
    """

    # TensorFlow takes over arrays that begin at a multiple of this many bytes, and copies others.
    _ALIGNMENT = 64

    # What the graph and the network hold at once is soon taken again, the rest is given back.
    _KEPT = 4

    def __init__(self):
        self._unused: list[np.ndarray] = []
        # By the address of their memory.
        self._lent: dict[int, weakref.ref] = {}

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of any content. Its memory is used again when this very object is gone.

        TensorFlow holds it, and what it gives to others holds TensorFlow's tensor; a slice of it
        would not.
        """
        try:
            memory = self._unused.pop()
        except IndexError:
            memory = np.empty(4 * math.prod(shape) + self._ALIGNMENT, np.uint8)
        offset = -memory.ctypes.data % self._ALIGNMENT
        array = memory[offset : memory.size - self._ALIGNMENT + offset]
        array = array.view(np.float32).reshape(shape)
        self._lent[id(memory)] = weakref.ref(array, lambda _: self._take_back(memory))
        return array

    def _take_back(self, memory: np.ndarray) -> None:
        del self._lent[id(memory)]
        if len(self._unused) < self._KEPT:
            self._unused.append(memory)


def _pixels(
    images: tf.Tensor,
    mirrored: tf.Tensor,
    windows: tf.Tensor,
    erased: tf.Tensor,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> tf.Tensor:
    """`resample` within the graph."""
    memory = _Memory()

    def call(
        images: np.ndarray, mirrored: np.ndarray, windows: np.ndarray, erased: np.ndarray
    ) -> np.ndarray:
        out = memory.array(images.shape)
        shift, scale = np.array(mean, np.float32), np.array(std, np.float32)
        resample(images, mirrored, windows, erased, shift, scale, out)
        return out

    result = tf.numpy_function(
        call, [images, mirrored, windows, erased], tf.float32, stateful=False
    )
    return tf.ensure_shape(result, images.shape)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _columns(
    window: np.ndarray, weights: np.ndarray, run_start: np.ndarray, run_source: np.ndarray
) -> int:
    """Which two columns every output column lies between, for the three channels of a row.

    Fills the right neighbours' weights (3 W,), and runs of outputs whose left neighbours are
    neighbours too: where they start (W + 1,) and which value they read first (W,). Within a run,
    pixels are read in order, which a processor does several times as fast as by index. Returns
    how many runs there are.
    """
    _, left, _, right = window
    width = len(run_source)
    last_column = np.float32(width - 1)
    column_step = (right - left) * last_column / max(last_column, np.float32(1))
    runs, before = 0, -9
    for x in range(width):
        column = left * last_column + np.float32(x) * column_step
        column = min(max(column, np.float32(0)), last_column)
        left_neighbour = np.int64(column)
        for channel in range(3):
            weights[3 * x + channel] = column - np.float32(left_neighbour)
        if left_neighbour != before + 1:
            run_start[runs], run_source[runs] = 3 * x, 3 * left_neighbour
            runs += 1
        before = left_neighbour
    run_start[runs] = 3 * width
    return runs


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mirror(line: np.ndarray, mirrored: np.ndarray) -> None:
    """The pixels of a row (3 W,) from the last to the first.

    Indices are unsigned: of signed ones every one would be looked at, whether it counts from the
    end, and the processor's vector instructions could not be used. That took five times as long.
    """
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    length = np.uint64(line.size)
    for x in range(length // three):
        write = np.uint64(x) * three
        read = length - three - write
        mirrored[write] = line[read]
        mirrored[write + one] = line[read + one]
        mirrored[write + two] = line[read + two]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def resample(
    images: np.ndarray,
    mirrored: np.ndarray,
    windows: np.ndarray,
    erased: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    out: np.ndarray,
) -> None:
    """Windows of the perhaps mirrored images, back at full size (bilinear), erased, normalised.

    Args:
        images: (B, H, W, 3) of any real type.
        mirrored: (B,) bool.
        windows: (B, 4) float32 top, left, bottom, right, 0..1 from the first pixel to the last.
        erased: (B, 4) int32 rows from, to, columns from, to, after cropping.
        mean: (3,) float32, subtracted, and what is erased.
        std: (3,) float32, divided by.
        out: (B, H, W, 3) float32, where the result goes.
    """
    count, height, width, _ = images.shape
    last_row = np.float32(height - 1)
    row_length = 3 * width
    means, stds = np.empty(row_length, np.float32), np.empty(row_length, np.float32)
    for k in range(row_length):
        means[k], stds[k] = mean[k % 3], std[k % 3]
    # One pixel more: the neighbour of the last, which has no weight.
    source = np.zeros(row_length + 3, np.float32)
    stretched = np.empty((2, row_length), np.float32)
    weights = np.empty(row_length, np.float32)
    run_start = np.empty(width + 1, np.int64)
    run_source = np.empty(width, np.int64)
    for i in range(count):
        top, _, bottom, _ = windows[i]
        row_step = (bottom - top) * last_row / max(last_row, np.float32(1))
        runs = _columns(windows[i], weights, run_start, run_source)
        pixels, result = images[i], out[i].reshape(height, row_length)
        stretched_rows = (-1, -1)
        first_row, end_row, first_column, end_column = erased[i]
        for y in range(height):
            row = top * last_row + np.float32(y) * row_step
            row = min(max(row, np.float32(0)), last_row)
            upper = np.int64(row)
            lower = min(upper + 1, height - 1)
            weight = row - np.float32(upper)
            for wanted in (upper, lower):
                if stretched_rows[wanted % 2] == wanted:
                    continue
                line = pixels[wanted].reshape(row_length)
                if mirrored[i]:
                    _mirror(line, source)
                else:
                    for k in range(row_length):
                        source[k] = line[k]
                target = stretched[wanted % 2]
                for run in range(runs):
                    start, end = run_start[run], run_start[run + 1]
                    read, write, weigh = (
                        source[run_source[run] :],
                        target[start:end],
                        weights[start:end],
                    )
                    for k in range(end - start):
                        write[k] = read[k] + (read[k + 3] - read[k]) * weigh[k]
                if wanted % 2:
                    stretched_rows = (stretched_rows[0], wanted)
                else:
                    stretched_rows = (wanted, stretched_rows[1])
            above, below, pixel_row = stretched[upper % 2], stretched[lower % 2], result[y]
            for k in range(row_length):
                value = above[k] + (below[k] - above[k]) * weight
                pixel_row[k] = (value - means[k]) / stds[k]
            if first_row <= y < end_row:
                pixel_row[3 * first_column : 3 * end_column] = 0.0
