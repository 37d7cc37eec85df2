"""A joint space without adversary: both streams, one concept classifier, rendered default.

Paper: Yin et al., arXiv 1712.01493, without its adversary and its attention (losses 1 and 2).
Command: python train.py --config configs/two_stream.py --workdir runs/two_stream
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, rendered_market


def get_config(preset: str = "") -> ConfigDict:
    """Concept losses of both modalities."""
    # docs/tuning.md
    config: Any = rendered_market.base(
        learning_rate=4e-3, weight_decay=1e-2, erase=0.3, width=64, concept_scale=8.0
    )
    config.losses.image_concept = default.loss(1.0)
    config.losses.attribute_concept = default.loss(1.0)
    return default.with_presets(config, preset, "two_stream")
