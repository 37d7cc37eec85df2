"""One crop of one person by one camera: the renderer's public face.

    crop = render_crop(fields, seed=0, person_id=7, image_index=0, camera_id=3)

The bytes are a pure function of the arguments: whatever is cached between calls (figures, scenes,
passers-by) is itself a pure function of its key. Person: (seed, person_id, fields). Pose, yaw,
framing, occlusion: (seed, person_id, image_index). Viewpoint, light, lens: (seed, camera_id).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.rendering import body, looks, materials, poses, rasteriser, scene, wardrobe
from input_pipeline.rendering.camera import (
    CAMERA_COUNT,
    FRAME,
    STANDING_ROW,
    Camera,
    develop,
    draw_camera,
    encode_jpeg,
    stream,
)
from input_pipeline.rendering.figure import Figure, build_figure
from input_pipeline.rendering.looks import MARKET_FIELDS

__all__ = ["MARKET_FIELDS", "render_crop", "render_jpeg", "render_labels"]

PASSERS_BY = 8
FIRST_PASSER_BY = 1_000_000  # person ids below are real persons
OCCLUDED_SHARE = 0.10
SUPERSAMPLING = 2
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


class Sprite(NamedTuple):
    """A drawn figure: colour times coverage and coverage (H, W, 4), labels (H, W), ground point."""

    colour: np.ndarray
    labels: np.ndarray
    column: float
    row: float
    feet: np.ndarray  # (2, 2) column, row of both feet


def render_crop(
    fields: Mapping[str, int],
    *,
    seed: int,
    person_id: int,
    image_index: int,
    camera_id: int,
    image_height: int = 256,
) -> np.ndarray:
    """The crop (H, H // 2, 3) uint8 RGB; raises DataError on bad fields or numbers."""
    return render_labels(
        fields,
        seed=seed,
        person_id=person_id,
        image_index=image_index,
        camera_id=camera_id,
        image_height=image_height,
    )[0]


def render_jpeg(
    fields: Mapping[str, int],
    *,
    seed: int,
    person_id: int,
    image_index: int,
    camera_id: int,
    image_height: int = 256,
) -> bytes:
    """The crop of `render_crop` as JPEG at the camera's quality."""
    crop = render_crop(
        fields,
        seed=seed,
        person_id=person_id,
        image_index=image_index,
        camera_id=camera_id,
        image_height=image_height,
    )
    return encode_jpeg(crop, draw_camera(seed, camera_id).quality)


def render_labels(
    fields: Mapping[str, int],
    *,
    seed: int,
    person_id: int,
    image_index: int,
    camera_id: int,
    image_height: int = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """The crop and, per pixel, what it shows: (H, H // 2) uint8, an index of `materials.LABELS`."""
    cv2.setNumThreads(1)
    check_numbers(seed, person_id, image_index, camera_id, image_height)
    figure = cached_figure(
        tuple((name, int(fields[name])) for name in sorted(fields)), seed, person_id
    )
    camera = draw_camera(seed, camera_id)
    rng = stream(seed, person_id, image_index, 7101)
    phase = stream(seed, person_id, 7102).uniform(0, 2 * np.pi)
    yaw = phase + image_index * GOLDEN_ANGLE + rng.normal(0, 0.2)
    size = (image_height // 2, image_height)
    frame = FRAME * (0.6 + 0.4 * figure.look.height / 17.2) * rng.uniform(0.97, 1.14)
    pixels = image_height / frame
    column = size[0] * (0.5 + rng.normal(0, 0.08))
    row = image_height * (STANDING_ROW + rng.uniform(-0.06, 0.02))
    sprite = draw_person(
        figure, camera, rng, yaw=yaw, pixels=pixels, place=(column, row), size=size
    )
    image = backdrop(seed, camera, rng, pixels=pixels, sprite=sprite, image_height=image_height)
    labels = np.zeros(image.shape[:2], np.uint8)
    scene.cast_shadow(image, sprite.feet, 1.9 * pixels, 0.25 + 0.8 * np.sin(camera.pitch))
    paste(image, labels, sprite.colour, sprite.labels)
    occlude(image, labels, seed, camera, rng, sprite=sprite, pixels=pixels)
    return develop(image, camera, stream(seed, person_id, image_index, camera_id, 7103)), labels


def check_numbers(
    seed: int, person_id: int, image_index: int, camera_id: int, image_height: int
) -> None:
    """Raise DataError for numbers that no image can have."""
    for name, value in (("seed", seed), ("person_id", person_id), ("image_index", image_index)):
        if value < 0:
            raise DataError(f"{name} is {value}; the renderer needs a whole number >= 0.")
    if not 1 <= camera_id <= CAMERA_COUNT:
        raise DataError(f"camera_id is {camera_id}; the renderer has cameras 1 to {CAMERA_COUNT}.")
    if image_height < 32 or image_height % 2:
        raise DataError(f"image_height is {image_height}; expected an even number from 32 on.")


@lru_cache(maxsize=24)
def cached_figure(fields: tuple[tuple[str, int], ...], seed: int, person_id: int) -> Figure:
    """The figure of a person: built once for all its images."""
    return build_figure(looks.draw_look(dict(fields), seed=seed, person_id=person_id))


def draw_person(
    figure: Figure,
    camera: Camera,
    rng: np.random.Generator,
    *,
    yaw: float,
    pixels: float,
    place: tuple[float, float],
    size: tuple[int, int],
) -> Sprite:
    """Pose a figure and draw it into a buffer of `size` (width, height), kept inside it."""
    posed = pose_figure(figure, rng)
    pixels, column, row = fit_frame(posed, camera, yaw, pixels=pixels, place=place, size=size)
    light = np.array(camera.light) + rng.normal(0, 0.12, 3)
    light /= np.linalg.norm(light)
    view = rasteriser.View(
        yaw=yaw,
        pitch=camera.pitch,
        distance=camera.distance,
        pixels=pixels * SUPERSAMPLING,
        column=column * SUPERSAMPLING,
        row=row * SUPERSAMPLING,
        light=(float(light[0]), float(light[1]), float(light[2])),
        ambient=float(np.clip(camera.ambient + rng.normal(0, 0.04), 0.5, 0.8)),
    )
    colour, labels = rasteriser.draw(
        figure, posed, view, height=size[1] * SUPERSAMPLING, width=size[0] * SUPERSAMPLING
    )
    colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
    feet = np.array([posed[foot].mean(0) for foot in figure.feet])
    return Sprite(
        colour,
        np.ascontiguousarray(labels[::SUPERSAMPLING, ::SUPERSAMPLING]),
        column,
        row,
        ground_points(feet, view) / SUPERSAMPLING,
    )


def fit_frame(
    posed: np.ndarray,
    camera: Camera,
    yaw: float,
    *,
    pixels: float,
    place: tuple[float, float],
    size: tuple[int, int],
) -> tuple[float, float, float]:
    """Scale, column and row near the wanted ones that keep the whole figure inside the frame."""
    straight = rasteriser.View(yaw, camera.pitch, 1, 1, 0, 0, (0, 0, 0), 0)
    seen = posed @ rasteriser.view_rotation(straight).T
    seen = seen[:, :2] / (1 - seen[:, 2:] / camera.distance)
    (left, low), (right, high) = seen.min(0).tolist(), seen.max(0).tolist()
    width, height = size
    pixels = min(pixels, 0.95 * width / (right - left), 0.96 * height / (high - low))
    margin = 0.02 * width
    column = place[0] - pixels * (left + right) / 2
    column = min(max(column, margin - left * pixels), width - margin - right * pixels)
    row = min(max(place[1], margin + high * pixels), height - margin + low * pixels)
    return pixels, column, row


def ground_points(points: np.ndarray, view: rasteriser.View) -> np.ndarray:
    """Image positions (N, 2) of the ground beneath posed points (N, 3)."""
    on_ground = points * (1, 0, 1)
    seen = on_ground @ rasteriser.view_rotation(view).T
    size = view.pixels * view.distance / (view.distance - seen[:, 2])
    return np.stack([view.column + seen[:, 0] * size, view.row - seen[:, 1] * size], 1)


def pose_figure(figure: Figure, rng: np.random.Generator) -> np.ndarray:
    """Posed vertices (N, 3), the lowest sole on y = 0 and the pelvis over the origin."""
    look = figure.look
    limits = poses.Limits(
        stoop=0.75 if look.age == looks.OLD else 0.0,
        stride=(0.75 if look.short_lower else 0.4) if look.dress else 1.0,
        loaded_side=look.bag_side if look.bag == "handbag" else 0,
        on_forearm=look.on_forearm,
        bag_side=look.bag_side if look.bag == "bag" else 0,
    )
    motions = poses.draw_pose(figure.joints, rng, limits)
    motions = np.concatenate([motions, held_motion(figure, motions)])
    posed = body.skin(figure.vertices, figure.bone_index, figure.bone_weight, motions)
    posed[:, 1] -= posed[figure.bone_index[:, 0] < wardrobe.HELD, 1].min()
    pelvis = motions[body.bone("pelvis")]
    centre = pelvis[:, :3] @ figure.joints[body.bone("pelvis")] + pelvis[:, 3]
    posed[:, [0, 2]] -= centre[[0, 2]]
    return posed


def held_motion(figure: Figure, motions: np.ndarray) -> np.ndarray:
    """Motion (1, 3, 4) of a bag that hangs straight down from the hand or the forearm."""
    look = figure.look
    letter = "l" if look.bag_side == 1 else "r"

    def at(name: str) -> np.ndarray:
        index = body.bone(f"{name}_{letter}")
        return motions[index, :, :3] @ figure.joints[index] + motions[index, :, 3]

    grip = 0.45 * at("hand") + 0.55 * at("lowerarm") if look.on_forearm else at("middle_02")
    outward = 0.12 if look.on_forearm else 0.3  # keeps the bag off the leg
    motion = np.eye(4)[None, :3]
    motion[0, :, 3] = grip + np.array([look.bag_side * outward, 0.05, 0])
    return motion.astype(np.float32)


def paste(image: np.ndarray, labels: np.ndarray, colour: np.ndarray, shown: np.ndarray) -> None:
    """Lay a sprite (premultiplied, same size) over the image and its labels, in place."""
    image *= 1 - colour[..., 3:]
    image += colour[..., :3]
    np.copyto(labels, shown, where=shown > 0)


def backdrop(
    seed: int,
    camera: Camera,
    rng: np.random.Generator,
    *,
    pixels: float,
    sprite: Sprite,
    image_height: int,
) -> np.ndarray:
    """The street behind the person (H, W, 3) float32, now and then with people walking there."""
    number = int(rng.integers(scene.SCENES_PER_CAMERA))
    canvas, projection = scene.scene_canvas(seed, camera.camera_id, number, image_height)
    size = (image_height // 2, image_height)
    image = scene.crop_scene(
        canvas,
        projection,
        shift=float(rng.uniform(-1, 1))
        * (scene.CANVAS_WIDTH / 2 - 0.8)
        * size[0]
        / projection.pixels,
        mirror=bool(rng.random() < 0.5),
        pixels=pixels,
        column=sprite.column,
        row=sprite.row,
        size=size,
    )
    ground = scene.Projection(camera, pixels, sprite.column, sprite.row)
    for z in sorted(rng.uniform(-45, -16, int(rng.choice(3, p=[0.6, 0.28, 0.12])))):
        x = float(rng.uniform(4, 8)) * (1 if rng.random() < 0.5 else -1) * (1 - z / 60)
        which, view = int(rng.integers(PASSERS_BY)), int(rng.integers(2))
        column, row, scale = ground.place(x, 0.0, float(z))
        place_passer_by(image, seed, camera, which, view, float(scale), (float(column), float(row)))
    return image


@lru_cache(maxsize=128)
def passer_by(seed: int, camera_id: int, which: int, view: int) -> Sprite:
    """A stranger drawn for one camera at 10 pixels per decimetre, for backgrounds and occlusion."""
    rng = stream(seed, which, 7401)
    fields = dict.fromkeys(MARKET_FIELDS, 1)
    fields["age"] = int(rng.integers(2, 5))
    for name in ("gender", "hair", "up", "down", "clothes"):
        fields[name] = int(rng.integers(1, 3))
    if fields["gender"] == 1:
        fields["clothes"] = 2
    fields[f"up{looks.colours.UPPER_COLOURS[rng.integers(8)]}"] = 2
    fields[f"down{looks.colours.LOWER_COLOURS[rng.integers(9)]}"] = 2
    figure = cached_figure(tuple(sorted(fields.items())), seed, FIRST_PASSER_BY + which)
    drawn = stream(seed, camera_id, which, view, 7402)
    camera = draw_camera(seed, camera_id)
    return draw_person(
        figure,
        camera,
        drawn,
        yaw=float(drawn.uniform(0, 2 * np.pi)),
        pixels=10.0,
        place=(60.0, 190.0),
        size=(120, 200),
    )


def place_passer_by(
    image: np.ndarray,
    seed: int,
    camera: Camera,
    which: int,
    view: int,
    pixels: float,
    place: tuple[float, float],
) -> np.ndarray:
    """Lay a passer-by over the image in place, standing at `place`; returns its coverage (H, W)."""
    sprite = passer_by(seed, camera.camera_id, which, view)
    scale = pixels / 10.0
    matrix = np.array(
        [
            [scale, 0, place[0] - scale * sprite.column],
            [0, scale, place[1] - scale * sprite.row],
        ]
    )
    height, width = image.shape[:2]
    layer = cv2.warpAffine(sprite.colour, matrix, (width, height), flags=cv2.INTER_LINEAR)
    image *= 1 - layer[..., 3:]
    image += layer[..., :3]
    return layer[..., 3]


def occlude(
    image: np.ndarray,
    labels: np.ndarray,
    seed: int,
    camera: Camera,
    rng: np.random.Generator,
    *,
    sprite: Sprite,
    pixels: float,
) -> None:
    """In a tenth of the images, let a passer-by or a low wall cover an edge, in place."""
    chance, side = rng.random(), 1 if rng.random() < 0.5 else -1
    which, view = int(rng.integers(PASSERS_BY)), int(rng.integers(2))
    offset = float(rng.uniform(5.0, 6.2))
    height, width = labels.shape
    if chance < OCCLUDED_SHARE * 0.7:
        ground = scene.Projection(camera, pixels, sprite.column, sprite.row)
        column, row, scale = ground.place(side * offset, 0.0, 7.0)
        place = (float(column), float(row))
        covered = place_passer_by(image, seed, camera, which, view, float(scale), place)
        labels[covered > 0.5] = materials.OCCLUDER
    elif chance < OCCLUDED_SHARE:
        top = int(height * (0.97 - 0.012 * offset))
        tone = np.float32(0.16 + 0.05 * offset) * np.array([1, 0.96, 0.9], np.float32)
        rough = rasteriser.GRAIN[: height - top, :width, None]
        image[top:] = tone * (0.8 + 0.4 * rough)
        image[top : top + max(1, height // 80)] *= 1.25
        labels[top:] = materials.OCCLUDER
