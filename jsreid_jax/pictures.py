"""The picture of ranked lists: what the numbers look like."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

RIGHT, WRONG = "#1a9850", "#d73027"


def draw_ranked_lists(
    file: Path,
    titles: Sequence[str],
    images: Sequence[Sequence[np.ndarray]],
    right: Sequence[Sequence[bool]],
) -> None:
    """Write a PNG with one row per query: its description, then its best images, best first.

    Args:
        file: where to write.
        titles: one description per query.
        images: per query, uint8 (H, W, 3) images by rank.
        right: per query, whether the person in that image matches the description.
    """
    columns = max(len(row) for row in images)
    figure = Figure(figsize=(1.0 * columns + 0.4, 2.35 * len(titles)), layout="constrained")
    rows = figure.subfigures(len(titles), 1, squeeze=False)[:, 0]
    for subfigure, title, row_images, row_right in zip(rows, titles, images, right, strict=True):
        subfigure.suptitle(title, fontsize=8, x=0.01, horizontalalignment="left", wrap=True)
        axes = subfigure.subplots(1, columns, squeeze=False)[0]
        for axis in axes:
            axis.set_axis_off()
        for rank, (axis, image, is_right) in enumerate(
            zip(axes, row_images, row_right, strict=False), 1
        ):
            colour = RIGHT if is_right else WRONG
            axis.set_axis_on()
            axis.imshow(image)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(f"{rank} {'right' if is_right else 'wrong'}", fontsize=7, color=colour)
            for spine in axis.spines.values():
                spine.set(edgecolor=colour, linewidth=3)
    figure.savefig(file, dpi=110)
