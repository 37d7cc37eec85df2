"""SAL on the rendered default: the paper's method and a synthesis of unseen people's features.

Paper: Cao et al., ECCV 2020 (SAL): two generative adversarial networks, one in the joint space as
in aaipr.py, one that makes image features of descriptions sampled from the training prior, with
cycle consistency. Networks and weights of the second are ours.
Command: python train.py --config configs/sal.py --workdir runs/sal
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import aaipr, default


def get_config(preset: str = "") -> ConfigDict:
    """aaipr.py with the attribute head and a synthesiser."""
    config: Any = aaipr.get_config()
    # SAL's, on both modalities; it also tells what the synthesiser made, and so must know images.
    config.losses.attribute_head = default.loss(1.0)
    config.losses.description_head = default.loss(1.0)
    config.losses.synthesis = default.loss(0.1, start_epoch=2, warmup_epochs=2)
    config.losses.cycle = default.loss(0.5, start_epoch=4, warmup_epochs=2)
    return default.with_presets(config, preset, "sal")
