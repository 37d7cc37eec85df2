"""Searches for settings of the family: each member's own fields, drawn at random, equally often.

Command: python study.py --config configs/study_tuning.py:asmr --workdir runs/tuning/asmr
Presets: recognition, two_stream, aaipr, asmr, sal. (jsreid had more trials, before these.)

The data is of another rendering seed than the default's, whose test split must choose nothing. All
values are spelled out, so that a search stays what it was when a winner moves into its config.
docs/tuning.md says what each found and what was taken.
"""

import random
from typing import Any

from ml_collections import ConfigDict

# Number of settings drawn for each member.
DRAWS = 20

# What every member may choose; the first of each is what it has had before.
_SHARED: dict[str, tuple[Any, ...]] = {
    # Image and attribute stream.
    "learning_rate": (2e-3, 1e-3, 4e-3, 8e-3),
    "optimizer.weight_decay": (1e-4, 1e-2, 1e-1),
    "data.erase": (0.0, 0.3),
    # Of the embedding; both streams end in it.
    "width": (128, 64, 256),
}
_SCALE = {"model.concept_scale": (16.0, 8.0, 32.0)}
_AAIPR = {
    **_SHARED,
    **_SCALE,
    "losses.attribute_concept.weight": (1.0, 0.3),
    "losses.group_prediction.weight": (4.0, 1.0, 8.0),
    "losses.adversary.weight": (0.1, 0.03, 0.3, 1.0),
    "optimizer.discriminator_learning_rate": (1e-4, 3e-5, 3e-4),
}

# By member: the search space.
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "recognition": {**_SHARED, **_SCALE, "learning_rate": (4e-3, 1e-3, 2e-3, 8e-3)},
    "two_stream": {**_SHARED, **_SCALE, "losses.attribute_concept.weight": (1.0, 0.3)},
    "aaipr": _AAIPR,
    "asmr": {
        **_SHARED,
        "losses.arc_scale": (12.0, 8.0, 16.0, 24.0),
        "losses.arc_margin": (0.2, 0.0, 0.1, 0.4),
        "losses.semantic_margin.weight": (6.0, 1.0, 3.0, 12.0),
        "losses.consistency.weight": (1.0, 0.3, 3.0),
    },
    "sal": {
        **_AAIPR,
        # Of images and of descriptions.
        "attribute_head": (1.0, 0.3, 2.0, 4.0),
        "losses.synthesis.weight": (0.1, 0.03, 0.3),
        "losses.cycle.weight": (0.5, 0.1, 1.0),
    },
}

_DATA = ("data.dir=data/rendered_seed7", "data.render.seed=7")

# Names above that stand for more than one field.
_FIELDS = {
    "learning_rate": (
        "optimizer.image_learning_rate={0}",
        "optimizer.attribute_learning_rate={0}",
    ),
    "width": ("model.projection_widths=(512, 256, {0})", "model.attribute_widths=(512, {0})"),
    "attribute_head": ("losses.attribute_head.weight={0}", "losses.description_head.weight={0}"),
}


def settings(member: str) -> list[dict[str, Any]]:
    """What a member had before, and DRAWS others: each field drawn evenly from its values."""
    space = SPACES[member]
    found = [{name: values[0] for name, values in space.items()}]
    generator = random.Random(member)
    while len(found) <= DRAWS:
        setting = {name: generator.choice(values) for name, values in space.items()}
        if setting not in found:
            found.append(setting)
    return found


def overrides(setting: dict[str, Any]) -> tuple[str, ...]:
    """A setting as fields of a config, "field=value"."""
    return tuple(
        field.format(value)
        for name, value in setting.items()
        for field in _FIELDS.get(name, (f"{name}={{0}}",))
    )


def get_config(preset: str = "") -> ConfigDict:
    """The search of one member. ValueError: an unknown preset, or none."""
    if preset not in SPACES:
        raise ValueError(
            f"preset {preset!r} of study_tuning.py: expected one of {', '.join(SPACES)}"
        )
    study: Any = ConfigDict()
    study.name = preset
    study.title = f"Settings of {preset}, on rendering seed 7"
    study.question = f"Which setting of {preset} finds unseen descriptions best?"
    study.reference = "before"
    study.runs = tuple(
        {
            "name": f"draw_{number:02d}" if number else "before",
            "config": f"configs/{preset}.py",
            # The data is each run's own field: what --config.overrides sets comes before it.
            "overrides": (*_DATA, *overrides(setting)),
        }
        for number, setting in enumerate(settings(preset))
    )
    study.seeds = (0,)
    # One core each: two searches at once take less time than one after the other.
    study.overrides = ("num_cpu_devices=1",)
    study.protocol = "category"
    return study
