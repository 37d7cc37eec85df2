"""Does guided attention look where the thing is? Share of its mass in the true box of a body part.

    python -m benchmarks.attention_mass --workdir runs/jsreid [--images 300]

Renders crops of the run's own test persons again, now with the label of every pixel, and compares
the mass of a group's map inside the bounding box of what it asks for with the mass of an even map.
Only images that show it count. Needs a run with guided attention on data of the renderer.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from input_pipeline.datasets.listing import MANIFEST_NAME
from input_pipeline.datasets.market1501.folder import MARKET_LABEL_FILE, read_market_labels
from input_pipeline.rendering import materials
from input_pipeline.rendering.layouts import LAYOUTS
from input_pipeline.rendering.render import encode_jpeg, render_labels
from jsreid_jax.errors import ModelError
from trained_model import Searcher, load_run

# Group and the label of the pixels that it is about.
PARTS = {
    "hat": materials.HAT,
    "backpack": materials.BACKPACK,
    "bag": materials.BAG,
    "handbag": materials.HANDBAG,
    "lower_colour": materials.LOWER,
}
# Fewer pixels than this share of the image are not called visible.
SMALLEST_SHARE = 0.002
JPEG_QUALITY = 90


def box_of(labels: np.ndarray, label: int) -> np.ndarray | None:
    """(H, W) bool: the bounding box of the pixels of a label; None where it is not visible."""
    is_part = labels == label
    if is_part.mean() < SMALLEST_SHARE:
        return None
    rows, columns = np.flatnonzero(is_part.any(axis=1)), np.flatnonzero(is_part.any(axis=0))
    box = np.zeros(labels.shape, bool)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def mass_inside(attention: np.ndarray, box: np.ndarray) -> float:
    """Share of the mass of a map (h, w) that falls into a box (H, W); cells are spread evenly."""
    rows = np.arange(box.shape[0]) * attention.shape[0] // box.shape[0]
    columns = np.arange(box.shape[1]) * attention.shape[1] // box.shape[1]
    spread = attention[rows][:, columns]
    return float(spread[box].sum() / spread.sum())


def main() -> None:
    """Print a line per group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300, help="Images of each part.")
    args = parser.parse_args()
    try:
        model = load_run(args.workdir, "best")
    except ModelError as error:
        sys.exit(f"error: {error}")
    config = model.config
    if "guided" not in config.model.attention.split("+") or model.schema.name != "market1501":
        sys.exit(
            f"error: {args.workdir}: attention is {config.model.attention!r} on the schema "
            f"{model.schema.name!r}, expected guided attention on the rendered market1501"
        )
    folder = Path(config.data.dir)
    rendered = json.loads((folder / MANIFEST_NAME).read_text())["parameters"]
    labels = read_market_labels(folder / MARKET_LABEL_FILE.name)
    seed = rendered["seed"]
    plan = LAYOUTS["market1501"].plan(labels, rendered["images_per_person"], seed)
    shown = [
        (person, image)
        for person in plan
        if person.person_id in labels.test and not person.is_fragment
        for image in person.images
    ]
    rng = np.random.default_rng(0)
    found: dict[str, list[tuple[bytes, np.ndarray]]] = {name: [] for name in PARTS}
    for index in rng.permutation(len(shown)):
        person, image = shown[index]
        crop, pixel_labels = render_labels(
            person.fields,
            seed=seed,
            person_id=person.person_id,
            image_index=image.image_index,
            camera_id=image.camera_id,
            image_height=rendered["image_height"],
        )
        encoded = encode_jpeg(crop, JPEG_QUALITY)
        for name, label in PARTS.items():
            box = box_of(pixel_labels, label)
            if box is not None and len(found[name]) < args.images:
                found[name].append((encoded, box))
        if all(len(images) >= args.images for images in found.values()):
            break
    searcher = Searcher(model)
    nothing = np.zeros((1, model.schema.num_attributes), np.int8)
    print(f"{'group':<14}{'images':>8}{'mass in box':>13}{'even map':>10}{'ratio':>7}")
    for name, images in found.items():
        if not images:
            continue
        group = model.schema.group_names.index(name)
        encoded, boxes = zip(*images, strict=True)
        maps = searcher.attention(nothing.repeat(len(images), axis=0), encoded)["guided"][:, group]
        mass = np.mean([mass_inside(m, box) for m, box in zip(maps, boxes, strict=True)])
        even = np.mean([box.mean() for box in boxes])
        print(f"{name:<14}{len(images):>8}{mass:>13.3f}{even:>10.3f}{mass / even:>7.2f}")


if __name__ == "__main__":
    main()
