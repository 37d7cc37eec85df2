"""What a step of ResNet-50 would cost on many chips, on paper: no chip was asked.

    python -m benchmarks.scaling

FLOPs are XLA's count of the lowered step (benchmarks/step_cost.py), bytes follow from the shapes,
times from data sheets, a share of the peak that is assumed, and a cost model of the collectives.
docs/scaling.md explains it and holds the output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import experiment
from benchmarks.step_cost import NUM_CATEGORIES, step_flops
from configs import market1501
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from jsreid_jax.train_state import create_train_state

CHIPS = (8, 64, 512, 4096)
IMAGES_PER_CHIP = 32
# Share of the peak that the convolutions are taken to reach: an assumption, the same for all.
UTILISATION = 0.4
FLOAT32 = 4
GALLERY = 10**9


@dataclass(frozen=True)
class Machine:
    """Chips and what joins them, per chip, from data sheets.

    flops: peak in bfloat16, per second. memory: bytes of it, and per second of reading it.
    node: chips that share the fast links; 0 where all do. node_rate, rate: bytes per second that a
    chip sends within its node and beyond. node_latency, latency: seconds of one hop, likewise.
    torus: whether hops are to neighbours on a 3-D torus; else trees join chips and nodes.
    """

    name: str
    flops: float
    memory: float
    memory_rate: float
    node: int
    node_rate: float
    rate: float
    node_latency: float
    latency: float
    torus: bool = False

    def reach(self, chips: int) -> float:
        """Seconds until the smallest value of one chip has reached all."""
        if self.torus:
            return self.latency * 3 * chips ** (1 / 3) / 2
        inside = min(chips, self.node)
        return self.node_latency * math.log2(inside) + self.latency * math.log2(chips / inside)

    def gather(self, chips: int, size: float) -> float:
        """Seconds until every chip has `size` bytes, of which each held an equal part.

        A reduce-scatter, its mirror image, takes as long.
        """
        latency = self.reach(chips)
        if not self.node:
            return latency + size * (1 - 1 / chips) / self.rate
        inside = min(chips, self.node)
        nodes = chips // inside
        beyond = size / inside * (1 - 1 / nodes) / self.rate
        return latency + beyond + size * (1 - 1 / inside) / self.node_rate

    def all_reduce(self, chips: int, size: float) -> float:
        """Seconds to add `size` bytes over all chips: a reduce-scatter and a gather."""
        return 2 * self.gather(chips, size)


# Peak without tensor cores: the evaluator multiplies in full float32.
H100_FLOAT32 = 67e12
_H100 = (989e12, 80e9, 3.35e12, 8, 4.5e11)
MACHINES = (
    # A pod's all-reduce moves 1.1 PB/s over 4,096 chips; counted once, as `gather` counts.
    Machine("TPU v4, ICI", 275e12, 32 * 2**30, 1.2e12, 0, 0, 2.7e11, 0, 1e-6, torus=True),
    Machine("H100, 400 Gb/s for each", *_H100, 5e10, 2e-6, 5e-6),
    Machine("H100, 100 Gb/s for eight", *_H100, 1.6e9, 2e-6, 3e-5),
)


@dataclass(frozen=True)
class Work:
    """What a step of one chip computes and moves, from the config of the paper's setting.

    flops: without gathered negatives. parameters: of both players. norms: BatchNorm layers, and
    norm_width their channels altogether. width, attributes: D and A.
    """

    flops: float
    parameters: int
    norms: int
    norm_width: int
    width: int
    attributes: int

    def gathered(self, chips: int) -> tuple[float, float, float]:
        """Of the contrastive loss's negatives: FLOPs, bytes gathered, bytes of gradients back.

        Embeddings and attributes of both modalities come from all chips; scores of the own images
        and descriptions with all of the others are a product forward and two backward.
        """
        rows = chips * IMAGES_PER_CHIP
        flops = 2 * IMAGES_PER_CHIP * rows * (2 * 3 * self.width + 2 * self.attributes)
        back = rows * 2 * self.width * FLOAT32
        return flops, back + rows * 2 * self.attributes * FLOAT32, back


def work_of(config: Any) -> Work:
    """Counted from the step and the parameters of a config."""
    embedder = experiment.create_embedder(config, MARKET_SCHEMA, NUM_CATEGORIES)
    game = experiment.create_game(config, embedder)
    state: Any = jax.eval_shape(
        lambda: create_train_state(
            game,
            seed=0,
            image_size=experiment.image_size(config),
            num_attributes=MARKET_SCHEMA.num_attributes,
        )
    )

    def sizes(tree: Any) -> list[int]:
        return [int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree)]

    statistics = sizes(state.batch_stats)
    return Work(
        flops=step_flops(config, IMAGES_PER_CHIP),
        parameters=sum(sizes(state.embedder.params)) + sum(sizes(state.discriminator.params)),
        # A mean and a variance of each.
        norms=len(statistics) // 2,
        norm_width=sum(statistics) // 2,
        width=embedder.attribute_widths[-1],
        attributes=MARKET_SCHEMA.num_attributes,
    )


def step_seconds(machine: Machine, work: Work, chips: int) -> dict[str, float]:
    """The parts of a step, in seconds, one after the other: nothing is taken to overlap."""
    flops, gathered, back = work.gathered(chips)
    # Sums forward and their gradients backward, of every layer for itself.
    per_norm = 2 * work.norm_width / work.norms * FLOAT32
    return {
        "compute": work.flops / machine.flops / UTILISATION,
        "gradients": machine.all_reduce(chips, work.parameters * FLOAT32),
        "BatchNorm": 2 * work.norms * machine.all_reduce(chips, per_norm),
        "negatives": flops / machine.flops / UTILISATION
        + machine.gather(chips, gathered)
        + machine.gather(chips, back),
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print all tables."""
    work = work_of(market1501.get_config())
    print(
        f"A step of {IMAGES_PER_CHIP} images on a chip: {work.flops / 1e12:.2f} TFLOP; "
        f"{work.parameters / 1e6:.1f} million parameters, gradients of "
        f"{work.parameters * FLOAT32 / 1e6:.0f} MB; {work.norms} BatchNorm layers of "
        f"{work.norm_width:,} channels.\n"
    )
    rows = []
    for chips in CHIPS:
        flops, gathered, back = work.gathered(chips)
        rows.append(
            [
                f"{chips:,}",
                f"{chips * IMAGES_PER_CHIP:,}",
                f"{2 * work.parameters * FLOAT32 * (1 - 1 / chips) / 1e6:.0f} MB",
                f"{(gathered + back) / 1e6:.1f} MB",
                f"{flops / work.flops:.4f}",
            ]
        )
    header = ["chips", "global batch", "gradients moved", "negatives moved", "their FLOPs, share"]
    print(table(header, rows), end="\n\n")
    header = ["machine", "chips", "compute", "gradients", "BatchNorm", "negatives"]
    header += ["efficiency", "without negatives", "and BatchNorm over 8 chips"]
    rows = []
    for machine in MACHINES:
        for chips in CHIPS:
            parts = step_seconds(machine, work, chips)
            alone, total = parts["compute"], sum(parts.values())
            without = total - parts["negatives"]
            # Statistics that only neighbours share.
            in_groups = without - parts["BatchNorm"] + step_seconds(machine, work, 8)["BatchNorm"]
            rows.append(
                [
                    *(machine.name, f"{chips:,}"),
                    *(f"{1e3 * seconds:.2f} ms" for seconds in parts.values()),
                    *(f"{alone / seconds:.0%}" for seconds in (total, without, in_groups)),
                ]
            )
    print(table(header, rows), end="\n\n")

    # Fused scores: the embedding and two log-likelihoods of every attribute.
    rows = []
    machine = MACHINES[1]
    for kind, width, size, flops in (
        ("cosine, float32", work.width, 4, H100_FLOAT32),
        ("cosine, bfloat16", work.width, 2, machine.flops),
        ("fused, float32", work.width + 2 * work.attributes, 4, H100_FLOAT32),
    ):
        total = GALLERY * width * size
        chips = math.ceil(total / (0.8 * machine.memory))
        rows.append(
            [
                *(kind, f"{total / 1e9:.0f} GB", f"{chips}"),
                f"{1e3 * total / chips / machine.memory_rate:.0f} ms",
                f"{flops * UTILISATION * chips / (2 * width * GALLERY):.0f}",
            ]
        )
    header = ["gallery of 10^9", "size", "H100s that hold it", "one pass", "queries/s at most"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
