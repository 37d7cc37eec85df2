"""The losses, each a pure function that names its place in the method.

Every loss is the mean over the rows it is given, in float32 whatever the networks compute in.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsreid_jax.types import Array

GENERATORS = ("attributes", "images", "both")

# A logit of what does not count in a softmax.
_NOWHERE = -1e9

# What few images have must not outshout the rest.
_LARGEST_WEIGHT = 10.0


def concept_loss(logits: Array, label: Array, *, counts: Array | None = None) -> Array:
    """CE(W z, label) of one modality; with the same W for both it is the semantic consistency.

    Losses 1 (images) and 2 (attributes) [paper]. Rows of `counts` (B,) bool that are False add
    nothing, yet count in the mean, so that the mean over devices is the mean over the batch.
    logits (B, K), label (B,) -> ().
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), label)
    return losses.mean() if counts is None else (losses * counts).mean()


def balanced_weights(attributes: np.ndarray) -> np.ndarray:
    """(2, A) float32 for `attribute_loss`: the present and the absent of each count alike (ours).

    That is, down to one image in twenty: what is rarer counts less.

    attributes: (N, A) of the training images.
    """
    present, absent = (attributes > 0).sum(axis=0), (attributes < 0).sum(axis=0)
    counts = np.stack([present, absent])
    weights = 0.5 * (present + absent) / np.maximum(counts, 1)
    return np.minimum(weights, _LARGEST_WEIGHT).astype(np.float32)


def attribute_loss(logits: Array, attributes: Array, *, weights: np.ndarray | None = None) -> Array:
    """Binary cross-entropy over the known attributes (losses 6 and [SAL]'s attribute head).

    Averaged within each row first, so that the mean over devices is the mean over the batch however
    the unknown attributes are spread.

    Args:
        logits: (B, A).
        attributes: (B, A), +1 present, -1 absent, 0 unknown (does not count).
        weights: (2, A) of the present and of the absent; else 1.
    """
    known = jnp.abs(attributes)
    # -log sigmoid(+-logit): one expression for present and absent.
    losses = -jax.nn.log_sigmoid(logits.astype(jnp.float32) * attributes) * known
    if weights is not None:
        losses *= jnp.where(attributes > 0, weights[0], weights[1])
    return (losses.sum(axis=-1) / jnp.maximum(known.sum(axis=-1), 1.0)).mean()


def discriminator_loss(
    image_logits: Array,
    attribute_logits: Array,
    *,
    smoothing: float = 0.0,
    weights: Array | float = 1.0,
) -> Array:
    """-log s(D(z_image)) - log(1 - s(D(z_attribute))): images are real (loss 3 [paper]).

    Both (B,) logits; log-sigmoid of logits, never a sigmoid of a sigmoid. With one-sided label
    smoothing (Salimans et al. 2016) images are real with probability 1 - smoothing only.
    weights: (B,) of the descriptions.
    """
    real = (1.0 - smoothing) * jax.nn.log_sigmoid(image_logits)
    real = real + smoothing * jax.nn.log_sigmoid(-image_logits)
    return -(real + weights * jax.nn.log_sigmoid(-attribute_logits)).mean()


def gradient_penalty(discriminate: Callable[[Array], Array], embedding: Array) -> Array:
    """R1: half the mean squared norm of the discriminator's gradient at the real embeddings.

    Mescheder et al. 2018. discriminate takes (B, D) to (B,) row by row; embedding (B, D) -> ().
    """
    gradient = jax.grad(lambda rows: discriminate(rows).sum())(embedding)
    return 0.5 * (gradient**2).sum(axis=-1).mean()


def generator_loss(
    image_logits: Array,
    attribute_logits: Array,
    *,
    generator: str,
    weights: Array | float = 1.0,
) -> Array:
    """-log s(D(z_attribute)) when attributes generate (loss 3 [paper]).

    When images do, -log(1 - s(D(z_image))). Only the generating modality's embedding appears in the
    value, and so only it receives the gradient.
    "both" is the sum of the two (ablation, ours). weights: (B,) of the descriptions.
    """
    by_modality = {
        "attributes": -(weights * jax.nn.log_sigmoid(attribute_logits)).mean(),
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
    all_known: bool = False,
    axis_name: str | None = None,
) -> Array:
    """Symmetric supervised InfoNCE between images and descriptions (loss 5 [paper's summary]).

    Positives are all pairs of an image and a description that is true of it: pairs of one category,
    or all that a partial description leaves open (ours). Pairs of which nobody knows, because the
    image's own attributes are unknown there, do not count. With an axis name the other modality is
    gathered from all devices, so that the global batch serves as negatives whatever the number of
    devices.

    Args:
        image: (B, D), unit length, of people with attributes (B, A).
        attribute: (B, D), unit length, of description (B, A).
        attributes: (B, A), +1, -1, 0 unknown.
        description: (B, A), the same of what is said.
        log_temperature: ().
        all_known: whether no attribute of any image is unknown, so that no pair needs leaving out.
        axis_name: device axis, or None on one device.
    """

    def gather(x: Array) -> Array:
        return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)

    of_image = [pairs.T for pairs in true_or_open(gather(description), attributes)]
    of_description = true_or_open(description, gather(attributes))
    scale = jnp.exp(-log_temperature)
    info_nce = functools.partial(_info_nce, all_known=all_known)
    return 0.5 * (
        info_nce(image @ gather(attribute).T * scale, *of_image)
        + info_nce(attribute @ gather(image).T * scale, *of_description)
    )


def pair_loss(
    scores: Array, attributes: Array, description: Array, *, all_known: bool = False
) -> Array:
    """The same InfoNCE on scores (B, B) of every description (row) with every image of the device.

    For attention that is conditioned on the description (ours). attributes, description: (B, A).
    """
    is_true, is_open = true_or_open(description, attributes)
    info_nce = functools.partial(_info_nce, all_known=all_known)
    return 0.5 * (info_nce(scores, is_true, is_open) + info_nce(scores.T, is_true.T, is_open.T))


def _info_nce(logits: Array, positives: Array, is_open: Array, *, all_known: bool) -> Array:
    """Cross-entropy of rows (B, B') with the even distribution over their positives (0 or 1).

    is_open: (B, B') bool, pairs that are neither positives nor negatives.
    """
    positives = positives / positives.sum(axis=1, keepdims=True)
    if not all_known:
        logits = jnp.where(is_open, _NOWHERE, logits)
    return -(positives * jax.nn.log_softmax(logits, axis=1)).sum(axis=1).mean()


def arc_face_loss(
    image: Array, category: Array, label: Array, *, scale: float, margin: float
) -> Array:
    """Images against all K description embeddings with an angular margin [ASMR].

    image (B, D) and category (K, D) of unit length, label (B,) -> (). ArcFace: Deng et al. 2019.
    """
    cosine = image @ category.T
    # The angle's own derivative is infinite at 0 and pi.
    inside = jnp.clip(cosine, -1.0 + 1e-6, 1.0 - 1e-6)
    is_own = jax.nn.one_hot(label, len(category), dtype=bool)
    # Past pi - margin the cosine would rise again and reward the opposite pole: a line from there.
    is_inside = inside > np.cos(np.pi - margin)
    own = jnp.where(
        is_inside, jnp.cos(jnp.arccos(inside) + margin), cosine - margin * np.sin(margin)
    )
    with_margin = jnp.where(is_own, own, cosine)
    return concept_loss(scale * with_margin, label)


def semantic_margin_loss(
    category: Array, options: Array, group_of_option: np.ndarray, group_weights: Array
) -> Array:
    """How far descriptions lie apart follows how much they differ [ASMR].

    The mean over pairs of categories of (cos - mean cos - sigmoid(1 - d.w / 10))^2; d in {0, 1}^R
    tells in which groups the two differ.

    Args:
        category: (K, D), unit length.
        options: (K, M), 1.0 where a description has that option, see `group_options`.
        group_of_option: (M,) int.
        group_weights: (R,) w, learned.
    """
    pairs = 1.0 - jnp.eye(len(category))
    count = max(len(category) * (len(category) - 1), 1)
    cosine = category @ category.T
    mean = (cosine * pairs).sum() / count
    agreeing = (options * group_weights[group_of_option]) @ options.T
    target = jax.nn.sigmoid(1.0 - (group_weights.sum() - agreeing) / 10.0)
    return (((cosine - mean - target) ** 2) * pairs).sum() / count


def group_options(
    categories: np.ndarray, group_sizes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What K descriptions (K, A) say of each group, as (K, M) one-hot float32 and groups (M,).

    A column for every different answer to a group, so that two descriptions differ in a group
    exactly where they share none of its columns.
    """
    columns, groups = [], []
    ends = np.cumsum(group_sizes)
    for group, (start, end) in enumerate(zip(ends - group_sizes, ends, strict=True)):
        answers, answer = np.unique(categories[:, start:end], axis=0, return_inverse=True)
        columns.append(np.eye(len(answers), dtype=np.float32)[answer.reshape(-1)])
        groups += [group] * len(answers)
    return np.concatenate(columns, axis=1), np.array(groups)


def true_or_open(description: Array, attributes: Array) -> tuple[Array, Array]:
    """Where all that description (B, A) says holds of attributes (B', A), and where it may.

    (B, B') 1.0 where it holds, else 0.0; and (B, B') bool where nothing contradicts it but not all
    of it is known. Both coded +1, -1, 0 unknown.
    """
    said = jnp.abs(description).sum(axis=-1, keepdims=True)
    agreeing = description @ attributes.T
    told = jnp.abs(description) @ jnp.abs(attributes).T
    return (agreeing == said).astype(jnp.float32), (agreeing == told) & (told < said)
