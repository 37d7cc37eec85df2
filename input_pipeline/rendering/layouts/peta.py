"""The layout of PETA.

images/00001.png ...   by person, the training persons first
PETA.mat               one row per image, and five partitions of the images
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.datasets.person_labels import PersonLabels
from input_pipeline.datasets.peta.folder import (
    IMAGE_FOLDER,
    LABEL_FILE_NAME,
    MOST_IMAGES,
    PetaLabels,
    image_name,
    write_peta_labels,
)
from input_pipeline.datasets.peta.schema import PETA_NAMES
from input_pipeline.errors import DataError
from input_pipeline.rendering import colours, looks
from input_pipeline.rendering.layouts.duke import shows_boots
from input_pipeline.rendering.looks import Cloth, Look
from input_pipeline.rendering.plan import (
    Layout,
    PersonFiles,
    PlannedImage,
    as_they_are,
    cameras_and_frames,
)

_NUM_PARTITIONS = 5
# Shares of the published 9,500 / 1,900 / 7,600 images.
_TRAIN_SHARE, _VAL_SHARE = 0.5, 0.1
_NUM_SUBSETS = 10

_AGES = {
    looks.YOUNG: "personalLess15",
    looks.TEENAGER: "personalLess30",
    looks.ADULT: "personalLess45",
    looks.OLD: "personalLarger60",
}
_UPPER_PATTERNS = {
    looks.PRINT: "upperBodyLogo",
    looks.CHECKS: "upperBodyPlaid",
    looks.PINSTRIPES: "upperBodyThinStripes",
    looks.STRIPES: "upperBodyThickStripes",
}
_LOWER_PATTERNS = {looks.CHECKS: "lowerBodyPlaid", looks.STRIPES: "lowerBodyThinStripes"}
_UPPER_TYPES = {
    "tee": "upperBodyTshirt",
    "jacket": "upperBodyJacket",
    "sweater": "upperBodySweater",
}
_SHOE_TYPES = {
    "sneaker": "footwearSneaker",
    "leather": "footwearLeatherShoes",
    "flat": "footwearShoes",
}
_BAGS = {
    "backpack": "carryingBackpack",
    "bag": "carryingMessengerBag",
    "handbag": "carryingOther",
    "": "carryingNothing",
}
# What looks.draw_hair and looks.draw_shoes choose from, with PETA's words.
_HAIR = (
    ("Black", colours.HAIR["black"]),
    ("Brown", colours.HAIR["dark brown"]),
    ("Brown", colours.HAIR["brown"]),
    ("Yellow", colours.HAIR["blond"]),
    ("Red", colours.HAIR["red"]),
    ("Grey", colours.OLD_HAIR[0]),
    ("Grey", colours.OLD_HAIR[1]),
    ("White", colours.OLD_HAIR[2]),
)


def _words(*names: str) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """The shades of named colours, each with PETA's word."""
    return tuple((_word(name), shade) for name in names for shade in colours.SHADES[name])


def _word(name: str) -> str:
    return "Grey" if name == "gray" else name.capitalize()


_SHOES = _words("white", "black", "gray", "red", "blue", "brown")
_UNNAMED = _words("orange", "teal")


def peta_names(fields: Mapping[str, int], *, person_id: int, seed: int) -> set[str]:
    """PETA's names of what a person rendered from Market-1501's fields has.

    Formal clothes and items that the renderer does not draw are never among them.
    """
    look = looks.draw_look(fields, seed=seed, person_id=person_id)
    shoe_type = _SHOE_TYPES.get(look.shoe_style, "footwearLeatherShoes")
    names = {
        _AGES[look.age],
        "personalFemale" if look.female else "personalMale",
        "upperBodyCasual",
        "upperBodyShortSleeve" if look.short_sleeve else "upperBodyLongSleeve",
        _UPPER_TYPES.get(look.upper_style, "upperBodyOther"),
        "lowerBodyCasual",
        _lower_type(look),
        "footwearBoots" if shows_boots(look) else shoe_type,
        f"footwear{_nearest(look.shoe, _SHOES)}",
        _BAGS[look.bag],
        "accessoryHat" if look.hat else "accessoryNothing",
    }
    if look.hair_style == "bald":
        names.add("hairBald")
    else:
        names.add("hairLong" if look.long_hair else "hairShort")
        names.add(f"hair{_nearest(look.hair_colour, _HAIR)}")
    upper = looks.colour_name(fields, "up", colours.UPPER_COLOURS)
    lower = looks.colour_name(fields, "down", colours.LOWER_COLOURS)
    names |= _cloth_names("upperBody", upper, look.upper, _UPPER_PATTERNS)
    names |= _cloth_names("lowerBody", lower, look.lower, _LOWER_PATTERNS)
    return names


def _lower_type(look: Look) -> str:
    if look.dress:
        return "lowerBodyShortSkirt" if look.short_lower else "lowerBodyLongSkirt"
    if look.short_lower:
        return "lowerBodyShorts"
    return "lowerBodyJeans" if look.lower.pattern == looks.DENIM else "lowerBodyTrousers"


def _cloth_names(part: str, name: str, cloth: Cloth, patterns: Mapping[int, str]) -> set[str]:
    """Colour and pattern; of what Market-1501 does not name, PETA names orange, not teal."""
    names = {patterns[cloth.pattern]} if cloth.pattern in patterns else set()
    word = _word(name) if name else _nearest(cloth.colour, _UNNAMED)
    return names if word == "Teal" else names | {part + word}


def _nearest(
    colour: tuple[float, float, float], words: Iterable[tuple[str, tuple[int, int, int]]]
) -> str:
    """The word whose shade is nearest to a colour."""
    return min(words, key=lambda entry: np.abs(np.array(entry[1]) / 255 - colour).sum())[0]


def plan_images(labels: PersonLabels, images_per_person: int, seed: int) -> list[PersonFiles]:
    """Every image file of the data set, by person. DataError: more than PETA can number."""
    total = (len(labels.train) + len(labels.test)) * images_per_person
    if total > MOST_IMAGES:
        raise DataError(
            f"{total:,} images are more than PETA's label file can number ({MOST_IMAGES:,}): "
            "render fewer persons or images of each"
        )
    return numbered_plan(
        labels, images_per_person, seed, lambda number: f"{IMAGE_FOLDER}/{image_name(number)}"
    )


def numbered_plan(
    labels: PersonLabels, images_per_person: int, seed: int, path_of: Callable[[int], str]
) -> list[PersonFiles]:
    """Image files that are numbered from 1, by person, the training persons first."""
    plan = []
    for row, (person_id, fields) in enumerate({**labels.train, **labels.test}.items()):
        cameras, _, _ = cameras_and_frames(person_id, images_per_person, seed)
        first = 1 + row * images_per_person
        images = [
            PlannedImage(path_of(first + index), index, camera)
            for index, camera in enumerate(cameras)
        ]
        plan.append(PersonFiles(person_id, fields, images))
    return plan


def _write_labels(
    folder: Path, labels: PersonLabels, plan: Sequence[PersonFiles], seed: int
) -> None:
    del labels
    names = [peta_names(p.fields, person_id=p.person_id, seed=seed) for p in plan]
    bits = np.array([[name in has for name in PETA_NAMES] for has in names])
    repeats = [len(person.images) for person in plan]
    person_id = np.repeat([person.person_id for person in plan], repeats)
    write_peta_labels(
        folder / LABEL_FILE_NAME,
        PetaLabels(
            person_id=person_id,
            subset=np.repeat(1 + np.arange(len(plan)) % _NUM_SUBSETS, repeats),
            original_id=person_id,
            bits=np.repeat(bits, repeats, axis=0),
            names=PETA_NAMES,
            partitions=tuple(
                _partition(sum(repeats), np.random.default_rng([seed, number]))
                for number in range(1, _NUM_PARTITIONS + 1)
            ),
        ),
    )


def _partition(num_images: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Numbers of images, drawn without regard to persons, as the published ones are."""
    numbers = 1 + rng.permutation(num_images)
    ends = [round(_TRAIN_SHARE * num_images), round((_TRAIN_SHARE + _VAL_SHARE) * num_images)]
    parts = zip(("train", "val", "test"), np.split(numbers, ends), strict=True)
    return {part: np.sort(its_numbers) for part, its_numbers in parts}


PETA_LAYOUT = Layout(reader="peta", adapt=as_they_are, plan=plan_images, write_labels=_write_labels)
