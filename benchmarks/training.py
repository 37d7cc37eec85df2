"""The rows of `python -m benchmarks`: what training costs on the default, beside alternatives."""

import functools
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
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
from input_pipeline.augmentation import Augmentation
from jsreid_jax import evaluation, losses, parallel
from jsreid_jax.checkpoints import Checkpoints, pacing
from jsreid_jax.models.attention import region_prior
from jsreid_jax.train_state import create_train_state
from jsreid_jax.train_step import LOSS_NAMES, train_step
from jsreid_jax.types import Batch, TrainState

CONFIG_FILE = "configs/rendered_market.py"
# Of a round.
STEPS = 40
INPUT_IMAGES = 512
INPUT_BATCH = 128
INPUT_BATCHES = 32
INPUT_SIZE = (256, 128)


def _default(
    num_cpu_devices: int = 0, batch_size: int | None = None
) -> tuple[Any, splits.TrainSet, Any]:
    """Config (perhaps of other batches), training set and schema of the default, devices made."""
    config: Any = rendered_market.get_config()
    config.num_cpu_devices = num_cpu_devices
    config.train.batch_size = batch_size or config.train.batch_size
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
    game = experiment.create_game(config, embedder)
    options = experiment.create_options(
        config,
        train_set,
        steps_per_epoch=steps,
        num_train_steps=round(config.train.num_epochs * steps),
    )
    state = create_train_state(
        game,
        seed=config.seed,
        image_size=experiment.image_size(config),
        num_attributes=schema.num_attributes,
    )
    return functools.partial(train_step, game, options), state


class _Peer:
    """A module of benchmarks in a process of its own, which answers lines and otherwise waits."""

    def __init__(self, module: str, fill: Callable[[Path], None]):
        """Starts benchmarks.MODULE on a folder that `fill` fills; `first` is its first line."""
        self._module = module
        self._folder = tempfile.TemporaryDirectory()
        fill(Path(self._folder.name))
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self._module} has ended; if it lacks PyTorch: "
                "pip install -r benchmarks/requirements.txt"
            )
        return line

    def ask(self, line: str) -> str:
        """Its answer, when it has done what the line says."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


def _torch_peer(
    config: Any,
    schema: Any,
    train_set: splits.TrainSet,
    state: TrainState,
    batches: list[dict[str, np.ndarray]],
) -> _Peer:
    """The same game in PyTorch; see torch_peer.py."""

    def fill(folder: Path) -> None:
        model, optimizer = config.model, config.optimizer
        height, width = experiment.image_size(config)
        if (model.attention_stage, model.last_stride) != (2, 1):
            raise ValueError("torch_peer knows attention_stage 2 and last_stride 1 alone")
        # The stem's two strides, and one of every stage between the first and the last.
        shrunk = {"resnet50": 16, "resnet_small": 8}[model.backbone]
        facts = {
            "threads": len(os.sched_getaffinity(0)),
            "batches": len(batches),
            "backbone": model.backbone,
            "last_stride": model.last_stride,
            "attention_width": model.attention_width,
            "places": (height // shrunk) * (width // shrunk),
            "place_prior": region_prior(
                schema.group_regions, (height // shrunk, width // shrunk), model.place_prior
            ).tolist(),
            "group_sizes": list(schema.group_sizes),
            "projection_widths": list(model.projection_widths),
            "attribute_widths": list(model.attribute_widths),
            "concept_scale": model.concept_scale,
            "num_categories": len(state.embedder.params["concept_classifier"]["bias"]),
            "rate": optimizer.image_learning_rate,
            "discriminator_rate": optimizer.discriminator_learning_rate,
            "weight_decay": optimizer.weight_decay,
            "average_decay": config.train.average_decay,
            "description_dropout": config.data.description_dropout,
            "weights": {name: config.losses[name].weight for name in LOSS_NAMES},
        }
        experiment.write_json(folder / "config.json", facts)
        params = {"embedder": state.embedder.params, "discriminator": state.discriminator.params}
        arrays = {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        }
        arrays["map_weights"] = losses.balanced_weights(train_set.attributes)
        for number, batch in enumerate(batches):
            arrays |= {f"batch_{number}/{name}": value for name, value in batch.items()}
        np.savez(folder / "arrays.npz", **arrays)  # pyright: ignore[reportArgumentType]

    return _Peer("torch_peer", fill)


class _Loop:
    """Steps one after the other on some devices, of the same few batches over and over."""

    def __init__(
        self, step: Any, state: TrainState, batches: list[dict[str, np.ndarray]], count: int
    ):
        devices = jax.devices()[:count]
        self._step = parallel.parallel_step(step, devices=devices)
        # The step takes its state's memory, and others may start from the same one.
        self.state = parallel.replicate(jax.tree.map(np.array, state), devices=devices)
        split = (Batch(**device_batches.split_batch(batch, count)) for batch in batches)
        placed = [parallel.split_over_devices(batch, devices=devices) for batch in split]
        self.batches: Iterator[Batch] = itertools.cycle(placed)

    def run(self, steps: int) -> dict[str, Any]:
        """The last one's metrics, when all are computed."""
        metrics: Any = None
        for _ in range(steps):
            self.state, metrics = self._step(self.state, next(self.batches))
        return jax.block_until_ready(metrics)


def _batches(config: Any, train_set: splits.TrainSet, schema: Any) -> list[dict[str, np.ndarray]]:
    batches = pipeline.train_batches(
        train_set.images,
        train_set.attributes,
        train_set.label,
        group_sizes=schema.group_sizes,
        batch_size=config.train.batch_size,
        image_size=experiment.image_size(config),
        augmentation=Augmentation(),
        description_dropout=config.data.description_dropout,
        seed=config.seed,
    )
    return list(itertools.islice(batches, 4))


def devices(rounds: int) -> list[Row]:
    """8 virtual devices against 1, each in a process that has no others.

    For as many devices as it is told of, XLA has threads: one of eight is slower than an only one.
    """
    rows = []
    # The default's, and the paper's.
    for batch_size, steps in ((16, STEPS), (128, STEPS // 8)):
        peers = {}
        for count in (8, 1):
            facts = {"devices": count, "batch_size": batch_size}
            peers[str(count)] = _Peer(
                "device_steps",
                lambda folder, facts=facts: experiment.write_json(folder / "config.json", facts),
            )
        calls: dict[str, Callable[[], Any]] = {
            count: functools.partial(peer.ask, str(steps)) for count, peer in peers.items()
        }
        alternate(calls, 1)
        seconds = alternate(calls, rounds)
        for peer in peers.values():
            peer.close()
        per_step = {
            count: [1e3 * value / steps for value in values] for count, values in seconds.items()
        }
        rows.append(
            Row(
                f"step of the default's network, batch {batch_size}",
                *("8 virtual devices", "1 device", "ms"),
                *(per_step["8"], per_step["1"]),
                bar="<= 1.10",
            )
        )
    return rows


def answer_steps(folder: Path) -> None:
    """The other side of `devices`: says that it is ready, then does as many steps as lines say."""
    facts = json.loads((folder / "config.json").read_text())
    config, train_set, schema = _default(facts["devices"], facts["batch_size"])
    step, state = _game(config, train_set, schema)
    loop = _Loop(step, state, _batches(config, train_set, schema), facts["devices"])
    loop.run(1)
    print("ready", flush=True)
    for line in sys.stdin:
        loop.run(int(line))
        print("done", flush=True)


def _saves(config: Any, steps_per_epoch: int) -> int:
    """How often a run saves, by train.py's rule."""
    num_steps = config.train.num_epochs * steps_per_epoch
    begins = experiment.adversary_begins(
        config, steps_per_epoch=steps_per_epoch, num_train_steps=num_steps
    )
    every, _ = pacing(config.train.checkpoint_every_steps)
    evaluates = round(config.train.eval_every_epochs * steps_per_epoch)
    count = saved = 0
    for step in range(1, num_steps + 1):
        if step - saved >= every or step in (begins, num_steps) or step % evaluates == 0:
            count, saved = count + 1, step
    return count


def stall(rounds: int) -> list[Row]:
    """What a save costs the loop, of the mean time between saves of the default."""
    config, train_set, schema = _default()
    step, state = _game(config, train_set, schema)
    loop = _Loop(step, state, _batches(config, train_set, schema), jax.device_count())
    per_epoch = len(train_set.images) // config.train.batch_size
    steps = round(config.train.num_epochs * per_epoch / _saves(config, per_epoch))
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
            *(f"{steps} steps, as many as lie between saves", "with a save", "without", "s"),
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


def _beside_pytorch(
    rounds: int, *, backbone: str, size: tuple[int, int], steps: int
) -> tuple[Any, dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of steps and of embedding as many batches, by who did it; and the config."""
    config, train_set, schema = _default()
    config.model.backbone = backbone
    config.data.image_height, config.data.image_width = size
    # The adversary plays from the first step on, at a rate that does not move.
    config.losses.adversary.start_epoch = config.losses.adversary.warmup_epochs = 0.0
    config.optimizer.schedule, config.optimizer.warmup_epochs = "constant", 0.0
    step, state = _game(config, train_set, schema)
    batches = _batches(config, train_set, schema)
    loop = _Loop(step, state, batches, jax.device_count())
    peer = _torch_peer(config, schema, train_set, state, batches)
    found = loop.run(1)
    for name, loss in json.loads(peer.first).items():
        if not math.isclose(loss, float(found[f"{name}_loss"]), rel_tol=1e-3, abs_tol=1e-4):
            raise RuntimeError(f"{name}: {found[f'{name}_loss']} here, {loss} in PyTorch")
    embedder = experiment.create_embedder(config, schema, len(train_set.categories))
    embed = evaluation.Embedders(embedder, mirror=False).images

    def embed_batches() -> None:
        for _ in range(steps):
            jax.block_until_ready(embed(loop.state.variables, next(loop.batches).image))

    ways = {"step": functools.partial(loop.run, steps), "embed": embed_batches}
    seconds = {}
    for what, here in ways.items():
        calls = {"here": here, "PyTorch": functools.partial(peer.ask, f"{what} {steps}")}
        alternate(calls, 1)
        seconds[what] = alternate(calls, rounds)
    peer.close()
    return config, seconds["step"], seconds["embed"]


def _rate_row(name: str, seconds: dict[str, list[float]], *, images: int, bar: str, of: str) -> Row:
    rates = {who: [images / value for value in values] for who, values in seconds.items()}
    return Row(
        *(name, "this project", f"PyTorch, {of}", "images/s"),
        *(rates["here"], rates["PyTorch"]),
        bar=bar,
        higher_is_better=True,
    )


def pytorch(rounds: int) -> list[Row]:
    """Steps and embedding beside the same networks in PyTorch, on as many threads."""
    rows = []
    of = "eager, channels-last, fused Adam"
    for backbone, size, steps, step_bar, embed_bar in (
        ("resnet_small", (128, 64), STEPS, ">= 1.0", ""),
        ("resnet50", (256, 128), 2, "as measured", ">= 1.0"),
    ):
        config, stepping, embedding = _beside_pytorch(
            rounds, backbone=backbone, size=size, steps=steps
        )
        images = steps * config.train.batch_size
        network = f"{backbone} {size[0]}x{size[1]}, batch {config.train.batch_size}"
        rows += [
            _rate_row(f"training step, {network}", stepping, images=images, bar=step_bar, of=of),
            _rate_row(f"embedding, {network}", embedding, images=images, bar=embed_bar, of=of),
        ]
    return rows


def input_pipeline(rounds: int) -> list[Row]:
    """Batches as training has them, beside decoding alone and beside a DataLoader with Pillow.

    Images of one size, as rendered; rates once all buffers are used up.
    """
    _, train_set, schema = _default()
    height, width = INPUT_SIZE
    encoded = [_encoded(image, height, width) for image in train_set.images[:INPUT_IMAGES]]
    cores = len(os.sched_getaffinity(0))
    flip, crop, erase = 0.5, 0.1, 0.5
    stream = pipeline.train_batches(
        encoded,
        train_set.attributes[: len(encoded)],
        train_set.label[: len(encoded)],
        group_sizes=schema.group_sizes,
        batch_size=INPUT_BATCH,
        image_size=INPUT_SIZE,
        augmentation=Augmentation(flip=flip, crop=crop, erase=erase),
        description_dropout=0.0,
        seed=0,
    )

    def fill(folder: Path) -> None:
        facts = {
            "threads": cores,
            "epochs": 100,
            "batch_size": INPUT_BATCH,
            "mean": preprocessing.MEAN,
            "std": preprocessing.STD,
            "flip": flip,
            "crop": crop,
            "erase": erase,
        }
        experiment.write_json(folder / "config.json", facts)
        images = {str(i): np.frombuffer(image, np.uint8) for i, image in enumerate(encoded)}
        np.savez(folder / "images.npz", **images)  # pyright: ignore[reportArgumentType]

    loader = _Peer("torch_input", fill)

    def ours() -> float:
        for _ in range(8):
            next(stream)
        start = time.perf_counter()
        for _ in range(INPUT_BATCHES):
            next(stream)
        return time.perf_counter() - start

    def bare() -> float:
        dataset = tf.data.Dataset.from_tensor_slices(np.asarray(encoded, object)).repeat()
        dataset = dataset.map(
            lambda image: tf.io.decode_jpeg(image, channels=3),
            num_parallel_calls=cores,
            deterministic=True,
        )
        dataset = dataset.take(INPUT_BATCH * INPUT_BATCHES)
        start = time.perf_counter()
        int(dataset.reduce(np.int64(0), lambda count, _: count + 1))
        return time.perf_counter() - start

    calls: dict[str, Callable[[], float]] = {
        "ours": ours,
        "bare": bare,
        "loader": lambda: float(loader.ask(str(INPUT_BATCHES))),
    }
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            rates[name].append(INPUT_BATCH * INPUT_BATCHES / call())
            time.sleep(1.5)  # until what reads ahead has read ahead
    loader.close()
    name = f"input, {height}x{width} JPEG, decode, flip, crop, erase, normalise"
    alternatives = {
        "bare": ("bare tf.io.decode_jpeg map", ">= 0.85"),
        "loader": (f"PyTorch DataLoader, Pillow, {cores} workers", ">= 1.5"),
    }
    return [
        Row(
            *(name, "this pipeline", alternative, "images/s"),
            *(rates["ours"][1:], rates[which][1:]),
            bar=bar,
            higher_is_better=True,
        )
        for which, (alternative, bar) in alternatives.items()
    ]


def _encoded(image: bytes, height: int, width: int) -> bytes:
    """The picture again as a JPEG of another size."""
    pixels = preprocessing.resize(
        preprocessing.decode(tf.constant(image)), height=height, width=width
    )
    return bytes(tf.io.encode_jpeg(pixels, quality=90).numpy())
