"""A renderer that costs nothing, for tests that are not about pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from input_pipeline.rendering import render
from input_pipeline.rendering.layout import write_layout


def noise_crop(fields, *, seed, person_id, image_index, camera_id, image_height):
    rng = np.random.default_rng([seed, person_id, image_index, camera_id])
    return rng.integers(0, 256, (image_height, image_height // 2, 3), np.uint8)


def noise_jpeg(fields, **kwargs):
    return cv2.imencode(".jpg", noise_crop(fields, **kwargs))[1].tobytes()


def write_noise_layout(out: Path, **arguments) -> None:
    """A rendered folder with noise for pictures, of height 32, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "render_jpeg", noise_jpeg)
        patch.setattr(render, "render_crop", noise_crop)
        write_layout(out, image_height=32, workers=1, **arguments)
