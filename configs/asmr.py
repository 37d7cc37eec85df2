"""ASMR on the rendered default: adaptive semantic margins, no adversary, no attention.

ArcFace of images against all training descriptions, and distances between descriptions that follow
how much they differ, with learned weights of the groups.
Paper: Jeong et al., ICCV 2021 (ASMR); scale 12, margin 0.2, weight 6 of the regulariser are theirs.
Command: python train.py --config configs/asmr.py --workdir runs/asmr
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, rendered_market


def get_config(preset: str = "") -> ConfigDict:
    """ArcFace, the semantic margin, and consistency."""
    config: Any = rendered_market.base()
    config.losses.arc_face = default.loss(1.0)
    config.losses.semantic_margin = default.loss(6.0)
    # Ours: the two losses alone leave open whether images and descriptions meet or settle at
    # opposite poles, and here they did the latter (docs/tuning.md).
    config.losses.consistency = default.loss(1.0)
    return default.with_presets(config, preset, "asmr")
