"""The findings of a check as text, as JSON and as a picture."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from input_pipeline.check.findings import (
    CROPS_PER_VALUE,
    Duplicate,
    Findings,
    Marginal,
    number,
    some,
)
from input_pipeline.check.images import CROP_HEIGHT, CROP_WIDTH

JSON_NAME, PICTURE_NAME = "check.json", "check.png"

# Files that the text names of one kind; the JSON names all.
_LISTED = 10

_COLOURS = {"train": "#4575b4", "val": "#fdae61", "test": "#d73027"}
_GREY, _GOOD, _BAD = "#666666", "#1a9850", "#d73027"

# Inches of the picture: a row of one value, the strip above the rows, and what stands in a row.
_ROW, _TOP, _MARGIN = 0.7, 2.6, 0.3
_LABEL_WIDTH, _BARS_WIDTH, _GAP = 1.9, 1.8, 0.3
_CELL_HEIGHT, _CELL_WIDTH = CROP_HEIGHT + 4, CROP_WIDTH + 4
_CROPS_WIDTH = _ROW * _CELL_WIDTH / _CELL_HEIGHT * CROPS_PER_VALUE
_BLOCK_WIDTH = _LABEL_WIDTH + _BARS_WIDTH + _CROPS_WIDTH + _GAP
_DOTS_PER_INCH = 120


def write_whole(file: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` write a file beside this one, which then takes its place at once."""
    # With the process's number, since two checks may write to the same folder; and with the
    # ending of the file, from which a picture's format is told.
    partial = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
    try:
        write(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_report(
    output_dir: Path,
    findings: Findings,
    crops: Mapping[tuple[str, str], Sequence[np.ndarray]],
) -> tuple[Path, Path]:
    """Writes picture and JSON into an existing folder, each whole or not at all."""
    picture, file = output_dir / PICTURE_NAME, output_dir / JSON_NAME
    write_whole(picture, lambda partial: draw(partial, findings, crops))
    content = json.dumps(findings.to_dict(), indent=2) + "\n"
    write_whole(file, lambda partial: partial.write_text(content))
    return picture, file


def text(findings: Findings) -> str:
    """What a check prints."""
    return "\n".join(_lines(findings)) + "\n"


def _lines(findings: Findings) -> Iterator[str]:
    rendered = " (rendered)" if findings.is_rendered else ""
    yield f"{findings.reader} in {findings.data_dir}{rendered}"
    yield ""
    yield from _counts(findings)
    yield ""
    if findings.failed_facts or any(fact.expected is not None for fact in findings.facts):
        yield f"Facts that {findings.source} asserts"
    else:
        yield "Facts, of which none is asserted"
    for fact in findings.facts:
        found = "-" if fact.found is None else f"{fact.found:,}"
        name = fact.name.replace("_", " ")
        if fact.expected is None:
            yield f"         {name:26}{found:>10}"
        elif fact.found == fact.expected:
            yield f"  holds  {name:26}{found:>10}"
        else:
            yield f"  FAILS  {name:26}{found:>10}, expected {fact.expected:,}"
    yield ""
    yield from _attribute_table(findings)
    if findings.unseen_distances:
        yield ""
        yield (
            "Unseen test categories by the number of attribute columns in which they differ from "
            "the"
        )
        yield "nearest training category: " + ", ".join(
            f"{distance} ({count:,})" for distance, count in findings.unseen_distances.items()
        )
    yield from _section(
        "Unreadable images",
        [f"{file.name} ({file.split}): {file.reason}" for file in findings.unreadable],
    )
    yield from _section("LEAK: the same image in several splits", _groups(findings.leaked_images))
    yield from _section(
        "CONTRADICTION: the same image under different descriptions",
        _groups(findings.contradictions),
    )
    harmless = [
        group
        for group in findings.duplicates
        if group not in findings.leaked_images and group not in findings.contradictions
    ]
    yield from _section("Duplicate images", _groups(harmless))
    yield from _section("Persons in two parts", list(_shared_persons(findings)))
    yield from _section("Warnings", list(_warnings(findings)))
    yield ""
    problems = findings.problems
    yield f"Result: {number(problems, 'problem')}" if problems else "Result: all is well"
    for problem in problems:
        yield f"  {problem}"


def _counts(findings: Findings) -> Iterator[str]:
    parts = list(findings.categories)
    yield f"{'':12}" + "".join(f"{part:>10}" for part in parts)
    persons = [findings.persons[part] for part in parts]
    yield f"{'persons':12}" + "".join(
        f"{'unknown' if count is None else f'{count:,}':>10}" for count in persons
    )
    yield f"{'categories':12}" + "".join(f"{findings.categories[part]:>10,}" for part in parts)
    if findings.unseen_share is not None:
        yield (
            f"{'unseen':12}{'':{10 * (len(parts) - 1)}}{findings.unseen_categories:>10,}"
            f" ({_per_cent(findings.unseen_share).strip()} of the test categories are not trained)"
        )
    images = ", ".join(f"{split} {count:,}" for split, count in findings.images.items())
    yield f"images      {images}"
    if findings.image_sizes:
        smallest, largest = (
            "x".join(map(str, findings.image_sizes[name])) for name in ("smallest", "largest")
        )
        sizes = smallest if smallest == largest else f"from {smallest} to {largest}"
        yield f"image size  {sizes} (height x width)"


def _attribute_table(findings: Findings) -> Iterator[str]:
    parts = list(findings.categories)
    yield "Attributes: share of the images in which the value is known"
    yield f"  {'':34}" + "".join(f"{part:>9}" for part in parts)
    shown = ""
    for marginal in findings.marginals:
        title = "" if marginal.group == shown else _title(marginal.group)
        shown = marginal.group
        # Of a yes-or-no group the title says it all, and may be long (PETA's).
        label = title if marginal.value == "yes" else f"{title:17.17} {marginal.value:16.16}"
        yield f"  {label:34.34}" + "".join(
            f"{_per_cent(marginal.share(part)):>9}" for part in parts
        )


def draw(
    file: Path, findings: Findings, crops: Mapping[tuple[str, str], Sequence[np.ndarray]]
) -> None:
    """Writes the picture: marginals with sample crops beside them, unseen categories by distance.

    crops: (H, W, 3) uint8 of at most CROP_HEIGHT x CROP_WIDTH by (group, value).
    """
    marginals = findings.marginals
    # As many columns of rows as make the picture about as wide as it is high.
    columns = max(1, round(math.sqrt(len(marginals) * _ROW / _BLOCK_WIDTH)))
    rows = math.ceil(len(marginals) / columns)
    width = max(columns, 2) * _BLOCK_WIDTH + 2 * _MARGIN
    height = _TOP + rows * _ROW + 2 * _MARGIN
    figure = Figure(figsize=(width, height))

    def axes(left: float, top: float, wide: float, high: float) -> Axes:
        """In inches from the upper left corner."""
        box = (left / width, 1 - (top + high) / height, wide / width, high / height)
        return figure.add_axes(box)

    _draw_summary(axes(_MARGIN, _MARGIN, width / 2 - _MARGIN, _TOP - _MARGIN), findings)
    _draw_distances(axes(width / 2 + 0.8, 0.6, 3.6, _TOP - 1.2), findings)
    for column in range(columns):
        block = marginals[column * rows : (column + 1) * rows]
        left, top = _MARGIN + column * _BLOCK_WIDTH, _TOP + _MARGIN
        high = len(block) * _ROW
        _draw_bars(axes(left + _LABEL_WIDTH, top, _BARS_WIDTH, high), findings, block)
        _draw_crops(
            axes(left + _LABEL_WIDTH + _BARS_WIDTH, top, _CROPS_WIDTH, high),
            [crops.get((entry.group, entry.value), ()) for entry in block],
        )
    figure.savefig(file, dpi=_DOTS_PER_INCH)


def _draw_summary(axes: Axes, findings: Findings) -> None:
    axes.set_axis_off()

    def say(height: float, words: str, left: float = 0.0, **style: Any) -> None:
        style |= {"va": "top", "parse_math": False, "transform": axes.transAxes}
        axes.text(left, height, words, **style)

    say(1, f"{findings.reader}: {Path(findings.data_dir).name}", fontsize=15)
    say(0.84, "\n".join(_counts(findings)), fontsize=8, family="monospace")
    problems = findings.problems
    verdict = f"{number(problems, 'problem')}, see {JSON_NAME}" if problems else "all is well"
    say(0.3, verdict, fontsize=11, color=_BAD if problems else _GOOD)
    left = 0.0
    for part in findings.categories:
        say(0.12, f"\N{BLACK SQUARE} {part}", left, fontsize=9, color=_COLOURS[part])
        left += 0.11
    note = "share of the images in which the value is known; some of these images"
    say(0.12, note, left, fontsize=9, color=_GREY)


def _draw_distances(axes: Axes, findings: Findings) -> None:
    axes.set_title("unseen test categories by distance to training", fontsize=10, loc="left")
    if not findings.unseen_distances:
        axes.set_axis_off()
        axes.text(0, 0.8, "no test category is unseen", color=_GREY, transform=axes.transAxes)
        return
    distances = list(findings.unseen_distances)
    counts = list(findings.unseen_distances.values())
    bars = axes.bar(distances, counts, color=_COLOURS["test"], width=0.8)
    axes.bar_label(bars, fontsize=8)
    axes.margins(y=0.15)
    axes.set_xlim(0.4, max(*distances, 4) + 0.6)
    axes.set_xticks(range(1, max(*distances, 4) + 1))
    axes.set_xlabel("differing attribute columns", fontsize=9)
    axes.set_ylabel("categories", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bars(axes: Axes, findings: Findings, block: Sequence[Marginal]) -> None:
    """One row per value, downwards, with one bar per part; labels stand left of the axes."""
    parts = list(findings.categories)
    thickness = 0.76 / len(parts)
    left = -_LABEL_WIDTH / _BARS_WIDTH
    # No formulas: a user's names may hold a dollar sign.
    style = {"fontsize": 9, "va": "center", "parse_math": False}
    shown = ""
    for row, entry in enumerate(block):
        if entry.group != shown:
            axes.plot((left, 1), (row, row), color=_GREY, linewidth=0.5, clip_on=False)
            title = _shortened(_title(entry.group), 26 if entry.value == "yes" else 14)
            axes.text(left, row + 0.5, title, weight="bold", **style)
            shown = entry.group
        if entry.value != "yes":
            value = _shortened(entry.value, 12)
            axes.text(-0.04, row + 0.5, value, ha="right", **style)
        for place, part in enumerate(parts):
            share = entry.share(part)
            length = share or 0.0
            middle = row + 0.12 + (place + 0.5) * thickness
            axes.barh(middle, length, height=0.88 * thickness, color=_COLOURS[part])
            is_inside = length > 0.7
            axes.text(
                length + (-0.02 if is_inside else 0.02),
                middle,
                _per_cent(share),
                fontsize=7,
                color="white" if is_inside else "black",
                va="center",
                ha="right" if is_inside else "left",
            )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(block), 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_crops(axes: Axes, rows: Sequence[Sequence[np.ndarray]]) -> None:
    """Crops of each row side by side, all rows as one picture."""
    canvas = np.full((len(rows) * _CELL_HEIGHT, CROPS_PER_VALUE * _CELL_WIDTH, 3), 255, np.uint8)
    for row, crops in enumerate(rows):
        for column, crop in enumerate(crops):
            height, width = crop.shape[:2]
            top = row * _CELL_HEIGHT + (_CELL_HEIGHT - height) // 2
            left = column * _CELL_WIDTH + (_CELL_WIDTH - width) // 2
            canvas[top : top + height, left : left + width] = crop
    axes.imshow(canvas, aspect="auto", interpolation="antialiased")
    axes.set_axis_off()


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 3]}..."


def _per_cent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _title(group: str) -> str:
    return group.replace("_", " ")


def _section(title: str, entries: Sequence[str]) -> Iterator[str]:
    """A heading with the first entries beneath; nothing without entries."""
    if not entries:
        return
    yield ""
    yield f"{title}: {len(entries):,}"
    for entry in entries[:_LISTED]:
        yield f"  {entry}"
    if len(entries) > _LISTED:
        yield f"  ... and {len(entries) - _LISTED:,} more in {JSON_NAME}"


def _groups(groups: Sequence[Duplicate]) -> list[str]:
    lines = []
    for group in groups:
        names = " = ".join(group.names[:_LISTED])
        more = len(group.names) - _LISTED
        said = " | ".join(group.descriptions) if len(group.descriptions) > 1 else ""
        lines.append(
            names + (f" and {more:,} more" if more > 0 else "") + (f"\n    {said}" if said else "")
        )
    return lines


def _shared_persons(findings: Findings) -> Iterator[str]:
    for shared in findings.shared_persons:
        level = f"no leak: {shared.by_protocol}" if shared.by_protocol else "LEAK"
        yield (
            f"{number(shared.person_ids, 'person')} in both {' and '.join(shared.parts)}"
            f"{some(shared.person_ids)}: {level}"
        )


def _warnings(findings: Findings) -> Iterator[str]:
    yield from findings.warnings
    for part, count in findings.unknown_persons.items():
        if count:
            yield f"{part}: {count:,} images are of unknown persons, who may be in other parts too"
    for part, groups in findings.unknown_groups.items():
        if groups:
            yield f"{part}: nothing is known of {', '.join(map(_title, groups))}"
    for part, values in findings.absent_values.items():
        if values:
            yield f"{part}: never occurs {', '.join(values)}"
