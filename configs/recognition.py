"""Predict attributes, then search: the intuitive baseline of the paper (DeepMAR), rendered default.

An image's score for a description is the log-likelihood of the description under the attributes
that are recognised in the image; the joint space is not used, and descriptions teach nothing.
Paper: Li et al., ACPR 2015 (DeepMAR), as the baseline of Yin et al., arXiv 1712.01493.
Command: python train.py --config configs/recognition.py --workdir runs/recognition
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, rendered_market


def get_config(preset: str = "") -> ConfigDict:
    """Binary cross-entropy of every attribute."""
    # docs/tuning.md
    config: Any = rendered_market.base(
        learning_rate=8e-3, weight_decay=1e-2, width=64, concept_scale=8.0
    )
    config.losses.attribute_head = default.loss(1.0)
    config.eval.score = "recognition"
    return default.with_presets(config, preset, "recognition")
