"""DukeMTMC's 23 raw attribute fields as a schema of 10 groups. No TensorFlow.

Lin et al., arXiv 1703.07220: values 1 / 2, of `top` also 0.
"""

from collections.abc import Mapping

import numpy as np

from input_pipeline.attributes import ABSENT_CODE, PRESENT, Group, Schema
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.datasets.vocabulary import GREY, LOWER_NOUNS, UPPER_NOUNS

_UPPER_COLOURS = ("black", "white", "red", "purple", "gray", "blue", "green", "brown")
_LOWER_COLOURS = ("black", "white", "red", "gray", "blue", "green", "brown")

# Questions that Market-1501 asks in the same way.
_MARKET = {group.name: group for group in MARKET_SCHEMA.groups}

DUKE_SCHEMA = Schema(
    name="duke",
    groups=(
        _MARKET["gender"],
        # Of two training persons nobody said it (`top` is 0). Neither column is present there: an
        # answer like "no upper colour", so that they keep categories of their own.
        Group("upper_length", ("short", "long"), nouns=UPPER_NOUNS),
        _MARKET["hat"],
        _MARKET["backpack"],
        _MARKET["bag"],
        _MARKET["handbag"],
        Group("boots", ("no", "yes"), binary=True, synonyms={"boot": "yes"}, region="feet"),
        Group(
            "shoes",
            ("dark", "light"),
            binary=True,
            said=("dark shoes", "light shoes"),
            nouns=("shoes", "shoe", "footwear"),
            region="feet",
        ),
        Group("upper_colour", _UPPER_COLOURS, nouns=UPPER_NOUNS, synonyms=GREY, region="upper"),
        # 23 test persons have two or three.
        Group(
            "lower_colour",
            _LOWER_COLOURS,
            multiple=True,
            nouns=LOWER_NOUNS,
            synonyms=GREY,
            region="lower",
        ),
    ),
    phrases=(
        (("upper_length", "upper_colour"), "top"),
        (("lower_colour",), "lower"),
    ),
)

# The raw field of each of the A columns, and the value of it that is coded +1.
_COLUMN_FIELDS = (
    ("gender", 2),
    ("top", 1),
    ("top", 2),
    *((name, 2) for name in ("hat", "backpack", "bag", "handbag", "boots", "shoes")),
    *((f"up{colour}", 2) for colour in _UPPER_COLOURS),
    *((f"down{colour}", 2) for colour in _LOWER_COLOURS),
)
DUKE_FIELDS = tuple(dict.fromkeys(name for name, _ in _COLUMN_FIELDS))


def duke_field_range(name: str) -> tuple[int, int]:
    """Smallest and largest value of one of the 23 raw fields."""
    return (0, 2) if name == "top" else (1, 2)


def duke_fields_to_attributes(fields: Mapping[str, int]) -> np.ndarray:
    """(24,) int8 of the 23 raw fields; nothing is unknown."""
    codes = [fields[name] == value for name, value in _COLUMN_FIELDS]
    return np.where(codes, PRESENT, ABSENT_CODE).astype(np.int8)
