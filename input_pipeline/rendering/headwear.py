"""Hair and hats: scalp cap, long hair that falls over shoulders and back, four kinds of hat."""

from typing import NamedTuple

import numpy as np

from input_pipeline.rendering import body, materials
from input_pipeline.rendering.body import BODY, bone, load_assets
from input_pipeline.rendering.looks import Look
from input_pipeline.rendering.wardrobe import (
    Piece,
    Shaped,
    cut_piece,
    grid_quads,
    inflate,
    ramp,
    rigid,
)

HAIRLINE_Z = (-1.0, -0.2, 0.2, 0.6, 0.95, 1.3)
HAIRLINE_Y = (6.55, 6.62, 7.05, 7.5, 7.85, 7.95)
THICKNESS = {"buzz": 0.05, "crop": 0.14, "volume": 0.26, "afro": 0.5, "bald": 0.06}


class Head(NamedTuple):
    """Centre and half axes of the skull in this person's rest pose, and its top."""

    centre: np.ndarray  # (3,) at ear height
    half_x: float
    half_z: float
    top: float
    scale: float


def measure_head(shaped: Shaped) -> Head:
    """Fit the skull's ellipsoid to the shaped body."""
    canonical = load_assets().vertices
    skull = body.group_vertices(BODY) & (canonical[:, 1] > 7.55) & (canonical[:, 1] < 8.1)
    points = shaped.vertices[skull]
    low, high = points.min(0), points.max(0)
    ear = body.group_vertices(BODY) & (canonical[:, 1] > 7.2) & (canonical[:, 1] < 7.4)
    top = float(shaped.vertices[body.group_vertices(BODY), 1].max())
    ear_height = float(shaped.vertices[ear, 1].mean())
    centre = np.array([0, ear_height, (low[2] + high[2]) / 2])
    half_x, half_z = (high[0] - low[0]) / 2, (high[2] - low[2]) / 2
    return Head(centre, float(half_x), float(half_z), top, (top - ear_height) / 1.2)


def hair_pieces(look: Look, shaped: Shaped, upper: Piece) -> list[Piece]:
    """Scalp hair, and the long hair where the person has it."""
    canonical = load_assets().vertices
    x, y, z = canonical.T
    line = np.interp(z, HAIRLINE_Z, HAIRLINE_Y)
    if look.hair_style == "bald":
        line = np.maximum(line, np.where(y > 7.6, 99, line))
    elif not look.female and look.age >= 3:
        line = line + 0.1 * (z > 0.6)
    keep = y - line
    ear = (np.abs(x) > 0.78) & (y < 7.65) & (z > -0.25)
    keep = np.where(ear | (y < 6.3), -0.3, keep)
    thick = THICKNESS.get(look.hair_style, 0.16)
    if look.hat:
        thick = min(thick, 0.1)
    amount = thick * ramp(keep, -0.05, 0.45) * (1 + 0.35 * ramp(y, 7.7, 8.4))
    vertices = inflate(shaped.vertices, BODY, amount, rounds=2)
    pieces = [cut_piece(materials.HAIR, BODY, vertices, keep)]
    if look.long_hair or look.hair_style == "bob":
        pieces.append(hanging_hair(look, shaped, upper))
    return pieces


def hanging_hair(look: Look, shaped: Shaped, upper: Piece) -> Piece:
    """A curtain from temple to temple around the back: past the shoulders, or a bob to the jaw."""
    head = measure_head(shaped)
    columns, rows_skull, rows_fall = 29, 8, 14
    reach = np.radians(128)
    around = np.linspace(-reach, reach, columns)[None]
    thick = (0.1 if look.hat else 0.2) * head.scale
    polar = np.linspace(np.radians(12), np.pi / 2, rows_skull)[:, None]
    direction = np.stack([np.sin(around), 0 * around, -np.cos(around)], -1)
    half = np.array([head.half_x + thick, 0, head.half_z + thick])
    skull = head.centre + np.sin(polar)[..., None] * direction * half
    skull[..., 1] += np.cos(polar) * (head.top - head.centre[1] + thick)
    length = (3.5 + 0.7 * look.bag_variant if look.long_hair else 1.05) * head.scale
    fall = np.linspace(0, 1, rows_fall + 1)[1:, None]
    spread = {"wide": 0.35, "wavy": 0.2}.get(look.hair_style, 0.1)
    shape = (
        1.03
        - 0.1 * look.long_hair * np.sin(np.pi * np.minimum(fall * 2.2, 1))
        + spread * ramp(fall, 0.15, 0.9)
    )
    if look.hair_style == "wavy":
        shape = shape + 0.035 * np.sin(fall * 22 + around * 3)
    hanging = head.centre + shape[..., None] * direction * half
    hanging[..., 1] = head.centre[1] - fall * length * (1 - 0.12 * np.abs(around / reach) ** 3)
    if look.long_hair:
        rest_on_torso(hanging, np.abs(around) > np.radians(98), upper, 0.12)
    vertices = np.concatenate([skull, hanging]).reshape(-1, 3)
    neck = shaped.joints[bone("neck_01")][1]
    on_head = ramp(vertices[:, 1], neck - 0.5, neck + 0.9)
    rows = rows_skull + rows_fall
    pattern = np.zeros((rows, columns, 3))
    pattern[..., 0] = around * 1.2
    pattern[..., 1] = np.linspace(8, 4, rows)[:, None]
    return rigid(
        materials.HAIR,
        vertices,
        grid_quads(rows, columns),
        (bone("head"), bone("spine_03"), on_head),
        canonical=pattern.reshape(-1, 3),
    )


def rest_on_torso(hanging: np.ndarray, in_front: np.ndarray, upper: Piece, gap: float) -> None:
    """Move hanging hair (R, C, 3), in place, before the chest or behind the back."""
    torso = upper.vertices[upper.canonical[:, 1] > 2.5]
    flat = hanging.reshape(-1, 3)
    front = np.broadcast_to(in_front, hanging.shape[:2]).ravel()
    near = (np.abs(torso[None, :, 0] - flat[:, None, 0]) < 0.45) & (
        np.abs(torso[None, :, 1] - flat[:, None, 1]) < 0.45
    )
    highest = np.where(near, torso[None, :, 2], -np.inf).max(1)
    lowest = np.where(near, torso[None, :, 2], np.inf).min(1)
    flat[:, 2] = np.where(
        front, np.maximum(flat[:, 2], highest + gap), np.minimum(flat[:, 2], lowest - gap)
    )
    hanging[...] = flat.reshape(hanging.shape)


def surface(head: Head, profile, *, start: float = 0.0, turn: float = 2 * np.pi, columns: int = 25):
    """A surface of revolution around the skull: profile rows of (radius share, height)."""
    radius, height = np.array(profile).T
    around = start + np.linspace(-turn / 2, turn / 2, columns)
    unit = np.stack([np.sin(around), 0 * around, np.cos(around)], 1)
    vertices = head.centre + radius[:, None, None] * unit * (head.half_x, 0, head.half_z)
    vertices[..., 1] = height[:, None]
    return vertices.reshape(-1, 3), grid_quads(len(radius), columns)


def hat_pieces(look: Look, shaped: Shaped) -> list[Piece]:
    """Cap with a visor, beanie, sun hat with a wide brim, or bucket hat."""
    if not look.hat:
        return []
    head = measure_head(shaped)
    s = head.scale
    lift = {"cap": 0.42, "beanie": 0.22, "brim": 0.45, "bucket": 0.3}[look.hat] * s
    base = head.centre[1] + lift
    top = head.top + {"cap": 0.2, "beanie": 0.38, "brim": 0.3, "bucket": 0.25}[look.hat] * s
    pad = 1.17 if look.long_hair else 1.13
    angle = np.linspace(0, np.pi / 2, 9)
    bluntness = {"cap": 0.75, "beanie": 0.8, "brim": 0.5, "bucket": 0.4}[look.hat]
    dome = np.stack([pad * np.cos(angle) ** bluntness, base + (top - base) * np.sin(angle)], 1)
    shapes = [surface(head, dome)]
    if look.hat == "cap":
        visor = [(pad * 0.98, base + 0.1 * s), (1.45, base + 0.06 * s), (1.85, base - 0.08 * s)]
        vertices, quads = surface(head, visor, turn=np.radians(116), columns=13)
        shapes.append((vertices, quads))
    elif look.hat == "beanie":
        shapes.append(surface(head, [(pad + 0.07, base - 0.05), (pad + 0.07, base + 0.42 * s)]))
    else:
        wide, drop = (1.95, 0.1) if look.hat == "brim" else (1.5, 0.38)
        brim = [(pad, base + 0.08 * s), ((pad + wide) / 2, base), (wide, base - drop * s)]
        shapes.append(surface(head, brim))
    return [
        rigid(materials.HAT, vertices, quads, bone("head"), canonical=(vertices - head.centre) / s)
        for vertices, quads in shapes
    ]
