"""The tf.data graph: training batches as a pure function of (seed, step), padded gallery batches.

Position p of the endless training stream is example permutation_epoch(p mod n) of epoch p div n.
Step s takes positions s * B up to (s + 1) * B and every host its own slice of them, so that nothing
but the step has to be saved, skipping costs nothing, and the global batch is the same for any
number of hosts. The encoded images stay in memory (Market-1501's training set: 33 MB).
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipeline import preprocessing
from input_pipeline.augmentation import Augmentation, augment, draw
from input_pipeline.errors import DataError

# Images that one call of the graph loads: one by one, calling costs as much as decoding.
_AT_ONCE = 8
# Batches that are augmented at the same time: each takes one core and the memory of a batch.
_BATCHES_AT_ONCE = 4

# TensorFlow only feeds: without this it would claim the accelerators' memory for itself.
tf.config.set_visible_devices([], "GPU")


def shuffled_index(position: tf.Tensor, *, seed: int, num_examples: int) -> tf.Tensor:
    """The example at a position () int64 of the stream; every epoch is a new permutation."""
    epoch = position // num_examples
    place = tf.math.floormod(position, num_examples)
    key = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.experimental.index_shuffle(  # pyright: ignore[reportAttributeAccessIssue]
        place, seed=tf.cast(key, tf.int32), max_index=tf.constant(num_examples - 1, tf.int64)
    )


def partial_descriptions(
    attributes: tf.Tensor, seeds: tf.Tensor, *, group_sizes: Sequence[int], dropout: float
) -> tf.Tensor:
    """What descriptions say of attributes (B, A) float32: with probability dropout not everything.

    A partial description keeps m of the K groups that are known, m drawn evenly from 1 to K - 1 and
    the groups evenly too; the others become 0, unknown (ours). seeds (B, 2): those of the images.
    """
    groups = len(group_sizes)
    fold_in = tf.random.experimental.stateless_fold_in  # pyright: ignore
    draws = tf.stack(
        [
            tf.random.stateless_uniform([groups + 2], fold_in(seed, 1))
            for seed in tf.unstack(seeds, attributes.shape[0])
        ]
    )
    is_known = tf.stack(
        [tf.reduce_any(group != 0, axis=1) for group in tf.split(attributes, group_sizes, axis=1)],
        axis=1,
    )
    known = tf.reduce_sum(tf.cast(is_known, tf.float32), axis=1, keepdims=True)
    kept = 1 + tf.cast(draws[:, 1:2] * (known - 1), tf.int32)
    place = tf.argsort(tf.argsort(tf.where(is_known, draws[:, 2:], 2.0)))
    is_kept = (place < kept) | (draws[:, :1] >= dropout)
    return attributes * tf.repeat(tf.cast(is_kept, tf.float32), list(group_sizes), axis=1)


def train_batches(
    images: Sequence[bytes],
    attributes: np.ndarray,
    label: np.ndarray,
    *,
    group_sizes: Sequence[int],
    batch_size: int,
    image_size: tuple[int, int],
    augmentation: Augmentation,
    description_dropout: float,
    seed: int,
    start_step: int = 0,
    host_index: int = 0,
    host_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """This host's share of the training batches from start_step on, without end.

    Args:
        images: N encoded images.
        attributes: (N, A) int8.
        label: (N,) int32.
        group_sizes: (R,) columns of each attribute group.
        batch_size: of all hosts together.
        image_size: (H, W).
        augmentation: what is done to an image; its randomness is fixed by (seed, position).
        description_dropout: share of descriptions that leave groups open.
        seed: of order and augmentation.
        start_step: number of steps already done.
        host_index: this host, 0 <= host_index < host_count.
        host_count: number of hosts.

    Yields:
        image (B / hosts, H, W, 3) float32, attributes and description (B / hosts, A) float32,
        label (B / hosts,).

    Raises:
        DataError: no image, or a batch size that the hosts do not divide.
    """
    if not len(images):
        raise DataError("the training split has no image: expected at least one, check data.dir")
    if batch_size % host_count:
        raise DataError(
            f"train.batch_size is {batch_size}, expected a multiple of the {host_count} hosts"
        )
    host_batch = batch_size // host_count
    at_once = max(n for n in range(1, _AT_ONCE + 1) if host_batch % n == 0)
    all_images = tf.constant(np.asarray(images, object))
    all_attributes = tf.constant(attributes, tf.float32)
    all_labels = tf.constant(label, tf.int32)

    def load(counter: tf.Tensor) -> dict[str, tf.Tensor]:
        """Rows counter * at_once and following of this host's stream."""
        counters = counter * at_once + tf.range(at_once, dtype=tf.int64)
        step, row = counters // host_batch, tf.math.floormod(counters, host_batch)
        positions = step * batch_size + host_index * host_batch + row
        index = tf.stack(
            [
                shuffled_index(position, seed=seed, num_examples=len(images))
                for position in tf.unstack(positions)
            ]
        )
        seeds = tf.stack([tf.fill([at_once], tf.constant(seed, tf.int64)), positions], axis=1)
        whole = description = tf.gather(all_attributes, index)
        if description_dropout:
            description = partial_descriptions(
                description, seeds, group_sizes=group_sizes, dropout=description_dropout
            )
        height, width = image_size
        pixels = [
            preprocessing.resize(preprocessing.decode(image), height=height, width=width)
            for image in tf.unstack(tf.gather(all_images, index), at_once)
        ]
        return {
            "image": tf.stack(pixels),
            "draws": draw(seeds),
            "attributes": whole,
            "description": description,
            "label": tf.gather(all_labels, index),
        }

    def augmented(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        others = {name: batch[name] for name in ("attributes", "description", "label")}
        pixels = tf.ensure_shape(batch["image"], (host_batch, *image_size, 3))
        return {"image": augment(pixels, batch["draws"], augmentation), **others}

    first = start_step * host_batch // at_once
    counters = tf.data.Dataset.range(first, np.iinfo(np.int64).max // at_once)
    dataset = counters.map(load, num_parallel_calls=_cores(), deterministic=True)
    # Put together as uint8, a quarter of the bytes that networks read.
    if at_once < host_batch:
        dataset = dataset.rebatch(host_batch)
    calls = min(_cores(), _BATCHES_AT_ONCE)
    dataset = dataset.map(augmented, num_parallel_calls=calls, deterministic=True)
    return _ended_at_exit(_not_tuned(dataset.prefetch(2)))


def _ended_at_exit(dataset: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Elements of the data set, until its user or the interpreter ends.

    Its threads call Python: one that still ran when the interpreter is gone would wait for ever,
    and the process for it.
    """
    holder: list[Any] = [dataset.as_numpy_iterator()]

    def elements() -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield next(holder[0])

    stream = elements()
    weakref.finalize(stream, holder.clear)
    return stream


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _not_tuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's autotuner, whose thread sleeps up to a minute, and the process cannot end.

    Measured: 50 s between the last step of a run of two minutes and its end.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def image_batches(
    images: Sequence[bytes], *, batch_size: int, image_size: tuple[int, int]
) -> Iterator[dict[str, np.ndarray]]:
    """Every image once, in order, without augmentation; the last batch is padded.

    Yields:
        image (batch_size, H, W, 3) float32, mask (batch_size,) bool, True where the image is real.
    """
    height, width = image_size

    def load(encoded: tf.Tensor) -> tf.Tensor:
        image = preprocessing.resize(preprocessing.decode(encoded), height=height, width=width)
        return preprocessing.normalise(image)

    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(images, object))
    dataset = dataset.map(load, num_parallel_calls=_cores(), deterministic=True)
    for image in _not_tuned(dataset.batch(batch_size).prefetch(2)).as_numpy_iterator():
        yield pad_batch({"image": image}, batch_size)


def array_batches(array: np.ndarray, *, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Rows of an array in order: "array" (batch_size, ...) with "mask", the last batch padded."""
    for start in range(0, len(array), batch_size):
        yield pad_batch({"array": array[start : start + batch_size]}, batch_size)


def pad_batch(batch: dict[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """Zero rows up to batch_size, and "mask" (batch_size,): True for the real rows."""
    rows = len(next(iter(batch.values())))
    padded = {
        name: np.pad(value, [(0, batch_size - rows)] + [(0, 0)] * (value.ndim - 1))
        for name, value in batch.items()
    }
    return padded | {"mask": np.arange(batch_size) < rows}
