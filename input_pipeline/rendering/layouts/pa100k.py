"""The layout of PA-100K.

release_data/release_data/000001.jpg ...   training, validation, test images
annotation.mat
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.datasets.pa100k.folder import (
    IMAGE_FOLDERS,
    LABEL_FILE_NAME,
    PA100KLabels,
    write_pa100k_labels,
)
from input_pipeline.datasets.pa100k.schema import PA100K_NAMES
from input_pipeline.datasets.person_labels import PersonLabels
from input_pipeline.rendering import looks, render
from input_pipeline.rendering.camera import stream
from input_pipeline.rendering.layouts.duke import shows_boots
from input_pipeline.rendering.layouts.peta import numbered_plan
from input_pipeline.rendering.plan import Layout, PersonFiles, as_they_are

# The published set has 10,000 validation images beside 80,000 training images.
_VAL_SHARE = 1 / 9

_AGES = {
    looks.YOUNG: "AgeLess18",
    looks.TEENAGER: "AgeLess18",
    looks.ADULT: "Age18-60",
    looks.OLD: "AgeOver60",
}
_UPPER_PATTERNS = {
    looks.STRIPES: "UpperStride",
    looks.PINSTRIPES: "UpperStride",
    looks.PRINT: "UpperLogo",
    looks.CHECKS: "UpperPlaid",
    looks.MULTI: "UpperSplice",
}
_LOWER_PATTERNS = {
    looks.STRIPES: "LowerStripe",
    looks.SIDE_STRIPE: "LowerStripe",
    looks.CHECKS: "LowerPattern",
    looks.MULTI: "LowerPattern",
}
_BAGS = {"backpack": "Backpack", "bag": "ShoulderBag", "handbag": "HandBag"}


def pa100k_names(fields: Mapping[str, int], *, person_id: int, seed: int) -> set[str]:
    """PA-100K's names of what a person rendered from Market-1501's fields has, but orientation.

    Glasses, long coats and what is held in front are not drawn and never among them.
    """
    look = looks.draw_look(fields, seed=seed, person_id=person_id)
    trousers = "Shorts" if look.short_lower else "Trousers"
    said = {
        _AGES[look.age]: True,
        "Female": look.female,
        "Hat": bool(look.hat),
        "ShortSleeve": look.short_sleeve,
        "LongSleeve": not look.short_sleeve,
        "Skirt&Dress" if look.dress else trousers: True,
        "boots": shows_boots(look),
    }
    drawn = (
        _BAGS.get(look.bag),
        _UPPER_PATTERNS.get(look.upper.pattern),
        _LOWER_PATTERNS.get(look.lower.pattern),
    )
    return {name for name, is_so in said.items() if is_so} | {name for name in drawn if name}


def orientation(seed: int, person_id: int, image_index: int) -> str:
    """Front, Side or Back, whichever of them the picture of `render.render_crop` is nearest to."""
    # The first numbers that render_labels draws; a test compares them.
    phase = stream(seed, person_id, 7102).uniform(0, 2 * np.pi)
    jitter = stream(seed, person_id, image_index, 7101).normal(0, 0.2)
    faces = np.cos(phase + image_index * render.GOLDEN_ANGLE + jitter)
    if abs(faces) < np.sqrt(0.5):
        return "Side"
    return "Front" if faces > 0 else "Back"


def plan_images(labels: PersonLabels, images_per_person: int, seed: int) -> list[PersonFiles]:
    """Every image file of the data set, by person: training, validation, test."""
    return numbered_plan(
        labels, images_per_person, seed, lambda number: f"{IMAGE_FOLDERS[1]}/{number:06d}.jpg"
    )


def _write_labels(
    folder: Path, labels: PersonLabels, plan: Sequence[PersonFiles], seed: int
) -> None:
    num_train = len(labels.train)
    first_val = num_train - max(1, round(_VAL_SHARE * num_train))
    persons = {
        "train": plan[:first_val],
        "val": plan[first_val:num_train],
        "test": plan[num_train:],
    }
    write_pa100k_labels(
        folder / LABEL_FILE_NAME,
        PA100KLabels(
            images={
                part: [Path(image.path).name for person in its for image in person.images]
                for part, its in persons.items()
            },
            bits={part: _bits(its, seed) for part, its in persons.items()},
            names=PA100K_NAMES,
        ),
    )


def _bits(persons: Sequence[PersonFiles], seed: int) -> np.ndarray:
    """(images, 26) bool."""
    rows = []
    for person in persons:
        names = pa100k_names(person.fields, person_id=person.person_id, seed=seed)
        for image in person.images:
            has = names | {orientation(seed, person.person_id, image.image_index)}
            rows.append([name in has for name in PA100K_NAMES])
    return np.array(rows)


PA100K_LAYOUT = Layout(
    reader="pa100k", adapt=as_they_are, plan=plan_images, write_labels=_write_labels
)
