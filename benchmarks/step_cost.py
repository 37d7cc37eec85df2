"""FLOPs of a step with ResNet-50 at 256x128: what the adversary costs, and each of the family.

    python -m benchmarks.step_cost [--batch_size 8]

XLA's cost analysis of the lowered step; nothing is compiled or run.
"""

import argparse
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

import experiment
from configs import aaipr, asmr, jsreid, market1501, recognition, sal, two_stream
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.splits import TrainSet
from jsreid_jax.train_state import create_train_state
from jsreid_jax.train_step import train_step
from jsreid_jax.types import Batch

NUM_CATEGORIES = 508


def step_flops(config: Any, batch_size: int) -> float:
    """FLOPs of one alternating step of a config on one device."""
    embedder = experiment.create_embedder(config, MARKET_SCHEMA, NUM_CATEGORIES)
    categories = np.ones((NUM_CATEGORIES, MARKET_SCHEMA.num_attributes), np.int8)
    game = experiment.create_game(config, embedder.clone(axis_name=None))
    train_set = TrainSet([], categories, np.arange(NUM_CATEGORIES), categories)
    options = experiment.create_options(
        config, train_set, steps_per_epoch=100, num_train_steps=26_000
    )
    options = dataclasses.replace(options, axis_name=None)
    size = experiment.image_size(config)
    state = jax.eval_shape(
        lambda: create_train_state(
            game, seed=0, image_size=size, num_attributes=MARKET_SCHEMA.num_attributes
        )
    )
    batch = Batch(
        image=np.zeros((batch_size, *size, 3), np.float32),
        attributes=np.zeros((batch_size, MARKET_SCHEMA.num_attributes), np.float32),
        description=np.zeros((batch_size, MARKET_SCHEMA.num_attributes), np.float32),
        label=np.zeros((batch_size,), np.int32),
    )
    lowered = jax.jit(functools.partial(train_step, game, options)).lower(state, batch)
    return lowered.cost_analysis()["flops"]  # pyright: ignore[reportOptionalSubscript]


FAMILY = (two_stream, recognition, aaipr, asmr, sal, jsreid)


def at_full_size(config: Any) -> Any:
    """A config of the rendered default with the paper's backbone and image size."""
    of_paper: Any = market1501.get_config()
    config.model.backbone = of_paper.model.backbone
    config.data.image_height = of_paper.data.image_height
    config.data.image_width = of_paper.data.image_width
    return config


def main() -> None:
    """Print the figures of both questions and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, default=8)
    batch_size = parser.parse_args().batch_size
    config: Any = market1501.get_config()
    full = step_flops(config, batch_size)
    # The generator's term stays in both: a pass of the discriminator, not of a stream.
    config.losses.discriminator_steps = 0
    alone = step_flops(config, batch_size)
    print(f"market1501.py              {full / 1e9:10.2f} GFLOP per step of {batch_size} images")
    print(f"  without its discriminator{alone / 1e9:10.2f}   ratio {full / alone:.4f}")
    reference = None
    for module in FAMILY:
        flops = step_flops(at_full_size(module.get_config()), batch_size)
        reference = reference or flops
        name = module.__name__.rpartition(".")[2] + ".py"
        print(f"{name:27}{flops / 1e9:10.2f}   ratio {flops / reference:.4f} to two_stream.py")


if __name__ == "__main__":
    main()
