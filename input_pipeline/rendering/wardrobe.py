"""Builds a person's rest-pose geometry: visible skin, garments, shoes, hair, hat and bags.

Garments come from the body's tights and skirt helpers, smoothed and pushed outward. Hems,
sleeve ends, necklines and hairlines are a per-vertex number `keep`, interpolated in the
rasteriser: a pixel where it is negative is not drawn. So edges are smooth, and the skin beneath a
garment is cut with the same numbers and cannot poke through.
"""

from typing import NamedTuple

import numpy as np

from input_pipeline.rendering import body, materials
from input_pipeline.rendering.body import BODY, SKIRT, TIGHTS, bone, bone_share, load_assets
from input_pipeline.rendering.looks import Look

SHOULDER, ELBOW, WRIST = ((1.68, 5.25, 0.15), (3.13, 3.49, 0.13), (4.31, 2.45, 1.76))
HELD = 53  # the pseudo bone of a bag held in the hand; its motion is found after posing
COLLAR_HEIGHT, COLLAR_SLOPE, COLLAR_RADIUS = 5.72, 0.55, 0.84


class Piece(NamedTuple):
    """Geometry of one label: N vertices, T triangles."""

    label: int
    vertices: np.ndarray  # (N, 3) float32, rest pose of this person
    canonical: np.ndarray  # (N, 3) float32, pattern coordinates
    keep: np.ndarray  # (N,) float32
    bone_index: np.ndarray  # (N, 4) int32
    bone_weight: np.ndarray  # (N, 4) float32
    triangles: np.ndarray  # (T, 3) int32


def ramp(values, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high` (or the reverse if low > high), smooth between."""
    share = np.clip((np.asarray(values) - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def arm_coordinate(points: np.ndarray) -> np.ndarray:
    """Position (N,) of canonical points along the arm: 0 shoulder, 1 elbow, 2 wrist, beyond."""
    mirrored = np.abs(points) * (1, 0, 0) + points * (0, 1, 1)
    shoulder, elbow, wrist = (np.array(p) for p in (SHOULDER, ELBOW, WRIST))
    upper = (mirrored - shoulder) @ (elbow - shoulder) / np.sum((elbow - shoulder) ** 2)
    lower = (mirrored - elbow) @ (wrist - elbow) / np.sum((wrist - elbow) ** 2)
    return np.where(lower > 0, 1 + lower, np.minimum(upper, 1)).astype(np.float32)


class Shaped(NamedTuple):
    """A shaped body with what every garment needs to know about its vertices."""

    vertices: np.ndarray  # (V, 3)
    joints: np.ndarray  # (53, 3)
    arm: np.ndarray  # (V,) share of arm bones
    leg: np.ndarray  # (V,) share of leg bones
    along_arm: np.ndarray  # (V,) arm coordinate
    scale: float  # this body's decimetres per canonical decimetre


def shape(look: Look) -> Shaped:
    """Body and helpers of a person, scaled to the height, soles on y = 0."""
    vertices, joints = body.shape_body(dict(look.body_weights))
    heights = vertices[body.group_vertices(BODY), 1]
    low, high = heights.min(), heights.max()
    scale = np.float32(look.height / (high - low))
    ground = np.array([0, low, 0], np.float32)
    return Shaped(
        vertices=(vertices - ground) * scale,
        joints=(joints - ground) * scale,
        arm=bone_share(
            "upperarm", "lowerarm", "hand", *("index", "middle", "ring", "pinky", "thumb")
        ),
        leg=bone_share("thigh", "calf", "foot", "ball"),
        along_arm=arm_coordinate(load_assets().vertices),
        scale=float(scale),
    )


def cut_piece(label: int, group: int, vertices, keep, *, canonical=None, weights=None) -> Piece:
    """A piece from a group of the packed mesh; triangles that are cut away entirely are dropped."""
    assets = load_assets()
    triangles = body.group_triangles(group)
    triangles = triangles[(keep > 0)[triangles].any(1)]
    used = np.zeros(len(vertices), bool)
    used[triangles] = True
    index, weight = weights if weights is not None else (assets.bone_index, assets.bone_weight)
    return Piece(
        label,
        vertices[used].astype(np.float32),
        (assets.vertices if canonical is None else canonical)[used].astype(np.float32),
        keep[used].astype(np.float32),
        index[used],
        weight[used],
        (np.cumsum(used) - 1)[triangles].astype(np.int32),
    )


# ---- skin ---------------------------------------------------------------------------------------


def skin_pieces(look: Look, shaped: Shaped) -> list[Piece]:
    """Head and neck, arms below the sleeve, legs below the hem; feet belong to the shoes."""
    canonical = load_assets().vertices
    x, y, z = canonical.T
    neck = y + COLLAR_SLOPE * z - (COLLAR_HEIGHT - 0.4)
    neck = np.where(y < 6.0, np.minimum(neck, 1.15 - np.hypot(x, z - 0.15)), neck)
    keep_head = np.where((shaped.arm > 0.2) | (y < 4.5), -1, neck)
    keep_arm = np.where(shaped.arm > 0.5, shaped.along_arm - (look.sleeve - 0.14), -1)
    keep_leg = np.minimum(look.lower_hem + (0.25 if look.dress else 0.4) - y, y + 7.5)
    keep_leg = np.where((shaped.leg > 0.5) & (shaped.arm < 0.1), keep_leg, -1)
    return [
        cut_piece(label, BODY, shaped.vertices, keep)
        for label, keep in (
            (materials.HEAD_SKIN, keep_head),
            (materials.ARM_SKIN, keep_arm),
            (materials.LEG_SKIN, keep_leg),
        )
    ]


# ---- garments -----------------------------------------------------------------------------------


def inflate(vertices: np.ndarray, group: int, amount, *, rounds: int) -> np.ndarray:
    """A group's vertices smoothed and moved outward along their normals by a number or (V,)."""
    smoothed = body.smooth(vertices, body.group_edges(group), rounds)
    normals = body.vertex_normals(smoothed, body.group_triangles(group))
    return (smoothed + normals * np.reshape(amount, (-1, 1))).astype(np.float32)


def limb_tube(vertices, start, end, *, radius, blend) -> np.ndarray:
    """Push vertices (N, 3) to at least `radius` (N,) from the axis start-end, by `blend` (N,)."""
    axis = (end - start) / np.linalg.norm(end - start)
    foot = start + ((vertices - start) @ axis)[:, None] * axis
    outward = vertices - foot
    distance = np.maximum(np.linalg.norm(outward, axis=1), 1e-3)
    target = np.maximum(distance, radius)
    grown = foot + outward * (target / distance)[:, None]
    return vertices + blend[:, None] * (grown - vertices)


def loosen_torso(vertices: np.ndarray, shaped: Shaped, looseness: float) -> np.ndarray:
    """Let the garment hang from the chest: below it, no narrower than the chest times looseness."""
    canonical = load_assets().vertices
    chest = (shaped.arm < 0.2) & (canonical[:, 1] > 2.9) & (canonical[:, 1] < 4.4)
    chest &= body.group_vertices(TIGHTS)
    centre = shaped.joints[bone("spine_02")][[0, 2]]
    offset = vertices[:, [0, 2]] - centre
    angle, radius = np.arctan2(offset[:, 1], offset[:, 0]), np.hypot(*offset.T)
    bins = ((angle + np.pi) / (2 * np.pi) * 24).astype(int) % 24
    widest = np.full(24, 0.5)
    np.maximum.at(widest, bins[chest], radius[chest])
    widest = (np.roll(widest, 1) + 2 * widest + np.roll(widest, -1)) / 4
    missing = np.maximum(0.97 * widest[bins] - radius, 0) * looseness
    missing = missing * ramp(canonical[:, 1], 4.5, 3.2) * (shaped.arm < 0.5)
    moved = vertices.copy()
    moved[:, [0, 2]] += offset / np.maximum(radius, 1e-3)[:, None] * missing[:, None]
    return moved


def upper_piece(look: Look, shaped: Shaped) -> Piece:
    """The upper garment, from the tights helper."""
    canonical = load_assets().vertices
    x, y, z = canonical.T
    thick = {"tee": 0.1, "shirt": 0.13, "sweater": 0.16, "hoodie": 0.24, "jacket": 0.26}
    amount = thick[look.upper_style] * np.ones(len(y)) + 0.1 * look.looseness
    wide = 0.22 if look.dress else 0.08  # the hem hangs over the skirt's or trousers' waist
    amount = amount + wide * ramp(y, 2.6, 1.0) * (shaped.arm < 0.3)
    vertices = inflate(shaped.vertices, TIGHTS, amount, rounds=5 if look.female else 8)
    vertices = loosen_torso(vertices, shaped, look.looseness)
    for letter, side in (("l", 1), ("r", -1)):
        on_side = (shaped.arm > 0.3) & (canonical[:, 0] * side > 0)
        shoulder, elbow, wrist = (
            shaped.joints[bone(f"{name}_{letter}")] for name in ("upperarm", "lowerarm", "hand")
        )
        radius = (0.4 + 0.16 * look.looseness + thick[look.upper_style] * 0.5) * shaped.scale
        for part, (start, end) in enumerate(((shoulder, elbow), (elbow, wrist))):
            here = on_side & ((shaped.along_arm > 1) == (part == 1))
            width = radius * (1.12 - 0.14 * shaped.along_arm)
            blend = ramp(shaped.along_arm, 0.25, 0.6)
            vertices[here] = limb_tube(
                vertices[here], start, end, radius=width[here], blend=blend[here]
            )
    neck = COLLAR_HEIGHT + {"tee": -0.12, "shirt": 0.08, "sweater": 0.0}.get(look.upper_style, 0.12)
    from_neck = np.hypot(x, z - 0.15) - COLLAR_RADIUS
    keep = np.clip(np.maximum(neck - (y + COLLAR_SLOPE * z), from_neck), -1, 0.6)
    sleeve = (look.sleeve - shaped.along_arm) * 2.2
    hem = 1.1 if look.dress else look.upper_hem
    keep = np.where(shaped.arm > 0.3, np.minimum(sleeve, 0.6), np.minimum(keep, y - hem))
    return cut_piece(materials.UPPER, TIGHTS, vertices.astype(np.float32), keep)


def hood_pieces(look: Look, shaped: Shaped) -> list[Piece]:
    """The hood of a hoodie, lying on the back of the neck; long hair leaves no room for it."""
    if look.upper_style != "hoodie" or look.long_hair:
        return []
    half = np.array([0.86, 0.42, 0.42]) * shaped.scale
    centre = shaped.joints[bone("neck_01")] + np.array([0, -0.1, -0.62]) * shaped.scale
    vertices, quads, unit = rounded_box(centre, half, power=2.3)
    plain = unit * (0.4, 0.2, 0.1) + np.array([0, 5.3, -1.0])  # back of the collar: no pattern
    return [rigid(materials.UPPER, vertices, quads, bone("spine_03"), canonical=plain)]


def trousers_piece(look: Look, shaped: Shaped) -> Piece:
    """Trousers or shorts, from the tights helper: tubes from the crotch down."""
    canonical = load_assets().vertices
    x, y, _ = canonical.T
    vertices = inflate(shaped.vertices, TIGHTS, 0.1, rounds=6)
    for letter, side in (("l", 1), ("r", -1)):
        hip, knee, ankle = (
            shaped.joints[bone(f"{name}_{letter}")] for name in ("thigh", "calf", "foot")
        )
        for upper_leg, start, end in ((True, hip, knee), (False, knee, ankle)):
            here = (x * side > 0) & (shaped.arm < 0.1) & (y < 0) & ((y > -3.69) == upper_leg)
            thigh = (0.9 - 0.1 * look.female - 0.12 * (look.age < 3)) * shaped.scale
            share = ramp(y, -0.8, -5.5)
            width = thigh + (look.leg_width * shaped.scale - thigh) * share
            blend = ramp(y, -0.3, -1.8)
            vertices[here] = limb_tube(
                vertices[here], start, end, radius=width[here], blend=blend[here]
            )
    keep = np.minimum(y - look.lower_hem, 2.2 - y)
    keep = np.where(shaped.arm > 0.05, -1, keep)
    return cut_piece(materials.LOWER, TIGHTS, vertices.astype(np.float32), keep)


def skirt_piece(look: Look, shaped: Shaped) -> Piece:
    """Skirt, from the skirt helper, hung on the pelvis and, softly, on both thighs."""
    canonical = load_assets().vertices
    x, y, _ = canonical.T
    vertices = inflate(shaped.vertices, SKIRT, 0.04 + 0.1 * ramp(y, 1.2, -0.5), rounds=3)
    narrow = 1 - (0.42 - 0.5 * look.flare) * ramp(y, 0.0, -7.0)
    vertices[:, 0] *= narrow
    vertices[:, 2] *= narrow
    share = 0.75 * ramp(y, 0.6, -3.7)
    left = ramp(x, -0.9, 0.9)
    index = np.zeros((len(x), 4), np.int32)
    index[:, :3] = bone("pelvis"), bone("thigh_l"), bone("thigh_r")
    weight = np.stack([1 - share, share * left, share * (1 - left), np.zeros(len(x))], 1)
    keep = np.minimum(y - look.lower_hem, 2.1 - y)
    return cut_piece(
        materials.LOWER, SKIRT, vertices, keep, weights=(index, weight.astype(np.float32))
    )


# ---- accessories --------------------------------------------------------------------------------


def rigid(label: int, vertices: np.ndarray, quads: np.ndarray, bones, *, canonical=None) -> Piece:
    """A piece on one bone (index) or on two with the first's weights (N,): (first, second, w)."""
    count = len(vertices)
    index, weight = np.zeros((count, 4), np.int32), np.zeros((count, 4), np.float32)
    if isinstance(bones, int):
        index[:, 0], weight[:, 0] = bones, 1
    else:
        index[:, 0], index[:, 1] = bones[0], bones[1]
        weight[:, 0], weight[:, 1] = bones[2], 1 - bones[2]
    return Piece(
        label,
        vertices.astype(np.float32),
        (vertices if canonical is None else canonical).astype(np.float32),
        np.ones(count, np.float32),
        index,
        weight,
        body.triangulate(quads),
    )


def grid_quads(rows: int, columns: int) -> np.ndarray:
    """Quads of a grid of rows x columns vertices, counter-clockwise in (column, row)."""
    start = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    return np.stack([start, start + 1, start + columns + 1, start + columns], 1)


def rounded_box(centre, half, *, power: float = 4.0, rings: int = 8) -> tuple[np.ndarray, ...]:
    """A superellipsoid: vertices (N, 3), quads and unit-box coordinates (N, 3)."""
    up = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)[:, None]
    around = np.linspace(-np.pi, np.pi, 2 * rings + 1)[None]

    def flat(value: np.ndarray) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** (2 / power)

    unit = np.stack(
        [
            flat(np.cos(up)) * flat(np.sin(around)),
            flat(np.sin(up)) * np.ones_like(around),
            flat(np.cos(up)) * flat(np.cos(around)),
        ],
        -1,
    ).reshape(-1, 3)
    return unit * half + centre, grid_quads(rings + 1, 2 * rings + 1), unit


def shoe_pieces(look: Look, shaped: Shaped) -> list[Piece]:
    """Two lofted shoes around the feet, and shafts for boots."""
    canonical = load_assets().vertices
    pieces = []
    for letter, side in (("l", 1), ("r", -1)):
        ankle, ball = (shaped.joints[bone(f"{name}_{letter}")] for name in ("foot", "ball"))
        forward = (ball - ankle) * (1, 0, 1)
        forward /= np.linalg.norm(forward)
        sideways = np.array([forward[2], 0, -forward[0]])
        foot = shaped.vertices[(canonical[:, 1] < -7.5) & (canonical[:, 0] * side > 0)] - ankle
        along, across = foot @ forward, foot @ sideways
        heel, toe = along.min() - 0.08, along.max() + 0.12
        middle, half = (across.max() + across.min()) / 2, (across.max() - across.min()) / 2 + 0.06
        place = np.linspace(0, 1, 13)
        width = half * np.interp(
            place, [0, 0.08, 0.3, 0.7, 0.9, 1], [0.35, 0.72, 0.78, 1, 0.8, 0.3]
        )
        tall = np.interp(place, [0, 0.1, 0.3, 0.5, 0.75, 1], [0.75, 1.0, 1.05, 0.85, 0.6, 0.42])
        low_cut = 0.8 if look.shoe_style == "flat" else 1.0
        tall = tall * shaped.scale * low_cut
        around = np.linspace(0, 2 * np.pi, 15)
        cosine, sine = np.cos(around), np.sin(around)
        across_ring = np.sign(cosine) * np.abs(cosine) ** 0.7
        up_ring = 0.5 + 0.5 * np.sign(sine) * np.abs(sine) ** 0.6
        across_grid = middle + width[:, None] * across_ring * np.where(up_ring > 0.6, 0.8, 1.0)
        up_grid = tall[:, None] * up_ring
        along_grid = (heel + place * (toe - heel))[:, None] + 0 * up_grid
        vertices = (
            ankle * (1, 0, 1)
            + along_grid[..., None] * forward
            + across_grid[..., None] * sideways
            + up_grid[..., None] * np.array([0, 1, 0])
        ).reshape(-1, 3)
        unit = np.stack([across_grid / half, up_grid, along_grid], -1).reshape(-1, 3)
        distance = float((ball - ankle) @ forward)
        on_foot = ramp(along_grid.ravel(), distance + 0.3, distance - 0.3)
        bones = (bone(f"foot_{letter}"), bone(f"ball_{letter}"), on_foot)
        quads = grid_quads(13, 15)
        pieces.append(rigid(materials.SHOE, vertices, quads[:, ::-1], bones, canonical=unit))
    if look.shoe_style == "boot" and (look.short_lower or look.dress):
        y = canonical[:, 1]
        shaft = np.where(shaped.leg > 0.5, np.minimum(-5.6 - y, y + 7.8), -1)
        vertices = inflate(shaped.vertices, BODY, 0.12, rounds=2)
        flat = np.full_like(canonical, 0.5)
        pieces.append(cut_piece(materials.SHOE, BODY, vertices, shaft, canonical=flat))
    return pieces


def bag_pieces(look: Look, shaped: Shaped, upper: Piece) -> list[Piece]:
    """The bag itself; the shader paints the straps of backpack and shoulder bag on the cloth."""
    size = (0.85 + 0.3 * look.bag_variant) * (0.6 + 0.4 * shaped.scale)
    torso = upper.vertices[upper.canonical[:, 1] > -0.8]
    if look.bag == "backpack":
        spine = shaped.joints[bone("spine_03")]
        near = (np.abs(torso[:, 0]) < 1.0) & (np.abs(torso[:, 1] - spine[1]) < 1.6)
        half = np.array([1.2, 1.65 + 0.3 * look.bag_variant, 0.62]) * size
        back = float(np.percentile(torso[near, 2], 4))
        centre = np.array([0, spine[1] + 0.1, back - half[2] + 0.2])
        box = rounded_box(centre, half, power=3.6)
        pocket = rounded_box(centre + half * (0, -0.42, -0.92), half * (0.72, 0.42, 0.42))
        lean = (bone("spine_03"), bone("spine_02"), 0.7)
        return [
            rigid(materials.BACKPACK, part[0], part[1], lean, canonical=part[2])
            for part in (box, pocket)
        ]
    if look.bag == "bag":
        hip = shaped.joints[bone("pelvis")]
        near = (np.abs(torso[:, 1] - hip[1]) < 0.8) & (
            upper.canonical[upper.canonical[:, 1] > -0.8, 1] < 2
        )
        side = float(np.abs(torso[near, 0]).max()) if near.any() else 1.8
        half = np.array([0.42, 0.9 + 0.25 * look.bag_variant, 1.15]) * size
        centre = np.array([look.bag_side * (side + half[0] - 0.12), hip[1] - 0.35, hip[2] - 0.15])
        box, quads, unit = rounded_box(centre, half)
        return [rigid(materials.BAG, box, quads, bone("pelvis"), canonical=unit)]
    if look.bag == "handbag":
        return handbag_pieces(look, size)
    return []


def handbag_pieces(look: Look, size: float) -> list[Piece]:
    """A bag with an arched handle, hanging from the origin of the pseudo bone `HELD`."""
    half = np.array([0.4, 0.72 + 0.35 * (1 - look.bag_variant), 0.95 + 0.2 * look.bag_variant])
    half = half * size
    rise = 0.75 * size
    centre = np.array([0, -rise - half[1] + 0.12, 0])
    box, quads, unit = rounded_box(centre, half, power=5.0)
    turn = np.linspace(0, np.pi, 13)
    tube = np.linspace(0, 2 * np.pi, 7)
    radius = 0.085
    arc = np.stack([0 * turn, rise * np.sin(turn) - rise, 0.62 * half[2] * np.cos(turn)], 1)
    outward = np.stack([0 * turn, np.sin(turn), np.cos(turn)], 1)
    ring = np.cos(tube)[:, None] * np.array([1.0, 0, 0])
    handle = arc[:, None] + radius * (ring[None] + np.sin(tube)[None, :, None] * outward[:, None])
    handle = handle.reshape(-1, 3)
    return [
        rigid(materials.HANDBAG, box, quads, HELD, canonical=unit),
        rigid(materials.HANDBAG, handle, grid_quads(13, 7), HELD, canonical=0 * handle),
    ]
