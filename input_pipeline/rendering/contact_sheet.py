"""A picture of many crops with their descriptions beneath."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LINE_HEIGHT, PADDING = 14, 6


def wrap(title: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a title into lines no wider than `width` pixels, between words."""
    rows = [""]
    for word in title.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and font.getlength(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


def write_contact_sheet(
    file: Path, crops: list[np.ndarray], titles: list[str], columns: int = 8
) -> None:
    """Write crops (H, W, 3) uint8 of one size in a grid, titles wrapped beneath, to `file`."""
    if not crops or len(crops) != len(titles):
        raise ValueError(f"{len(crops)} crops and {len(titles)} titles; expected as many, not none")
    font = ImageFont.load_default(size=12)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, titles cannot be written")
    height, width = crops[0].shape[:2]
    cell = max(width, 150)
    wrapped = [wrap(title, font, cell - 4) for title in titles]
    text_height = max(map(len, wrapped)) * LINE_HEIGHT + PADDING
    rows = -(-len(crops) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * (height + text_height)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (crop, lines) in enumerate(zip(crops, wrapped, strict=True)):
        left = index % columns * cell
        top = index // columns * (height + text_height)
        sheet.paste(Image.fromarray(crop), (left + (cell - width) // 2, top))
        for number, line in enumerate(lines):
            pen.text((left + 2, top + height + 2 + number * LINE_HEIGHT), line, "black", font)
    sheet.save(file)
