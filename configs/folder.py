"""Your own images: a folder with pictures, a CSV file and a schema file (docs/your_own_images.md).

The settings of rendered_market.py, which two CPU cores train in minutes, for a few hundred to a few
thousand pictures: more epochs. Chosen by that, not measured on real images.
Command: python train.py --config configs/folder.py --workdir runs/mine --config.data.dir=mine
With many pictures and an accelerator: --config.model.backbone=resnet50
    --config.data.image_height=256 --config.data.image_width=128
`:debug` is a run of a minute on two dozen rendered people in such a folder.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default, rendered_market


def get_config(preset: str = "") -> ConfigDict:
    """The CPU default's model and losses on the folder that --config.data.dir names."""
    config: Any = rendered_market.get_config()
    config.data.name = "folder"
    config.data.dir = ""
    # A user's folder is read as it is, never rendered.
    config.data.render.train_persons = 0
    config.train.num_epochs = 30
    return default.with_presets(config, preset, "folder")
