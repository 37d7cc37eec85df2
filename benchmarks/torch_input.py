"""The PyTorch side of the row `input`: a DataLoader whose workers read with Pillow.

Started by `python -m benchmarks input`, with a folder that training.py has filled: images.npz of
encoded images and config.json. A line on standard input says how many batches to take; the answer
is the seconds of the last of them, after so many that what had been waiting is used up.
Needs benchmarks/requirements.txt.
"""

import io
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Augmented(Dataset):
    """Encoded images: decoded, mirrored, cropped, erased, normalised; what augmentation.py does."""

    def __init__(self, images: list[bytes], config: dict):
        self._images, self._config = images, config
        self._mean = torch.tensor(config["mean"])[:, None, None]
        self._std = torch.tensor(config["std"])[:, None, None]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> torch.Tensor:
        draws = torch.rand(10).tolist()
        image = Image.open(io.BytesIO(self._images[index])).convert("RGB")
        width, height = image.size
        if draws[0] < self._config["flip"]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tall, wide = (1.0 - self._config["crop"] * draw for draw in draws[1:3])
        top, left = (1.0 - tall) * draws[3] * height, (1.0 - wide) * draws[4] * width
        box = (left, top, left + wide * width, top + tall * height)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
        pixels = (pixels - self._mean) / self._std
        if draws[5] < self._config["erase"]:
            area, aspect = 0.02 + 0.18 * draws[6], 0.5 * 4.0 ** draws[7]
            rows = min(round(height * math.sqrt(area * aspect)), height)
            columns = min(round(width * math.sqrt(area / aspect)), width)
            top, left = int(draws[8] * (height - rows)), int(draws[9] * (width - columns))
            pixels[:, top : top + rows, left : left + columns] = 0.0
        return pixels


def endless(loader: DataLoader) -> Iterator[torch.Tensor]:
    """Epoch after epoch."""
    while True:
        yield from loader


def main() -> None:
    """Answer the row's commands."""
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    arrays = np.load(folder / "images.npz")
    images = [arrays[name].tobytes() for name in arrays.files]
    workers = config["threads"]
    batches = endless(
        DataLoader(
            # As many as many epochs: a loader is slow to start one.
            Augmented(images * config["epochs"], config),
            batch_size=config["batch_size"],
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            persistent_workers=True,
        )
    )
    next(batches)
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(2 * workers + 2):
            next(batches)
        start = time.perf_counter()
        for _ in range(int(line)):
            next(batches)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
