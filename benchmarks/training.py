"""The rows of `python -m benchmarks`: what training costs on the default, beside alternatives."""

import functools
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow as tf

import experiment
from benchmarks.measuring import Row, alternate
from configs import rendered_market
from input_pipeline import device_batches, pipeline, preprocessing, splits
from jsreid_jax import parallel
from jsreid_jax.checkpoints import Checkpoints
from jsreid_jax.train_state import create_train_state
from jsreid_jax.train_step import train_step
from jsreid_jax.types import Batch, TrainState

CONFIG_FILE = "configs/rendered_market.py"
# Of a round.
STEPS = 40
INPUT_IMAGES = 512
INPUT_SIZE = (256, 128)


def _default(num_cpu_devices: int = 0) -> tuple[Any, splits.TrainSet, Any]:
    """Config, training set and schema of the default, devices made."""
    config: Any = rendered_market.get_config()
    config.num_cpu_devices = num_cpu_devices
    experiment.set_up_devices(config)
    data = experiment.load_data(config)
    train_set, _ = splits.train_and_validation(
        data, validation_fraction=config.data.validation_fraction, seed=config.seed
    )
    return config, train_set, data.schema


def _game(config: Any, train_set: splits.TrainSet, schema: Any) -> tuple[Any, TrainState]:
    """The step, before pmap, and a fresh state."""
    embedder = experiment.create_embedder(config, schema, len(train_set.categories))
    steps = len(train_set.images) // config.train.batch_size
    game, options = experiment.create_game(
        config,
        embedder,
        steps_per_epoch=steps,
        num_train_steps=round(config.train.num_epochs * steps),
        categories=train_set.categories,
    )
    state = create_train_state(
        game,
        seed=config.seed,
        image_size=experiment.image_size(config),
        num_attributes=schema.num_attributes,
    )
    return functools.partial(train_step, game, options), state


class _Loop:
    """Steps one after the other on some devices, of the same few batches over and over."""

    def __init__(
        self, step: Any, state: TrainState, batches: list[dict[str, np.ndarray]], count: int
    ):
        devices = jax.devices()[:count]
        self._step = parallel.parallel_step(step, devices=devices)
        self.state = parallel.replicate(state, devices=devices)
        split = (Batch(**device_batches.split_batch(batch, count)) for batch in batches)
        placed = [parallel.split_over_devices(batch, devices=devices) for batch in split]
        self._batches: Iterator[Batch] = itertools.cycle(placed)

    def run(self, steps: int) -> None:
        """Returns when all are computed."""
        metrics: Any = None
        for _ in range(steps):
            self.state, metrics = self._step(self.state, next(self._batches))
        jax.block_until_ready(metrics)


def _batches(config: Any, train_set: splits.TrainSet, schema: Any) -> list[dict[str, np.ndarray]]:
    batches = pipeline.train_batches(
        train_set.images,
        train_set.attributes,
        train_set.label,
        group_sizes=schema.group_sizes,
        batch_size=config.train.batch_size,
        image_size=experiment.image_size(config),
        augmentation=preprocessing.Augmentation(),
        description_dropout=config.data.description_dropout,
        seed=config.seed,
    )
    return list(itertools.islice(batches, 4))


def devices(rounds: int) -> list[Row]:
    """8 virtual devices against 1."""
    config, train_set, schema = _default(num_cpu_devices=8)
    step, state = _game(config, train_set, schema)
    batches = _batches(config, train_set, schema)
    loops = {count: _Loop(step, state, batches, count) for count in (8, 1)}
    calls: dict[str, Callable[[], Any]] = {
        str(count): functools.partial(loop.run, STEPS) for count, loop in loops.items()
    }
    alternate(calls, 1)
    seconds = alternate(calls, rounds)
    per_step = {name: [1e3 * value / STEPS for value in values] for name, values in seconds.items()}
    return [
        Row(
            *("step of the default", "8 virtual devices", "1 device", "ms"),
            *(per_step["8"], per_step["1"]),
            bar="<= 1.10",
        )
    ]


def stall(rounds: int) -> list[Row]:
    """What a save costs the loop, of the time between saves."""
    config, train_set, schema = _default()
    step, state = _game(config, train_set, schema)
    loop = _Loop(step, state, _batches(config, train_set, schema), jax.device_count())
    steps = config.train.checkpoint_every_steps
    numbers = itertools.count(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder) / "checkpoints") as checkpoints,
    ):

        def with_save() -> None:
            checkpoints.save(next(numbers), loop.state, {}, None)
            loop.run(steps)

        calls = {"save": with_save, "none": functools.partial(loop.run, steps)}
        loop.run(STEPS)
        with_save()
        seconds = alternate(calls, rounds)
    return [
        Row(
            *("steps between two saves of the default", "with a save", "without", "s"),
            *(seconds["save"], seconds["none"]),
            bar="<= 1.05",
        )
    ]


def startup(rounds: int) -> list[Row]:
    """From the start of the process to the line of the first step."""
    _default()  # renders what is missing

    def start(cache: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *(sys.executable, "train.py", "--config", CONFIG_FILE),
                *("--workdir", f"{folder}/run", "--config.train.log_every_steps=1"),
            ]
            environment = os.environ | {
                "JAX_COMPILATION_CACHE_DIR": str(cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            with subprocess.Popen(
                command, env=environment, stderr=subprocess.PIPE, text=True
            ) as process:
                assert process.stderr is not None
                said = []
                for line in process.stderr:
                    said.append(line)
                    if "train/embedder_loss" in line:
                        break
                else:
                    raise RuntimeError("train.py took no step: " + "".join(said)[-2000:])
                # What is compiled is kept when it is compiled: nothing is left to wait for.
                process.kill()

    def cold() -> None:
        with tempfile.TemporaryDirectory() as folder:
            start(Path(folder))

    with tempfile.TemporaryDirectory() as warm:
        start(Path(warm))
        seconds = alternate({"warm": lambda: start(Path(warm)), "cold": cold}, rounds)
    return [
        Row(
            *("start of train.py to its first step", "compiled before", "nothing compiled", "s"),
            *(seconds["warm"], seconds["cold"]),
            bar="<= 15 s",
        )
    ]


def input_pipeline(rounds: int) -> list[Row]:
    """Batches as training has them, beside decoding alone; images of one size, as rendered."""
    config, train_set, schema = _default()
    height, width = INPUT_SIZE
    encoded = [_encoded(image, height, width) for image in train_set.images[:INPUT_IMAGES]]
    data = config.data
    augmentation = preprocessing.Augmentation(flip=0.5, crop=max(data.crop, 0.1), erase=0.5)
    batch_size = 128

    def ours() -> None:
        batches = pipeline.train_batches(
            encoded,
            train_set.attributes[: len(encoded)],
            train_set.label[: len(encoded)],
            group_sizes=schema.group_sizes,
            batch_size=batch_size,
            image_size=INPUT_SIZE,
            augmentation=augmentation,
            description_dropout=0.0,
            seed=0,
        )
        for _ in range(4 * len(encoded) // batch_size):
            next(batches)

    def bare() -> None:
        dataset = tf.data.Dataset.from_tensor_slices(np.asarray(encoded, object)).repeat(4)
        dataset = dataset.map(
            lambda image: tf.io.decode_jpeg(image, channels=3),
            num_parallel_calls=len(os.sched_getaffinity(0)),
            deterministic=True,
        )
        int(dataset.reduce(np.int64(0), lambda count, _: count + 1))

    calls: dict[str, Callable[[], Any]] = {"ours": ours, "bare": bare}
    alternate(calls, 1)
    seconds = alternate(calls, rounds)
    rates = {
        name: [4 * len(encoded) / value for value in values] for name, values in seconds.items()
    }
    return [
        Row(
            "input, 256x128 JPEG, decode, flip, crop, erase, normalise",
            *("this pipeline", "bare tf.io.decode_jpeg map", "images/s"),
            *(rates["ours"], rates["bare"]),
            bar=">= 0.85",
            higher_is_better=True,
        )
    ]


def _encoded(image: bytes, height: int, width: int) -> bytes:
    """The picture again as a JPEG of another size."""
    pixels = preprocessing.resize(
        preprocessing.decode(tf.constant(image)), height=height, width=width
    )
    return bytes(tf.io.encode_jpeg(tf.cast(pixels, tf.uint8), quality=90).numpy())
