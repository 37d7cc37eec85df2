"""What is trained on, what is validated on, what is tested on."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from input_pipeline import splits
from input_pipeline.attributes import Group, Schema, category_labels
from input_pipeline.datasets import records
from input_pipeline.datasets.load import load_data_set
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.errors import DataError
from input_pipeline.rendering.layout import write_layout


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "rendered"
    write_layout(
        folder, train_persons=12, test_persons=8, images_per_person=2, image_height=32, workers=1
    )
    return load_data_set("market1501", str(folder))


def test_validation_holds_whole_categories_out(data):
    train, validation = splits.train_and_validation(data, validation_fraction=0.3, seed=0)
    assert validation is not None
    everything = data.read("train")
    known = data.listing.train_categories
    assert len(train.images) + len(validation.images) == len(everything.images)
    assert len(train.categories) + len(validation.categories) == len(known)
    assert (category_labels(validation.categories, train.categories) == -1).all()
    # Labels are dense, and name the category that the image's person has.
    assert set(train.label.tolist()) == set(range(len(train.categories)))
    np.testing.assert_array_equal(train.categories[train.label], train.attributes)
    np.testing.assert_array_equal(validation.categories[validation.label], validation.attributes)
    by_image = dict(zip(everything.images, map(tuple, everything.attributes), strict=True))
    for image, attributes in zip(validation.images, validation.attributes, strict=True):
        assert tuple(attributes) == by_image[image]
    names = dict(zip(everything.images, everything.file_name, strict=True))
    assert [names[image] for image in validation.images] == list(validation.file_name)
    assert not validation.seen.any() and not validation.is_query.any()


def test_validation_is_a_function_of_the_seed(data):
    def queries(seed):
        _, validation = splits.train_and_validation(data, validation_fraction=0.3, seed=seed)
        assert validation is not None
        return validation.categories.tolist()

    assert queries(0) == queries(0)
    assert any(queries(0) != queries(seed) for seed in range(1, 6))


def test_without_validation_all_images_train(data):
    train, validation = splits.train_and_validation(data, validation_fraction=0.0, seed=0)
    assert validation is None
    assert len(train.images) == len(data.read("train").images)


def test_training_and_its_validation_never_read_the_test_splits(data, monkeypatch):
    read = records.DataSet.read
    asked = []
    monkeypatch.setattr(
        records.DataSet, "read", lambda self, split: asked.append(split) or read(self, split)
    )
    splits.train_and_validation(data, validation_fraction=0.3, seed=0)
    assert asked == ["train"]


def with_own_validation(data, changed=lambda split: split) -> records.DataSet:
    """As PA-100K and a user's CSV have one: the gallery's images stand in for it, changed."""
    images = data.listing.splits
    listing = dataclasses.replace(
        data.listing, splits={"train": images["train"], "val": images["gallery"]}
    )

    class WithVal(records.DataSet):
        def read(self, split):
            return changed(data.read("gallery")) if split == "val" else data.read(split)

    return WithVal(listing, (), data.prepared)


def test_a_validation_split_of_its_own_is_used(data):
    own = with_own_validation(data)
    train, validation = splits.train_and_validation(own, validation_fraction=0.1, seed=0)
    assert len(train.images) == len(data.read("train").images)
    assert validation is not None
    assert list(validation.images) == list(data.read("gallery").images)
    known = {tuple(row) for row in data.listing.train_categories}
    assert validation.seen.tolist() == [tuple(row) in known for row in validation.categories]


def test_the_test_set_is_gallery_then_queries(data):
    test = splits.test_set(data)
    gallery, query = data.read("gallery"), data.read("query")
    assert list(test.file_name) == [*gallery.file_name, *query.file_name]
    assert list(test.images) == [*gallery.images, *query.images]
    assert test.is_query.tolist() == [False] * len(gallery.images) + [True] * len(query.images)
    np.testing.assert_array_equal(test.categories[test.label], test.attributes)
    np.testing.assert_array_equal(test.camera_id[: len(gallery.images)], gallery.camera_id)
    np.testing.assert_array_equal(test.person_id[len(gallery.images) :], query.person_id)
    seen = category_labels(test.categories, data.listing.train_categories) >= 0
    np.testing.assert_array_equal(test.seen, seen)
    assert 0 < seen.sum() < len(seen)
    assert Image.open(io.BytesIO(test.images[0])).size == (16, 32)


def test_a_set_without_test_or_training_images_is_one_sentence(data):
    train = {"train": data.listing.splits["train"]}
    gallery = {"gallery": data.listing.splits["gallery"]}
    only_train = dataclasses.replace(data, listing=dataclasses.replace(data.listing, splits=train))
    only_test = dataclasses.replace(data, listing=dataclasses.replace(data.listing, splits=gallery))
    with pytest.raises(DataError, match="0 test queries and 0 gallery images"):
        splits.test_set(only_train)
    with pytest.raises(DataError, match="no training image"):
        splits.train_and_validation(only_test, validation_fraction=0.1, seed=0)


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ([Group("gender", ("child", "female"), binary=True)], "group 'gender' is one of male, f"),
        ([Group("gender", ("female", "male"), binary=True)], "group 'gender' is one of male, f"),
        (
            [Group("wings", ("no", "yes"), binary=True)],
            "group 'wings' is missing here and one of no, yes",
        ),
        (list(reversed(MARKET_SCHEMA.groups)), "the groups stand in the order age, gender"),
    ],
)
def test_what_differs_between_attributes_is_named(data, groups, sentence):
    others = groups if len(groups) > 1 else [MARKET_SCHEMA.groups[0], *groups]
    other = Schema("other", tuple(others) + MARKET_SCHEMA.groups[2:] * (len(groups) == 1))
    with pytest.raises(DataError, match=sentence):
        splits.check_schema(data, other, source="the model")


def test_seen_is_what_the_model_was_trained_on(data):
    test = splits.test_set(data, data.listing.test_categories[:2])
    assert test.seen.tolist() == [True, True, *[False] * (len(test.seen) - 2)]


def test_a_model_of_other_attributes_is_refused(data):
    splits.check_schema(data, MARKET_SCHEMA, source="the model")
    other = Schema(name="other", groups=(Group("hat", ("no", "yes"), binary=True),))
    with pytest.raises(DataError, match=r"attributes of 'market1501'.*trained on those of 'other'"):
        splits.check_schema(data, other, source="the model")


def test_a_validation_split_of_which_nothing_is_known_is_refused(data):
    own = with_own_validation(
        data, lambda split: dataclasses.replace(split, attributes=0 * split.attributes)
    )
    with pytest.raises(DataError, match=r"nothing is known of any of the .* of the split 'val'"):
        splits.train_and_validation(own, validation_fraction=0.1, seed=0)


def test_images_of_which_nothing_is_known_are_not_judged(data):
    test = splits.test_set(data)
    assert splits.labelled(test) is test
    label = test.label.copy()
    label[[0, 3]] = -1
    kept = splits.labelled(dataclasses.replace(test, label=label))
    rows = np.flatnonzero(label >= 0)
    assert list(kept.file_name) == [test.file_name[row] for row in rows]
    assert list(kept.images) == [test.images[row] for row in rows]
    np.testing.assert_array_equal(kept.attributes, test.attributes[rows])
    np.testing.assert_array_equal(kept.is_query, test.is_query[rows])
    nothing = dataclasses.replace(test, label=np.full_like(label, -1))
    assert splits.labelled(nothing) is nothing
