"""The layout of DukeMTMC.

bounding_box_train/0005_c2_f0046985.jpg   person, camera, frame
bounding_box_test/  query/  duke_attribute.mat
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.datasets.duke.folder import DUKE_LABEL_FILE
from input_pipeline.datasets.duke.schema import DUKE_FIELDS
from input_pipeline.datasets.person_folders import FOLDERS
from input_pipeline.datasets.person_labels import PersonLabels, write_person_labels
from input_pipeline.rendering import colours, looks
from input_pipeline.rendering.looks import Look
from input_pipeline.rendering.plan import Layout, PersonFiles, PlannedImage, cameras_and_frames

# The published set has 2,228 query images among 19,889 of the test persons, of whom 408 of 1,110
# are nobody's query.
_QUERY_SHARE = 0.112
_UNASKED_EVERY = 3

# What DukeMTMC has no word for is rendered in a colour that it has one for.
_OTHER_COLOURS = {
    "upyellow": "upgreen",
    "downyellow": "downgreen",
    "downpink": "downwhite",
    "downpurple": "downblue",
}
_NO, _YES = 1, 2
# Shoes of a lower luminance are called dark.
_LIGHT = 0.4


def shows_boots(look: Look) -> bool:
    """Whether the picture has boots: shafts are drawn where no long trousers cover them."""
    return look.shoe_style == "boot" and (look.short_lower or look.dress)


def duke_fields(market: Mapping[str, int], *, person_id: int, seed: int) -> dict[str, int]:
    """The 23 raw fields of a person rendered from Market-1501's.

    Red trousers and brown tops are never drawn, so those fields are always "no".
    """
    look = looks.draw_look(market, seed=seed, person_id=person_id)
    # `top` is how far the upper garment reaches down, and all that are drawn end at the hip.
    drawn = {
        "top": 1,
        "boots": _YES if shows_boots(look) else _NO,
        "shoes": 2 if colours.luminance(np.array(look.shoe)) > _LIGHT else 1,
    }
    return {name: drawn.get(name, market.get(name, _NO)) for name in DUKE_FIELDS}


def adapt(labels: PersonLabels) -> PersonLabels:
    """The persons without colours that DukeMTMC has no word for."""
    return PersonLabels(
        **{
            half: {person_id: _recoloured(fields) for person_id, fields in persons.items()}
            for half, persons in (("train", labels.train), ("test", labels.test))
        }
    )


def _recoloured(fields: Mapping[str, int]) -> dict[str, int]:
    recoloured = dict(fields)
    for name, other in _OTHER_COLOURS.items():
        if fields[name] == _YES:
            recoloured |= {name: _NO, other: _YES}
    return recoloured


def plan_images(labels: PersonLabels, images_per_person: int, seed: int) -> list[PersonFiles]:
    """Every image file of the data set, by person. There are no distractors without labels."""
    plan = []
    num_query = max(1, round(_QUERY_SHARE * images_per_person))
    for half, persons in (("train", labels.train), ("gallery", labels.test)):
        for row, (person_id, fields) in enumerate(persons.items()):
            cameras, frames, _ = cameras_and_frames(person_id, images_per_person, seed)
            is_asked = half == "gallery" and row % _UNASKED_EVERY != _UNASKED_EVERY - 1
            images = []
            for index, (camera, frame) in enumerate(zip(cameras, frames, strict=True)):
                split = "query" if is_asked and index < num_query else half
                name = f"{person_id:04d}_c{camera}_f{frame:07d}.jpg"
                images.append(PlannedImage(f"{FOLDERS[split]}/{name}", index, camera))
            plan.append(PersonFiles(person_id, fields, images))
    return plan


def _write_labels(
    folder: Path, labels: PersonLabels, plan: Sequence[PersonFiles], seed: int
) -> None:
    del plan
    halves = {
        half: {
            person_id: duke_fields(fields, person_id=person_id, seed=seed)
            for person_id, fields in persons.items()
        }
        for half, persons in (("train", labels.train), ("test", labels.test))
    }
    write_person_labels(folder / DUKE_LABEL_FILE.name, PersonLabels(**halves), DUKE_LABEL_FILE)


DUKE_LAYOUT = Layout(reader="duke", adapt=adapt, plan=plan_images, write_labels=_write_labels)
