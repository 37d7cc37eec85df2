"""The paper's setting on DukeMTMC with the attributes of Lin et al. (arXiv 1703.07220).

The images were withdrawn by their owner; the config is here for those who have leave to use them.

Paper: Yin et al., arXiv 1712.01493 / IJCAI 2018 (AAIPR); all settings as in market1501.py.
Command: python train.py --config configs/duke.py --workdir runs/duke \
    --config.data.dir=DIR_OF_DUKE
Score: rank-1 46.6, mAP 15.7 (published by AAIPR, unverified: from memory of the paper, not measured
here).
`:debug` is a run of a minute on a rendered look-alike of two dozen people.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, market1501


def get_config(preset: str = "") -> ConfigDict:
    """market1501.py with other data."""
    config: Any = market1501.get_config()
    config.data.name = "duke"
    config.data.dir = "data/DukeMTMC-reID"
    return default.with_presets(config, preset, "duke")
