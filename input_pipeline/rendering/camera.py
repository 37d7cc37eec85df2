"""Six surveillance cameras: viewpoint, light, and what lens, sensor and JPEG do to the picture."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

CAMERA_COUNT = 6
FRAME = 19.4  # decimetres that the height of a crop shows at the person, before jitter
STANDING_ROW = 0.945  # share of the crop's height at which the person stands, before jitter


class Camera(NamedTuple):
    """One camera; lengths in decimetres, angles in radians, blur for crops 256 pixels high."""

    camera_id: int
    pitch: float
    distance: float
    light: tuple[float, float, float]
    ambient: float
    gains: tuple[float, float, float]
    exposure: float
    blur: float
    noise: float
    quality: int
    family: int  # background family


def stream(*numbers: int) -> np.random.Generator:
    """A random generator that is a pure function of whole numbers >= 0."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


@lru_cache(maxsize=64)
def draw_camera(seed: int, camera_id: int) -> Camera:
    """Camera `camera_id` (1..6) of a seed."""
    rng = stream(seed, camera_id, 7201)
    families = stream(seed, 7202).permutation(CAMERA_COUNT)
    pitches = stream(seed, 7203).permutation(CAMERA_COUNT)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.5, 1.0), rng.uniform(0.35, 0.9)])
    light /= np.linalg.norm(light)
    warmth, tinge = rng.uniform(-0.09, 0.09), rng.uniform(-0.03, 0.03)
    place = (camera_id - 1) % CAMERA_COUNT
    return Camera(
        camera_id=camera_id,
        pitch=float(np.radians(4 + 3.2 * pitches[place] + rng.uniform(-1, 1))),
        distance=float(rng.uniform(70, 110)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        ambient=float(rng.uniform(0.54, 0.72)),
        gains=(1 + warmth, 1 + tinge, 1 - warmth),
        exposure=float(rng.uniform(0.86, 1.14)),
        blur=float(rng.uniform(0.35, 0.95)),
        noise=float(rng.uniform(0.005, 0.014)),
        quality=int(rng.integers(72, 93)),
        family=int(families[place]),
    )


@lru_cache(maxsize=1)
def sensor_noise() -> np.ndarray:
    """Gaussian noise (768, 640, 3) float32 of unit variance, slightly smeared as by a codec."""
    noise = stream(7204).standard_normal((768, 640, 3), dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.6)
    return noise / noise.std()


def develop(image: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Linear picture (H, W, 3) float32 about 0..1 -> uint8 as this camera delivers it."""
    height, width = image.shape[:2]
    sigma = camera.blur * float(rng.uniform(0.8, 1.3)) * height / 256
    if sigma > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    exposure = camera.exposure * float(rng.uniform(0.85, 1.12))
    gains = np.array(camera.gains, np.float32) * np.float32(exposure)
    noise = sensor_noise()
    top = int(rng.integers(noise.shape[0] - height)) if height < noise.shape[0] else 0
    left = int(rng.integers(noise.shape[1] - width)) if width < noise.shape[1] else 0
    grain = noise[top : top + height, left : left + width]
    if grain.shape != image.shape:
        grain = cv2.resize(noise, (width, height))
    strength = np.float32(camera.noise * float(rng.uniform(0.6, 1.4)) * 255)
    developed = image * (gains * 255) + grain * strength + np.float32(0.012 * 255)
    return np.clip(developed, 0, 255).astype(np.uint8)


def encode_jpeg(crop: np.ndarray, quality: int) -> bytes:
    """JPEG bytes of a crop (H, W, 3) uint8 RGB."""
    done, data = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("OpenCV could not encode the crop as JPEG")
    return data.tobytes()
