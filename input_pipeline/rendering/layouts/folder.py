"""The layout of a user's own images: a CSV file and a schema file, with some cells empty.

images/000001.jpg   labels.csv   schema.yaml
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from input_pipeline.attributes import Group
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA, market_fields_to_attributes
from input_pipeline.datasets.person_labels import PersonLabels
from input_pipeline.rendering.layouts.market import QUERY_SHARE
from input_pipeline.rendering.plan import (
    Layout,
    PersonFiles,
    PlannedImage,
    as_they_are,
    cameras_and_frames,
)

# Cells that nobody filled in. By person, as the same annotator sees all images of one.
_EMPTY_SHARE = 0.05
# Apart from the seeds of the persons' images, which are [seed, person_id].
_EMPTY_CELLS = 2**31

_HEAD = """\
# What the columns of labels.csv mean. An empty cell there: nobody knows. The word absent: none of
# the values. Keys and defaults: docs/your_own_images.md.
name: rendered_folder
groups:
"""
# Printed above the first group that has the key.
_COMMENTS = {
    "kind": "yes or no; the group's name itself is the word for it",
    "nouns": "a value counts only with one of these: 'long hair', never 'long' alone",
    "said": "how reports put each value",
    "synonyms": "further words that may be typed",
    "region": "where on a person it is worn: attention begins to look there",
}


def plan_images(labels: PersonLabels, images_per_person: int, seed: int) -> list[PersonFiles]:
    """Every image file, numbered through, by person."""
    plan = []
    persons = [*labels.train.items(), *labels.test.items()]
    for place, (person_id, fields) in enumerate(persons):
        cameras, _, _ = cameras_and_frames(person_id, images_per_person, seed)
        first = 1 + place * images_per_person
        images = [
            PlannedImage(f"images/{first + index:06d}.jpg", index, camera)
            for index, camera in enumerate(cameras)
        ]
        plan.append(PersonFiles(person_id, fields, images))
    return plan


def schema_text() -> str:
    """Market-1501's groups as a schema file."""
    text, explained = _HEAD, set()
    for group in MARKET_SCHEMA.groups:
        lines = _group_lines(group)
        for key, comment in _COMMENTS.items():
            if key in lines and key not in explained:
                explained.add(key)
                text += f"  # {key}: {comment}.\n"
        entries = "\n    ".join(f"{key}: {value}" for key, value in lines.items())
        text += f"  - {entries}\n"
    return text


def _group_lines(group: Group) -> dict[str, str]:
    """The keys of a group with what stands behind them."""
    lines = {"name": group.name}
    if group.is_yes_no:
        lines["kind"] = "yes_no"
    else:
        lines["values"] = f"[{', '.join(group.values)}]"
    if group.nouns:
        # The first is put into descriptions, and "trousers" is a value of another group.
        nouns = sorted(group.nouns, key=lambda noun: noun != "lower")
        lines["nouns"] = f"[{', '.join(nouns)}]"
    if group.said:
        lines["said"] = f"[{', '.join(group.said)}]"
    if group.synonyms:
        pairs = [f"{word}: {value}" for word, value in group.synonyms.items()]
        lines["synonyms"] = f"{{{', '.join(pairs)}}}"
    if group.region != "whole":
        lines["region"] = group.region
    return lines


def _write_labels(
    folder: Path, labels: PersonLabels, plan: Sequence[PersonFiles], seed: int
) -> None:
    """schema.yaml, and labels.csv with one row per image."""
    (folder / "schema.yaml").write_text(schema_text(), encoding="utf-8")
    names = MARKET_SCHEMA.group_names
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "split", "person_id", "camera_id", *names])
        for person in plan:
            values = MARKET_SCHEMA.decode(market_fields_to_attributes(person.fields))
            rng = np.random.default_rng([seed, person.person_id, _EMPTY_CELLS])
            is_empty = rng.random(len(names)) < _EMPTY_SHARE
            row = [
                "" if empty else values[name] for name, empty in zip(names, is_empty, strict=True)
            ]
            num_query = max(1, round(QUERY_SHARE * len(person.images)))
            for index, image in enumerate(person.images):
                split = "query" if index < num_query else "test"
                if person.person_id in labels.train:
                    split = "train"
                writer.writerow([image.path, split, person.person_id, image.camera_id, *row])


FOLDER_LAYOUT = Layout(
    reader="folder",
    adapt=as_they_are,
    plan=plan_images,
    write_labels=_write_labels,
)
