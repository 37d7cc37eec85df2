"""Words that the schemas of several data sets share."""

UPPER_NOUNS = (
    "top",
    "upper",
    "shirt",
    "t shirt",
    "tshirt",
    "jacket",
    "coat",
    "sweater",
    "upper body",
)
LOWER_NOUNS = (
    "trousers",
    "lower",
    "pants",
    "jeans",
    "shorts",
    "dress",
    "skirt",
    "lower body",
)
GREY = {"grey": "gray"}
