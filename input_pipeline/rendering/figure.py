"""Puts a person's pieces together into one mesh."""

from typing import NamedTuple

import numpy as np

from input_pipeline.rendering import headwear, materials, wardrobe
from input_pipeline.rendering.looks import Look


class Figure(NamedTuple):
    """All pieces of a person in one mesh, feet on y = 0."""

    vertices: np.ndarray
    canonical: np.ndarray
    keep: np.ndarray
    bone_index: np.ndarray
    bone_weight: np.ndarray
    triangles: np.ndarray
    label: np.ndarray  # (T,) int32
    joints: np.ndarray  # (53, 3)
    feet: tuple[np.ndarray, np.ndarray]  # vertex indices of the left and the right shoe
    materials: np.ndarray
    look: Look


def build_figure(look: Look) -> Figure:
    """The whole person in the rest pose."""
    shaped = wardrobe.shape(look)
    upper = wardrobe.upper_piece(look, shaped)
    lower = (
        wardrobe.skirt_piece(look, shaped) if look.dress else wardrobe.trousers_piece(look, shaped)
    )
    pieces = [
        *wardrobe.skin_pieces(look, shaped),
        lower,
        upper,
        *wardrobe.hood_pieces(look, shaped),
        *wardrobe.shoe_pieces(look, shaped),
        *headwear.hair_pieces(look, shaped, upper),
        *headwear.hat_pieces(look, shaped),
        *wardrobe.bag_pieces(look, shaped, upper),
    ]
    pieces = [piece for piece in pieces if len(piece.triangles)]
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    triangles = [p.triangles + start for p, start in zip(pieces, starts, strict=False)]
    vertices = np.concatenate([p.vertices for p in pieces])
    shoe = np.repeat([p.label == materials.SHOE for p in pieces], [len(p.vertices) for p in pieces])
    return Figure(
        vertices=vertices,
        canonical=np.concatenate([p.canonical for p in pieces]),
        keep=np.concatenate([p.keep for p in pieces]),
        bone_index=np.concatenate([p.bone_index for p in pieces]),
        bone_weight=np.concatenate([p.bone_weight for p in pieces]),
        triangles=np.concatenate(triangles).astype(np.int32),
        label=np.repeat([p.label for p in pieces], [len(t) for t in triangles]).astype(np.int32),
        joints=shaped.joints,
        feet=(
            np.flatnonzero(shoe & (vertices[:, 0] > 0)),
            np.flatnonzero(shoe & (vertices[:, 0] < 0)),
        ),
        materials=materials.material_table(look),
        look=look,
    )
