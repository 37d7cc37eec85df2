"""The HTML page: everything of the result is in it, nothing outside of it is needed."""

import base64
import copy
import html.parser
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jsreid_jax import report
from jsreid_jax.pictures import Looks, RankedImage, RankedList

VALUES = {name: 0.1 + 0.01 * i for i, name in enumerate(report.METRICS)}
SCORES = VALUES | {"valid_queries": 7}
NOTHING = dict.fromkeys(VALUES) | {"valid_queries": 0}


def make_result() -> dict[str, Any]:
    return {
        "protocol": "sal_python",
        "protocol_says": "as category, but",
        "average_precision": "step",
        "ties": "by gallery index",
        "score": {
            **{"kind": "fused", "fusion_weight": 0.03, "chosen": True},
            **{"reranked": 100, "rerank_weight": 0.01},
        },
        "split": "test",
        "data": {"name": "mine & yours", "dir": "data/<mine>"},
        "step": 1200,
        "which": "best",
        "queries": 9,
        "gallery": 1234,
        "metrics": {"all": SCORES, "seen": NOTHING, "unseen": SCORES},
        "intervals": {
            "all": dict.fromkeys(VALUES, (0.0123, 0.9876)),
            "seen": dict.fromkeys(VALUES, (None, None)),
            "unseen": dict.fromkeys(VALUES, (0.2, 0.3)),
        },
        "cmc": {"all": [0.5, 0.75], "seen": [], "unseen": [0.25, 0.5]},
        "single_groups": [
            {"group": "upper_colour", "value": "light_red", "share": 0.25, "rank1": 1.0, "AP": 0.5},
            {"group": "hat", "value": "no", "share": 0.75, "rank1": 0.0, "AP": None},
        ],
        "modalities": {"probe": 0.625, "step": 1200, "before": {"probe": 0.975, "step": 100}},
        "wrong_top1": {"count": 5, "groups": {"hat": 0.2, "upper_colour": 0.8, "age": None}},
        "partial": {
            "groups": 2,
            "curve": [
                {"known": known, "all": SCORES, "seen": NOTHING, "unseen": SCORES}
                for known in (1, 2)
            ],
        },
    }


def make_lists() -> list[RankedList]:
    pixels = np.zeros((300, 100, 3), np.uint8)
    pixels[..., 0] = 250
    images = [RankedImage(pixels, f"{mark}.jpg", mark) for mark in (True, False, None)]
    return [RankedList("<b>red</b> top", "unseen", images), RankedList("hat", "", images[:1])]


def make_looks() -> list[Looks]:
    pixels = np.full((128, 64, 3), 90, np.uint8)
    return [Looks("red top", "guided", pixels, [("hat", pixels), ("upper colour", pixels)])]


def make_points():
    rng = np.random.default_rng(0)
    return [(title, (rng.normal(size=(9, 2)), rng.normal(size=(4, 2)))) for title in ("old", "new")]


class Page(html.parser.HTMLParser):
    """Words, table rows and what a page refers to."""

    def __init__(self, text: str):
        super().__init__()
        self.words, self.rows, self.references, self.tags = [], [], [], []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags are nested as they should"

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            return
        self.words.append(" ".join(data.split()))
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] = " ".join([self.rows[-1][-1], *data.split()]).strip()


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report.html(make_result(), make_lists(), make_looks(), make_points()))


def test_it_is_well_formed_and_needs_nothing_else(page):
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.references) == 2 + 1 + 3 + 4
    assert all(reference.startswith("data:image/") for reference in page.references)


def test_it_says_which_protocol_and_data(page):
    text = " ".join(page.words)
    for words in ("sal_python", "as category, but", "by gallery index"):
        assert words in text
    assert "log-likelihood 0.03" in text and "the best 100 ranked again" in text
    assert "data/<mine> (mine & yours)" in text and "1,234 gallery images" in text


def test_tables_hold_every_number_with_its_interval(page):
    [heading] = [row for row in page.rows if "valid queries" in row]
    assert heading[2:] == list(report.METRICS.values())
    rows = {row[0]: row for row in page.rows if len(row) == len(heading)}
    assert rows["all"][1] == "7"
    assert rows["all"][2:] == [f"{report.percent(value)} 1.2 to 98.8" for value in VALUES.values()]
    assert rows["seen"][1:] == ["0", *["-"] * len(VALUES)]
    partial = [row for row in page.rows if row[0] in ("1 of 2", "2 of 2")]
    rank1, precision = (report.percent(VALUES[name]) for name in ("rank1", "mAP"))
    assert [row[1:] for row in partial] == [[rank1, precision, "-", "-", rank1, precision]] * 2
    wrong = [row[:2] for row in page.rows if len(row) == 3 and row[0] != "group"]
    assert wrong == [["upper colour", "80.0"], ["hat", "20.0"], ["age", "-"]]


def test_it_shows_what_is_inside(page):
    rows = [
        row[:5] for row in page.rows if row[:2] in (["upper colour", "light red"], ["hat", "no"])
    ]
    assert rows == [
        ["upper colour", "light red", "25.0", "100.0", "50.0"],
        ["hat", "no", "75.0", "0.0", "-"],
    ]
    text = " ".join(page.words)
    assert "balanced accuracy of 62.5" in text and "at step 100, with 97.5" in text
    [places] = [i for i, tag in enumerate(page.words) if tag == "red top"]
    assert page.words[places + 1] == "(guided attention)"
    assert {"image", "hat", "upper colour"} <= set(page.words[places:])
    svg = base64.b64decode(page.references[2].split(",")[1]).decode()
    assert "old" in svg and "new" in svg and "descriptions" in svg


def test_a_model_without_joint_space_or_attention_has_less_inside():
    result = make_result() | {"modalities": None, "single_groups": []}
    text = report.html(result, [])
    assert "Both modalities" not in text and "Where it looks" not in text


def test_ranked_lists_show_small_images_with_their_marks(page):
    text = " ".join(page.words)
    assert "<b>red</b> top" in text and "(unseen)" in text
    marks = [word for word in page.words if word in ("right", "wrong", "unknown")]
    assert marks[-4:] == ["right", "wrong", "unknown", "right"]
    for reference in page.references[-4:]:
        kind, encoded = reference.split(",")
        assert kind == "data:image/jpeg;base64"
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        assert image.shape == (160, 53, 3)
        assert image[..., 0].min() > 200 and image[..., 1].max() < 50


def test_a_result_that_lacks_something_is_a_bug_and_not_a_gap():
    result = copy.deepcopy(make_result())
    del result["intervals"]["all"]["mINP"]
    with pytest.raises(Exception, match="mINP"):
        report.html(result, [])


def test_no_ranked_lists_and_one_query_are_no_problem():
    result = make_result()
    result["cmc"] = {"all": [1.0], "seen": [], "unseen": [1.0]}
    assert "Ranked lists" in report.html(result, [])
