"""An evaluation as one self-contained HTML page: tables, curves and ranked lists.

The page holds its pictures, loads nothing and runs no script; `report.html.jinja` is its text.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from jsreid_jax import pictures
from jsreid_jax.retrieval import RANKS

# Columns of the tables: name in the JSON and heading.
METRICS = {
    **{f"rank{k}": f"rank-{k}" for k in RANKS},
    "mAP": "mAP",
    "mAP_step": "mAP, step",
    "mAP_trapezoid": "mAP, trapezoid",
    "mINP": "mINP",
}
SUBSETS = ("all", "seen", "unseen")

# Pixels; larger crops would make a page of megabytes.
_IMAGE_HEIGHT = 160
_JPEG_QUALITY = 85


def html(
    result: dict[str, Any],
    lists: Sequence[pictures.RankedList],
    looks: Sequence[pictures.Looks] = (),
    points: Sequence[tuple[str, tuple[np.ndarray, np.ndarray]]] = (),
) -> str:
    """The page of an evaluation.

    Args:
        result: what metrics.json holds, None for what is not known.
        lists: ranked lists to show.
        looks: where the model looks.
        points: of both modalities, see `pictures.modalities_svg`.
    """
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": percent, "jpeg": _jpeg, "svg": _svg}
    return templates.get_template("report.html.jinja").render(
        result=result,
        metrics=METRICS,
        subsets=SUBSETS,
        curves=_curves(result),
        partial=_partial_rows(result["partial"]),
        wrong_groups=_by_share(result["wrong_top1"]["groups"]),
        lists=lists,
        looks=looks,
        points=pictures.modalities_svg(points) if points else None,
        marks=pictures.MARKS,
    )


def percent(share: float | None) -> str:
    """A share as "12.3", or "-" where it is not known."""
    return "-" if share is None else f"{100 * share:.1f}"


def _curves(result: dict[str, Any]) -> list[bytes]:
    """The curves of cumulative matches and of partial queries as SVG."""
    cmc = result["cmc"]
    points = result["partial"]["curve"]
    return [
        pictures.curves_svg(
            range(1, 1 + max(map(len, cmc.values()))),
            cmc,
            title="Right image among the first k",
            x_label="k",
            y_label="queries",
        ),
        pictures.curves_svg(
            [point["known"] for point in points],
            {subset: [point[subset]["mAP"] for point in points] for subset in SUBSETS},
            title="Partial queries",
            x_label=f"known groups of {result['partial']['groups']}",
            y_label="mAP",
        ),
    ]


def _partial_rows(partial: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    return [(point["known"], point) for point in partial["curve"]]


def _by_share(groups: dict[str, float | None]) -> list[tuple[str, float | None]]:
    """Groups as words with their shares, the largest first, unknown ones last."""
    ordered = sorted(groups.items(), key=lambda item: (item[1] is None, -(item[1] or 0.0)))
    return [(name.replace("_", " "), share) for name, share in ordered]


def _jpeg(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a data URL, made smaller where it is large."""
    image = Image.fromarray(pixels)
    if image.height > _IMAGE_HEIGHT:
        width = max(1, round(image.width * _IMAGE_HEIGHT / image.height))
        image = image.resize((width, _IMAGE_HEIGHT), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return _data_url("image/jpeg", encoded.getvalue())


def _svg(picture: bytes) -> str:
    return _data_url("image/svg+xml", picture)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
