"""Whether a config can be meant: asked before anything is done, so a slip costs no training."""

import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs import default
from input_pipeline.datasets.listing import PETA_SPLITS
from input_pipeline.datasets.load import BUILDERS
from jsreid_jax import evaluation, losses, optimizers, pretrained, protocols
from jsreid_jax.errors import ModelError
from jsreid_jax.models.backbones import BACKBONES, num_stages
from jsreid_jax.models.discriminator import CONDITIONING
from jsreid_jax.models.image_stream import ATTENTION

CHOICES = {
    "data.name": tuple(BUILDERS),
    "data.peta_split": PETA_SPLITS,
    "eval.protocol": protocols.PROTOCOLS,
    "eval.score": evaluation.SCORES,
    "model.backbone": BACKBONES,
    "model.attention": ATTENTION,
    "model.last_stride": (1, 2),
    "model.dtype": ("float32", "bfloat16"),
    "losses.generator": losses.GENERATORS,
    "losses.discriminator_conditioning": CONDITIONING,
    "optimizer.name": optimizers.NAMES,
    "optimizer.schedule": optimizers.SCHEDULES,
    "optimizer.batch_size_rule": optimizers.BATCH_SIZE_RULES,
}

_DEFAULT: Any = default.get_config()
_LOSSES = tuple(name for name, loss in _DEFAULT.losses.items() if isinstance(loss, ConfigDict))
# Weight, start and warm-up of every loss.
_SCHEDULES = tuple(f"losses.{name}.{field}" for name in _LOSSES for field in _DEFAULT.losses[name])

# What is expected, as a sentence says it; the test; the fields.
RANGES = (
    (
        "1 or more",
        lambda value: value >= 1,
        (
            *("data.image_height", "data.image_width", "losses.discriminator_steps"),
            *("train.batch_size", "train.micro_batches", "train.num_epochs"),
            *("train.log_every_steps", "train.checkpoint_every_steps"),
            *("eval.batch_size", "eval.block_size", "optimizer.reference_batch_size"),
            *("model.attention_width", "model.attention_stage"),
            *("eval.pictured_queries", "eval.pictured_images"),
        ),
    ),
    (
        "0 or more, and finite",
        lambda value: 0 <= value < math.inf,
        (
            *("optimizer.image_learning_rate", "optimizer.attribute_learning_rate"),
            *("optimizer.discriminator_learning_rate", "optimizer.weight_decay"),
            *("optimizer.warmup_epochs", "optimizer.clip_norm", "optimizer.freeze_backbone_epochs"),
            *("losses.gradient_penalty", "eval.rerank", "model.place_prior"),
            *("data.brightness", "data.contrast", "losses.arc_margin"),
            *_SCHEDULES,
        ),
    ),
    (
        "more than 0, and finite",
        lambda value: 0 < value < math.inf,
        (
            *("train.eval_every_epochs", "losses.temperature"),
            *("losses.arc_scale", "model.concept_scale"),
        ),
    ),
    (
        "more than 0, at most 1",
        lambda value: 0 < value <= 1,
        ("optimizer.drop_factor",),
    ),
    (
        "a share from 0, less than 1",
        lambda value: 0 <= value < 1,
        ("losses.label_smoothing", "train.average_decay"),
    ),
    (
        "a share from 0 to 1",
        lambda value: 0 <= value <= 1,
        ("data.description_dropout", "data.flip", "data.crop", "data.erase"),
    ),
    (
        "a number from 0 to 2^31 - 1",
        lambda value: 0 <= value < 2**31,
        ("seed", "num_cpu_devices"),
    ),
)

# Tuples, of which flags check no element.
NUMBERS = (
    *("optimizer.drop_epochs", "eval.fusion_weights", "eval.rerank_weights"),
    *("model.projection_widths", "model.attribute_widths"),
)


def check_config(config: Any) -> None:
    """Raise ModelError for a field whose value cannot be meant, alone or with the others."""
    missing = [name for name in _fields(default.get_config()) if name not in set(_fields(config))]
    if missing:
        raise ModelError(
            f"--config has no field {missing[0]} ({len(missing)} fields are missing), expected all "
            "of configs/default.py: begin yours with its get_config() (a study is for study.py)"
        )
    for field, known in CHOICES.items():
        if (value := _value(config, field)) not in known:
            raise ModelError(
                f"config.{field} is {value!r}, expected one of {', '.join(map(str, known))}"
            )
    for expected, holds, fields in RANGES:
        for field in fields:
            if not holds(value := _value(config, field)):
                raise ModelError(f"config.{field} is {value}, expected {expected}")
    for field in NUMBERS:
        values = tuple(_value(config, field))
        if not all(isinstance(value, (int, float)) and 0 <= value < math.inf for value in values):
            raise ModelError(f"config.{field} is {values}, expected numbers from 0 on, and finite")
    for field in ("eval.fusion_weights", "eval.rerank_weights"):
        if not _value(config, field):
            raise ModelError(f"config.{field} is (), expected one or more numbers from 0 on")
    if not config.data.dir:
        raise ModelError("config.data.dir is empty, expected the folder of the data set")
    _check_networks(config.model)
    _check_attention_and_scores(config)
    if config.train.micro_batches > 1 and "conditioned" in config.model.attention:
        raise ModelError(
            f"config.train.micro_batches is {config.train.micro_batches}, but "
            f"config.model.attention is {config.model.attention!r}, expected 1 with it: "
            "conditioned attention scores pairs of the whole batch at once"
        )
    if config.losses.adversary.weight > 0 and config.data.description_dropout == 1:
        raise ModelError(
            "config.data.description_dropout is 1, but config.losses.adversary.weight is "
            f"{config.losses.adversary.weight}, expected less than 1 with it: the adversary judges "
            "descriptions that leave nothing open"
        )
    if config.losses.cycle.weight > 0 and not config.losses.synthesis.weight > 0:
        raise ModelError(
            "config.losses.cycle.weight is set, but config.losses.synthesis.weight is 0, expected "
            "both or none: the cycle is of what the synthesiser makes"
        )


def check_training(config: Any) -> None:
    """The same of a config that is to be trained: also for a loss that would never count."""
    check_config(config)
    for name in _LOSSES:
        loss = config.losses[name]
        if loss.weight > 0 and not _begins(config, name):
            raise ModelError(
                f"config.losses.{name} has a weight and begins at epoch {loss.start_epoch:g}, but "
                f"config.train.num_epochs is {config.train.num_epochs}, expected more than that: "
                f"it would never count; set an earlier config.losses.{name}.start_epoch, or its "
                "weight to 0"
            )


def _check_networks(model: Any) -> None:
    """Weights, stages and widths that fit."""
    if model.pretrained and model.backbone not in pretrained.BACKBONES:
        raise ModelError(
            f"config.model.pretrained is {model.pretrained!r}, but there are no such files of "
            f"config.model.backbone {model.backbone!r}: expected {', '.join(pretrained.BACKBONES)}"
        )
    stages = num_stages(model.backbone)
    if model.attention_stage > stages:
        raise ModelError(
            f"config.model.attention_stage is {model.attention_stage}, but {model.backbone} has "
            f"{stages} stages, expected 1 (the last) to {stages}"
        )
    widths = tuple(model.projection_widths), tuple(model.attribute_widths)
    are_widths = all(
        len(w) >= 2 and all(isinstance(width, int) and width >= 1 for width in w) for w in widths
    )
    if not are_widths or widths[0][-1] != widths[1][-1]:
        raise ModelError(
            f"config.model.projection_widths is {widths[0]} and config.model.attribute_widths "
            f"{widths[1]}, expected two or more whole numbers each, both ending in the embedding "
            "width"
        )


def _check_attention_and_scores(config: Any) -> None:
    """Nothing scores that was never trained."""
    attention = config.model.attention
    conditioned = config.losses.conditioned.weight > 0
    for field, is_used in (
        ("losses.conditioned.weight", conditioned),
        ("eval.rerank", config.eval.rerank > 0),
    ):
        if is_used and "conditioned" not in attention:
            raise ModelError(
                f"config.{field} is set, but config.model.attention is {attention!r}, expected "
                "conditioned or guided+conditioned with it"
            )
    if config.eval.rerank > 0 and not conditioned:
        raise ModelError(
            "config.eval.rerank is set, but config.losses.conditioned.weight is 0, expected more: "
            "attention that was never trained would rank"
        )
    if "guided" in attention and not config.losses.group_prediction.weight > 0:
        raise ModelError(
            f"config.model.attention is {attention!r}, but config.losses.group_prediction.weight "
            "is 0, expected more: maps learn from it alone"
        )
    score = config.eval.score
    if score != "recognition" and not any(_begins(config, name) for name in _BRING_TOGETHER):
        raise ModelError(
            f"config.eval.score is {score!r}, but none of config.losses."
            f"{', '.join(_BRING_TOGETHER)} has a weight and begins before config.train.num_epochs "
            f"({config.train.num_epochs}), expected one: descriptions would lie anywhere"
        )
    if score == "cosine":
        return
    head = "group_prediction" if "guided" in attention else "attribute_head"
    if not _begins(config, head):
        raise ModelError(
            f"config.eval.score is {score!r}, but config.losses.{head}.weight is 0 or it begins "
            f"after config.train.num_epochs ({config.train.num_epochs}), expected more, and "
            f"earlier: with config.model.attention {attention!r} it is what recognises the "
            "attributes of an image"
        )


# Any of these brings images and descriptions together.
_BRING_TOGETHER = ("attribute_concept", "adversary", "consistency", "contrastive", "arc_face")


def _begins(config: Any, name: str) -> bool:
    """Whether a loss counts at any moment of the run."""
    loss = config.losses[name]
    return loss.weight > 0 and loss.start_epoch < config.train.num_epochs


def _value(config: Any, field: str) -> Any:
    for part in field.split("."):
        config = config[part]
    return config


def _fields(config: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
