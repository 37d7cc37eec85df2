"""SAL on the rendered default: the paper's method and a synthesis of unseen people's features.

Paper: Cao et al., ECCV 2020 (SAL): two generative adversarial networks, one in the joint space as
in aaipr.py, one that makes image features of descriptions sampled from the training prior, with
cycle consistency. Networks and weights of the second are ours.
Command: python train.py --config configs/sal.py --workdir runs/sal
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import aaipr, default, rendered_market


def get_config(preset: str = "") -> ConfigDict:
    """The paper's losses as in aaipr.py, the attribute head, and a synthesiser."""
    # docs/tuning.md
    config: Any = aaipr.with_losses(
        rendered_market.base(weight_decay=1e-1, erase=0.3, width=64),
        attribute_concept=0.3,
        group_prediction=8.0,
        adversary=0.1,
    )
    # SAL's, on both modalities; it also tells what the synthesiser made, and so must know images.
    config.losses.attribute_head = default.loss(4.0)
    config.losses.description_head = default.loss(4.0)
    config.losses.synthesis = default.loss(0.1, start_epoch=2, warmup_epochs=2)
    config.losses.cycle = default.loss(1.0, start_epoch=4, warmup_epochs=2)
    config.optimizer.discriminator_learning_rate = 3e-5
    return default.with_presets(config, preset, "sal")
