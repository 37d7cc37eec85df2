"""The losses, each a pure function that names its place in the method.

Every loss is the mean over the rows it is given, in float32 whatever the networks compute in.
"""

import jax
import jax.numpy as jnp
import optax

from jsreid_jax.types import Array

GENERATORS = ("attributes", "images", "both")


def concept_loss(logits: Array, label: Array, *, counts: Array | None = None) -> Array:
    """CE(W z, label) of one modality; with the same W for both it is the semantic consistency.

    Losses 1 (images) and 2 (attributes) [paper]. Rows of `counts` (B,) bool that are False add
    nothing, yet count in the mean, so that the mean over devices is the mean over the batch.
    logits (B, K), label (B,) -> ().
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), label)
    return losses.mean() if counts is None else (losses * counts).mean()


def attribute_loss(logits: Array, attributes: Array) -> Array:
    """Binary cross-entropy over the known attributes (losses 6 and [SAL]'s attribute head).

    Averaged within each row first, so that the mean over devices is the mean over the batch however
    the unknown attributes are spread.

    Args:
        logits: (B, A).
        attributes: (B, A), +1 present, -1 absent, 0 unknown (does not count).
    """
    known = jnp.abs(attributes)
    # -log sigmoid(+-logit): one expression for present and absent.
    losses = -jax.nn.log_sigmoid(logits.astype(jnp.float32) * attributes) * known
    return (losses.sum(axis=-1) / jnp.maximum(known.sum(axis=-1), 1.0)).mean()


def discriminator_loss(image_logits: Array, attribute_logits: Array) -> Array:
    """-log s(D(z_image)) - log(1 - s(D(z_attribute))): images are real (loss 3 [paper]).

    Both (B,) logits; log-sigmoid of logits, never a sigmoid of a sigmoid.
    """
    return -(jax.nn.log_sigmoid(image_logits) + jax.nn.log_sigmoid(-attribute_logits)).mean()


def generator_loss(image_logits: Array, attribute_logits: Array, *, generator: str) -> Array:
    """-log s(D(z_attribute)) when attributes generate (loss 3 [paper]).

    When images do, -log(1 - s(D(z_image))). Only the generating modality's embedding appears in the
    value, and so only it receives the gradient (of images with guided attention: through the group
    queries also the attribute tokens that guide it).
    "both" is the sum of the two (ablation, ours).
    """
    by_modality = {
        "attributes": -jax.nn.log_sigmoid(attribute_logits).mean(),
        "images": -jax.nn.log_sigmoid(-image_logits).mean(),
    }
    if generator == "both":
        return by_modality["attributes"] + by_modality["images"]
    return by_modality[generator]


def consistency_loss(image: Array, attribute: Array) -> Array:
    """1 - cosine of every image and its own description (loss 4 [paper's summary]).

    Both (B, D), unit length.
    """
    return 1.0 - (image * attribute).sum(axis=-1).mean()


def contrastive_loss(
    image: Array,
    attribute: Array,
    attributes: Array,
    description: Array,
    log_temperature: Array,
    *,
    axis_name: str | None = None,
) -> Array:
    """Symmetric supervised InfoNCE between images and descriptions (loss 5 [paper's summary]).

    Positives are all pairs of an image and a description that is true of it: pairs of one category,
    or all that a partial description leaves open (ours). With an axis name the other modality is
    gathered from all devices, so that the global batch serves as negatives whatever the number of
    devices.

    Args:
        image: (B, D), unit length, of people with attributes (B, A).
        attribute: (B, D), unit length, of description (B, A).
        attributes: (B, A), +1, -1, 0 unknown.
        description: (B, A), the same of what is said.
        log_temperature: ().
        axis_name: device axis, or None on one device.
    """

    def gather(x: Array) -> Array:
        return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)

    def one_way(anchors: Array, others: Array, positives: Array) -> Array:
        positives = positives / positives.sum(axis=1, keepdims=True)
        logits = anchors @ gather(others).T * jnp.exp(-log_temperature)
        return -(positives * jax.nn.log_softmax(logits, axis=1)).sum(axis=1).mean()

    of_image = is_true_of(gather(description), attributes).T
    of_description = is_true_of(description, gather(attributes))
    return 0.5 * (one_way(image, attribute, of_image) + one_way(attribute, image, of_description))


def is_true_of(description: Array, attributes: Array) -> Array:
    """(B, B') 1.0 where all that description (B, A) says holds of attributes (B', A), else 0.0.

    Both coded +1, -1, 0 unknown; what is not known of the attributes does not hold.
    """
    said = jnp.abs(description).sum(axis=-1, keepdims=True)
    return (description @ attributes.T == said).astype(jnp.float32)
