"""Every field once, with what it means; the other configs are small differences to this one.

Not meant to be run itself: it names no data. Stage boundaries are written in epochs and turned into
steps once, at the start of a run.
"""

from typing import Any

from ml_collections import ConfigDict


def loss(weight: float = 0.0, start_epoch: float = 0.0, warmup_epochs: float = 0.0) -> ConfigDict:
    """A loss weight over time: 0 before start_epoch, then rising to weight within warmup_epochs."""
    fields = {"weight": weight, "start_epoch": start_epoch, "warmup_epochs": warmup_epochs}
    return ConfigDict({name: float(value) for name, value in fields.items()})


def get_config(preset: str = "") -> ConfigDict:
    """Both streams with attention, concept losses on, every further loss and the adversary off."""
    if preset:
        raise ValueError(f"preset {preset!r} of default.py: it has none, it names no data")
    config: Any = ConfigDict()
    # Decides initial parameters, order, augmentation and validation categories.
    config.seed = 0

    config.data = data = ConfigDict()
    # Which reader: market1501, duke, peta, pa100k, or folder (any images with a CSV file).
    data.name = "market1501"
    # The data set's folder, in the layout that its publisher gives it.
    data.dir = ""
    # For folder: the CSV file and the schema file (.yaml, .yml or .toml; empty: the one schema.*
    # that is there), both relative to data.dir.
    data.labels = "labels.csv"
    data.schema = ""
    # For peta: sal (200 held-out categories), or official_1 to official_5.
    data.peta_split = "sal"
    # For pa100k: whether Front, Side and Back, which tell nothing of who it is, are attributes.
    data.orientation = False
    # Where the TFDS records go; empty: a folder "prepared" inside data.dir.
    data.prepared_dir = ""
    # Images are resized to this.
    data.image_height = 256
    data.image_width = 128
    # Share of the training categories held out to choose a checkpoint; never the test set.
    data.validation_fraction = 0.1
    # True counts images that do not decode and goes on; False names them and stops.
    data.skip_bad_images = False
    # Share of training descriptions of which random groups are set to unknown, so that queries may
    # leave groups open (jsreid's own).
    data.description_dropout = 0.0
    # Augmentation of training images; 0 switches a part off (input_pipeline/augmentation.py).
    data.flip = 0.5
    data.crop = 0.15
    data.erase = 0.0
    data.brightness = 0.0
    data.contrast = 0.0

    # Renders data.dir in the layout of data.name where it is not there; train_persons = 0 does not.
    data.render = render = ConfigDict()
    render.train_persons = 0
    render.test_persons = 0
    render.images_per_person = 8
    render.image_height = 256
    render.seed = 0

    config.model = model = ConfigDict()
    # resnet50, resnet18, mobilenet_v2, resnet_small (CPU default) or resnet_tiny (tests).
    model.backbone = "resnet50"
    # File of torchvision's or timm's weights (.pth, .safetensors) that a resnet50, resnet18 or
    # mobilenet_v2 begins with; it must stay there until the run is finished. Empty: random numbers.
    model.pretrained = ""
    # Stride of the last stage: 1 keeps a finer feature map.
    model.last_stride = 1
    # none; guided: one attention map per attribute group; conditioned: the description's values
    # decide where to look, to re-rank the best images; guided+conditioned: both.
    model.attention = "guided"
    model.attention_width = 64
    # Stage of the backbone where guided attention learns its maps, from its end: 1 is the last,
    # whose every place has seen much of the image; an earlier one tells what is where.
    model.attention_stage = 2
    # Guided attention begins in the region of the body where a group is worn (the schema's): places
    # outside it have exp(-place_prior) of the weight, until it learns better. 0: begins anywhere.
    model.place_prior = 3.0
    # Widths of the two streams; both end in the embedding width D.
    model.projection_widths = (512, 256, 128)
    model.attribute_widths = (512, 128, 128)
    # Unit embeddings are scaled by this in front of the concept classifier and attribute head.
    model.concept_scale = 16.0
    # float32 or bfloat16: what the networks compute in. Parameters and losses stay float32.
    model.dtype = "float32"
    # Residual blocks keep their input alone and compute the rest again for the gradient: less
    # memory for a third more work.
    model.remat = False

    # Weights of losses.py (METHOD: losses 1 to 6).
    config.losses = losses = ConfigDict()
    losses.image_concept = loss(1.0)
    losses.attribute_concept = loss(1.0)
    losses.adversary = loss(0.0)
    losses.consistency = loss(0.0)
    losses.contrastive = loss(0.0)
    # The mean of two: from the last stage, and, balanced, from the one where maps are learned.
    losses.group_prediction = loss(0.0)
    # The attribute head on images, and the same head on descriptions.
    losses.attribute_head = loss(0.0)
    losses.description_head = loss(0.0)
    # Pairs scored by conditioned attention, for re-ranking.
    losses.conditioned = loss(0.0)
    # ASMR: ArcFace of images against all training descriptions, and distances of descriptions that
    # follow how much they differ.
    losses.arc_face = loss(0.0)
    losses.semantic_margin = loss(0.0)
    # SAL: a network makes image features of descriptions, also unseen ones, against the
    # discriminator (synthesis), and these must tell their description again (cycle).
    losses.synthesis = loss(0.0)
    losses.cycle = loss(0.0)
    # Who tries to look like the other: attributes (the paper), images, both.
    # Descriptions that data.description_dropout has made partial stand outside this game.
    losses.generator = "attributes"
    # none, or category: the discriminator also sees the category.
    losses.discriminator_conditioning = "none"
    # Updates of the discriminator per step.
    losses.discriminator_steps = 1
    # The discriminator believes in real images only with probability 1 - label_smoothing.
    losses.label_smoothing = 0.0
    # Weight of the R1 penalty: the discriminator's squared gradient at images.
    losses.gradient_penalty = 0.0
    # ArcFace's scale and angular margin (radians).
    losses.arc_scale = 12.0
    losses.arc_margin = 0.2
    # Contrastive temperature at the start, and whether it is learned.
    losses.temperature = 0.1
    losses.learn_temperature = True

    config.optimizer = optimizer = ConfigDict()
    # adam, or sgd (parity tests).
    optimizer.name = "adam"
    # Peak learning rates: image stream, everything else of the embedder, discriminator.
    optimizer.image_learning_rate = 1e-3
    optimizer.attribute_learning_rate = 1e-3
    optimizer.discriminator_learning_rate = 1e-4
    # How the peaks, meant for reference_batch_size, follow train.batch_size: none, linear (Goyal et
    # al. 2017, for sgd), sqrt (Krizhevsky 2014, for adam).
    optimizer.batch_size_rule = "none"
    optimizer.reference_batch_size = 128
    # The backbone rests for so long at the start, while what is behind it learns.
    optimizer.freeze_backbone_epochs = 0.0
    # cosine (to 0), drops (times drop_factor at each of drop_epochs), constant.
    optimizer.schedule = "cosine"
    optimizer.warmup_epochs = 1.0
    optimizer.drop_epochs = ()
    optimizer.drop_factor = 0.1
    # Decoupled weight decay of kernels in the embedder.
    optimizer.weight_decay = 1e-4
    # Largest global gradient norm of the embedder; 0 does not clip.
    optimizer.clip_norm = 0.0

    config.train = train = ConfigDict()
    # Images per step over all devices and hosts.
    train.batch_size = 128
    # Parts of it that each device computes one after the other (gradient accumulation): the memory
    # of one part, a third more work. The losses see the whole batch, BatchNorm parts.
    train.micro_batches = 1
    train.num_epochs = 60
    train.log_every_steps = 50
    # Evaluate an exponential moving average of the embedder's parameters of this decay; 0: none.
    train.average_decay = 0.0
    # Evaluation on validation categories; each writes a checkpoint. One is chosen and kept: the
    # newest within one standard error of the best (jsreid_jax/comparison.py, choose).
    train.eval_every_epochs = 5.0
    # What a kill may cost: checkpoints are written a little more often than every so many steps.
    train.checkpoint_every_steps = 500

    config.eval = evaluation = ConfigDict()
    # Images per step over all devices when embedding a gallery.
    evaluation.batch_size = 128
    # Embed a gallery image as the mean of itself and its mirror image: twice the work.
    evaluation.mirror = True
    # How an image fits a description: cosine of the embeddings, recognition (log-likelihood of the
    # description under the recognised attributes), or fused, cosine + weight * log-likelihood.
    evaluation.score = "cosine"
    # For fused: weights of the log-likelihood, of which validation categories choose one.
    evaluation.fusion_weights = (0.003, 0.01, 0.03, 0.1)
    # Re-rank so many best images of every query by conditioned attention; 0: none.
    evaluation.rerank = 0
    # Weights of its score, added to the first one, of which validation categories choose.
    evaluation.rerank_weights = (0.001, 0.003, 0.01, 0.03, 0.1)
    # Who is asked and ranked: category, sal_python, asmr or per_image (README, Protocols).
    evaluation.protocol = "category"
    # Gallery images scored at once, over all devices: bounds the memory and changes no number.
    evaluation.block_size = 4096
    # Queries in the picture of ranked lists, and images shown of each.
    evaluation.pictured_queries = 12
    evaluation.pictured_images = 10

    # Virtual devices on a machine without accelerator; 0: one per core, at most 8, as many as
    # divide both batch sizes.
    config.num_cpu_devices = 0
    return config


def debug(config: Any, name: str) -> ConfigDict:
    """A config made small: two dozen rendered people in data/<name>_debug, a run of a minute."""
    data, model, losses = config.data, config.model, config.losses
    data.dir = f"data/{name}_debug"
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
    for key in losses:
        if isinstance(losses[key], ConfigDict):
            losses[key].start_epoch = min(losses[key].start_epoch, 1.0)
            losses[key].warmup_epochs = 0.0
    config.optimizer.drop_epochs = ()
    config.train.batch_size = 16
    config.train.num_epochs = 4
    config.train.eval_every_epochs = 2.0
    config.train.log_every_steps = 4
    config.train.checkpoint_every_steps = 5
    config.eval.batch_size = 16
    config.eval.pictured_queries = 4
    config.eval.pictured_images = 4
    return config


def with_presets(config: Any, preset: str, name: str) -> ConfigDict:
    """The config itself for no preset, made small for "debug"; ValueError: another preset."""
    if preset == "debug":
        return debug(config, name)
    if preset:
        raise ValueError(f"preset {preset!r} of {name}.py: expected none or 'debug'")
    return config
