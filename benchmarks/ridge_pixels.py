"""How easy is a data set? Ridge regression from raw 16x8 pixels to attributes, as retrieval.

    python benchmarks/ridge_pixels.py --data DIR

The default data set must not be too easy: unseen rank-1 <= 0.35 by this script.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from input_pipeline.attributes import carve_validation, category_labels
from input_pipeline.datasets.listing import Images
from input_pipeline.datasets.market1501.folder import read_market_folder
from input_pipeline.errors import DataError
from jsreid_jax.retrieval import (
    Pairs,
    query_metrics,
    ranks_from_scores,
    split_metrics,
    summarise,
)

HEIGHT, WIDTH = 16, 8
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
VALIDATION_FRACTION = 0.2


def read_pixels(folder: Path, images: Sequence[Images]) -> np.ndarray:
    """(N, 16 * 8 * 3 + 1) float64 pixels in [0, 1] with a column of ones."""
    rows = []
    for file in (file for split in images for file in split.files):
        image = cv2.imread(str(folder / file.name), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{folder / file.name} does not decode: restore it")
        rows.append(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).ravel())
    pixels = np.array(rows, np.float64) / 255
    return np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)


def fit_ridge(features: np.ndarray, targets: np.ndarray, *, strength: float) -> np.ndarray:
    """(F, A) weights of features (N, F), in closed form; the last, constant feature is free."""
    penalty = strength * np.eye(features.shape[1])
    penalty[-1, -1] = 0.0
    return np.linalg.solve(features.T @ features + penalty, features.T @ targets)


def match(predicted: np.ndarray, queries: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(Q, G) cosine of descriptions (Q, A) and predictions (G, A), both less the training mean."""
    left, right = queries - mean, predicted - mean
    left = left / np.linalg.norm(left, axis=1, keepdims=True)
    return left @ (right / np.linalg.norm(right, axis=1, keepdims=True)).T


def choose_strength(features: np.ndarray, targets: np.ndarray, label: np.ndarray) -> float:
    """The strength with the best mAP on training categories held out for validation."""
    held_out = carve_validation(label, int(label.max()) + 1, fraction=VALIDATION_FRACTION, seed=0)[
        label
    ]
    gallery = label[held_out]
    queries = np.unique(gallery)
    descriptions = np.stack([targets[label == query][0] for query in queries])
    mean = targets[~held_out].mean(axis=0)

    def quality(strength: float) -> float:
        weights = fit_ridge(features[~held_out], targets[~held_out], strength=strength)
        scores = match(features[held_out] @ weights, descriptions, mean)
        ranks = ranks_from_scores(scores, Pairs.from_labels(queries, gallery))
        return summarise(query_metrics(ranks))["mAP_step"]

    return max(STRENGTHS, key=quality)


def main() -> int:
    """Prints the table; exit code 2 with one sentence on bad data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder in the Market-1501 layout")
    args = parser.parse_args()
    try:
        folder = read_market_folder(args.data)
        folder.require_facts()
        features = read_pixels(folder.data_dir, [folder.splits["train"]])
        test = [folder.splits[split] for split in ("gallery", "query")]
        gallery = read_pixels(folder.data_dir, test)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    train = folder.arrays("train")
    targets = train["attributes"].astype(np.float64)
    strength = choose_strength(features, targets, train["label"])
    weights = fit_ridge(features, targets, strength=strength)
    descriptions = folder.test_categories
    scores = match(gallery @ weights, descriptions.astype(np.float64), targets.mean(axis=0))
    label = np.concatenate([folder.arrays(split)["label"] for split in ("gallery", "query")])
    right = Pairs.from_labels(np.arange(len(descriptions)), label)
    seen = category_labels(descriptions, folder.train_categories) >= 0
    chance = np.random.default_rng(0).random(scores.shape)
    print(f"ridge on {HEIGHT}x{WIDTH} pixels, strength {strength:g}, {len(label)} gallery images")
    print(
        f"{'test categories':<16}{'count':>6}{'rank-1':>9}{'mAP':>8}{'chance rank-1':>15}{'mAP':>8}"
    )
    by_ridge, by_chance = (
        split_metrics(query_metrics(ranks_from_scores(values, right)), seen)
        for values in (scores, chance)
    )
    for name, result in by_ridge.items():
        print(
            f"{name:<16}{result['valid_queries']:>6}{result['rank1']:>9.3f}{result['mAP_step']:>8.3f}"
            f"{by_chance[name]['rank1']:>15.3f}{by_chance[name]['mAP_step']:>8.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
