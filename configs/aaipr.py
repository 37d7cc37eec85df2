"""The paper's method on the rendered default: joint space, attention, consistent adversary.

Paper: Yin et al., arXiv 1712.01493 / IJCAI 2018 (AAIPR), losses 1 to 3 with guided attention, whose
group prediction (loss 6) is ours; the stages of market1501.py in short: the adversary begins after
a fifth of the run.
Command: python train.py --config configs/aaipr.py --workdir runs/aaipr
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, two_stream


def get_config(preset: str = "") -> ConfigDict:
    """Two streams, guided attention, adversary."""
    config: Any = two_stream.get_config()
    config.model.attention = "guided"
    config.losses.group_prediction = default.loss(4.0)
    config.losses.adversary = default.loss(0.1, start_epoch=2, warmup_epochs=2)
    return default.with_presets(config, preset, "aaipr")
