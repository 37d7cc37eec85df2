"""PETA's 105 binary attributes as a schema of 18 groups. No TensorFlow.

Deng et al., ACM MM 2014. Nearly every group has several values at once in some image, or none where
one would expect it; so all but `bald` may have any number, and the coding loses nothing.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from input_pipeline.attributes import Group, Schema
from input_pipeline.datasets.image_labels import attributes_of, columns_of
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.datasets.vocabulary import GREY, LOWER_NOUNS, UPPER_NOUNS

PETA_COLOURS = (
    *("Black", "Blue", "Brown", "Green", "Grey", "Orange"),
    *("Pink", "Purple", "Red", "White", "Yellow"),
)
_COLOURS = tuple(GREY.get(colour.lower(), colour.lower()) for colour in PETA_COLOURS)

_LOWER_TYPES = {
    "lowerBodyTrousers": "trousers",
    "lowerBodyJeans": "jeans",
    "lowerBodyShorts": "shorts",
    "lowerBodyCapri": "capri pants",
    "lowerBodyHotPants": "hot pants",
    "lowerBodyShortSkirt": "short skirt",
    "lowerBodyLongSkirt": "long skirt",
    "lowerBodySuits": "suit trousers",
}
_FOOTWEAR_TYPES = {
    "footwearLeatherShoes": "leather shoes",
    "footwearSneaker": "sneakers",
    "footwearBoots": "boots",
    "footwearSandals": "sandals",
    "footwearStocking": "stockings",
    "footwearShoes": "plain shoes",
}
_UPPER_NOUNS = (*UPPER_NOUNS, "suit", "suit jacket")
_HAIR_NOUNS = ("hair", "haired")
_LOWER_NOUNS = tuple(dict.fromkeys((*LOWER_NOUNS, *_LOWER_TYPES.values())))
_FOOTWEAR_NOUNS = ("footwear", "shoes", *_FOOTWEAR_TYPES.values())

_GENDER = next(group for group in MARKET_SCHEMA.groups if group.name == "gender")


def _several(
    name: str, values: dict[str, str], *, nouns: Sequence[str] = (), region: str, **synonyms: str
) -> tuple[Group, tuple[str, ...]]:
    """A group of any number of values and PETA's names of them; underscores are blanks."""
    words = {word.replace("_", " "): value for word, value in synonyms.items()}
    group = Group(
        name,
        tuple(values.values()),
        multiple=True,
        nouns=tuple(nouns),
        synonyms=words,
        region=region,
    )
    return group, tuple(values)


def _colours(
    name: str, part: str, nouns: Sequence[str], *, region: str, **synonyms: str
) -> tuple[Group, tuple[str, ...]]:
    values = {part + colour: word for colour, word in zip(PETA_COLOURS, _COLOURS, strict=True)}
    return _several(name, values, nouns=nouns, region=region, **GREY, **synonyms)


# Every group with PETA's names of its values, in the order of the columns.
_QUESTIONS = (
    _several(
        "age",
        {
            "personalLess15": "under 15",
            "personalLess30": "under 30",
            "personalLess45": "under 45",
            "personalLess60": "under 60",
            "personalLarger60": "over 60",
        },
        region="whole",
        child="under 15",
        young="under 30",
        old="over 60",
        elderly="over 60",
    ),
    # Of one image neither is said.
    (
        dataclasses.replace(_GENDER, binary=False, multiple=True),
        ("personalMale", "personalFemale"),
    ),
    _several(
        "hair_length",
        {"hairShort": "short", "hairLong": "long"},
        nouns=_HAIR_NOUNS,
        region="head and shoulders",
    ),
    (
        Group(
            "bald",
            ("no", "yes"),
            binary=True,
            said=("no bald head", "bald head"),
            synonyms={"bald head": "yes", "bald headed": "yes"},
            region="head",
        ),
        ("hairBald",),
    ),
    _colours(
        "hair_colour",
        "hair",
        _HAIR_NOUNS,
        region="head and shoulders",
        blond="yellow",
        blonde="yellow",
    ),
    _several(
        "upper_style",
        {"upperBodyCasual": "casual", "upperBodyFormal": "formal"},
        nouns=_UPPER_NOUNS,
        region="upper",
    ),
    _several(
        "upper_pattern",
        {
            "upperBodyLogo": "logo",
            "upperBodyPlaid": "plaid",
            "upperBodyThinStripes": "thin-striped",
            "upperBodyThickStripes": "thick-striped",
        },
        nouns=_UPPER_NOUNS,
        region="upper",
    ),
    _colours("upper_colour", "upperBody", _UPPER_NOUNS, region="upper"),
    _several(
        "sleeve",
        {
            "upperBodyShortSleeve": "short-sleeved",
            "upperBodyLongSleeve": "long-sleeved",
            "upperBodyNoSleeve": "sleeveless",
        },
        region="upper",
        short_sleeve="short-sleeved",
        short_sleeves="short-sleeved",
        long_sleeve="long-sleeved",
        long_sleeves="long-sleeved",
        no_sleeves="sleeveless",
    ),
    _several(
        "upper_type",
        {
            "upperBodyJacket": "jacket",
            "upperBodyTshirt": "t-shirt",
            "upperBodySuit": "suit",
            "upperBodySweater": "sweater",
            "upperBodyVNeck": "v-neck",
            "upperBodyOther": "other top",
        },
        region="upper",
        tshirt="t-shirt",
        suit_jacket="suit",
    ),
    _several(
        "lower_style",
        {"lowerBodyCasual": "casual", "lowerBodyFormal": "formal"},
        nouns=_LOWER_NOUNS,
        region="lower",
    ),
    _several(
        "lower_pattern",
        {"lowerBodyPlaid": "plaid", "lowerBodyThinStripes": "thin-striped"},
        nouns=_LOWER_NOUNS,
        region="lower",
    ),
    _colours("lower_colour", "lowerBody", _LOWER_NOUNS, region="lower"),
    _several("lower_type", _LOWER_TYPES, region="lower"),
    _colours("footwear_colour", "footwear", _FOOTWEAR_NOUNS, region="feet"),
    _several("footwear_type", _FOOTWEAR_TYPES, region="feet", sneaker="sneakers", sandal="sandals"),
    # Named so that "no accessories", which is an attribute of its own, is not "none of them".
    _several(
        "worn_item",
        {
            "accessoryHat": "hat",
            "accessoryMuffler": "muffler",
            "accessorySunglasses": "sunglasses",
            "accessoryHeadphone": "headphones",
            "accessoryHairBand": "hair band",
            "accessoryKerchief": "kerchief",
            "accessoryNothing": "no accessories",
        },
        region="head",
        cap="hat",
        scarf="muffler",
        headphone="headphones",
        no_accessory="no accessories",
    ),
    _several(
        "carried_item",
        {
            "carryingBackpack": "backpack",
            "carryingMessengerBag": "messenger bag",
            "carryingPlasticBags": "plastic bags",
            "carryingBabyBuggy": "baby buggy",
            "carryingShoppingTro": "shopping trolley",
            "carryingUmbrella": "umbrella",
            "carryingFolder": "folder",
            "carryingLuggageCase": "luggage case",
            "carryingSuitcase": "suitcase",
            "carryingOther": "something else",
            "carryingNothing": "nothing carried",
        },
        region="whole",
        rucksack="backpack",
        shoulder_bag="messenger bag",
        plastic_bag="plastic bags",
        stroller="baby buggy",
        nothing="nothing carried",
        carrying_nothing="nothing carried",
    ),
)

PETA_COLUMNS = columns_of(_QUESTIONS)
PETA_SCHEMA = Schema(
    name="peta",
    groups=tuple(group for group, _ in _QUESTIONS),
    phrases=(
        (("age", "gender"), ""),
        (("hair_length", "hair_colour"), "hair"),
        (("upper_style", "upper_pattern", "upper_colour"), "top"),
        (("lower_style", "lower_pattern", "lower_colour", "lower_type"), "lower"),
        (("footwear_colour", "footwear_type"), "footwear"),
    ),
)

# The order of the published file: 35 that the literature recognises, the colours, the rare ones.
_SELECTED = (
    "personalLess30 personalLess45 personalLess60 personalLarger60 carryingBackpack carryingOther "
    "lowerBodyCasual upperBodyCasual lowerBodyFormal upperBodyFormal accessoryHat upperBodyJacket "
    "lowerBodyJeans footwearLeatherShoes upperBodyLogo hairLong personalMale carryingMessengerBag "
    "accessoryMuffler accessoryNothing carryingNothing upperBodyPlaid carryingPlasticBags "
    "footwearSandals footwearShoes lowerBodyShorts upperBodyShortSleeve lowerBodyShortSkirt "
    "footwearSneaker upperBodyThinStripes accessorySunglasses lowerBodyTrousers upperBodyTshirt "
    "upperBodyOther upperBodyVNeck"
)
_RARE = (
    "accessoryHeadphone personalLess15 carryingBabyBuggy hairBald footwearBoots lowerBodyCapri "
    "carryingShoppingTro carryingUmbrella personalFemale carryingFolder accessoryHairBand "
    "lowerBodyHotPants accessoryKerchief lowerBodyLongSkirt upperBodyLongSleeve lowerBodyPlaid "
    "lowerBodyThinStripes carryingLuggageCase upperBodyNoSleeve hairShort footwearStocking "
    "upperBodySuit carryingSuitcase lowerBodySuits upperBodySweater upperBodyThickStripes"
)
PETA_NAMES = (
    *_SELECTED.split(),
    *(part + c for part in ("upperBody", "lowerBody", "hair", "footwear") for c in PETA_COLOURS),
    *_RARE.split(),
)


def bits_to_attributes(bits: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N, 105) int8 of a table (N, 105) bool whose columns are called names."""
    return attributes_of(bits, names, PETA_COLUMNS, PETA_SCHEMA)
