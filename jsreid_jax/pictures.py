"""Ranked lists and curves as pictures: what the numbers look like."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Colour and word of an image that fits its description, that does not, and of which its own label
# does not tell. The word too, because not everybody sees the colours.
MARKS = {True: ("#1a9850", "right"), False: ("#d73027", "wrong"), None: ("#808080", "unknown")}

# Of curves that stand beside each other, in this order.
_COLOURS = ("#333333", "#4575b4", "#d73027")


@dataclass(frozen=True)
class RankedImage:
    """One image of a ranking.

    pixels: (H, W, 3) uint8. caption: its file name. right: whether it fits the description, None
    where its own label does not tell.
    """

    pixels: np.ndarray
    caption: str
    right: bool | None


@dataclass(frozen=True)
class RankedList:
    """The best images of one description, best first; novelty: "seen", "unseen" or nothing."""

    title: str
    novelty: str
    images: Sequence[RankedImage]


def draw_ranked_lists(file: Path, lists: Sequence[RankedList]) -> None:
    """Write a PNG with one row per description; it is whole at any moment."""
    columns = max(1, *(len(ranked.images) for ranked in lists))
    # A single short list still has room for its title.
    figure = Figure(figsize=(max(1.0 * columns, 4) + 0.4, 2.35 * len(lists)), layout="constrained")
    rows = figure.subfigures(len(lists), 1, squeeze=False)[:, 0]
    for row, ranked in zip(rows, lists, strict=True):
        title = f"{ranked.title} ({ranked.novelty})" if ranked.novelty else ranked.title
        # A description may hold what matplotlib would take for a formula.
        row.suptitle(
            title, fontsize=8, x=0.01, horizontalalignment="left", wrap=True, parse_math=False
        )
        axes = row.subplots(1, columns, squeeze=False)[0]
        for axis in axes:
            axis.set_axis_off()
        for rank, (axis, image) in enumerate(zip(axes, ranked.images, strict=False), 1):
            colour, word = MARKS[image.right]
            axis.set_axis_on()
            axis.imshow(image.pixels)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(f"{rank} {word}", fontsize=7, color=colour)
            for spine in axis.spines.values():
                spine.set(edgecolor=colour, linewidth=3)
    partial = file.with_name(file.name + ".partial")
    figure.savefig(partial, dpi=110, format="png")
    partial.replace(file)


def curves_svg(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float | None]],
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> bytes:
    """An SVG picture of curves over x; None leaves a gap, a curve without values is left out.

    The same arguments give the same bytes.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), _COLOURS, strict=False):
            numbers = [np.nan if value is None else 100 * value for value in values]
            if len(numbers) == len(x) and not np.isnan(numbers).all():
                axes.plot(x, numbers, label=name, color=colour, marker="." if len(x) < 30 else "")
        axes.set(title=title, xlabel=x_label, ylabel=f"{y_label} (%)", ylim=(0, 102))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()
