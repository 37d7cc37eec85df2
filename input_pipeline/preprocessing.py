"""Encoded images to what networks read; images are (H, W, 3) uint8 until `normalise`."""

import tensorflow as tf

# The channel statistics that ImageNet models, and so pretrained backbones, expect.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, GIF or BMP bytes to uint8 (H, W, 3); of an animation the first picture.

    A truncated image is an error, never a half-grey picture.
    """
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def resize(image: tf.Tensor, *, height: int, width: int) -> tf.Tensor:
    """(H, W, 3) uint8 of any size to uint8 (height, width, 3), bilinear.

    Shrunk images are smoothed; for larger ones that would change nothing and take twice as long.
    """
    shape = tf.shape(image)
    is_equal = tf.logical_and(shape[0] == height, shape[1] == width)
    shrinks = tf.logical_or(shape[0] > height, shape[1] > width)

    def resized(antialias: bool) -> tf.Tensor:
        exact = tf.image.resize(image, (height, width), antialias=antialias)
        return tf.cast(tf.round(exact), tf.uint8)

    def other_size() -> tf.Tensor:
        return tf.cond(shrinks, lambda: resized(True), lambda: resized(False))

    return tf.ensure_shape(tf.cond(is_equal, lambda: image, other_size), (height, width, 3))


def normalise(image: tf.Tensor) -> tf.Tensor:
    """0..255 to zero mean and unit variance per channel (ImageNet's)."""
    return (tf.cast(image, tf.float32) - tf.constant(MEAN)) / tf.constant(STD)
