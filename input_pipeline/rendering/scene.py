"""Street scenes behind the person: textured ground and walls in the camera's perspective, things
that stand about, soft shadows. A few canvases per camera are painted once; an image is a crop."""

import itertools
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from input_pipeline.rendering.camera import FRAME, STANDING_ROW, Camera, draw_camera, stream
from input_pipeline.rendering.rasteriser import FOLDS, GRAIN

SCENES_PER_CAMERA = 3
CANVAS_WIDTH = 4.5  # in crop widths
GROUNDS = ("pavement", "asphalt", "grass", "tiles", "cobble", "pavement")
WALLS = ("glass", "brick", "hedge", "plaster", "shutter", "windows")


class Projection(NamedTuple):
    """Maps the ground and upright planes to a canvas; the person stands at its origin."""

    camera: Camera
    pixels: float  # per decimetre at the person
    column: float
    row: float

    def place(self, x, y, z) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column, row and pixels per decimetre of world points (decimetres)."""
        cosine, sine = np.cos(self.camera.pitch), np.sin(self.camera.pitch)
        up, toward = y * cosine - z * sine, y * sine + z * cosine
        size = self.pixels * self.camera.distance / (self.camera.distance - toward)
        return self.column + x * size, self.row - up * size, size


def noise_map(noise: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Tiling noise looked up at (u, v), 256 units per tile, linear."""
    columns, rows = np.mod(u, 256).astype(np.float32), np.mod(v, 256).astype(np.float32)
    return cv2.remap(noise, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def lines(values: np.ndarray, period: float, width: float) -> np.ndarray:
    """1 on lines of a width every `period`, else 0."""
    return (np.mod(values, period) < width).astype(np.float32)


def paint_ground(kind: str, x: np.ndarray, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour (..., 3) of the ground at world coordinates."""
    rough = noise_map(GRAIN, x * 21, z * 21) - 0.5
    broad = noise_map(FOLDS, x * 1.7 + 31, z * 1.7) - 0.5
    base = np.array(
        {"grass": (0.33, 0.43, 0.2), "asphalt": (0.34, 0.34, 0.36)}.get(kind, ())
        or rng.uniform(0.5, 0.72) * np.array([1.0, rng.uniform(0.93, 1), rng.uniform(0.84, 1)])
    )
    tone = 1 + 0.22 * broad + 0.16 * rough
    size = rng.uniform(4, 7)
    if kind in ("pavement", "tiles"):
        seam = np.maximum(lines(x, size, 0.22), lines(z + 100, size, 0.22))
        checker = np.mod(np.floor(x / size) + np.floor(z / size), 2)
        tone = tone * (1 - 0.25 * seam) * (1 - (0.22 if kind == "tiles" else 0.04) * checker)
    elif kind == "cobble":
        shift = np.floor(z / 1.6) * 0.7
        tone = tone * (1 - 0.3 * np.maximum(lines(x + shift, 1.8, 0.3), lines(z, 1.6, 0.3)))
    elif kind == "grass":
        tone = 1 + 0.5 * broad + 0.6 * (noise_map(GRAIN, x * 40, z * 14) - 0.5)
    elif kind == "asphalt":
        paint = lines(x + rng.uniform(0, 60), 60, 1.4) * (z < 60)
        return base * tone[..., None] + 0.4 * paint[..., None]
    return base * tone[..., None]


def paint_wall(kind: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour (..., 3) of an upright wall at world coordinates, y from the ground up."""
    rough = noise_map(GRAIN, x * 15, y * 15) - 0.5
    broad = noise_map(FOLDS, x * 1.3, y * 1.3 + 70) - 0.5
    hue = rng.uniform(0.45, 0.8) * np.array([1.0, rng.uniform(0.86, 1.0), rng.uniform(0.7, 1.0)])
    tone = 1 + 0.12 * broad + 0.08 * rough
    if kind == "brick":
        base = np.array([0.52, 0.31, 0.24]) * rng.uniform(0.8, 1.25)
        row = np.floor(y / 0.9)
        mortar = np.maximum(lines(x + 1.3 * np.mod(row, 2), 2.6, 0.25), lines(y, 0.9, 0.18))
        brick = noise_map(GRAIN, np.floor((x + 1.3 * np.mod(row, 2)) / 2.6) * 17, row * 29) - 0.5
        colour = base * (tone + 0.5 * brick)[..., None]
        return colour + mortar[..., None] * 0.5 * (0.62 - colour)
    if kind == "hedge":
        leaf = noise_map(GRAIN, x * 22, y * 22) - 0.5
        return np.array([0.17, 0.28, 0.12]) * (1 + 0.9 * leaf + 0.7 * broad)[..., None]
    if kind == "shutter":
        slats = 0.5 + 0.5 * np.sin(y * 2 * np.pi / 1.1)
        return hue * (tone * (0.72 + 0.3 * slats))[..., None]
    if kind in ("glass", "windows"):
        wide, tall = (14.0, 40.0) if kind == "glass" else (16.0, 20.0)
        across, up = np.mod(x, wide) / wide, np.mod(y - 4, tall) / tall
        margin = 0.06 if kind == "glass" else 0.24
        pane = (np.abs(across - 0.5) < 0.5 - margin) & (np.abs(up - 0.5) < 0.5 - margin) & (y > 4)
        mirror = 0.28 + 0.3 * (noise_map(FOLDS, x * 3 + y * 2, y * 2.4) - 0.2)
        reflected = np.stack([mirror * 0.85, mirror * 0.97, mirror * 1.08], -1)
        return np.where(pane[..., None], reflected, hue * tone[..., None])
    band = 1 - 0.35 * (y < 3)
    return hue * (tone * band)[..., None]


def paint_planes(projection: Projection, shape: tuple[int, int], rng: np.random.Generator):
    """Ground, kerb, wall and sky of a canvas (H, W, 3) float32; also the wall's distance."""
    camera = projection.camera
    cosine, sine = np.cos(camera.pitch), np.sin(camera.pitch)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    focal = projection.pixels * camera.distance
    rise = (projection.row - rows) / focal
    wall_z = -float(rng.uniform(28, 75))
    slope = sine - cosine * rise
    depth_ground = np.where(slope > 1e-4, sine * camera.distance / np.maximum(slope, 1e-4), 1e5)
    depth_wall = (cosine * camera.distance - wall_z) / (cosine + sine * rise)
    on_ground = depth_ground < depth_wall
    depth = np.where(on_ground, depth_ground, depth_wall)
    x = (columns - projection.column) / focal * depth + 500
    height = cosine * rise * depth + sine * (camera.distance - depth)
    z = -sine * rise * depth + cosine * (camera.distance - depth)
    ground = paint_ground(GROUNDS[camera.family], x, np.maximum(z, -400), rng)
    kerb = wall_z + rng.uniform(6, 14)
    strip = (z < kerb) & on_ground
    ground = np.where(strip[..., None], 0.85 * paint_ground("pavement", x, z, rng), ground)
    ground = np.where((np.abs(z - kerb) < 0.7)[..., None], 0.62, ground)
    first = WALLS[camera.family]
    wall = paint_wall(first, x, height, rng)
    split = 500 + rng.uniform(-22, 22)
    second = paint_wall(WALLS[rng.integers(len(WALLS))], x + 7, height, rng)
    wall = np.where((x < split)[..., None], wall, second)
    limit = 12 + 10 * rng.random() if first == "hedge" else 60.0
    sky = np.array([0.78, 0.84, 0.9]) - 0.1 * rng.random()
    wall = np.where((height > limit)[..., None], sky, wall)
    contact = 1 - 0.35 * np.exp(-np.maximum(height, 0) / 2.0)
    canvas = np.where(on_ground[..., None], ground, wall * contact[..., None])
    return canvas.astype(np.float32), wall_z


def draw_box(canvas, projection: Projection, corner, size, colour) -> None:
    """Paint an upright box (front, top, one side) whose front lower left corner is `corner`."""
    (x, y, z), (width, height, depth) = corner, size

    def face(points, brightness: float) -> None:
        columns, rows, _ = projection.place(*np.array(points, np.float64).T)
        polygon = np.round(np.stack([columns, rows], 1)).astype(np.int32)
        cv2.fillConvexPoly(canvas, polygon, [float(c) * brightness for c in colour], cv2.LINE_AA)

    back, right, top = z - depth, x + width, y + height
    face([(x, top, z), (right, top, z), (right, top, back), (x, top, back)], 1.2)
    side = right if right < 0 else x
    face([(side, y, z), (side, y, back), (side, top, back), (side, top, z)], 0.65)
    face([(x, y, z), (right, y, z), (right, top, z), (x, top, z)], 0.95)


def draw_bicycle(canvas, projection: Projection, x: float, z: float, colour) -> None:
    """Paint a parked bicycle seen from the side."""

    def at(dx: float, dy: float) -> tuple[int, int]:
        column, row, _ = projection.place(x + dx, dy, z)
        return int(column), int(row)

    _, _, size = projection.place(x, 3.0, z)
    thick = max(1, int(0.3 * size))
    dark = (0.1, 0.1, 0.11)
    for wheel in (0.0, 10.5):
        cv2.circle(canvas, at(wheel, 3.4), int(3.3 * size), dark, thick, cv2.LINE_AA)
    frame = [(0, 3.4), (3.6, 8.0), (9.0, 8.4), (10.5, 3.4), (9.0, 8.4), (5.0, 3.2), (3.6, 8.0)]
    for first, second in itertools.pairwise(frame):
        cv2.line(canvas, at(*first), at(*second), colour, thick, cv2.LINE_AA)
    cv2.line(canvas, at(2.6, 9.2), at(4.6, 9.2), dark, thick + 1, cv2.LINE_AA)
    cv2.line(canvas, at(8.8, 10.0), at(9.0, 8.4), dark, thick, cv2.LINE_AA)


def draw_car(canvas, projection: Projection, x: float, z: float, rng: np.random.Generator) -> None:
    """Paint a parked car seen from the side."""
    paints = (
        (0.75, 0.75, 0.76),
        (0.13, 0.13, 0.15),
        (0.4, 0.41, 0.43),
        (0.36, 0.1, 0.1),
        (0.14, 0.2, 0.34),
    )
    paint = np.array(paints[rng.integers(len(paints))])
    glass, rubber = (0.2, 0.24, 0.28), (0.08, 0.08, 0.08)
    draw_box(canvas, projection, (x - 15, 2.2, z), (42, 6.3, 17), paint)
    draw_box(canvas, projection, (x - 7, 8.5, z - 2), (25, 5.3, 13), paint)
    for start, width in ((-6.0, 10.5), (6.0, 10.5)):
        draw_box(canvas, projection, (x + start, 9.0, z - 1.9), (width, 4.0, 0.1), glass)
    draw_box(canvas, projection, (x - 15.2, 5.6, z + 0.1), (2.0, 1.2, 0.1), (0.9, 0.88, 0.75))
    for wheel in (-7.5, 19.0):
        column, row, size = projection.place(x + wheel, 3.0, z)
        centre = (int(column), int(row))
        cv2.circle(canvas, centre, int(3.1 * size), rubber, -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, int(1.9 * size), (0.5, 0.5, 0.52), -1, cv2.LINE_AA)


def draw_things(canvas, projection: Projection, wall_z: float, rng: np.random.Generator) -> None:
    """Posts, bins, benches, planters, bicycles and parked cars between the wall and the person."""
    places = sorted(float(rng.uniform(wall_z + 3, -9)) for _ in range(int(rng.integers(5, 10))))
    for z in places:
        x, kind = float(rng.uniform(-45, 45)), int(rng.integers(7))
        colour = rng.uniform(0.12, 0.6) * np.array([1, rng.uniform(0.8, 1), rng.uniform(0.7, 1)])
        if kind == 0:
            draw_box(canvas, projection, (x, 0, z), (0.8, 45, 0.8), (0.3, 0.31, 0.33))
        elif kind == 1:
            draw_box(canvas, projection, (x, 0, z), (4, 9, 4), colour)
        elif kind == 2:
            draw_box(canvas, projection, (x, 4, z), (16, 0.6, 4), (0.45, 0.33, 0.2))
            draw_box(canvas, projection, (x, 5.5, z - 4), (16, 3.5, 0.4), (0.45, 0.33, 0.2))
            for leg in (1.0, 14.0):
                draw_box(canvas, projection, (x + leg, 0, z), (0.7, 4, 3), (0.2, 0.2, 0.2))
        elif kind == 3:
            draw_box(canvas, projection, (x, 0, z), (14, 5, 6), (0.5, 0.48, 0.45))
            draw_box(canvas, projection, (x + 1, 5, z - 1), (12, 4, 4), (0.2, 0.33, 0.15))
        elif kind == 4:
            draw_bicycle(canvas, projection, x, z, [float(c) for c in colour * 1.3])
        elif kind == 5 and z < -20:
            draw_car(canvas, projection, x, z, rng)
        else:
            draw_box(canvas, projection, (x, 0, z), (1.2, 9, 1.2), (0.25, 0.25, 0.27))


@lru_cache(maxsize=64)
def scene_canvas(seed: int, camera_id: int, number: int, image_height: int):
    """Canvas (H, W, 3) float32 and its Projection: scene `number` of a camera."""
    camera = draw_camera(seed, camera_id)
    rng = stream(seed, camera_id, number, 7301)
    height, width = int(image_height * 1.3), int(image_height / 2 * CANVAS_WIDTH)
    projection = Projection(
        camera,
        pixels=image_height / FRAME,
        column=width / 2,
        row=image_height * (STANDING_ROW + 0.15),
    )
    canvas, wall_z = paint_planes(projection, (height, width), rng)
    draw_things(canvas, projection, wall_z, rng)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 0.7 * image_height / 256)
    canvas.setflags(write=False)
    return canvas, projection


def crop_scene(
    canvas: np.ndarray,
    projection: Projection,
    *,
    shift: float,
    mirror: bool,
    pixels: float,
    column: float,
    row: float,
    size: tuple[int, int],
) -> np.ndarray:
    """Part of a canvas (H, W, 3) with the person's ground point at (column, row).

    `shift` moves along the canvas in decimetres, `pixels` is the crop's scale per decimetre.
    """
    scale = pixels / projection.pixels
    sign = -1.0 if mirror else 1.0
    centre = projection.column + shift * projection.pixels
    matrix = np.array(
        [
            [scale * sign, 0, column - scale * sign * centre],
            [0, scale, row - scale * projection.row],
        ]
    )
    return cv2.warpAffine(
        canvas, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def cast_shadow(image: np.ndarray, feet: np.ndarray, radius: float, flatness: float) -> None:
    """Darken the ground softly, in place, around image points `feet` (N, 2) (column, row)."""
    height, width = image.shape[:2]
    top = max(0, int(feet[:, 1].min() - 2.5 * radius))
    if top >= height:
        return
    rows, columns = np.mgrid[top:height, :width].astype(np.float32)
    light = np.ones(rows.shape, np.float32)
    for column, row in feet.astype(np.float32):
        far = ((columns - column) / radius) ** 2 + ((rows - row) / (radius * flatness)) ** 2
        light *= 1 - np.float32(0.5) * np.exp(-far)
    image[top:] *= light[..., None]
