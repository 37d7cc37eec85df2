"""The layout of Market-1501.

bounding_box_train/0002_c1s1_000451_03.jpg   person, camera, sequence, frame, box
bounding_box_test/  query/  market_attribute.mat
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.datasets.market1501.folder import MARKET_LABEL_FILE, write_market_labels
from input_pipeline.datasets.person_labels import PersonLabels
from input_pipeline.rendering.plan import (
    FIRST_DISTRACTOR_ID,
    NUM_CAMERAS,
    Layout,
    PersonFiles,
    PlannedImage,
    as_they_are,
    cameras_and_frames,
)
from input_pipeline.rendering.population import category_fields, draw_category

# The published set has 3,368 query images among 16,483 of the test persons.
QUERY_SHARE = 0.2
# Bystanders (person 0000) and failed detections (person -1), which a gallery leaves out.
_DISTRACTOR_SHARE = 0.015


def plan_images(labels: PersonLabels, images_per_person: int, seed: int) -> list[PersonFiles]:
    """Every image file of the data set, by person, distractors last."""
    plan = [
        _person_files(person_id, fields, "bounding_box_train", images_per_person, 0, seed)
        for person_id, fields in labels.train.items()
    ]
    num_query = max(1, round(QUERY_SHARE * images_per_person))
    plan += [
        _person_files(person_id, fields, "bounding_box_test", images_per_person, num_query, seed)
        for person_id, fields in labels.test.items()
    ]
    rng = np.random.default_rng([seed, FIRST_DISTRACTOR_ID])
    num_distractors = max(1, round(_DISTRACTOR_SHARE * len(labels.test) * images_per_person))
    for index in range(2 * num_distractors):
        is_fragment = index % 2 == 1
        name = "-1" if is_fragment else "0000"
        camera = int(rng.integers(1, NUM_CAMERAS + 1))
        path = f"bounding_box_test/{name}_c{camera}s1_{index + 1:06d}_00.jpg"
        plan.append(
            PersonFiles(
                person_id=FIRST_DISTRACTOR_ID + index,
                fields=category_fields(draw_category(rng)),
                images=[PlannedImage(path, 0, camera)],
                is_fragment=is_fragment,
            )
        )
    return plan


def _person_files(
    person_id: int, fields: Mapping[str, int], folder: str, count: int, num_query: int, seed: int
) -> PersonFiles:
    """count images over the cameras in turn; the first num_query of them are queries."""
    cameras, frames, sequence = cameras_and_frames(person_id, count, seed)
    images = []
    for index, (camera, frame) in enumerate(zip(cameras, frames, strict=True)):
        is_query = index < num_query
        # As in the published set, box 00 marks the hand-drawn boxes of the queries.
        box = 0 if is_query else 1 + index % 5
        name = f"{person_id:04d}_c{camera}s{sequence}_{frame:06d}_{box:02d}.jpg"
        images.append(PlannedImage(f"{'query' if is_query else folder}/{name}", index, camera))
    return PersonFiles(person_id, fields, images)


def _write_labels(
    folder: Path, labels: PersonLabels, plan: Sequence[PersonFiles], seed: int
) -> None:
    del plan, seed
    write_market_labels(folder / MARKET_LABEL_FILE.name, labels)


MARKET_LAYOUT = Layout(
    reader="market1501",
    adapt=as_they_are,
    plan=plan_images,
    write_labels=_write_labels,
)
