"""What is to be rendered: which pictures of which persons go to which files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.datasets.person_labels import PersonLabels

NUM_CAMERAS = 6

# Distractors are rendered as persons of ids that no file name can hold.
FIRST_DISTRACTOR_ID = 100_000


@dataclass(frozen=True)
class PlannedImage:
    """One image to render: where to (.jpg or .png), and which picture of the person it is."""

    path: str
    image_index: int
    camera_id: int


@dataclass(frozen=True)
class PersonFiles:
    """All images of one person; one worker renders them together.

    fields: the 27 raw Market-1501 fields that say what to draw. is_fragment: keep only a part of
    the picture, as a failed detection does.
    """

    person_id: int
    fields: Mapping[str, int]
    images: Sequence[PlannedImage]
    is_fragment: bool = False


@dataclass(frozen=True)
class Layout:
    """How one data set lays out its folder.

    reader: the name of its reader, which also counts what was written.
    adapt: the persons, with fields replaced that the data set has no word for.
    plan: (persons, images_per_person, seed) to every image file, distractors last.
    write_labels: (folder, persons, plan, seed) writes the label files.
    """

    reader: str
    adapt: Callable[[PersonLabels], PersonLabels]
    plan: Callable[[PersonLabels, int, int], list[PersonFiles]]
    write_labels: Callable[[Path, PersonLabels, Sequence[PersonFiles], int], None]


def as_they_are(labels: PersonLabels) -> PersonLabels:
    """For a layout that has a word for everything that is drawn."""
    return labels


def cameras_and_frames(person_id: int, count: int, seed: int) -> tuple[list[int], list[int], int]:
    """Cameras from 1 in turn, rising frame numbers, and the sequence of a person's images."""
    rng = np.random.default_rng([seed, person_id])
    cameras = 1 + (rng.integers(NUM_CAMERAS) + np.arange(count)) % NUM_CAMERAS
    frames = np.cumsum(rng.integers(1, 2000, size=count))
    return cameras.tolist(), frames.tolist(), int(rng.integers(1, 7))
