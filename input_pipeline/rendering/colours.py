"""The named cloth colours and their shades, skin tones and hair colours (sRGB, 0..1)."""

import numpy as np

UPPER_COLOURS = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
LOWER_COLOURS = (*("black", "white", "pink", "purple", "yellow", "gray", "blue", "green", "brown"),)
SHADES = {
    "black": ((17, 17, 18), (26, 25, 26), (22, 23, 26)),
    "white": ((244, 244, 242), (236, 234, 226), (232, 238, 244)),
    "red": ((198, 24, 34), (158, 18, 36), (222, 46, 44)),
    "purple": ((118, 42, 142), (150, 84, 178), (88, 32, 110)),
    "yellow": ((238, 206, 48), (226, 186, 30), (246, 226, 104)),
    "gray": ((128, 129, 131), (108, 109, 112), (146, 145, 142)),
    "blue": ((34, 50, 124), (38, 84, 182), (92, 152, 220), (24, 66, 150)),
    "green": ((28, 98, 52), (58, 146, 68), (94, 112, 44), (34, 152, 104)),
    "pink": ((238, 150, 182), (246, 178, 200), (236, 124, 170)),
    "brown": ((108, 70, 40), (130, 90, 56), (86, 54, 34)),
    "orange": ((236, 118, 34), (244, 146, 70), (214, 92, 24)),
    "teal": ((22, 138, 148), (48, 166, 168), (16, 110, 122)),
}
UNNAMED = ("orange", "teal", "multi")
SKIN_STOPS = (
    *((232, 190, 164), (220, 170, 136), (194, 142, 106)),
    *((152, 102, 72), (108, 70, 49), (66, 44, 35)),
)
HAIR = {
    "black": (22, 18, 17),
    "dark brown": (48, 32, 24),
    "brown": (88, 58, 36),
    "blond": (190, 152, 92),
    "red": (140, 66, 30),
}
OLD_HAIR = ((150, 150, 152), (188, 188, 188), (224, 222, 218))


def shade(name: str, rng: np.random.Generator) -> np.ndarray:
    """A shade (3,) of a named colour: between two neighbouring anchors, slightly varied."""
    anchors = np.array(SHADES[name], np.float64) / 255
    first, second = rng.integers(len(anchors), size=2)
    mixed = anchors[first] + rng.uniform(0, 0.35) * (anchors[second] - anchors[first])
    return np.clip(mixed * rng.uniform(0.93, 1.07), 0.03, 0.97)


def skin_tone(position: float) -> np.ndarray:
    """Skin (3,) at a position 0 (lightest) .. 1 (darkest)."""
    stops = np.array(SKIN_STOPS) / 255
    places = np.linspace(0, 1, len(stops))
    return np.array([np.interp(position, places, stops[:, c]) for c in range(3)])


def luminance(colour: np.ndarray) -> float:
    """Perceived brightness of a colour (3,)."""
    return float(np.dot(colour, (0.3, 0.59, 0.11)))


def contrasting(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An accessory colour (3,) that stands out from a cloth colour."""
    dark = ((26, 26, 30), (60, 36, 26), (28, 36, 70), (110, 24, 30))
    light = ((214, 200, 170), (200, 60, 50), (226, 226, 224), (196, 150, 92), (236, 170, 60))
    choices = np.array(dark if luminance(colour) > 0.38 else light) / 255
    return choices[rng.integers(len(choices))] * rng.uniform(0.9, 1.05)


def distinct(others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of eight random cloth shades the first (3,) that is unlike all of `others` (N, 3)."""
    names = list(SHADES)
    drawn = np.array([shade(names[rng.integers(len(names))], rng) for _ in range(8)])
    nearest = np.abs(drawn[:, None] - others[None]).sum(2).min(1)
    return drawn[np.argmax(nearest > 0.7)] if (nearest > 0.7).any() else drawn[nearest.argmax()]
