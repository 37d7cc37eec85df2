"""Market-1501's 27 raw attribute fields as a schema of 12 groups. No TensorFlow.

Lin et al., arXiv 1703.07220: values 1 / 2, age 1..4.
"""

from collections.abc import Mapping

import numpy as np

from input_pipeline.attributes import ABSENT_CODE, PRESENT, Group, Schema
from input_pipeline.datasets.vocabulary import GREY, LOWER_NOUNS, UPPER_NOUNS

_UPPER_COLOURS = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
_LOWER_COLOURS = (
    "black",
    "white",
    "pink",
    "purple",
    "yellow",
    "gray",
    "blue",
    "green",
    "brown",
)
MARKET_SCHEMA = Schema(
    name="market1501",
    groups=(
        Group(
            "age",
            ("young", "teenager", "adult", "old"),
            synonyms={
                "child": "young",
                "teen": "teenager",
                "teenage": "teenager",
                "elderly": "old",
            },
        ),
        Group(
            "gender",
            ("male", "female"),
            binary=True,
            synonyms={"man": "male", "boy": "male", "woman": "female", "girl": "female"},
        ),
        Group(
            "hair",
            ("short", "long"),
            binary=True,
            said=("short hair", "long hair"),
            nouns=("hair", "haired"),
            region="head and shoulders",
        ),
        Group(
            "sleeve",
            ("long", "short"),
            binary=True,
            said=("long-sleeved", "short-sleeved"),
            nouns=("sleeves", "sleeve", "sleeved"),
            region="upper",
        ),
        Group(
            "lower_length",
            ("long", "short"),
            binary=True,
            nouns=LOWER_NOUNS,
            synonyms={"shorts": "short"},
            region="lower",
        ),
        Group(
            "lower_type",
            ("dress", "pants"),
            binary=True,
            said=("dress", "trousers"),
            synonyms={"skirt": "dress", "trousers": "pants", "jeans": "pants", "shorts": "pants"},
            region="lower",
        ),
        Group(
            "hat", ("no", "yes"), binary=True, synonyms={"cap": "yes", "hats": "yes"}, region="head"
        ),
        Group(
            "backpack", ("no", "yes"), binary=True, synonyms={"rucksack": "yes"}, region="carried"
        ),
        Group(
            "bag", ("no", "yes"), binary=True, synonyms={"shoulder bag": "yes"}, region="carried"
        ),
        Group(
            "handbag",
            ("no", "yes"),
            binary=True,
            synonyms={"hand bag": "yes", "purse": "yes"},
            region="hand",
        ),
        Group("upper_colour", _UPPER_COLOURS, nouns=UPPER_NOUNS, synonyms=GREY, region="upper"),
        Group("lower_colour", _LOWER_COLOURS, nouns=LOWER_NOUNS, synonyms=GREY, region="lower"),
    ),
    phrases=(
        (("age", "gender"), ""),
        (("sleeve", "upper_colour"), "top"),
        (("lower_length", "lower_colour", "lower_type"), "lower"),
    ),
)

# The label file's two-valued fields (1, 2) and the group whose values they are, in that order.
_MARKET_BINARY_FIELDS = {
    "gender": "gender",
    "hair": "hair",
    "up": "sleeve",
    "down": "lower_length",
    "clothes": "lower_type",
    "hat": "hat",
    "backpack": "backpack",
    "bag": "bag",
    "handbag": "handbag",
}

# The raw field of each of the A columns ("age" is one field of four columns), and the 27 fields.
_MARKET_COLUMN_FIELDS = (
    *("age",) * 4,
    *_MARKET_BINARY_FIELDS,
    *(f"up{colour}" for colour in _UPPER_COLOURS),
    *(f"down{colour}" for colour in _LOWER_COLOURS),
)
MARKET_FIELDS = tuple(dict.fromkeys(_MARKET_COLUMN_FIELDS))


def market_field_range(name: str) -> tuple[int, int]:
    """Smallest and largest value of one of the 27 raw fields."""
    return (1, 4) if name == "age" else (1, 2)


def market_fields_to_attributes(fields: Mapping[str, int]) -> np.ndarray:
    """(30,) int8 of the 27 raw Market-1501 fields (values 1 / 2, age 1..4); nothing is unknown."""
    codes = [(fields["age"] == age) for age in range(1, 5)] + [
        fields[name] == 2 for name in _MARKET_COLUMN_FIELDS[4:]
    ]
    return np.where(codes, PRESENT, ABSENT_CODE).astype(np.int8)


def attributes_to_market_fields(attributes: np.ndarray) -> dict[str, int]:
    """The inverse of `market_fields_to_attributes`. ValueError: unknown columns, or not one age."""
    attributes = np.asarray(attributes)
    if attributes.shape != (len(_MARKET_COLUMN_FIELDS),) or not attributes.all():
        raise ValueError("raw fields need a fully known Market-1501 attribute vector")
    if (attributes[:4] > 0).sum() != 1:
        raise ValueError("raw fields need exactly one age")
    fields = {"age": int(np.argmax(attributes[:4])) + 1}
    for name, code in zip(_MARKET_COLUMN_FIELDS[4:], attributes[4:], strict=True):
        fields[name] = 2 if code > 0 else 1
    return fields
