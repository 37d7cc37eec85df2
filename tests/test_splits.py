import io

import numpy as np
import pytest
from PIL import Image

from input_pipeline import splits
from input_pipeline.attributes import MARKET_SCHEMA, Group, Schema, category_labels
from input_pipeline.errors import DataError
from input_pipeline.rendering.layout import write_market_layout


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "rendered"
    write_market_layout(
        folder, train_persons=12, test_persons=8, images_per_person=2, image_height=32, workers=1
    )
    return splits.load_data(str(folder), prepared_dir="", skip_bad_images=False)


def test_validation_holds_whole_categories_out(data):
    train, validation = splits.train_and_validation(data, validation_fraction=0.3, seed=0)
    assert validation is not None
    everything = data.read("train")
    assert len(train.images) + len(validation.images) == len(everything.images)
    assert len(train.categories) + len(validation.queries) == len(data.train_categories)
    assert (category_labels(validation.queries, train.categories) == -1).all()
    # Labels are dense, and name the category that the image's person has.
    assert set(train.label.tolist()) == set(range(len(train.categories)))
    np.testing.assert_array_equal(train.categories[train.label], train.attributes)
    by_image = dict(zip(everything.images, map(tuple, everything.attributes), strict=True))
    for image, label in zip(validation.images, validation.label, strict=True):
        assert tuple(validation.queries[label]) == by_image[image]
    assert not validation.seen.any()


def test_validation_is_a_function_of_the_seed(data):
    def queries(seed):
        _, validation = splits.train_and_validation(data, validation_fraction=0.3, seed=seed)
        assert validation is not None
        return validation.queries.tolist()

    assert queries(0) == queries(0)
    assert any(queries(0) != queries(seed) for seed in range(1, 6))


def test_without_validation_all_images_train(data):
    train, validation = splits.train_and_validation(data, validation_fraction=0.0, seed=0)
    assert validation is None
    assert len(train.images) == len(data.read("train").images)


def test_the_test_set_ranks_gallery_and_queries(data):
    test = splits.test_set(data)
    assert len(test.images) == len(data.read("gallery").images) + len(data.read("query").images)
    assert test.relevant.shape == (len(test.queries), len(test.images))
    np.testing.assert_array_equal(test.relevant.sum(axis=0), 1)
    seen = category_labels(test.queries, data.train_categories) >= 0
    np.testing.assert_array_equal(test.seen, seen)
    assert Image.open(io.BytesIO(test.images[0])).size == (16, 32)


def test_a_model_of_other_attributes_is_refused(data):
    splits.check_schema(data, MARKET_SCHEMA, source="the model")
    other = Schema(name="other", groups=(Group("hat", ("no", "yes"), binary=True),))
    with pytest.raises(DataError, match=r"attributes of 'market1501'.*trained on those of 'other'"):
        splits.check_schema(data, other, source="the model")
