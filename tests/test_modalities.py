import numpy as np
import pytest

from jsreid_jax import modalities

WIDTH = 8


def embeddings(gap: float, *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Images and descriptions of 40 categories, apart by `gap` along one direction."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, WIDTH))
    label = np.repeat(np.arange(40), 6)
    images = centres[label] + 0.3 * rng.normal(size=(len(label), WIDTH))
    descriptions = centres + 0.3 * rng.normal(size=centres.shape)
    descriptions[:, 3] += gap
    return images, descriptions, label, np.arange(40)


@pytest.mark.parametrize(("gap", "low", "high"), [(0.0, 0.35, 0.65), (20.0, 0.99, 1.0)])
def test_the_probe_tells_modalities_that_lie_apart(gap, low, high):
    accuracy = modalities.probe(*embeddings(gap), seed=0)
    assert low <= accuracy <= high
    assert accuracy == modalities.probe(*embeddings(gap), seed=0)


def test_the_probe_is_not_fooled_by_the_larger_modality():
    """Balanced: six times as many images do not make "image" a good answer."""
    images, descriptions, label, category = embeddings(0.0)
    few = slice(0, 8)
    assert modalities.probe(images, descriptions[few], label, category[few], seed=0) < 0.75


def test_too_little_to_probe_or_to_draw_says_so():
    images, descriptions, label, category = embeddings(1.0)
    few = label < 4
    assert np.isnan(
        modalities.probe(images[few], descriptions[:4], label[few], category[:4], seed=0)
    )
    assert modalities.project(images[:5], descriptions[:2], seed=0) is None


def test_the_projection_keeps_neighbours_and_repeats():
    images, descriptions, label, _ = embeddings(0.0)
    points, of_descriptions = modalities.project(images, descriptions, seed=1) or pytest.fail()
    assert points.shape == (240, 2) and of_descriptions.shape == (40, 2)
    distance = np.linalg.norm(points[:, None] - of_descriptions[None], axis=-1)
    assert (distance.argmin(axis=1) == label).mean() > 0.5
    again, _ = modalities.project(images, descriptions, seed=1) or pytest.fail()
    np.testing.assert_array_equal(points, again)
