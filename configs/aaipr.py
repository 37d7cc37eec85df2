"""The paper's method on the rendered default: joint space, attention, consistent adversary.

Paper: Yin et al., arXiv 1712.01493 / IJCAI 2018 (AAIPR), losses 1 to 3 with guided attention, whose
group prediction (loss 6) is ours; the stages of market1501.py in short: the adversary begins after
a fifth of the run.
Command: python train.py --config configs/aaipr.py --workdir runs/aaipr
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, rendered_market


def with_losses(
    config: Any, *, attribute_concept: float, group_prediction: float, adversary: float
) -> ConfigDict:
    """The config with guided attention and the paper's losses, of these weights; for sal.py too."""
    config.model.attention = "guided"
    config.losses.image_concept = default.loss(1.0)
    config.losses.attribute_concept = default.loss(attribute_concept)
    config.losses.group_prediction = default.loss(group_prediction)
    config.losses.adversary = default.loss(adversary, start_epoch=2, warmup_epochs=2)
    return config


def get_config(preset: str = "") -> ConfigDict:
    """Two streams, guided attention, adversary."""
    # docs/tuning.md
    config = with_losses(
        rendered_market.base(weight_decay=1e-2, concept_scale=8.0),
        attribute_concept=1.0,
        group_prediction=4.0,
        adversary=1.0,
    )
    return default.with_presets(config, preset, "aaipr")
