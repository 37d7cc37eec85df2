"""Our best on the rendered default: all losses of the method, short descriptions, fused scores.

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
    """rendered_market.py with description dropout, an average of the parameters, fusion."""
    config: Any = rendered_market.get_config()
    config.data.description_dropout = 0.25
    config.train.average_decay = 0.99
    config.eval.score = "fused"
    return default.with_presets(config, preset, "jsreid")
