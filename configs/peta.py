"""The paper's setting on PETA (Deng et al., ACM MM 2014), SAL's split of unseen descriptions.

Paper: Yin et al., arXiv 1712.01493 / IJCAI 2018 (AAIPR); all settings as in market1501.py.
Command: python train.py --config configs/peta.py --workdir runs/peta --config.data.dir=DIR_OF_PETA
(--config.data.peta_split=official_1 to official_5: the published partitions, whose persons are in
several parts).
Score: rank-1 39.0, mAP 27.9 (published by AAIPR, unverified: from memory of the paper, not measured
here).
`:debug` is a run of a minute on a rendered look-alike of two dozen people.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, market1501


def get_config(preset: str = "") -> ConfigDict:
    """market1501.py with other data."""
    config: Any = market1501.get_config()
    config.data.name = "peta"
    config.data.dir = "data/PETA"
    return default.with_presets(config, preset, "peta")
