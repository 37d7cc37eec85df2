"""Z-buffer rasteriser and deferred shader, in numba: a posed figure becomes colour and labels.

The rasteriser writes, per pixel, the nearest triangle and its barycentric weights; the shader then
runs once per visible pixel. No fast-math, so equal inputs give equal bytes on one machine.
"""

import math
from typing import NamedTuple

import cv2
import numba
import numpy as np

from input_pipeline.rendering import looks, materials
from input_pipeline.rendering.body import vertex_normals

TILE = 256  # side of the tiling noise
SUN = 1.28  # brightness of a surface that faces the light


def tiling_noise(seed: int, sizes: tuple[int, ...]) -> np.ndarray:
    """Smooth noise (256, 256) float32 in 0..1 that tiles, a sum of octaves with `sizes` cells."""
    rng = np.random.default_rng(seed)
    total = np.zeros((TILE, TILE), np.float32)
    for octave, size in enumerate(sizes):
        cells = rng.random((size, size), dtype=np.float32)
        tiled = np.tile(cells, (3, 3))
        big = cv2.resize(tiled, (3 * TILE,) * 2, interpolation=cv2.INTER_CUBIC)
        total += big[TILE:-TILE, TILE:-TILE] * 0.6**octave
    total -= total.min()
    return total / total.max()


FOLDS = tiling_noise(11, (8, 16, 32))
GRAIN = tiling_noise(12, (64, 128, 256))
NOISE = np.stack([FOLDS, GRAIN])


class View(NamedTuple):
    """Where the camera stands, and where the light comes from (in camera axes)."""

    yaw: float  # the figure's turn about the vertical, radians
    pitch: float  # how far the camera looks down, radians
    distance: float  # decimetres
    pixels: float  # pixels per decimetre at the figure, in the supersampled buffer
    column: float  # image column of the figure's ground point, supersampled
    row: float  # image row of it
    light: tuple[float, float, float]
    ambient: float


@numba.njit(cache=True)
def project(vertices, normals, view_rotation, scale):
    """Camera coordinates: pixels right, pixels down, decimetres toward the camera; turned normals.

    `scale` holds distance, pixels, column, row.
    """
    distance, pixels, column, row = scale
    seen = np.empty_like(vertices)
    turned = np.empty_like(normals)
    r = view_rotation
    for v in range(vertices.shape[0]):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        cx = r[0, 0] * x + r[0, 1] * y + r[0, 2] * z
        cy = r[1, 0] * x + r[1, 1] * y + r[1, 2] * z
        cz = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z
        size = pixels * distance / (distance - cz)
        seen[v, 0], seen[v, 1], seen[v, 2] = column + cx * size, row - cy * size, cz
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        for c in range(3):
            turned[v, c] = r[c, 0] * x + r[c, 1] * y + r[c, 2] * z
    return seen, turned


@numba.njit(cache=True)
def rasterise(seen, keep, triangles, label, table, height, width):
    """Nearest triangle per pixel: index (H, W; -1 none), two weights (H, W, 2), depth (H, W).

    Back faces are kept only for two-sided materials; pixels whose interpolated `keep` is negative
    are not drawn.
    """
    index = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    depth = np.full((height, width), np.float32(-1e9), np.float32)
    zero, half, one, inner = np.float32(0), np.float32(0.5), np.float32(1), np.float32(0.1)
    tiny = np.float32(1e-5)
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1 = seen[i, 0], seen[i, 1], seen[j, 0], seen[j, 1]
        x2, y2 = seen[k, 0], seen[k, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        material = table[label[t]]
        if area > -tiny and (area < tiny or material[materials.TWO_SIDED] == 0):
            continue
        left = max(0, int(min(x0, x1, x2)))
        right = min(width - 1, int(max(x0, x1, x2)) + 1)
        top = max(0, int(min(y0, y1, y2)))
        bottom = min(height - 1, int(max(y0, y1, y2)) + 1)
        inverse = one / area
        z0, k0 = seen[i, 2], keep[i]
        z1, z2 = seen[j, 2] - z0, seen[k, 2] - z0
        k1, k2 = keep[j] - k0, keep[k] - k0
        whole = keep[i] >= 0 and keep[j] >= 0 and keep[k] >= 0
        z0 += material[materials.BIAS]
        if area > 0:
            z0 -= inner  # the inside of a hem lies behind the skin it surrounds
        right1, down1 = (y2 - y0) * inverse, (x0 - x2) * inverse
        right2, down2 = (y0 - y1) * inverse, (x1 - x0) * inverse
        from_x, from_y = np.float32(left) + half - x0, np.float32(top) + half - y0
        row1 = from_x * right1 + from_y * down1
        row2 = from_x * right2 + from_y * down2
        for y in range(top, bottom + 1):
            w1, w2 = row1, row2
            for x in range(left, right + 1):
                if w1 >= zero and w2 >= zero and w1 + w2 <= one:
                    z = z0 + w1 * z1 + w2 * z2
                    if z > depth[y, x] and (whole or k0 + w1 * k1 + w2 * k2 >= zero):
                        depth[y, x] = z
                        index[y, x] = t
                        weights[y, x, 0], weights[y, x, 1] = w1, w2
                w1 += right1
                w2 += right2
            row1 += down1
            row2 += down2
    return index, weights, depth


@numba.njit(cache=True)
def noise_at(noise, u, v):
    """Tiling noise at (u, v), one unit per cell of the 256-cell tile."""
    return noise[math.floor(v) & 255, math.floor(u) & 255]


@numba.njit(cache=True)
def strap_here(kind, side, x, y, z, arm):
    """Whether a strap of the bag crosses this canonical point of the clothing."""
    if arm:
        return False
    if kind == 1:  # two backpack straps: over the shoulders, down the front to below the armpit
        middle = 1.12 + 0.08 * (5.2 - y)
        front = z > 0.25 - 0.5 * max(y - 4.9, 0.0)
        return front and y > 3.0 and abs(abs(x) - middle) < 0.24
    if kind == 2:  # a diagonal from the shoulder opposite the bag to the hip with the bag
        down = (5.3 - y) / 5.0
        centre = side * (-0.95 + 2.65 * down)
        return y > -0.1 and abs(x - centre) < 0.24
    return False


@numba.njit(cache=True)
def cloth_colour(m, x, y, z, upper, noise, out):
    """Writes the colour of cloth at a canonical point into out (3,); returns the light's bump."""
    pattern, scale = int(m[materials.PATTERN]), m[materials.SCALE]
    arm = upper and abs(x) > 1.95 + max(0.0, 4.0 - y) * 0.25
    along = x * 0.62 + y * 0.78 if (arm and x < 0) else (-x * 0.62 + y * 0.78 if arm else y)
    around = z if arm else x + z
    if not arm and (pattern == looks.PINSTRIPES or pattern == looks.CHECKS):
        leg = not upper and y < -0.5 and m[materials.EXTRA] > 0
        middle = math.copysign(1.5, x) if leg else 0.0
        around = math.atan2(x - middle, z - 0.1) * (0.8 if leg else 1.35)
    share = np.float32(0)
    if pattern == looks.STRIPES and (arm or y < 5.05):  # on flat shoulders a stripe is a patch
        share = 1.0 if (along / scale * 1.1) % 1.0 < 0.3 else 0.0
    elif pattern == looks.PINSTRIPES:
        share = 0.55 if (around / scale * 2.2) % 1.0 < 0.28 else 0.0
    elif pattern == looks.CHECKS:
        first = 1.0 if (along / scale * 1.0) % 1.0 < 0.32 else 0.0
        second = 1.0 if ((around + 20) / scale * 1.0) % 1.0 < 0.32 else 0.0
        share = 0.4 * (first + second)
    elif pattern == looks.PRINT and upper:
        if z > 0 and abs(x) < 0.85 * scale and abs(y - 3.75) < 0.55 * scale:
            share = 1.0 if noise_at(noise[0], x * 37 + 40, y * 31) > 0.42 else 0.15
    elif pattern == looks.MULTI:
        share = 1.0 if noise_at(noise[0], around * 34 + 80, along * 34) > 0.5 else 0.0
    elif pattern == looks.SIDE_STRIPE:
        share = 0.9 if abs(z - 0.1) < 0.16 and not upper else 0.0
    elif pattern == looks.BUTTONS and z > 0 and abs(x) < 0.09:
        share = 0.75 if (y * 1.7) % 1.0 < 0.3 else 0.25
    elif pattern == looks.ZIP and z > 0 and abs(x) < 0.06:
        share = 0.8
    elif pattern == looks.OPEN and z > 0 and abs(x) < 0.16 + 0.05 * (y + 1):
        share = 1.0
    if m[materials.COLLAR] > 0 and not arm and y + 0.55 * z > 5.5:
        share = max(share, np.float32(0.25))
    grain = noise_at(noise[1], around * 90, y * 70)
    weave = 1.0
    if pattern == looks.DENIM:
        weave = 0.82 + 0.36 * grain
        if abs(abs(x) - 1.55) < 0.05 and abs(z) < 0.2:
            weave *= 0.75
    for c in range(3):
        base = m[materials.COLOUR + c]
        out[c] = (base + share * (m[materials.SECOND + c] - base)) * weave
    fold = noise_at(noise[0], around * 15 + along * 6, along * 17) - 0.5
    return 1 + m[materials.ROUGHNESS] * (0.30 * fold + 0.08 * (grain - 0.5))


@numba.njit(cache=True)
def face_colour(m, x, y, z, out):
    """Writes the skin of the head at a canonical point into out: eyes, brows, lips, beard."""
    ax = abs(x)
    red, green, blue = m[materials.COLOUR], m[materials.COLOUR + 1], m[materials.COLOUR + 2]
    shade, hair = 1.0, 0.0
    female = m[materials.SIDE] > 0
    if z > 0.8:
        ex, ey = (ax - 0.32) / 0.19, (y - 7.28) / 0.075
        if ex * ex + ey * ey < 1:
            shade = 0.28 if abs(ax - 0.32) < 0.08 else 1.05
        elif ex * ex / 1.9 + ey * ey / 5 < 1:
            shade = 0.72
        brow = y - (7.5 - 0.25 * (ax - 0.3) * (ax - 0.3))
        if 0.12 < ax < 0.55 and abs(brow) < (0.035 if female else 0.055):
            hair = 0.75
        if ax < 0.27 and abs(y - 6.62) < 0.075:
            red, green, blue = red * 0.9, green * (0.6 if female else 0.72), blue * 0.62
        if ax < 0.14 and abs(y - 6.84) < 0.03:
            shade = 0.75
    beard = m[materials.EXTRA]
    if beard > 0 and z > 0.15 and y > 5.9:
        jaw = y < 6.55 + 0.28 * min(ax, 0.9) and y > 6.05
        moustache = ax < 0.34 and 6.70 < y < 6.82 and z > 1.0
        if (jaw or moustache) and not (ax < 0.27 and abs(y - 6.62) < 0.075):
            hair = min(0.9, beard)
    out[0] = (red + hair * (m[materials.THIRD] - red)) * shade
    out[1] = (green + hair * (m[materials.THIRD + 1] - green)) * shade
    out[2] = (blue + hair * (m[materials.THIRD + 2] - blue)) * shade


@numba.njit(cache=True)
def surface_colour(label, m, x, y, z, noise, out):
    """Writes the unlit colour into out (3,); returns (label of the pixel, light bump)."""
    bump = np.float32(1)
    for c in range(3):
        out[c] = m[materials.COLOUR + c]
    if label == materials.UPPER or label == materials.LOWER:
        upper = label == materials.UPPER
        bump = np.float32(cloth_colour(m, x, y, z, upper, noise, out))
        strap = int(m[materials.STRAP])
        arm = upper and abs(x) > 1.75 + max(0.0, 4.4 - y) * 0.3
        if strap > 0 and strap_here(strap, m[materials.SIDE], x, y, z, arm):
            for c in range(3):
                out[c] = m[materials.STRAP_COLOUR + c]
            label = materials.BACKPACK if strap == 1 else materials.BAG
            bump = np.float32(1)
    elif label == materials.HEAD_SKIN:
        face_colour(m, x, y, z, out)
    elif label == materials.LEG_SKIN:
        if y < m[materials.EXTRA]:
            label = materials.SOCK
            for c in range(3):
                out[c] = m[materials.SECOND + c]
    elif label == materials.HAIR:
        bump = np.float32(0.72 + 0.5 * noise_at(noise[1], (x + 0.35 * z) * 42, y * 4 + z * 4))
    elif label == materials.SHOE:
        if y < 0.12:
            for c in range(3):
                out[c] = m[materials.SECOND + c]
        elif m[materials.EXTRA] > 0 and abs(x) < 0.3 and y > 0.55 and z > 0:
            for c in range(3):
                out[c] = 0.5 * out[c] + 0.4
    elif label == materials.HAT:
        bump = np.float32(0.9 + 0.2 * noise_at(noise[1], x * 60, y * 60))
    elif label >= materials.BACKPACK and label <= materials.HANDBAG:
        edge = max(abs(x), abs(y))
        if 0.78 < edge < 0.9 or (abs(y - 0.35) < 0.07 and abs(x) < 0.95):
            for c in range(3):
                out[c] = m[materials.SECOND + c]
    return label, bump


@numba.njit(cache=True)
def shade_pixels(
    index, weights, occlusion, triangles, label, canonical, turned, table, noise, light
):
    """Colour with coverage (H, W, 4) float32 and label (H, W) uint8.

    `light` holds the direction to the light in camera axes and the ambient share.
    """
    height, width = index.shape
    colour = np.zeros((height, width, 4), np.float32)
    labels = np.zeros((height, width), np.uint8)
    base = np.zeros(3, np.float32)
    ambient = light[3]
    for row in range(height):
        for column in range(width):
            t = index[row, column]
            if t < 0:
                continue
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            w1, w2 = weights[row, column, 0], weights[row, column, 1]
            w0 = np.float32(1) - w1 - w2
            x = w0 * canonical[i, 0] + w1 * canonical[j, 0] + w2 * canonical[k, 0]
            y = w0 * canonical[i, 1] + w1 * canonical[j, 1] + w2 * canonical[k, 1]
            z = w0 * canonical[i, 2] + w1 * canonical[j, 2] + w2 * canonical[k, 2]
            nx = w0 * turned[i, 0] + w1 * turned[j, 0] + w2 * turned[k, 0]
            ny = w0 * turned[i, 1] + w1 * turned[j, 1] + w2 * turned[k, 1]
            nz = w0 * turned[i, 2] + w1 * turned[j, 2] + w2 * turned[k, 2]
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9)
            inside = nz < -0.25 * length
            if nz < 0:
                length = -length
            toward = (nx * light[0] + ny * light[1] + nz * light[2]) / length
            pixel_label, bump = surface_colour(label[t], table[label[t]], x, y, z, noise, base)
            lit = (1 - ambient) * max(toward * 0.8 + 0.2, 0.0) + ambient * (
                0.82 + 0.18 * ny / length
            )
            lit *= SUN * bump * (1 - occlusion[row, column]) * (0.6 if inside else 1.0)
            for c in range(3):
                colour[row, column, c] = base[c] * lit
            colour[row, column, 3] = 1
            labels[row, column] = pixel_label
    return colour, labels


def ambient_occlusion(index: np.ndarray, depth: np.ndarray, pixels: float) -> np.ndarray:
    """Darkness (H, W) 0..0.4 where the surface lies behind its surroundings."""
    covered = (index >= 0).astype(np.float32)
    size = int(2.6 * pixels) | 1
    filled = np.where(index >= 0, depth, 0).astype(np.float32)
    near = cv2.blur(filled, (size, size)) / np.maximum(cv2.blur(covered, (size, size)), 1e-3)
    return np.clip((near - filled - 0.15) * 0.28, 0, 0.4) * covered


def draw(figure, posed: np.ndarray, view: View, *, height: int, width: int):
    """Posed vertices (N, 3) of a Figure -> colour with coverage (H, W, 4) and labels (H, W)."""
    normals = vertex_normals(posed, figure.triangles)
    seen, turned = project(
        posed,
        normals,
        view_rotation(view),
        np.array([view.distance, view.pixels, view.column, view.row], np.float32),
    )
    index, weights, depth = rasterise(
        seen, figure.keep, figure.triangles, figure.label, figure.materials, height, width
    )
    occlusion = ambient_occlusion(index, depth, view.pixels)
    light = np.array([*view.light, view.ambient], np.float32)
    return shade_pixels(
        index,
        weights,
        occlusion,
        figure.triangles,
        figure.label,
        figure.canonical,
        turned,
        figure.materials,
        NOISE,
        light,
    )


def view_rotation(view: View) -> np.ndarray:
    """Rotation (3, 3) from body axes to camera axes (right, up, toward the camera)."""
    cy, sy = math.cos(view.yaw), math.sin(view.yaw)
    cp, sp = math.cos(view.pitch), math.sin(view.pitch)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return (tilt @ turn).astype(np.float32)
