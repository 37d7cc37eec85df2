import numpy as np
from matplotlib.image import imread

from jsreid_jax import pictures


def share_of(picture: np.ndarray, colour: str) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float((np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.02).mean())


def test_right_and_wrong_are_marked(tmp_path):
    images = [[np.full((32, 16, 3), 200, np.uint8)] * 4] * 2

    def draw(right):
        file = tmp_path / "lists.png"
        pictures.draw_ranked_lists(file, ["red top, hat", "backpack " * 30], images, right)
        picture = imread(file)
        return share_of(picture, pictures.RIGHT), share_of(picture, pictures.WRONG)

    green, red = draw([[True] * 4] * 2)
    assert green > 0.01
    assert red == 0
    some_green, some_red = draw([[True, False, False, False], [False] * 4])
    assert 0 < some_green < green
    assert some_red > some_green


def test_lists_may_be_of_different_length(tmp_path):
    image = np.zeros((32, 16, 3), np.uint8)
    file = tmp_path / "lists.png"
    pictures.draw_ranked_lists(file, ["a", "b"], [[image], [image] * 3], [[True], [False] * 3])
    assert file.stat().st_size > 1000
