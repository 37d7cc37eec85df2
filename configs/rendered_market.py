"""The CPU default: a rendered data set in the Market-1501 layout, trained on two cores in minutes.

Paper: Yin et al., arXiv 1712.01493, at a scale that a laptop runs.
Command: python train.py --config configs/rendered_market.py --workdir runs/rendered_market
Score: unseen descriptions rank-1 77.6, mAP 71.7 (measured, mean of seeds 0, 1, 2, two CPU cores).
`:debug` is a run of under a minute on two dozen rendered people; tests use it.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "") -> ConfigDict:
    """The default of this project, or preset "debug"."""
    config: Any = default.get_config()
    data, model, losses = config.data, config.model, config.losses
    data.dir = "data/rendered_market"
    data.image_height, data.image_width = 128, 64
    data.render.train_persons = 480
    data.render.test_persons = 240
    data.render.image_height = 128

    data.brightness = data.contrast = 0.2

    model.backbone = "resnet_small"
    # Shallower than default.py: better in one run on data of another seed, not studied further.
    model.attribute_widths = (512, 128)

    # The concept losses weigh less than in the paper, because training accuracy on the categories
    # neared 1 with the full weight. The effect of this alone was not measured.
    losses.image_concept = default.loss(0.3)
    losses.attribute_concept = default.loss(0.3)
    losses.adversary = default.loss(0.1, start_epoch=4, warmup_epochs=4)
    losses.consistency = default.loss(1.0)
    losses.contrastive = default.loss(1.0)
    losses.group_prediction = default.loss(1.0)
    losses.attribute_head = default.loss(1.0)

    config.train.batch_size = 64
    config.train.num_epochs = 24
    if preset == "debug":
        data.dir = "data/rendered_market_debug"
        data.render.train_persons = 16
        data.render.test_persons = 8
        data.render.images_per_person = 4
        data.render.image_height = 64
        data.image_height, data.image_width = 64, 32
        data.validation_fraction = 0.2
        model.backbone = "resnet_tiny"
        model.attention_width = 8
        model.projection_widths = (32, 16)
        model.attribute_widths = (32, 16)
        losses.adversary = default.loss(0.1, start_epoch=1)
        config.train.batch_size = 16
        config.train.num_epochs = 4
        config.train.eval_every_epochs = 2.0
        config.train.log_every_steps = 4
        config.train.checkpoint_every_steps = 5
        config.eval.batch_size = 16
        config.eval.pictured_queries = 4
        config.eval.pictured_images = 4
    elif preset:
        raise ValueError(f"preset {preset!r} of rendered_market.py: expected none or 'debug'")
    return config
