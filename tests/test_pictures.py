import numpy as np
import pytest
from matplotlib.image import imread

from jsreid_jax import pictures
from jsreid_jax.pictures import MARKS, RankedImage, RankedList


def share_of(picture: np.ndarray, colour: str) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float((np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.02).mean())


def ranked(title: str, right: list[bool | None], novelty: str = "") -> RankedList:
    image = np.full((32, 16, 3), 200, np.uint8)
    return RankedList(title, novelty, [RankedImage(image, "a.jpg", mark) for mark in right])


def test_right_wrong_and_unknown_are_marked(tmp_path):
    def shares(*rights: list[bool | None]) -> dict[bool | None, float]:
        file = tmp_path / "lists.png"
        titles = ["red top, hat", "backpack " * 30]
        lists = [ranked(title, right) for title, right in zip(titles, rights, strict=True)]
        pictures.draw_ranked_lists(file, lists)
        picture = imread(file)
        return {mark: share_of(picture, colour) for mark, (colour, _) in MARKS.items()}

    all_right = shares([True] * 4, [True] * 4)
    assert all_right[True] > 0.01 and all_right[False] == 0
    mixed = shares([True, False, False, None], [False] * 4)
    assert 0 < mixed[True] < all_right[True]
    assert mixed[False] > mixed[True] and mixed[None] > all_right[None]


@pytest.mark.parametrize("lengths", [[1, 3], [1], [0, 2]])
def test_lists_may_be_of_different_length(tmp_path, lengths):
    file = tmp_path / "lists.png"
    pictures.draw_ranked_lists(file, [ranked("$a_b$", [True] * n, "seen") for n in lengths])
    assert file.stat().st_size > 1000


def test_curves_show_what_there_is():
    def draw(values, **labels):
        labels = {"title": "t", "x_label": "x", "y_label": "y"} | labels
        return pictures.curves_svg([1, 2, 3], values, **labels).decode()

    svg = draw({"all": [0.1, 0.2, 0.3], "seen": [None] * 3, "unseen": []}, title="Matches")
    assert svg.startswith("<?xml") and "Matches" in svg
    assert ">all<" in svg and ">seen<" not in svg and ">unseen<" not in svg
    assert draw({"all": [0.1, None, 0.3]}) != draw({"all": [0.1, 0.2, 0.3]})
    assert draw({"all": [0.1, 0.2, 0.3]}) == draw({"all": [0.1, 0.2, 0.3]})
    assert "<svg" in draw({"all": [None] * 3})


def test_an_overlay_is_bright_where_the_attention_is():
    pixels = np.full((32, 16, 3), 100, np.uint8)
    attention = np.zeros((4, 2))
    attention[3, 0] = 0.7
    shown = pictures.overlay(pixels, attention).astype(float).mean(axis=-1)
    assert shown.shape == (32, 16)
    assert np.unravel_index(shown.argmax(), shown.shape)[0] >= 28
    assert shown[28:, :4].min() > 2 * shown[:16].max()
    # A map of nothing is no division by zero.
    assert np.isfinite(pictures.overlay(pixels, np.zeros((4, 2)))).all()
