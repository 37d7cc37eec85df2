"""Ranked lists, curves, maps and points as pictures: what the numbers look like."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

# Colour and word of an image that fits its description, that does not, and of which its own label
# does not tell. The word too, because not everybody sees the colours.
MARKS = {True: ("#1a9850", "right"), False: ("#d73027", "wrong"), None: ("#808080", "unknown")}

# Of ranked lists, in inches: a cell of one image with its place below, the largest image in it, a
# line of text and, on average, a letter of a title.
_CELL_WIDTH, _CELL_HEIGHT = 1.0, 2.2
_IMAGE_WIDTH, _IMAGE_HEIGHT = 0.92, 1.84
_LINE_HEIGHT, _LETTER_WIDTH = 0.15, 0.065
_MARGIN = 0.1

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


@dataclass(frozen=True)
class Looks:
    """Where a model looks in one image.

    title: the description that it was found for. kind: of attention. pixels: (H, W, 3) uint8.
    overlays: by group the same with the map over it, see `overlay`.
    """

    title: str
    kind: str
    pixels: np.ndarray
    overlays: Sequence[tuple[str, np.ndarray]]


def overlay(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 that is bright where attention (h, w) is, its largest value most."""
    height, width = pixels.shape[:2]
    share = attention.astype(np.float32) / max(float(attention.max()), 1e-12)
    large = Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR)
    heat = matplotlib.colormaps["inferno"](np.asarray(large))[..., :3]
    grey = pixels.mean(axis=-1, keepdims=True) / 255
    return np.round(255 * (0.45 * grey + 0.55 * heat)).astype(np.uint8)


def modalities_svg(panels: Sequence[tuple[str, tuple[np.ndarray, np.ndarray]]]) -> bytes:
    """An SVG picture of points of images and of descriptions, one panel beside the other.

    panels: one or more of title, and points (G, 2) of images and (Q, 2) of descriptions. The same
    arguments give the same bytes.
    """
    figure = Figure(figsize=(4.6 * len(panels), 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, (images, descriptions)) in zip(axes, panels, strict=True):
        axis.scatter(*images.T, s=6, color=_COLOURS[1], label="images", alpha=0.6)
        axis.scatter(*descriptions.T, s=14, color=_COLOURS[2], marker="^", label="descriptions")
        axis.set(title=title, xticks=[], yticks=[])
    axes[0].legend(frameon=False)
    return _svg(figure, "modalities")


def draw_ranked_lists(file: Path, lists: Sequence[RankedList]) -> None:
    """Write a PNG with one row per description; it is whole at any moment."""
    columns = max(1, *(len(ranked.images) for ranked in lists))
    # A single short list still has room for its title.
    width = max(_CELL_WIDTH * columns, 4.0) + 2 * _MARGIN
    titles = [_title_lines(ranked, width - 2 * _MARGIN) for ranked in lists]
    heights = [_LINE_HEIGHT * len(title) + _CELL_HEIGHT for title in titles]
    height = sum(heights) + _MARGIN
    figure = Figure(figsize=(width, height))
    # One for all images, measured in inches from the upper left: many axes take seconds.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    tops = _MARGIN + np.cumsum([0.0, *heights[:-1]])
    for top, title, ranked in zip(tops, titles, lists, strict=True):
        # A description may hold what matplotlib would take for a formula.
        axes.text(_MARGIN, top, "\n".join(title), fontsize=8, va="top", parse_math=False)
        first = top + _LINE_HEIGHT * len(title)
        for place, image in enumerate(ranked.images):
            _draw_ranked_image(axes, _MARGIN + _CELL_WIDTH * place, first, place + 1, image)
    axes.set(xlim=(0, width), ylim=(height, 0))
    partial = file.with_name(file.name + ".partial")
    figure.savefig(partial, dpi=110, format="png")
    partial.replace(file)


def _title_lines(ranked: RankedList, width: float) -> list[str]:
    """A list's title, broken to lines that fit into so many inches."""
    title = f"{ranked.title} ({ranked.novelty})" if ranked.novelty else ranked.title
    return textwrap.wrap(title, int(width / _LETTER_WIDTH))


def _draw_ranked_image(axes: Axes, x: float, y: float, rank: int, image: RankedImage) -> None:
    """An image in its frame, and below it what it is, in the cell with this upper left corner."""
    colour, word = MARKS[image.right]
    height, width = image.pixels.shape[:2]
    scale = min(_IMAGE_WIDTH / width, _IMAGE_HEIGHT / height)
    middle, bottom = x + 0.5 * _CELL_WIDTH, y + _IMAGE_HEIGHT
    left, right = middle - 0.5 * scale * width, middle + 0.5 * scale * width
    top = bottom - scale * height
    axes.imshow(image.pixels, extent=(left, right, bottom, top), aspect="auto")
    frame = Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, linewidth=3)
    axes.add_patch(frame)
    below = bottom + 0.3 * _LINE_HEIGHT
    axes.text(middle, below, f"{rank} {word}", fontsize=7, color=colour, ha="center", va="top")


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
    return _svg(figure, title)


def means_png(panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]]) -> bytes:
    """A PNG of means with their standard deviations, runs below each other.

    panels: by panel, then by subset, then by run the mean and deviation as shares; NaN of either is
    not drawn.
    """
    runs = list(dict.fromkeys(r for panel in panels.values() for s in panel.values() for r in s))
    size = (4.2 * len(panels) + 1, 0.5 * len(runs) + 1.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, subsets) in zip(axes, panels.items(), strict=True):
        for place, (subset, values) in enumerate(subsets.items()):
            # Subsets beside each other within the line of a run.
            y = [runs.index(run) + 0.2 * (place - (len(subsets) - 1) / 2) for run in values]
            means, deviations = 100 * np.array(list(values.values())).reshape(-1, 2).T
            axis.errorbar(
                means,
                y,
                xerr=np.nan_to_num(deviations),
                label=subset,
                color=_COLOURS[place % len(_COLOURS)],
                linestyle="",
                marker="o",
                markersize=4,
                capsize=3,
            )
        axis.set(xlabel=f"{title} (%)", yticks=range(len(runs)), ylim=(len(runs) - 0.5, -0.5))
        axis.set_yticklabels(runs, parse_math=False)
        axis.grid(axis="x", alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return _png(figure)


def training_curves_png(
    curves: Mapping[str, Sequence[Mapping[int, float]]], *, y_label: str
) -> bytes:
    """A PNG of curves over the steps of training: each seed thin, the mean of a run's seeds thick.

    curves: by run, one curve per seed, which is a share by step. Seeds hold out other images, so
    they have other steps; between its own steps a curve is taken for straight.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, (run, seeds) in enumerate(curves.items()):
        drawn = [(sorted(c), [100 * c[step] for step in sorted(c)]) for c in seeds if c]
        if not drawn:
            continue
        colour = f"C{place % 10}"
        for steps, values in drawn:
            axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.4)
        first, last = max(s[0] for s, _ in drawn), min(s[-1] for s, _ in drawn)
        grid = sorted({step for steps, _ in drawn for step in steps if first <= step <= last})
        mean = np.mean([np.interp(grid, steps, values) for steps, values in drawn], axis=0)
        axes.plot(grid, mean, color=colour, linewidth=2, marker=".", label=run.replace("$", r"\$"))
    axes.set(xlabel="step", ylabel=f"{y_label} (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()


def _svg(figure: Figure, salt: str) -> bytes:
    """The bytes of an SVG with text as text; salt: of its ids, which would else be random."""
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()
