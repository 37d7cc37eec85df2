"""Embedding a gallery and its queries on all devices; scoring is retrieval.py's."""

from collections.abc import Callable, Iterable

import numpy as np

from jsreid_jax import parallel
from jsreid_jax.models.joint_embedder import JointEmbedder, unit_length
from jsreid_jax.types import Array, PyTree


def embed_rows(
    embed: Callable[[PyTree, Array], Array],
    variables: PyTree,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    field: str,
) -> np.ndarray:
    """Embeddings of all real rows, in order.

    Args:
        embed: from `parallel.parallel_apply`.
        variables: replicated.
        batches: {field: (N, B / N, ...), "mask": (N, B / N)} per device; False marks padding.
        field: which leaf is embedded.

    Returns:
        (rows, D) float32.
    """
    rows = []
    for batch in batches:
        embeddings = np.asarray(embed(variables, parallel.split_over_devices(batch[field])))
        rows.append(embeddings[batch["mask"]])
    return np.concatenate(rows)


class Embedders:
    """The two compiled embedding functions of a model, reused by every evaluation of a run.

    images(variables, (N, B / N, H, W, 3)) and attributes(variables, (N, B / N, A)), both to
    (N, B / N, D).

    mirror: embed an image as the mean of its own and its mirror image's embedding, of unit length
        (usual in person re-identification): a description does not tell left from right.
    """

    def __init__(self, model: JointEmbedder, *, mirror: bool):
        def one_view(variables: PyTree, image: Array) -> Array:
            return model.apply(variables, image, method="embed_images")  # pyright: ignore

        def images(variables: PyTree, image: Array) -> Array:
            if not mirror:
                return one_view(variables, image)
            mirrored = one_view(variables, image[:, :, ::-1])
            return unit_length(one_view(variables, image) + mirrored)

        def attributes(variables: PyTree, description: Array) -> Array:
            return model.apply(variables, description, method="embed_attributes")  # pyright: ignore

        self.images = parallel.parallel_apply(images)
        self.attributes = parallel.parallel_apply(attributes)


def cosine_scores(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(Q, G) cosines of unit vectors (Q, D) and (G, D)."""
    return queries @ gallery.T
