"""The paper's setting on PA-100K (Liu et al., ICCV 2017), which the paper itself did not use.

Paper: Yin et al., arXiv 1712.01493 / IJCAI 2018 (AAIPR); all settings as in market1501.py.
Command: python train.py --config configs/pa100k.py --workdir runs/pa100k \
    --config.data.dir=DIR_OF_PA100K
(--config.data.orientation=True: front, side and back are attributes too).
Score: rank-1 31.9, mAP 20.6 (published by ASMR, ICCV 2021, unverified: from memory, not measured
here).
`:debug` is a run of a minute on a rendered look-alike of two dozen people.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, market1501


def get_config(preset: str = "") -> ConfigDict:
    """market1501.py with other data."""
    config: Any = market1501.get_config()
    config.data.name = "pa100k"
    config.data.dir = "data/PA-100K"
    return default.with_presets(config, preset, "pa100k")
