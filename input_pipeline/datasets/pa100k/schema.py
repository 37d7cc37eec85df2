"""PA-100K's 26 binary attributes as a schema of 15 groups, 14 without orientation. No TensorFlow.

Liu et al., ICCV 2017 (HydraPlus-Net). Groups of more than two columns may have any number of their
values at once: whether they exclude one another in all 100,000 images could not be looked up.
"""

from input_pipeline.attributes import Group, Schema
from input_pipeline.datasets.image_labels import columns_of
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.datasets.vocabulary import LOWER_NOUNS, UPPER_NOUNS

# The order of the published file.
PA100K_NAMES = (
    *("Female", "AgeOver60", "Age18-60", "AgeLess18", "Front", "Side", "Back", "Hat", "Glasses"),
    *("HandBag", "ShoulderBag", "Backpack", "HoldObjectsInFront", "ShortSleeve", "LongSleeve"),
    *("UpperStride", "UpperLogo", "UpperPlaid", "UpperSplice", "LowerStripe", "LowerPattern"),
    *("LongCoat", "Trousers", "Shorts", "Skirt&Dress", "boots"),
)

# Questions that Market-1501 asks in the same way.
_MARKET = {group.name: group for group in MARKET_SCHEMA.groups}

_ORIENTATION = (
    Group(
        "orientation",
        ("front", "side", "back"),
        multiple=True,
        said=("front view", "side view", "back view"),
        synonyms={"front view": "front", "side view": "side", "back view": "back"},
    ),
    ("Front", "Side", "Back"),
)

# Every group with PA-100K's names of its columns, in their order.
_QUESTIONS = (
    (
        Group(
            "age",
            ("under 18", "18 to 60", "over 60"),
            multiple=True,
            synonyms={
                "child": "under 18",
                "teenager": "under 18",
                "adult": "18 to 60",
                "old": "over 60",
                "elderly": "over 60",
            },
        ),
        ("AgeLess18", "Age18-60", "AgeOver60"),
    ),
    (_MARKET["gender"], ("Female",)),
    (_MARKET["hat"], ("Hat",)),
    (
        Group("glasses", ("no", "yes"), binary=True, synonyms={"sunglasses": "yes"}, region="head"),
        ("Glasses",),
    ),
    (_MARKET["handbag"], ("HandBag",)),
    (
        Group(
            "shoulder_bag", ("no", "yes"), binary=True, synonyms={"bag": "yes"}, region="carried"
        ),
        ("ShoulderBag",),
    ),
    (_MARKET["backpack"], ("Backpack",)),
    (
        Group(
            "object_in_front",
            ("no", "yes"),
            binary=True,
            said=("no held object", "held object"),
            synonyms={"held object": "yes", "holding object": "yes"},
            region="carried",
        ),
        ("HoldObjectsInFront",),
    ),
    (
        Group(
            "sleeve",
            ("short", "long"),
            multiple=True,
            said=("short-sleeved", "long-sleeved"),
            nouns=_MARKET["sleeve"].nouns,
            region="upper",
        ),
        ("ShortSleeve", "LongSleeve"),
    ),
    (
        Group(
            "upper_pattern",
            ("striped", "logo", "plaid", "spliced"),
            multiple=True,
            nouns=UPPER_NOUNS,
            region="upper",
        ),
        ("UpperStride", "UpperLogo", "UpperPlaid", "UpperSplice"),
    ),
    (Group("long_coat", ("no", "yes"), binary=True), ("LongCoat",)),
    (
        Group(
            "lower_pattern",
            ("striped", "patterned"),
            multiple=True,
            nouns=LOWER_NOUNS,
            region="lower",
        ),
        ("LowerStripe", "LowerPattern"),
    ),
    (
        Group(
            "lower_type",
            ("trousers", "shorts", "skirt"),
            multiple=True,
            synonyms={"pants": "trousers", "jeans": "trousers", "dress": "skirt"},
            region="lower",
        ),
        ("Trousers", "Shorts", "Skirt&Dress"),
    ),
    (
        Group("boots", ("no", "yes"), binary=True, synonyms={"boot": "yes"}, region="feet"),
        ("boots",),
    ),
)


def pa100k_schema(*, orientation: bool) -> tuple[Schema, tuple[str, ...]]:
    """The schema, and PA-100K's names of its columns."""
    questions = (*_QUESTIONS, _ORIENTATION) if orientation else _QUESTIONS
    schema = Schema(
        name="pa100k_orientation" if orientation else "pa100k",
        groups=tuple(group for group, _ in questions),
        phrases=(
            (("age", "gender"), ""),
            (("sleeve", "upper_pattern"), "top"),
            (("lower_pattern", "lower_type"), "lower"),
        ),
    )
    return schema, columns_of(questions)
