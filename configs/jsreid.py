"""Our best on the rendered default, under its name in the family: what rendered_market.py trains.

Guided attention, losses 1 to 6, descriptions of which random groups are left open, and the cosine
fused with the log-likelihood of recognition, with a weight that validation categories choose.
Paper: Yin et al., arXiv 1712.01493, and what losses.py has beside it; the combination is ours.
Command: python train.py --config configs/jsreid.py --workdir runs/jsreid
Score: see the README's study.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, rendered_market


def get_config(preset: str = "") -> ConfigDict:
    """rendered_market.py."""
    config: Any = rendered_market.get_config()
    return default.with_presets(config, preset, "jsreid")
