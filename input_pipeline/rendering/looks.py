"""What a person looks like beyond the 27 attributes: body, skin, hair and outfit variants.

Everything here depends on (seed, person_id, fields) only. Each aspect has its own random stream,
so that changing one field leaves the rest of the person as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.rendering import colours
from input_pipeline.rendering.pack_assets import ETHNICITIES

UPPER_CHOICES = tuple(f"up{name}" for name in colours.UPPER_COLOURS)
LOWER_CHOICES = tuple(f"down{name}" for name in colours.LOWER_COLOURS)
MARKET_FIELDS = (
    *("age", "gender", "hair", "up", "down", "clothes", "hat", "backpack", "bag", "handbag"),
    *UPPER_CHOICES,
    *LOWER_CHOICES,
)
YOUNG, TEENAGER, ADULT, OLD = 1, 2, 3, 4
FEMALE, LONG_HAIR, SHORT_SLEEVE, SHORT_LOWER, DRESS, YES = 2, 2, 2, 2, 1, 2
PLAIN, STRIPES, CHECKS, PRINT, DENIM, PINSTRIPES, MULTI, SIDE_STRIPE, BUTTONS, OPEN, ZIP = range(11)


@dataclass(frozen=True)
class Cloth:
    """Colour, second colour, pattern (one of the constants above) and its scale in decimetres."""

    colour: tuple[float, float, float]
    second: tuple[float, float, float]
    pattern: int
    scale: float
    roughness: float  # strength of folds and weave


@dataclass(frozen=True)
class Look:
    """A person: attributes as booleans and everything drawn around them."""

    age: int
    female: bool
    long_hair: bool
    short_sleeve: bool
    short_lower: bool
    dress: bool
    hat: str  # "" or cap, beanie, brim, bucket
    bag: str  # "" or backpack, bag, handbag
    ethnicity: str
    skin_position: float
    body_weights: tuple[tuple[str, float], ...]
    height: float  # decimetres
    skin: tuple[float, float, float]
    hair_colour: tuple[float, float, float]
    hair_style: str
    beard: float  # 0 none .. 1 full
    upper: Cloth
    lower: Cloth
    upper_style: str  # tee, shirt, jacket, hoodie, sweater
    looseness: float
    sleeve: float  # end of the sleeve: 0 shoulder, 1 elbow, 2 wrist
    lower_hem: float  # canonical height
    upper_hem: float  # canonical height
    leg_width: float  # decimetres, radius at the hem
    flare: float  # 0 narrow .. 1 wide skirt
    shoe_style: str  # sneaker, leather, boot, flat
    shoe: tuple[float, float, float]
    sole: tuple[float, float, float]
    sock: tuple[float, float, float]
    hat_colour: tuple[float, float, float]
    bag_colour: tuple[float, float, float]
    bag_variant: float  # 0..1: size and shape
    bag_side: int  # +1 left, -1 right
    on_forearm: bool


def check_fields(fields: Mapping[str, int]) -> None:
    """Raise DataError unless exactly the 27 Market fields with admissible values are given."""
    missing = [name for name in MARKET_FIELDS if name not in fields]
    extra = [name for name in fields if name not in MARKET_FIELDS]
    if missing or extra:
        raise DataError(
            f"a description needs exactly the 27 Market fields; missing: {missing or 'none'},"
            f" unknown: {extra or 'none'}."
        )
    for name, value in fields.items():
        top = 4 if name == "age" else 2
        if not 1 <= value <= top:
            raise DataError(f"field {name} is {value}; expected a whole number from 1 to {top}.")


def colour_name(fields: Mapping[str, int], part: str, names: tuple[str, ...]) -> str:
    """The one named colour of `up` or `down`; "" if none; DataError if there are several."""
    chosen = [name for name in names if fields[part + name] == YES]
    if len(chosen) > 1:
        raise DataError(f"{part} has {len(chosen)} colours {chosen}; expected at most one.")
    return chosen[0] if chosen else ""


def draw_ethnicity(rng: np.random.Generator) -> str:
    """One of the three ethnicity targets, evenly."""
    return ETHNICITIES[rng.integers(len(ETHNICITIES))]


def draw_skin_position(rng: np.random.Generator) -> float:
    """Skin tone position 0 (lightest) .. 1 (darkest), evenly."""
    return float(rng.uniform())


def body_weights(age: int, female: bool, ethnicity: str, rng: np.random.Generator) -> dict:
    """Weights of the shape targets of one body."""
    gender = "female" if female else "male"
    span = {
        YOUNG: ("child", "young", rng.uniform(0.0, 0.15)),
        TEENAGER: ("child", "young", rng.uniform(0.5, 0.66)),
        ADULT: ("young", "old", rng.uniform(0.05, 0.4)),
        OLD: ("young", "old", rng.uniform(0.85, 1.0)),
    }[age]
    heavy = float(np.clip(rng.normal({TEENAGER: -0.45, ADULT: 0.3}.get(age, 0.0), 0.4), -1, 1.2))
    muscle = rng.uniform(0, 0.7) * (age == ADULT or (age == TEENAGER and not female))
    cup = rng.uniform(0.0, 0.8)
    weights: dict[str, float] = {}
    for stage, share in ((span[0], 1 - span[2]), (span[1], span[2])):
        weights[f"{ethnicity}-{gender}-{stage}"] = share
        extreme = "maxweight" if heavy > 0 else "minweight"
        universal = f"universal-{gender}-{stage}"
        weights[f"{universal}-averagemuscle-{extreme}"] = share * abs(heavy) * 0.75
        weights[f"{universal}-maxmuscle-averageweight"] = share * muscle
        weights[f"{universal}-averagemuscle-averageweight"] = share * (
            1 - abs(heavy) * 0.75 - muscle
        )
    if female and age != YOUNG:
        weights["breast-maxcup" if cup > 0 else "breast-mincup"] = abs(cup)
    return weights


def draw_height(age: int, female: bool, rng: np.random.Generator) -> float:
    """Body height in decimetres."""
    mean = {YOUNG: 12.2, TEENAGER: 15.0 + 0.5 * (not female), OLD: 15.6 + 1.0 * (not female)}
    adult = 16.5 + 1.3 * (not female)
    return float(mean.get(age, adult) + np.clip(rng.normal(0, 0.5), -1, 1))


def draw_hair(age: int, female: bool, long_hair: bool, position: float, rng: np.random.Generator):
    """Hair colour (3,), style and beard strength."""
    chances = {"black": 0.4, "dark brown": 0.3, "brown": 0.15, "blond": 0.1, "red": 0.05}
    name = list(chances)[rng.choice(len(chances), p=list(chances.values()))]
    if name in ("blond", "red") and position > 0.45:
        name = "black"
    shaded = np.array(colours.HAIR[name]) / 255 * rng.uniform(0.85, 1.2)
    gray = np.array(colours.OLD_HAIR[rng.integers(3)]) / 255
    pick, pick_beard = rng.random(), rng.random()
    if long_hair:
        style = ("straight", "straight", "wavy", "wide")[int(pick * 4)]
    elif age == OLD and not female and pick < 0.55:
        style = "bald"
    elif female:
        style = ("bob", "bob", "volume", "bob", "bob")[int(pick * 5)]
    else:
        style = ("crop", "buzz", "crop", "crop", "afro")[int(pick * 5)]
    bearded = not female and age >= ADULT and pick_beard < 0.55
    return (gray if age == OLD else shaded), style, (0.35 + 1.5 * pick_beard) * bearded


def draw_cloth(name: str, patterns: tuple[int, ...], rng: np.random.Generator) -> Cloth:
    """Cloth of a named colour ("" draws an unnamed one), its pattern one of those given."""
    pattern = patterns[rng.integers(len(patterns))]
    unnamed = colours.UNNAMED[rng.integers(len(colours.UNNAMED))]
    scale, rough = rng.uniform(0.7, 1.3), rng.uniform(0.5, 1.0)
    if not name and unnamed == "multi":
        mixed = [colours.shade(c, rng) for c in ("orange", "teal")]
        return Cloth(_rgb(mixed[0]), _rgb(mixed[1]), MULTI, scale, rough)
    colour = colours.shade(name or unnamed, rng)
    bright = colours.luminance(colour)
    if name in ("black", "gray", "white"):
        second = np.full(3, {"black": 0.5, "gray": 0.8, "white": 0.55}[name])
    else:
        second = colour + (0.55 * (1 - colour) if bright < 0.45 else -0.45 * colour)
    return Cloth(_rgb(colour), _rgb(second), pattern, scale, rough)


def draw_look(fields: Mapping[str, int], *, seed: int, person_id: int) -> Look:
    """The person that (seed, person_id) gives to a description; raises DataError on bad fields."""
    check_fields(fields)
    upper_name = colour_name(fields, "up", colours.UPPER_COLOURS)
    lower_name = colour_name(fields, "down", colours.LOWER_COLOURS)
    body, hair, up, down, feet, bags = (
        np.random.default_rng([seed, person_id, number, 7001]) for number in range(6)
    )
    age, female = fields["age"], fields["gender"] == FEMALE
    ethnicity, position = draw_ethnicity(body), draw_skin_position(body)
    weights = body_weights(age, female, ethnicity, body)
    long_hair, short_sleeve = fields["hair"] == LONG_HAIR, fields["up"] == SHORT_SLEEVE
    hair_colour, hair_style, beard = draw_hair(age, female, long_hair, position, hair)
    dress, short_lower = fields["clothes"] == DRESS, fields["down"] == SHORT_LOWER
    style, patterns = draw_upper_style(age, short_sleeve, up)
    upper = draw_cloth(upper_name, patterns, up)
    lower_patterns = (
        (PLAIN, PLAIN, STRIPES, CHECKS) if dress else (DENIM, DENIM, PLAIN, SIDE_STRIPE)
    )
    if lower_name not in ("blue", "black", "gray"):
        lower_patterns = tuple(PLAIN if p == DENIM else p for p in lower_patterns)
    lower = draw_cloth(lower_name, lower_patterns, down)
    if dress and upper_name == lower_name:
        lower = upper = Cloth(lower.colour, lower.second, lower.pattern, lower.scale, 0.7)
    bag = next((name for name in ("backpack", "bag", "handbag") if fields[name] == YES), "")
    shoe_style, shoe, sole, sock = draw_shoes(age, female, feet)
    bag_against = lower.colour if bag == "handbag" else upper.colour
    return Look(
        age=age,
        female=female,
        long_hair=long_hair,
        short_sleeve=short_sleeve,
        short_lower=short_lower,
        dress=dress,
        hat=("cap", "beanie", "brim", "bucket")[bags.integers(4)] if fields["hat"] == YES else "",
        bag=bag,
        ethnicity=ethnicity,
        skin_position=position,
        body_weights=tuple(weights.items()),
        height=draw_height(age, female, body),
        skin=_rgb(colours.skin_tone(position)),
        hair_colour=_rgb(hair_colour),
        hair_style=hair_style,
        beard=float(beard),
        upper=upper,
        lower=lower,
        upper_style=style,
        looseness=float(up.uniform(0.1, 0.5) if female else up.uniform(0.4, 1.0)),
        sleeve=float(up.uniform(0.5, 0.78) if short_sleeve else 1.93),
        upper_hem=float(up.uniform(0.0, 0.6) if style == "tee" else up.uniform(-0.15, 0.3)),
        lower_hem=float(_lower_hem(dress, short_lower, down)),
        leg_width=float(down.uniform(0.5, 0.66) if female else down.uniform(0.78, 1.05)),
        flare=float(down.uniform(0, 1)),
        shoe_style=shoe_style,
        shoe=shoe,
        sole=sole,
        sock=sock,
        hat_colour=_rgb(
            colours.distinct(np.array([hair_colour, colours.skin_tone(position)]), bags)
        ),
        bag_colour=_rgb(colours.contrasting(np.array(bag_against), bags)),
        bag_variant=float(bags.random()),
        bag_side=1 if bags.random() < 0.5 else -1,
        on_forearm=bool(bags.random() < 0.35),
    )


def draw_upper_style(age: int, short_sleeve: bool, rng: np.random.Generator):
    """Cut of the upper garment and the patterns it may have; the young wear prints and hoods."""
    pick = rng.random()
    if short_sleeve:
        if age >= ADULT and pick < 0.65:
            return "shirt", (BUTTONS, CHECKS, PINSTRIPES)
        return "tee", ((PRINT, STRIPES, PRINT, PLAIN) if age <= TEENAGER else (PLAIN, STRIPES))
    if age <= TEENAGER:
        return ("hoodie", (ZIP, PRINT, PLAIN)) if pick < 0.7 else ("sweater", (PRINT, STRIPES))
    if pick < 0.4:
        return "jacket", (OPEN, ZIP)
    if pick < 0.7:
        return "shirt", (BUTTONS, CHECKS, PINSTRIPES)
    return "sweater", (PLAIN, STRIPES, PLAIN)


def draw_shoes(age: int, female: bool, rng: np.random.Generator):
    """Shoe style, its colour, the sole's and the sock's."""
    styles = ("sneaker", "leather", "leather", "boot") if age >= ADULT else ("sneaker",)
    if female and age >= TEENAGER:
        styles = (*styles, "flat", "flat")
    style = styles[rng.integers(len(styles))]
    name = ("white", "black", "gray", "red", "blue")[rng.integers(5)]
    if style in ("leather", "boot", "flat"):
        name = ("black", "brown", "black")[rng.integers(3)]
    sole = 0.9 if style == "sneaker" else 0.12
    sock = (0.88, 0.12, 0.45)[rng.integers(3)]
    return style, _rgb(colours.shade(name, rng)), (sole, sole, sole), (sock, sock, sock)


def _lower_hem(dress: bool, short: bool, rng: np.random.Generator) -> float:
    if dress:
        return rng.uniform(-3.4, -2.5) if short else rng.uniform(-7.0, -6.2)
    return rng.uniform(-3.7, -2.6) if short else -7.35


def _rgb(colour: np.ndarray) -> tuple[float, float, float]:
    return float(colour[0]), float(colour[1]), float(colour[2])
