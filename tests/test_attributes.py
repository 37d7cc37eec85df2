"""The schema: coding, text and back, categories, the 27 raw fields."""

import json

import numpy as np
import pytest

from input_pipeline.attributes import (
    ABSENT,
    Group,
    Schema,
    carve_validation,
    categories,
    category_labels,
)
from input_pipeline.datasets.market1501.schema import (
    MARKET_FIELDS,
    MARKET_SCHEMA,
    attributes_to_market_fields,
    market_field_range,
    market_fields_to_attributes,
)
from input_pipeline.errors import DataError


def random_values(rng: np.random.Generator, schema: Schema) -> dict[str, str | None]:
    values = {}
    for group in schema.groups:
        options = [*group.values, None] + ([] if group.binary else [ABSENT])
        values[group.name] = options[rng.integers(len(options))]
    return values


def test_market_columns():
    schema = MARKET_SCHEMA
    assert schema.num_attributes == 30 == len(schema.attribute_names)
    assert len(schema.groups) == 12
    assert schema.group_sizes == (4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8, 9)
    assert schema.slices[0] == slice(0, 4) and schema.slices[-1] == slice(21, 30)
    assert schema.attribute_names[4] == "gender=female"
    assert schema.attribute_names[15] == "upper_colour=red"


def test_encode_codes_present_absent_unknown():
    vector = MARKET_SCHEMA.encode({"age": "adult", "gender": "male", "upper_colour": ABSENT})
    assert vector.dtype == np.int8
    assert vector[:4].tolist() == [-1, -1, 1, -1]
    assert vector[4] == -1
    assert vector[13:21].tolist() == [-1] * 8
    assert not vector[5:13].any() and not vector[21:].any()
    with pytest.raises(ValueError, match="no group"):
        MARKET_SCHEMA.encode({"agee": "adult"})
    with pytest.raises(ValueError, match="no value 'orange'"):
        MARKET_SCHEMA.encode({"upper_colour": "orange"})
    with pytest.raises(ValueError, match="no value"):
        MARKET_SCHEMA.encode({"hat": ABSENT})


def test_describe_reads_well_and_can_leave_out_absences():
    values = {
        "age": "adult", "gender": "male", "hair": "short", "sleeve": "short",
        "upper_colour": "red", "lower_length": "long", "lower_colour": "black",
        "lower_type": "pants", "hat": "no", "backpack": "yes",
    }  # fmt: skip
    vector = MARKET_SCHEMA.encode(values)
    short = "adult male, short hair, short-sleeved red top, long black trousers, backpack"
    assert MARKET_SCHEMA.describe(vector, mention_absent=False) == short
    assert MARKET_SCHEMA.describe(vector) == short + ", no hat"
    assert MARKET_SCHEMA.describe(np.zeros(30, np.int8)) == ""


def test_describe_then_parse_gives_the_vector_back():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        values = random_values(rng, MARKET_SCHEMA)
        vector = MARKET_SCHEMA.encode(values)
        assert MARKET_SCHEMA.decode(vector) == values
        if vector.any():
            text = MARKET_SCHEMA.describe(vector)
            np.testing.assert_array_equal(MARKET_SCHEMA.parse(text), vector, err_msg=text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("male, red upper, backpack", {"gender": "male", "upper_colour": "red", "backpack": "yes"}),
        ("  MALE ,no   hat", {"gender": "male", "hat": "no"}),
        ("without backpack", {"backpack": "no"}),
        ("without a hat, and a backpack", {"hat": "no", "backpack": "yes"}),
        ("no hat and with backpack", {"hat": "no", "backpack": "yes"}),
        ("no hat and no backpack", {"hat": "no", "backpack": "no"}),
        ("no hat and a red top", {"hat": "no", "upper_colour": "red"}),
        ("hat and backpack", {"hat": "yes", "backpack": "yes"}),
        ("long hair", {"hair": "long"}),
        ("hair long", {"hair": "long"}),
        ("short sleeves", {"sleeve": "short"}),
        ("dress", {"lower_type": "dress"}),
        ("no dress", {"lower_type": "pants"}),
        ("blue lower", {"lower_colour": "blue"}),
        ("blue trousers", {"lower_colour": "blue", "lower_type": "pants"}),
        ("shorts", {"lower_length": "short", "lower_type": "pants"}),
        ("black long-sleeved T-shirt", {"upper_colour": "black", "sleeve": "long"}),
        ("upper red", {"upper_colour": "red"}),
        ("upper_colour=grey", {"upper_colour": "gray"}),
        ("no lower colour", {"lower_colour": ABSENT}),
        ("male, male", {"gender": "male"}),
        (
            "a woman in a long black skirt and with a hand bag",
            {"gender": "female", "lower_length": "long", "lower_colour": "black",
             "lower_type": "dress", "handbag": "yes"},
        ),
    ],
)  # fmt: skip
def test_parse(text: str, expected: dict[str, str]):
    np.testing.assert_array_equal(MARKET_SCHEMA.parse(text), MARKET_SCHEMA.encode(expected))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("male, bacpack", "unknown word 'bacpack'.*did you mean backpack"),
        ("male, xyzzy", "unknown word 'xyzzy'.*known words are adult, "),
        ("male, female", "both 'male' and 'female'"),
        ("red upper, blue shirt", "both 'red' and 'blue'"),
        ("hat, no hat", "both 'hat' and 'no hat'"),
        ("red", "'red' does not say what is 'red'.*'red top'"),
        ("red trousers", "does not say what is 'red'"),
        ("red trousers white top", "does not say what is 'red'"),
        ("short top", "'short hair', 'short sleeves', 'short trousers'"),
        ("no adult", "several values of age"),
        ("no top", "no upper colour"),
        ("male, no", "'no' says nothing"),
        (
            "without hat and a backpack",
            "not clear: say 'without hat, no backpack' or 'without hat, b",
        ),
        ("male, no hat & bag", "'no hat and bag' is not clear"),
        ("top", "'top' says nothing"),
        ("", "names no attribute"),
        (" , ", "names no attribute"),
    ],
)
def test_parse_refuses(text: str, message: str):
    with pytest.raises(DataError, match=message):
        MARKET_SCHEMA.parse(text)


def test_a_schema_of_another_kind_round_trips_too():
    schema = Schema(
        "toy",
        (
            Group("shoes", ("boots", "sandals", "sneakers"), synonyms={"trainers": "sneakers"}),
            Group("scarf", ("no", "yes"), binary=True),
            Group("coat_size", ("big", "small"), binary=True, nouns=("coat",)),
        ),
    )
    rng = np.random.default_rng(1)
    for _ in range(100):
        vector = schema.encode(random_values(rng, schema))
        if vector.any():
            np.testing.assert_array_equal(schema.parse(schema.describe(vector)), vector)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_schema_dictionary_round_trip_and_damage():
    fields = json.loads(json.dumps(MARKET_SCHEMA.to_dict()))
    assert Schema.from_dict(fields) == MARKET_SCHEMA
    # Of models from before there were regions.
    for group in fields["groups"]:
        group.pop("region", None)
    assert MARKET_SCHEMA.coding().to_dict() == fields
    assert set(Schema.from_dict(fields).group_regions) == {(0.0, 1.0)}
    del fields["groups"][3]["values"]
    with pytest.raises(DataError, match=r"schema is malformed.*values"):
        Schema.from_dict(fields)


def test_malformed_groups_are_refused():
    with pytest.raises(ValueError, match="two or more"):
        Group("age", ("young",))
    with pytest.raises(ValueError, match="exactly two"):
        Group("age", ("a", "b", "c"), binary=True)
    with pytest.raises(ValueError, match="synonym"):
        Group("age", ("a", "b"), synonyms={"x": "c"})
    with pytest.raises(ValueError, match="in no region: 'hed'"):
        Group("hat", ("no", "yes"), binary=True, region="hed")
    with pytest.raises(ValueError, match="twice"):
        Schema("s", (Group("age", ("a", "b")), Group("age", ("a", "b"))))


def test_decode_refuses_two_values_and_wrong_lengths():
    vector = MARKET_SCHEMA.encode({"age": "adult"})
    vector[0] = 1
    with pytest.raises(ValueError, match="several values"):
        MARKET_SCHEMA.decode(vector)
    with pytest.raises(ValueError, match="expected a vector"):
        MARKET_SCHEMA.describe(vector[:-1])


def test_raw_fields_and_columns_are_bijective():
    rng = np.random.default_rng(2)
    assert len(MARKET_FIELDS) == 27
    for _ in range(200):
        fields = {
            name: int(rng.integers(market_field_range(name)[0], market_field_range(name)[1] + 1))
            for name in MARKET_FIELDS
        }
        attributes = market_fields_to_attributes(fields)
        assert attributes.dtype == np.int8 and attributes.all()
        assert attributes_to_market_fields(attributes) == fields


def test_raw_fields_mean_what_the_label_file_says():
    fields = dict.fromkeys(MARKET_FIELDS, 1) | {"age": 3, "gender": 2, "upred": 2, "downbrown": 2}
    decoded = MARKET_SCHEMA.decode(market_fields_to_attributes(fields))
    assert decoded == {
        "age": "adult", "gender": "female", "hair": "short", "sleeve": "long",
        "lower_length": "long", "lower_type": "dress", "hat": "no", "backpack": "no", "bag": "no",
        "handbag": "no", "upper_colour": "red", "lower_colour": "brown",
    }  # fmt: skip


def test_unknown_columns_have_no_raw_fields():
    with pytest.raises(ValueError, match="fully known"):
        attributes_to_market_fields(np.zeros(30, np.int8))
    with pytest.raises(ValueError, match="one age"):
        attributes_to_market_fields(np.ones(30, np.int8))


def test_categories_are_lexicographic_and_labels_index_them():
    attributes = np.array([[1, -1], [-1, 1], [1, -1], [-1, -1]], np.int8)
    unique, labels = categories(attributes)
    assert unique.tolist() == [[-1, -1], [-1, 1], [1, -1]]
    np.testing.assert_array_equal(unique[labels], attributes)
    shuffled, _ = categories(attributes[::-1])
    np.testing.assert_array_equal(shuffled, unique)
    rows = np.array([[1, -1], [1, 1]], np.int8)
    assert category_labels(rows, unique).tolist() == [2, -1]


@pytest.mark.parametrize("text", ["no hair", "no gender", "no sleeve", "without lower type"])
def test_one_of_two_values_cannot_be_denied_without_saying_which(text):
    with pytest.raises(DataError, match="is not clear, a person has one of its two values: say '"):
        MARKET_SCHEMA.parse(text)


def test_none_and_one_of_several_contradict_each_other():
    schema = Schema("s", (Group("carried", ("bag", "umbrella"), multiple=True),))
    assert schema.parse("no carried").tolist() == [-1, -1]
    with pytest.raises(DataError, match="says both 'bag' and 'no carried'"):
        schema.parse("no carried, bag")


@pytest.mark.parametrize("text", ["not without backpack", "not not male", "no no hat"])
def test_a_denial_of_a_denial_is_refused(text):
    with pytest.raises(DataError, match="denies twice"):
        MARKET_SCHEMA.parse(text)


def test_long_texts_are_cut_in_sentences():
    with pytest.raises(DataError) as error:
        MARKET_SCHEMA.parse("x" * 20_000)
    assert len(str(error.value)) < 2_000


def test_persons_of_several_categories_are_held_out_whole():
    """Of persons 0..19 every second is in two categories, as where not all is always known."""
    person = np.repeat(np.arange(20), 2)
    labels = np.where(np.arange(40) % 4 == 1, 20 + person, person)
    for seed in range(20):
        held_out = carve_validation(labels, 40, fraction=0.2, seed=seed, person_id=person)
        persons = set(person[held_out[labels]]) & set(person[~held_out[labels]])
        assert 6 <= held_out.sum() <= 7 and not persons
    alone = carve_validation(labels, 40, fraction=0.2, seed=0)
    of_strangers = np.full(40, -1)
    unknown = carve_validation(labels, 40, fraction=0.2, seed=0, person_id=of_strangers)
    np.testing.assert_array_equal(unknown, alone)
    with pytest.raises(DataError, match="link so many categories"):
        carve_validation(np.arange(3), 3, fraction=0.3, seed=0, person_id=np.zeros(3, int))


def test_persons_that_link_most_categories_stay_in_training():
    """Of 30 categories 20 hang together, by persons of whom not all is always known."""
    chain = np.repeat(np.arange(20), 2)[1:-1]
    links = np.repeat(np.arange(19), 2)
    labels = np.concatenate([chain, np.arange(20, 30), np.arange(20, 30)])
    person = np.concatenate([links, np.arange(100, 110), np.arange(100, 110)])
    for seed in range(20):
        held_out = carve_validation(labels, 30, fraction=0.2, seed=seed, person_id=person)
        assert held_out.sum() == 6 and not held_out[:20].any()
    # Where each piece is more than is asked for, the smallest; unless that is half of it all.
    pairs = np.repeat(np.arange(3), 4)
    two_each = pairs * 2 + np.tile([0, 0, 1, 1], 3)
    smallest = carve_validation(
        np.append(two_each, [2, 4]), 6, fraction=0.1, seed=0, person_id=np.append(pairs, [1, 2])
    )
    assert smallest.tolist() == [True, True, False, False, False, False]


def test_an_image_rich_category_does_not_leave_training():
    labels = np.concatenate([np.zeros(500, int), np.repeat(np.arange(1, 41), 5)])
    for seed in range(20):
        held_out = carve_validation(labels, 41, fraction=0.1, seed=seed)
        assert held_out.sum() == 4 and not held_out[0]


def test_carve_validation():
    labels = np.repeat(np.arange(40), 3)[::-1]
    held_out = carve_validation(labels, 50, fraction=0.1, seed=3)
    assert held_out.shape == (50,) and held_out.sum() == 4 and not held_out[40:].any()
    np.testing.assert_array_equal(held_out, carve_validation(labels, 50, fraction=0.1, seed=3))
    assert (held_out != carve_validation(labels, 50, fraction=0.1, seed=4)).any()
    assert carve_validation(labels, 50, fraction=0.0, seed=3).sum() == 0
    assert carve_validation(labels, 50, fraction=0.001, seed=3).sum() == 1
    assert carve_validation(np.array([1, 2]), 3, fraction=0.99, seed=3).sum() == 1
    with pytest.raises(DataError, match=r"validation_fraction is 1\.0"):
        carve_validation(labels, 50, fraction=1.0, seed=3)
    with pytest.raises(DataError, match="two or more"):
        carve_validation(np.array([1, 1]), 50, fraction=0.5, seed=3)


SEVERAL = Schema(
    name="several",
    groups=(
        Group("gender", ("male", "female"), binary=True),
        Group("lower_colour", ("black", "blue", "red"), multiple=True, nouns=("lower", "jeans")),
        Group("carrying", ("backpack", "umbrella", "folder"), multiple=True),
    ),
)


def test_a_group_may_have_several_values_at_once():
    values = {"gender": "male", "lower_colour": "black+red", "carrying": ABSENT}
    vector = SEVERAL.encode(values)
    assert vector.tolist() == [-1, 1, -1, 1, -1, -1, -1]
    assert SEVERAL.decode(vector) == values
    assert SEVERAL.describe(vector) == "male, black+red lower, no carrying"
    with pytest.raises(ValueError, match="no value 'pink'"):
        SEVERAL.encode({"lower_colour": "black+pink"})
    with pytest.raises(ValueError, match="one at a time"):
        Group("hat", ("no", "yes"), binary=True, multiple=True)
    assert Schema.from_dict(json.loads(json.dumps(SEVERAL.to_dict()))) == SEVERAL


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("backpack", [0, 0, 0, 0, 1, 0, 0]),
        ("backpack, folder, no umbrella", [0, 0, 0, 0, 1, -1, 1]),
        ("female, black/red lower", [1, 1, 0, 1, 0, 0, 0]),
        ("blue jeans, no carrying", [0, 0, 1, 0, -1, -1, -1]),
    ],
)
def test_a_typed_query_denies_only_what_it_says(text, vector):
    assert SEVERAL.parse(text).tolist() == vector


def test_what_was_understood_is_said_back():
    understood = SEVERAL.understood(SEVERAL.parse("female, backpack, no umbrella"))
    assert understood == {"gender": "female", "carrying": "backpack+not umbrella"}
    assert SEVERAL.understood(SEVERAL.parse("no carrying, red lower")) == {
        "lower_colour": "red",
        "carrying": ABSENT,
    }
    with pytest.raises(DataError, match="says both 'umbrella' and 'no umbrella'"):
        SEVERAL.parse("umbrella, no umbrella")
    vector = MARKET_SCHEMA.parse("female, long hair, red upper")
    assert MARKET_SCHEMA.understood(vector) == {
        "gender": "female",
        "hair": "long",
        "upper_colour": "red",
    }


def test_words_are_the_same_however_unicode_writes_them():
    schema = Schema("s", (Group("coat", ("caf\u00e9", "noir"), nouns=("mante\u0301",)),))
    for text in ("Cafe\u0301 mant\u00e9", "caf\u00e9 mante\u0301"):
        np.testing.assert_array_equal(schema.parse(text), schema.encode({"coat": "caf\u00e9"}))
