"""The paper's setting on Market-1501 with the attributes of Lin et al. (arXiv 1703.07220).

Paper: Yin et al., arXiv 1712.01493 / IJCAI 2018 (AAIPR): ResNet-50, 256x128, staged losses. What
the paper leaves open follows its direct follow-up SAL (ECCV 2020): stages of 100, 100 and 60 epochs
(images alone, joint, adversarial), batch 128, Adam, 1e-2 attributes, 1e-3 images; both fall tenfold
for the adversarial stage (ours; SAL sets both to 1e-4). Attention and its group prediction, the
attribute head and the consistency loss stand beside the paper's losses as METHOD names them.
Command: python train.py --config configs/market1501.py --workdir runs/market1501 \
    --config.data.dir=DIR_OF_MARKET --config.model.pretrained=resnet50-11ad3fa6.pth
Score: rank-1 40.3, mAP 20.7 (published by AAIPR, unverified: from memory of the paper, not measured
here).
`:debug` is a run of a minute on a rendered look-alike of two dozen people.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "") -> ConfigDict:
    """Staged training: images alone, then both streams, then the adversary."""
    config: Any = default.get_config()
    config.data.dir = "data/Market-1501"
    config.data.erase = 0.5
    losses = config.losses
    losses.image_concept = default.loss(1.0)
    losses.attribute_concept = default.loss(1.0, start_epoch=100)
    losses.consistency = default.loss(1.0, start_epoch=100)
    losses.group_prediction = default.loss(1.0)
    losses.attribute_head = default.loss(0.5, start_epoch=100)
    losses.description_head = default.loss(0.5, start_epoch=100)
    losses.adversary = default.loss(0.1, start_epoch=200, warmup_epochs=5)
    config.optimizer.attribute_learning_rate = 1e-2
    # Falls to 1e-4 at the drop, which is where the discriminator begins.
    config.optimizer.discriminator_learning_rate = 1e-3
    config.optimizer.schedule = "drops"
    config.optimizer.drop_epochs = (200,)
    config.train.num_epochs = 260
    return default.with_presets(config, preset, "market1501")
