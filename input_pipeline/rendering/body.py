"""The packed human body: shape targets, skeleton and linear blend skinning.

Lengths are decimetres; y is up, z is the way the body faces, x is the body's left. "Canonical"
coordinates are those of the unshaped base mesh: the same point of every body has the same
canonical coordinates, so hems, hairlines and patterns are written in them once.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.rendering.pack_assets import DELTA_STEP, REST_STEP, from_bytes

ASSET_FILE = Path(__file__).parent / "assets" / "body.npz"
BODY, TIGHTS, SKIRT = range(3)


class Assets(NamedTuple):
    """The packed mesh of V vertices, F quads, 53 bones and T shape targets."""

    vertices: np.ndarray  # (V, 3) float32, canonical
    quads: np.ndarray  # (F, 4) int32
    group_of_quad: np.ndarray  # (F,) BODY, TIGHTS or SKIRT
    bones: tuple[str, ...]
    parents: np.ndarray  # (53,) -1 for the root; parents come before children
    bone_index: np.ndarray  # (V, 4)
    bone_weight: np.ndarray  # (V, 4) float32, rows sum to 1
    joints: np.ndarray  # (53, 3) float32, head of each bone
    target_index: dict[str, int]
    target_deltas: np.ndarray  # (T, V, 3) float32
    target_joints: np.ndarray  # (T, 53, 3) float32


@lru_cache(maxsize=1)
def load_assets() -> Assets:
    """Read the packed body; raises DataError if the file is missing."""
    if not ASSET_FILE.exists():
        raise DataError(
            f"{ASSET_FILE} is missing; restore it from the repository or run"
            " `python -m input_pipeline.rendering.pack_assets`."
        )
    with np.load(ASSET_FILE) as packed:
        weight = packed["bone_weight"].astype(np.float32)
        return Assets(
            vertices=from_bytes(packed["vertices"], REST_STEP),
            quads=np.cumsum(packed["quads"].astype(np.int32), axis=0, dtype=np.int32),
            group_of_quad=packed["group_of_quad"],
            bones=tuple(str(name) for name in packed["bones"]),
            parents=packed["parents"].astype(np.int64),
            bone_index=packed["bone_index"].astype(np.int32),
            bone_weight=weight / weight.sum(1, keepdims=True),
            joints=packed["joints"],
            target_index={str(name): i for i, name in enumerate(packed["target_names"])},
            target_deltas=from_bytes(packed["target_deltas"], DELTA_STEP),
            target_joints=packed["target_joints"],
        )


@lru_cache(maxsize=64)
def bone(name: str) -> int:
    """Index of a bone by its name."""
    return load_assets().bones.index(name)


@lru_cache(maxsize=16)
def bone_share(*names: str) -> np.ndarray:
    """Share (V,) of each vertex's weight that lies on the bones whose names start so."""
    assets = load_assets()
    chosen = np.array([b.startswith(names) for b in assets.bones])
    return (chosen[assets.bone_index] * assets.bone_weight).sum(1).astype(np.float32)


def shape_body(weights: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and joints (53, 3) of the base body plus weighted shape targets."""
    assets = load_assets()
    vertices, joints = assets.vertices.copy(), assets.joints.copy()
    for name, weight in weights.items():
        index = assets.target_index[name]
        vertices += np.float32(weight) * assets.target_deltas[index]
        joints += np.float32(weight) * assets.target_joints[index]
    return vertices, joints


def rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """Rotation matrix (3, 3) about an axis, right-handed, angle in radians."""
    length = math.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    x, y, z = axis[0] / length, axis[1] / length, axis[2] / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


@numba.njit(cache=True)
def rotation_between(start, end):
    """The smallest rotation (3, 3) of one direction (3,) into another that is not opposite."""
    a, b = start / np.sqrt((start * start).sum()), end / np.sqrt((end * end).sum())
    x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / max(1 + (a * b).sum(), 1e-6)


def pose_skeleton(
    joints: np.ndarray,
    *,
    turns: Mapping[str, np.ndarray],
    directions: Mapping[str, tuple[str, np.ndarray]],
) -> np.ndarray:
    """Rigid motion (53, 3, 4) of every bone from the rest pose.

    `turns` adds a rotation (in body axes) to a bone and all that hangs on it; `directions` points
    a bone, from its own head to the head of a named child, along a direction in body axes.
    """
    assets = load_assets()
    turn = np.zeros((len(joints), 3, 3))
    turn[:] = np.eye(3)
    target = np.full(len(joints), -1)
    direction = np.zeros((len(joints), 3))
    for name, matrix in turns.items():
        turn[bone(name)] = matrix
    for name, (child, toward) in directions.items():
        target[bone(name)], direction[bone(name)] = bone(child), toward
    rest = joints.astype(np.float64)
    return chain_motions(rest, assets.parents, turn, target, direction).astype(np.float32)


@numba.njit(cache=True)
def chain_motions(joints, parents, turn, target, direction):
    """Motions (N, 3, 4) down the chain: `turn` (N, 3, 3), then pointed where `target` >= 0."""
    motions = np.zeros((joints.shape[0], 3, 4))
    for i in range(joints.shape[0]):
        rotation_here = turn[i].copy()
        head = joints[i].copy()
        if parents[i] >= 0:
            parent = np.ascontiguousarray(motions[parents[i], :, :3])
            rotation_here = turn[i] @ parent
            head = parent @ joints[i] + motions[parents[i], :, 3]
        if target[i] >= 0:
            rest = rotation_here @ (joints[target[i]] - joints[i])
            rotation_here = rotation_between(rest, direction[i]) @ rotation_here
        motions[i, :, :3] = rotation_here
        motions[i, :, 3] = head - rotation_here @ joints[i]
    return motions


@numba.njit(cache=True)
def skin(vertices, bone_index, bone_weight, motions):
    """Linear blend skinning: rest vertices (V, 3) -> posed vertices (V, 3), float32."""
    posed = np.empty_like(vertices)
    for v in range(vertices.shape[0]):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        px = py = pz = np.float32(0)
        for k in range(4):
            w = bone_weight[v, k]
            if w > 0:
                m = motions[bone_index[v, k]]
                px += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
                py += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
                pz += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
        posed[v, 0], posed[v, 1], posed[v, 2] = px, py, pz
    return posed


@numba.njit(cache=True)
def vertex_normals(vertices, triangles):
    """Unit vertex normals (V, 3), area-weighted; zero for vertices without a triangle."""
    normals = np.zeros_like(vertices)
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax = vertices[j, 0] - vertices[i, 0]
        ay = vertices[j, 1] - vertices[i, 1]
        az = vertices[j, 2] - vertices[i, 2]
        bx = vertices[k, 0] - vertices[i, 0]
        by = vertices[k, 1] - vertices[i, 1]
        bz = vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for corner in (i, j, k):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for v in range(vertices.shape[0]):
        length = math.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2)
        if length > 0:
            for c in range(3):
                normals[v, c] /= length
    return normals


@numba.njit(cache=True)
def smooth(values, edges, rounds):
    """Laplacian smoothing of per-vertex values (V, C) along edges (E, 2); unconnected stay."""
    count = np.zeros(values.shape[0], np.float32)
    for e in range(edges.shape[0]):
        count[edges[e, 0]] += 1
        count[edges[e, 1]] += 1
    current = values.copy()
    for _ in range(rounds):
        total = np.zeros_like(current)
        for e in range(edges.shape[0]):
            a, b = edges[e, 0], edges[e, 1]
            for c in range(current.shape[1]):
                total[a, c] += current[b, c]
                total[b, c] += current[a, c]
        for v in range(current.shape[0]):
            if count[v] > 0:
                for c in range(current.shape[1]):
                    current[v, c] = 0.5 * current[v, c] + 0.5 * total[v, c] / count[v]
    return current


def quad_edges(quads: np.ndarray) -> np.ndarray:
    """Distinct edges (E, 2) of quads (F, 4), self-edges of triangles left out."""
    pairs = np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int32)


def triangulate(quads: np.ndarray) -> np.ndarray:
    """Triangles (T, 3) of quads (F, 4); degenerate ones (a repeated corner) left out."""
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (a != c)]


@lru_cache(maxsize=3)
def group_triangles(group: int) -> np.ndarray:
    """Triangles (T, 3) of one group (BODY, TIGHTS, SKIRT) of the packed mesh."""
    assets = load_assets()
    return triangulate(assets.quads[assets.group_of_quad == group])


@lru_cache(maxsize=3)
def group_edges(group: int) -> np.ndarray:
    """Edges (E, 2) of one group of the packed mesh."""
    assets = load_assets()
    return quad_edges(assets.quads[assets.group_of_quad == group])


@lru_cache(maxsize=3)
def group_vertices(group: int) -> np.ndarray:
    """Which vertices (V,) of the packed mesh belong to a group, as booleans."""
    assets = load_assets()
    mask = np.zeros(len(assets.vertices), bool)
    mask[assets.quads[assets.group_of_quad == group]] = True
    return mask
