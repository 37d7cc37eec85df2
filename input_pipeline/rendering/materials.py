"""Labels of the pixels and the rows of the material table that the shader reads."""

import numpy as np

from input_pipeline.rendering.looks import Look

LABELS = (
    *("background", "head_skin", "arm_skin", "leg_skin", "hair", "upper", "lower", "shoe"),
    *("sock", "hat", "backpack", "bag", "handbag", "occluder"),
)
(
    BACKGROUND,
    HEAD_SKIN,
    ARM_SKIN,
    LEG_SKIN,
    HAIR,
    UPPER,
    LOWER,
    SHOE,
    SOCK,
    HAT,
    BACKPACK,
    BAG,
    HANDBAG,
    OCCLUDER,
) = range(len(LABELS))
# Columns of a material row.
LABEL, COLOUR, SECOND, PATTERN, SCALE, ROUGHNESS = 0, 1, 4, 7, 8, 9
STRAP, STRAP_COLOUR, SIDE, EXTRA, THIRD, BIAS, TWO_SIDED, COLLAR = 10, 11, 14, 15, 16, 19, 20, 21
WIDTH = 22
BAG_LABEL = {"backpack": BACKPACK, "bag": BAG, "handbag": HANDBAG}


def material_table(look: Look) -> np.ndarray:
    """One row per label, (labels, WIDTH) float32; its columns are the constants above."""
    table = np.zeros((len(LABELS), WIDTH), np.float32)
    table[:, LABEL] = np.arange(len(LABELS))
    table[:, SCALE] = 1
    for label in (HEAD_SKIN, ARM_SKIN, LEG_SKIN):
        table[label, COLOUR : COLOUR + 3] = look.skin
        table[label, THIRD : THIRD + 3] = look.hair_colour
    table[HEAD_SKIN, EXTRA] = look.beard
    table[HEAD_SKIN, SIDE] = float(look.female)
    table[LEG_SKIN, SECOND : SECOND + 3] = look.sock
    table[LEG_SKIN, EXTRA] = {"sneaker": -6.75, "leather": -6.6, "boot": -6.4}.get(
        look.shoe_style, -9.0
    )
    table[HAIR, COLOUR : COLOUR + 3] = look.hair_colour
    for label, cloth in ((UPPER, look.upper), (LOWER, look.lower)):
        table[label, COLOUR : COLOUR + 3] = cloth.colour
        table[label, SECOND : SECOND + 3] = cloth.second
        table[label, [PATTERN, SCALE, ROUGHNESS]] = cloth.pattern, cloth.scale, cloth.roughness
        table[label, STRAP] = {"backpack": 1, "bag": 2}.get(look.bag, 0)
        table[label, STRAP_COLOUR : STRAP_COLOUR + 3] = 0.8 * np.array(look.bag_colour)
        table[label, SIDE] = look.bag_side
        table[label, TWO_SIDED] = 1
    table[LOWER, EXTRA] = float(not look.dress)
    table[UPPER, COLLAR] = float(look.upper_style in ("shirt", "jacket"))
    table[SHOE, COLOUR : COLOUR + 3] = look.shoe
    table[SHOE, SECOND : SECOND + 3] = look.sole
    table[SHOE, EXTRA] = float(look.shoe_style == "sneaker")
    table[HAT, COLOUR : COLOUR + 3] = look.hat_colour
    for label in (BACKPACK, BAG, HANDBAG):
        table[label, COLOUR : COLOUR + 3] = look.bag_colour
        table[label, SECOND : SECOND + 3] = 0.6 * np.array(look.bag_colour)
    # Depth bonus in decimetres: the outer of two touching layers wins.
    biases = {LOWER: 0.04, UPPER: 0.12, SHOE: 0.03, HAIR: 0.15, HAT: 0.3, BACKPACK: 0.2, BAG: 0.2}
    if look.dress:
        biases[LOWER] = 0.1
    for label, bias in biases.items():
        table[label, BIAS] = bias
    table[[HAIR, HAT, HANDBAG], TWO_SIDED] = 1
    return table
