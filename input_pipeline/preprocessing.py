"""Image operations: stateless, each a function of (image, numbers drawn from the image's seed).

Images are float32 (H, W, 3) in 0..255 until `normalise`.
"""

import dataclasses

import tensorflow as tf

# The channel statistics that ImageNet models, and so pretrained backbones, expect.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

# How many uniform numbers `augment` consumes: one draw per image serves all operations.
NUM_DRAWS = 12


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What training does to an image; zero switches a part off.

    flip: probability of a mirrored image.
    crop: largest share of the height and width that a random crop leaves out.
    erase: probability that a rectangle of 2 to 20 % of the area is replaced by the mean colour.
    brightness, contrast: largest relative change, the same for all three channels, so that a
        colour keeps its name.
    """

    flip: float = 0.0
    crop: float = 0.0
    erase: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, GIF or BMP bytes to uint8 (H, W, 3); of an animation the first picture.

    A truncated image is an error, never a half-grey picture.
    """
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def resize(image: tf.Tensor, *, height: int, width: int) -> tf.Tensor:
    """(H, W, 3) of any size and type to float32 (height, width, 3)."""
    shape = tf.shape(image)
    image = tf.cast(image, tf.float32)
    if_equal = tf.logical_and(shape[0] == height, shape[1] == width)
    image = tf.cond(
        if_equal,
        lambda: image,
        lambda: tf.image.resize(image, (height, width), antialias=True),
    )
    return tf.ensure_shape(image, (height, width, 3))


def random_flip(image: tf.Tensor, draw: tf.Tensor, *, probability: float) -> tf.Tensor:
    """Mirror the image where draw () falls below the probability."""
    return tf.cond(draw < probability, lambda: image[:, ::-1], lambda: image)


def random_crop(image: tf.Tensor, draws: tf.Tensor, *, amount: float) -> tf.Tensor:
    """Cut out a window at most `amount` smaller than the image and resize it back; draws (4,)."""
    height, width, _ = image.shape
    size = 1.0 - amount * draws[:2]
    origin = (1.0 - size) * draws[2:4]
    box = tf.concat([origin, origin + size], axis=0)
    window = tf.image.crop_and_resize(image[None], box[None], [0], (height, width))[0]
    return tf.ensure_shape(window, (height, width, 3))


def random_colour(
    image: tf.Tensor, draws: tf.Tensor, *, brightness: float, contrast: float
) -> tf.Tensor:
    """Scale the image's brightness and its contrast around the mean; draws (2,)."""
    centre = tf.reduce_mean(image)
    image = centre + (image - centre) * (1.0 + contrast * (2.0 * draws[1] - 1.0))
    image *= 1.0 + brightness * (2.0 * draws[0] - 1.0)
    return tf.clip_by_value(image, 0.0, 255.0)


def random_erase(image: tf.Tensor, draws: tf.Tensor, *, probability: float) -> tf.Tensor:
    """Replace a rectangle by the mean colour (Zhong et al. 2020); draws (5,)."""
    height, width, _ = image.shape
    area = 0.02 + 0.18 * draws[1]
    aspect = tf.exp(tf.math.log(0.5) + tf.math.log(4.0) * draws[2])
    erased_height = tf.minimum(tf.sqrt(area * aspect), 1.0)
    erased_width = tf.minimum(tf.sqrt(area / aspect), 1.0)
    top = draws[3] * (1.0 - erased_height) * height
    left = draws[4] * (1.0 - erased_width) * width
    rows = tf.range(height, dtype=tf.float32)[:, None]
    columns = tf.range(width, dtype=tf.float32)[None, :]
    inside = (rows >= top) & (rows < top + erased_height * height)
    inside &= (columns >= left) & (columns < left + erased_width * width)
    inside &= draws[0] < probability
    return tf.where(inside[..., None], tf.constant(MEAN), image)


def augment(image: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Apply every switched-on operation to float32 (H, W, 3); seed (2,) decides everything."""
    draws = tf.random.stateless_uniform([NUM_DRAWS], seed)
    if augmentation.flip:
        image = random_flip(image, draws[0], probability=augmentation.flip)
    if augmentation.crop:
        image = random_crop(image, draws[1:5], amount=augmentation.crop)
    if augmentation.brightness or augmentation.contrast:
        image = random_colour(
            image,
            draws[5:7],
            brightness=augmentation.brightness,
            contrast=augmentation.contrast,
        )
    if augmentation.erase:
        image = random_erase(image, draws[7:12], probability=augmentation.erase)
    return image


def normalise(image: tf.Tensor) -> tf.Tensor:
    """0..255 to zero mean and unit variance per channel (ImageNet's)."""
    return (image - tf.constant(MEAN)) / tf.constant(STD)
