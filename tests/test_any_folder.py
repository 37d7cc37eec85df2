"""A user's own folder: what the two files may say, and one clear sentence for whatever is wrong."""

import csv
import os
import re
import shutil
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from pictures_of_noise import noise_jpeg, write_noise_layout

from input_pipeline import splits
from input_pipeline.attributes import ABSENT, PRESENT, UNKNOWN, Schema
from input_pipeline.datasets.any_folder import cells
from input_pipeline.datasets.any_folder.folder import read_any_folder
from input_pipeline.datasets.any_folder.schema_file import read_schema_file
from input_pipeline.datasets.listing import UNKNOWN_ID, Listing, ReaderOptions
from input_pipeline.datasets.load import load_data_set
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.errors import DataError
from input_pipeline.rendering.layouts.folder import schema_text

SCHEMA = """\
name: mine
groups:
  - name: gender
    values: [male, female]
    synonyms: {man: male, woman: female}
  - name: hair
    values: [short, long]
    nouns: [hair]
  - name: upper_colour
    values: [red, blue, white]
    nouns: [top, shirt]
  - name: carries
    values: [bag, umbrella, suitcase]
    multiple: yes
  - name: hat
    kind: yes_no
"""
SCHEMA_AS_TOML = """\
name = "mine"
[[groups]]
name = "gender"
values = ["male", "female"]
synonyms = {man = "male", woman = "female"}
[[groups]]
name = "hair"
values = ["short", "long"]
nouns = ["hair"]
[[groups]]
name = "upper_colour"
values = ["red", "blue", "white"]
nouns = ["top", "shirt"]
[[groups]]
name = "carries"
values = ["bag", "umbrella", "suitcase"]
multiple = true
[[groups]]
name = "hat"
kind = "yes_no"
"""
LABELS = """\
path,split,person_id,camera_id,gender,hair,upper_colour,carries,hat
images/a.jpg,train,17,1,female,long,red,bag+umbrella,yes
images/b.jpg,train,17,2,female,long,red,,
images/c.jpg,val,5,1,male,short,absent,absent,no
images/d.jpg,test,40,1,male,short,blue,suitcase,no
images/e.jpg,query,40,,male,,white,bag,
"""
NAMES = "abcde"


def make_folder(folder: Path, labels: str | bytes = LABELS, schema: str = SCHEMA) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in NAMES:
        (folder / "images" / f"{name}.jpg").write_bytes(b"not read here")
    content = labels if isinstance(labels, bytes) else labels.encode()
    (folder / "labels.csv").write_bytes(content)
    (folder / "schema.yaml").write_text(schema, encoding="utf-8")
    return folder


def read(folder: Path, labels: str | bytes = LABELS, schema: str = SCHEMA, **options) -> Listing:
    return read_any_folder(make_folder(folder, labels, schema), ReaderOptions(**options))


def read_schema(folder: Path, text: str, name: str = "schema.yaml") -> Schema:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return read_schema_file(file, default_name="folder")


def decoded(listing: Listing, split: str) -> list[dict[str, str | None]]:
    return [listing.schema.decode(row) for row in listing.splits[split].attributes]


def same(a: Listing, b: Listing) -> bool:
    def content(listing: Listing):
        return {
            split: [(f.name, f.person_id, f.camera_id) for f in images.files]
            + images.attributes.tolist()
            for split, images in listing.splits.items()
        }

    return a.schema == b.schema and content(a) == content(b)


# What the files may say.


def test_minus_one_is_neither_yes_nor_no_until_the_schema_says(tmp_path):
    """To some -1 is no, to others unknown."""
    labels = LABELS.replace(",absent,absent,no", ",absent,absent,-1")
    with pytest.raises(DataError, match=r"labels\.csv.*'-1'.*'no' or 'yes'"):
        read(tmp_path / "mine", labels)
    schema = SCHEMA.replace("kind: yes_no", 'kind: yes_no\n    synonyms: {"-1": no}')
    [third] = decoded(read(tmp_path / "told", labels, schema), "val")
    assert third["hat"] == "no"


def test_values_ids_and_unknown_cells(tmp_path):
    listing = read(tmp_path / "mine")
    assert listing.reader == "folder" and listing.warnings == [] and not listing.is_rendered
    assert listing.schema.name == "mine"
    assert listing.schema.group_sizes == (1, 1, 3, 3, 1)
    assert list(listing.splits) == ["train", "val", "query", "gallery"]
    first, second = decoded(listing, "train")
    assert first == {
        "gender": "female",
        "hair": "long",
        "upper_colour": "red",
        "carries": "bag+umbrella",
        "hat": "yes",
    }
    assert second == {**first, "carries": None, "hat": None}
    [third] = decoded(listing, "val")
    assert third == {
        "gender": "male",
        "hair": "short",
        "upper_colour": ABSENT,
        "carries": ABSENT,
        "hat": "no",
    }
    [query] = decoded(listing, "query")
    assert query["hair"] is None and query["hat"] is None and query["carries"] == "bag"
    assert listing.splits["train"].attributes.dtype == np.int8
    assert listing.splits["train"].attributes.tolist()[1] == [1, 1, 1, -1, -1, 0, 0, 0, 0]
    assert [f.name for f in listing.splits["train"].files] == ["images/a.jpg", "images/b.jpg"]
    assert listing.splits["train"].person_id.tolist() == [17, 17]
    assert listing.splits["train"].camera_id.tolist() == [1, 2]
    assert listing.splits["query"].camera_id.tolist() == [UNKNOWN_ID]
    assert listing.splits["train"].files[0].size == len(b"not read here")
    assert listing.facts == {
        "train_images": 2,
        "val_images": 1,
        "query_images": 1,
        "gallery_images": 1,
        "train_categories": 2,
        "test_categories": 2,
        "unseen_test_categories": 2,
        "train_persons": 1,
        "val_persons": 1,
        "test_persons": 1,
    }
    assert listing.expected == {}


def test_toml_says_the_same(tmp_path):
    yaml = read(tmp_path / "mine")
    folder = make_folder(tmp_path / "toml" / "mine")
    (folder / "schema.yaml").unlink()
    (folder / "schema.toml").write_text(SCHEMA_AS_TOML)
    assert same(yaml, read_any_folder(folder))


def test_the_files_may_have_other_names(tmp_path):
    folder = make_folder(tmp_path / "mine")
    (folder / "labels.csv").rename(folder / "other.csv")
    (folder / "schema.yaml").rename(folder / "my.yml")
    listing = read_any_folder(folder, ReaderOptions(labels="other.csv", schema="my.yml"))
    assert same(listing, read(tmp_path / "usual"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_forms_of_csv_that_mean_the_same(tmp_path, newline, delimiter, mark):
    text = LABELS.replace("\n", newline).replace(",", delimiter)
    assert same(read(tmp_path / "a", mark + text), read(tmp_path / "b"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("path,split", " Path , SPLIT "),
        ("upper_colour", "Upper Colour"),
        ("person_id", "Person-ID"),
        ("female,long,red", "FEMALE, Long ,Red"),
        ("female,long,red", '"female","long","red"'),
        ("female,long,red", ' "female", "long", "red"'),
        ("female,long,red", "woman,long,red"),
        ("bag+umbrella", "Umbrella + bag"),
        ("bag+umbrella", "bag+umbrella+bag"),
        ("images/a.jpg", "./images//a.jpg"),
        ("images/a.jpg", "images\\a.jpg"),
        ("images/a.jpg", "images/../images/a.jpg"),
        ("images/b.jpg", "\n,,,,,,,,\n   \nimages/b.jpg"),
        ("path,split", "\n\npath,split"),
        (",test,", ",Test,"),
        (",test,", ",gallery,"),
        (",absent,absent,no", ",Absent,ABSENT,no"),
        *((",yes\n", f",{word}\n") for word in ("Yes", "true", "TRUE", "1", "1.0")),
        *((",no\n", f",{word}\n") for word in ("NO", "false", "False", "0", "0.0")),
    ],
)
def test_spellings_that_mean_the_same(tmp_path, old, new):
    assert old in LABELS
    assert same(read(tmp_path / "a", LABELS.replace(old, new)), read(tmp_path / "b"))


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "Sep=;"])
def test_the_line_in_which_excel_names_its_delimiter_is_read(tmp_path, line):
    text = f"{line}\n{LABELS.replace(',', ';')}"
    assert same(read(tmp_path / "a", text), read(tmp_path / "b"))


@pytest.mark.parametrize(("stored", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_letters_with_accents_may_be_written_in_either_form(tmp_path, stored, written):
    folder = make_folder(tmp_path / "mine")
    on_disk, in_csv = (unicodedata.normalize(form, "images/fé.jpg") for form in (stored, written))
    (folder / "images" / "a.jpg").rename(folder / on_disk)
    (folder / "labels.csv").write_text(LABELS.replace("images/a.jpg", in_csv), encoding="utf-8")
    listing = read_any_folder(folder)
    files = [file for images in listing.splits.values() for file in images.files]
    assert on_disk in [file.name for file in files]
    assert all(listing.path(file).is_file() for file in files)


def test_a_manifest_of_somebody_else_tells_nothing(tmp_path):
    folder = make_folder(tmp_path / "mine")
    (folder / "manifest.json").write_text('{"files": 2}')
    assert same(read_any_folder(folder), read(tmp_path / "b"))
    (folder / "manifest.json").write_text('{"facts": [2]}')
    with pytest.raises(DataError, match=r"manifest\.json is damaged .*or move it away"):
        read_any_folder(folder)


def test_ids_may_be_left_out(tmp_path):
    labels = re.sub(r"(?m)^(\S+?,\w+),[^,]*,[^,]*", r"\1", LABELS)
    assert labels.startswith("path,split,gender")
    listing = read(tmp_path / "mine", labels)
    for images in listing.splits.values():
        assert set(images.person_id.tolist()) == set(images.camera_id.tolist()) == {UNKNOWN_ID}
    assert not any(name.endswith("persons") for name in listing.facts)


def test_numbers_stay_and_texts_are_numbered_whatever_the_order_of_the_rows():
    assert cells.ids(["17", "", "5", "17", "2147483647"]) == [17, -1, 5, 17, 2147483647]
    assert cells.ids(["b", "a", "", "b"]) == [1, 0, UNKNOWN_ID, 1]
    assert cells.ids(["b", "b", "a"]) == [1, 1, 0]
    for odd in ("-1", "1.5", "2147483648", "9" * 5000, "٣", "0x1"):
        assert sorted(cells.ids(["7", odd, "7"])) in ([0, 0, 1], [0, 1, 1]), odd
    assert cells.ids([]) == [] and cells.ids(["", ""]) == [UNKNOWN_ID] * 2


def test_a_folder_of_one_split_is_fine(tmp_path):
    rows = LABELS.splitlines(keepends=True)
    train = read(tmp_path / "train", "".join(rows[:3]))
    assert list(train.splits) == ["train"] and len(train.test_categories) == 0
    test = read(tmp_path / "test", rows[0] + rows[4])
    assert list(test.splits) == ["gallery"] and len(test.train_categories) == 0


def test_training_images_of_which_nothing_is_known_are_left_out(tmp_path):
    labels = LABELS.replace("17,2,female,long,red,,", "17,2,,,,,")
    listing = read(tmp_path / "mine", labels)
    assert [f.name for f in listing.splits["train"].files] == ["images/a.jpg"]
    [warning] = listing.warnings
    assert re.search(
        r"left out 1 training image\(s\) of which nothing is known \(line 3\)", warning
    )


def test_a_gallery_of_which_nothing_is_known_can_be_searched(tmp_path):
    labels = LABELS.replace("male,short,blue,suitcase,no", ",,,,")
    listing = read(tmp_path / "mine", labels)
    assert [f.name for f in listing.splits["gallery"].files] == ["images/d.jpg"]
    assert listing.arrays("gallery")["label"].tolist() == [-1]
    assert len(listing.test_categories) == listing.facts["test_categories"] == 1
    assert listing.test_categories.any() and not listing.warnings
    unlabelled = read(tmp_path / "b", f"{HEADER}\nimages/a.jpg,test,1,1,,,,,\n")
    assert len(unlabelled.test_categories) == 0 and len(unlabelled.splits["gallery"].files) == 1


def test_columns_that_nobody_knows_are_left_out(tmp_path):
    rows = [f"{i},{row}" for i, row in enumerate(LABELS.splitlines())]
    rows[0] = rows[0].replace("0,", ",", 1)
    labels = "\n".join(f"{row},note" for row in rows)
    listing = read(tmp_path / "mine", labels)
    assert same(listing, read(tmp_path / "b"))
    [warning] = listing.warnings
    assert re.search(r"left out the column\(s\) \(column 1, without a name\), note, ", warning)


def test_changes_of_any_kind_are_seen(tmp_path):
    folder = make_folder(tmp_path / "mine")
    first = read_any_folder(folder).fingerprint()
    assert read_any_folder(folder).fingerprint() == first
    (folder / "labels.csv").write_text(LABELS.replace("17,1,female", "17,1,male"))
    assert read_any_folder(folder).fingerprint() != first
    (folder / "labels.csv").write_text(LABELS)
    (folder / "schema.yaml").write_text(SCHEMA.replace("[hair]", "[hair, haired]"))
    assert read_any_folder(folder).fingerprint() != first


def test_a_link_inside_the_folder_is_followed(tmp_path):
    folder = make_folder(tmp_path / "mine", LABELS.replace("images/a", "linked"))
    (folder / "images" / "a.jpg").rename(folder / "elsewhere.jpg")
    (folder / "linked.jpg").symlink_to("elsewhere.jpg")
    assert read_any_folder(folder).facts["train_images"] == 2
    (tmp_path / "link_to_all").symlink_to(folder)
    assert read_any_folder(tmp_path / "link_to_all").facts["train_images"] == 2


def test_a_hundred_thousand_rows_take_seconds(tmp_path):
    header, row = LABELS.splitlines()[:2]
    rows = [row.replace("images/a", f"images/{i}") for i in range(20_000)]
    folder = make_folder(tmp_path / "mine", "\n".join([header, *rows]))
    for i in range(20_000):
        os.link(folder / "images" / "a.jpg", folder / "images" / f"{i}.jpg")
    start = time.process_time()
    assert read_any_folder(folder).facts["train_images"] == 20_000
    # A fifth of a hundred thousand; measured 0.2 s.
    assert time.process_time() - start < 2


# The schema file.


def test_words_stay_words(tmp_path):
    """YAML 1.1 reads yes, no, on, off and 1990 as other things."""
    schema = read_schema(
        tmp_path,
        "groups:\n"
        "  - {name: Coat, values: [Yes, No]}\n"
        "  - {name: light, values: [on, off]}\n"
        "  - {name: born, values: [1990, 2000, 2010]}\n"
        "  - {name: flag, values: [true, false]}\n",
    )
    assert schema.name == "folder"
    by_name = {group.name: group for group in schema.groups}
    assert by_name["coat"].is_yes_no and by_name["coat"].binary
    assert by_name["light"].is_yes_no and by_name["flag"].is_yes_no
    assert by_name["born"].values == ("1990", "2000", "2010")
    lit = "groups: [{name: light, values: [on, off], said: [lamp lit, lamp dark], nouns: [lamp], "
    schema = read_schema(tmp_path, lit + "synonyms: {lit: on, dark: off}}]")
    assert schema.groups[0].values == ("no", "yes")
    assert schema.describe(schema.encode({"light": "yes"})) == "lamp lit"
    toml = "[[groups]]\nname='born'\nvalues=[1990, 2000]\n[[groups]]\nname='x'\nvalues=[true,false]"
    schema = read_schema(tmp_path, toml, "s.toml")
    assert schema.groups[0].values == ("1990", "2000") and schema.groups[1].is_yes_no


def test_two_values_are_one_column_unless_both_may_be_absent(tmp_path):
    text = "groups: [{name: glasses, values: [normal, sun]"
    assert read_schema(tmp_path, f"{text}}}]").group_sizes == (1,)
    schema = read_schema(tmp_path, f"{text}, may_be_absent: yes}}]")
    assert schema.group_sizes == (2,)
    assert schema.encode({"glasses": ABSENT}).tolist() == [-1, -1]
    assert read_schema(tmp_path, f"{text}, multiple: true}}]").group_sizes == (2,)


def test_groups_that_share_values_are_told_apart_by_their_names(tmp_path):
    schema = read_schema(
        tmp_path,
        "groups:\n"
        "  - {name: upper_colour, values: [red, blue, white]}\n"
        "  - {name: lower_colour, values: [red, blue, white]}\n"
        "  - {name: age, values: [young, old]}\n",
    )
    assert [group.nouns for group in schema.groups] == [("upper colour",), ("lower colour",), ()]
    vector = schema.encode({"upper_colour": "red", "lower_colour": "blue", "age": "old"})
    assert schema.describe(vector) == "red upper colour, blue lower colour, old"
    np.testing.assert_array_equal(schema.parse(schema.describe(vector)), vector)


def test_what_a_schema_says_is_understood_when_typed(tmp_path):
    schema = read_schema(tmp_path, SCHEMA)
    vector = schema.parse("woman, long hair, red top, umbrella, no hat")
    assert schema.understood(vector) == {
        "gender": "female",
        "hair": "long",
        "upper_colour": "red",
        "carries": "umbrella",
        "hat": "no",
    }
    assert (vector == PRESENT).sum() == 4 and (vector == UNKNOWN).sum() == 2


def test_words_beyond_ascii(tmp_path):
    # The name in the file is decomposed (as macOS writes it), the column's is not.
    schema = "groups: [{name: 'Gro\u0308ße', values: [klein, GROSS]}, {name: mütze, kind: yes_no}]"
    labels = "path,split,größe,Mütze\nimages/a.jpg,train,Klein,yes\n"
    listing = read(tmp_path / "mine", labels, schema)
    assert decoded(listing, "train") == [{"größe": "klein", "mütze": "yes"}]
    vector = listing.schema.parse("gross, no mütze")
    assert listing.schema.understood(vector) == {"größe": "gross", "mütze": "no"}


def group(text: str) -> str:
    return f"groups: [{{name: hair, {text}}}]"


BAD_SCHEMAS = {
    "empty": ("", "is empty: expected the schema"),
    "blank": (" \n\n", "is empty: expected the schema"),
    "only a comment": ("# nothing", "is empty: expected the keys"),
    "a text": ("hello", "is the text 'hello': expected the keys 'name' and 'groups'"),
    "a list": ("- name: hair", "is a list: expected the keys 'name' and 'groups'"),
    "no groups": ("name: x", "'groups' is empty: expected a list of groups"),
    "empty groups": ("groups: []", "'groups' is empty: expected a list of groups"),
    "groups as keys": (
        "groups: {hair: {values: [a, b]}}",
        "'groups' is keys with values: expected a list of groups",
    ),
    "a group is a word": ("groups: [hair]", "group 1 is the text 'hair': expected the keys"),
    "a group is empty": ("groups: [{}]", "group 1 has no 'name'"),
    "unknown key": (
        group("value: [a, b]"),
        r"group 1 \('hair'\): unknown key 'value', expected .*; did you mean 'values'\?",
    ),
    "unknown key at the top": (
        "group: []",
        r"unknown key 'group', expected 'name' or 'groups'; did you mean 'groups'\?",
    ),
    "key twice": (group("values: [a, b], values: [c, d]"), "line 1.*'values' occurs twice"),
    "groups twice": ("groups: []\nname: x\ngroups: []", "line 3 .*'groups' occurs twice"),
    "not YAML": ("groups: [\n", "line 2 does not read as YAML"),
    "tabs": ("groups:\n\t- name: x", "line 2 does not read as YAML"),
    "a list as key": ("? [a, b]\n: c", "does not read as YAML"),
    "two documents": ("name: x\n---\nname: y", "expected a single document"),
    "a control character": ("name: \x01", "does not read as YAML"),
    "nested too deeply": ("[" * 5000, "does not read as YAML"),
    "a group inside itself": ("groups: &a [*a]", "does not read as YAML"),
    "no values": ("groups: [{name: hair}]", "has no values: give it 'values'"),
    "one value": (group("values: [long]"), "has 1 value.*expected two or more.*kind: yes_no"),
    "no value": (group("values: []"), "has 0 value.*expected two or more"),
    "values as text": (group("values: 'a, b'"), "'values' is the text 'a, b': expected a list"),
    "values as keys": (group("values: {a: b}"), "'values' is keys with values: expected a list"),
    "a list in the values": (group("values: [a, [b]]"), "'values' holds a list"),
    "an empty value": (group("values: [a, '']"), "'values' is empty"),
    "a value without letters": (group("values: [a, '-']"), "'-' has no letter or digit"),
    "value twice": (group("values: [Long-Hair, long hair]"), "'long hair' occurs twice"),
    "absent as value": (group("values: [a, b, absent]"), "'absent' cannot be a value.*may_be"),
    "unknown as value": (group("values: [a, b, Unknown]"), "'unknown' cannot be.*empty cell says"),
    "n/a as value": (group("values: [a, b, N/A]"), "'n/a' cannot be a value.*empty cell says"),
    "a negation as value": (group("values: [no, a, b]"), "'no' would be read as a negation"),
    "a value cut by a word": (group("values: [black and white, red]"), "would not be understood"),
    "a value cut by a comma": (group("values: ['a, b', c]"), "would not be understood"),
    "said that nobody understands": (
        group("values: [a, b], said: [apple, banana]"),
        "value 'a': the description 'apple' would not be understood .unknown word",
    ),
    "a noun that is a value elsewhere": (
        "groups: [{name: type, values: [trousers, dress]}, "
        "{name: colour, values: [red, blue], nouns: [trousers]}]",
        "'red trousers' would be understood as type: trousers, colour: red",
    ),
    "kind": (group("kind: maybe"), "'kind' is 'maybe': expected yes_no"),
    "kind and values": (group("kind: yes_no, values: [a, b]"), "both 'values' and 'kind: yes_no'"),
    "multiple yes_no": (group("kind: yes_no, multiple: yes"), "yes or no has one of both"),
    "multiple": (group("values: [a, b], multiple: many"), "'multiple' is 'many': expected yes or"),
    "never absent": (group("values: [a, b, c], may_be_absent: no"), "may_be_absent: no.*remove"),
    "a plus": (group("values: [a+b, c], multiple: yes"), r"holds '\+', which stands between"),
    "said": (group("values: [a, b], said: [x]"), "'said' has 1 texts for 2 values"),
    "nouns": (group("values: [a, b], nouns: hair"), "'nouns' is the text 'hair': expected a list"),
    "synonyms": (group("values: [a, b], synonyms: [c]"), "'synonyms' is a list: expected words"),
    "synonym of nothing": (
        group("values: [short, long], synonyms: {tiny: shrt}"),
        r"the synonym 'tiny' is of 'shrt', which is no value.*did you mean 'short'\?",
    ),
    "a value as synonym": (
        group("values: [short, long], synonyms: {long: short}"),
        "the synonym 'long' stands for 'short' and for another value",
    ),
    "an unknown region": (
        group("values: [a, b], region: hed"),
        "'region' is 'hed': expected 'whole', .* or 'feet'; did you mean 'head'",
    ),
    "several regions": (
        group("values: [a, b], region: [head, feet]"),
        "'region' is a list: expected 'whole', .* or 'feet'$",
    ),
    "no region": (group("values: [a, b], region: "), "'region' is empty: expected 'whole', "),
    "an empty synonym": (group("values: [a, b], synonyms: {c: }"), "the synonym 'c' is empty"),
    "group twice": (
        "groups: [{name: hair, values: [a, b]}, {name: Hair, kind: yes_no}]",
        "the groups 1 and 2 are both called 'hair'",
    ),
    "a fixed column": ("groups: [{name: Camera ID, kind: yes_no}]", "'camera_id' is a column"),
    "a name without letters": ("groups: [{name: '--', kind: yes_no}]", "no letter or digit"),
    "a list as name": ("groups: [{name: [a], kind: yes_no}]", "holds a list: expected one word"),
    "an empty name": ("name:\ngroups: [{name: a, kind: yes_no}]", "'name' is empty"),
}


@pytest.mark.parametrize("fault", BAD_SCHEMAS)
def test_faults_of_the_schema_file(tmp_path, fault):
    text, message = BAD_SCHEMAS[fault]
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "mine", schema=text)
    is_one_sentence(caught, tmp_path / "mine" / "schema.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups = [", r"does not read as TOML \("),
        ("name = 'x'\nname = 'y'", r"does not read as TOML \(Cannot overwrite"),
        ("groups: []", "does not read as TOML"),
        ("day = 2024-13-45", "does not read as TOML"),
        ("[groups]\nname = 'x'", "'groups' is keys with values"),
        ("[[groups]]\nname = 'x'\nvalues = 'a b'", "'values' is the text 'a b': expected a list"),
        ("[[groups]]\nname = 'x'\nvalues = 3", "'values' is the text '3': expected a list"),
        ("groups = 3", "'groups' is the text '3'"),
        ("a = " + "[" * 5000, "does not read as TOML"),
    ],
)
def test_faults_of_a_toml_file(tmp_path, text, message):
    folder = make_folder(tmp_path / "mine")
    (folder / "schema.yaml").unlink()
    (folder / "schema.toml").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_any_folder(folder)
    is_one_sentence(caught, folder / "schema.toml")


def is_one_sentence(caught, file: Path) -> None:
    """It names the file and is nobody's stack trace."""
    text = str(caught.value)
    assert str(file) in text and len(text) < 700 and "Error" not in text


def test_there_must_be_one_schema_file(tmp_path):
    folder = make_folder(tmp_path / "mine")
    (folder / "schema.toml").write_text(SCHEMA_AS_TOML)
    with pytest.raises(DataError, match=r"several schema files \(schema\.yaml, schema\.toml\)"):
        read_any_folder(folder)
    assert read_any_folder(folder, ReaderOptions(schema="schema.toml")).schema.name == "mine"
    (folder / "schema.toml").unlink()
    (folder / "schema.yaml").rename(folder / "groups.yaml")
    with pytest.raises(DataError, match=r"has no schema file.*--config\.data\.schema=groups\.yaml"):
        read_any_folder(folder)
    for name, message in [("x.json", "expected a file that ends in"), ("x.yaml", "does not exist")]:
        with pytest.raises(DataError, match=message):
            read_any_folder(folder, ReaderOptions(schema=name))
    (folder / "schema.yaml").mkdir()
    with pytest.raises(DataError, match=r"schema\.yaml is a folder"):
        read_any_folder(folder)
    (folder / "schema.yaml").rmdir()
    (folder / "schema.yaml").write_text("name: Größe", encoding="latin-1")
    with pytest.raises(DataError, match="line 1 holds the byte 0xf6, which is not UTF-8"):
        read_any_folder(folder)


# The CSV file.

HEADER, ROW = LABELS.splitlines()[:2]


def changed(old: str, new: str) -> str:
    assert old in LABELS
    return LABELS.replace(old, new, 1)


BAD_LABELS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty: expected a CSV file"),
    "blank": ("\n \n", "is empty: expected a CSV file"),
    "only delimiters": (",,,\n,,,\n", "is empty: expected a CSV file"),
    "no more than a space": ("\u00a0\n", "is empty: expected a CSV file"),
    "an unknown person": (
        changed(",17,1,", ",unknown,1,"),
        "line 2, column 'person_id': found 'unknown', expected a number or name, or nothing",
    ),
    "an unknown camera": (changed(",17,2,", ",17,N/A,"), "line 3, column 'camera_id': found 'N/A'"),
    "only a header": (HEADER, "has a header and no row"),
    "latin-1": (changed("female", "fémale").encode("latin-1"), "line 2 holds the byte 0xe9.*UTF-8"),
    "utf-16": (LABELS.encode("utf-16"), "is encoded in UTF-16, expected UTF-8: save it as UTF-8"),
    "utf-16 without mark": (LABELS.encode("utf-16-le"), "line 1 holds a NUL byte"),
    "utf-32": (LABELS.encode("utf-32"), "is encoded in UTF-32"),
    "excel": (b"PK\x03\x04....", "is a zip or Excel file: expected a CSV file"),
    "old excel": (b"\xd0\xcf\x11\xe0....", "is an Excel file"),
    "a NUL": (changed("female", "fem\0ale"), "line 2 holds a NUL byte"),
    "no header": (LABELS.partition("\n")[2], r"has no column 'path' \(nor split, .*; found images"),
    "another delimiter": (LABELS.replace(",", "|"), "with commas or semicolons or tabs between"),
    "no split": (changed("split", "part"), "has no column 'split'; found path, part"),
    "a mistyped group": (
        changed("upper_colour", "uper_color"),
        r"has no column 'upper_colour'; .*every group of schema\.yaml needs one"
        r".*did you mean 'uper_color'\?",
    ),
    "several columns missing": (changed("gender,hair", "x,y"), r"column 'gender' \(nor hair\)"),
    "a mistyped id": (changed("person_id", "personid"), "'personid'.*did you mean 'person_id'"),
    "a column twice": (changed("hair", "Gender"), "the column 'gender' occurs twice"),
    "too many cells": (changed(",yes\n", ",yes,x\n"), "line 2 has 10 cells, too many for the 9"),
    "too few cells": (changed(",17,2", ",17"), "line 3 has 8 cells, too few for the 9 columns"),
    "a value": (
        changed("17,2,female", "17,2,femal"),
        "line 3, column 'gender': found 'femal', expected 'male' or 'female', or nothing where "
        r"nobody knows; did you mean 'female'\?$",
    ),
    "several values wrong": (
        LABELS.replace(",male,", ",man?,"),
        r"line 4, column 'gender': found 'man\?'.*\(2 further cells are wrong\)",
    ),
    "a word for unknown": (
        changed("female", "unknown"),
        "found 'unknown'.*an empty cell says that",
    ),
    "n/a": (changed("17,1,female,long", "17,1,female,N/A"), "'hair': found 'N/A'.*an empty cell"),
    "none": (changed(",red,", ",None,"), "an empty cell says.*'absent' says that it is none"),
    "absent of two": (
        changed(",long,", ",absent,"),
        "'absent' is not possible.*may_be_absent: yes",
    ),
    "absent of yes and no": (changed(",yes\n", ",absent\n"), "found 'absent', expected 'no' or"),
    "several of one": (
        changed(",red,", ",red+blue,"),
        r"found 'red\+blue', several values at once: keep one, or set 'multiple: yes'",
    ),
    "wrongly joined": (
        changed("bag+umbrella", '"bag, umbrella"'),
        r"several values at once: join them with '\+', as in bag\+umbrella",
    ),
    "one of several": (changed("bag+umbrella", "bag+umbrela"), "found 'umbrela'.*mean 'umbrella'"),
    "a plus at the end": (changed("bag+umbrella", "bag+"), r"found 'bag\+', expected 'bag'"),
    "absent and more": (changed("bag+umbrella", "bag+absent"), "found 'absent'|found 'bag"),
    "maybe": (changed(",yes\n", ",maybe\n"), "column 'hat': found 'maybe', expected 'no' or 'yes'"),
    "a split": (
        changed(",train,", ",trian,"),
        r"line 2, column 'split': found 'trian', expected 'train', 'val', 'test' or 'query'; did "
        r"you mean 'train'\?",
    ),
    "no word for the split": (changed(",train,", ",,"), "line 2, column 'split': it is empty"),
    "an open quote": (changed("female,long", '"female,long'), "quote .* opens in line 2 never"),
    "a quote over lines": (
        changed("female,long,red", '"female,long,red').replace("blue", 'blue"', 1),
        "runs on from line 2 to line 5: close the quote|line 2 has text behind a closing quote",
    ),
    "text behind a quote": (
        changed("female", '"fe"male'),
        "line 2 has text behind a closing quote",
    ),
    "a line break": (changed("female", '"fe\nmale"'), "a cell runs on from line 2 to line 3"),
    "an endless cell": (changed("female", '"' + "x" * 200_000), "line 2 is longer than 131,072"),
    "nothing known of anybody": (
        f"{HEADER}\nimages/a.jpg,train,1,1,,,,,\n",
        "the attribute cells of all rows are empty",
    ),
    "no path": (changed("images/a.jpg", ""), "line 2, column 'path': it is empty"),
    "an absolute path": (changed("images/a", "/images/a"), "line 2: .*is absolute.*relative to"),
    "a drive": (changed("images/a", "C:\\images\\a"), r"line 2: the path C:.*is absolute"),
    "an address": (changed("images/a", "https://x.org/a"), "line 2: https://.*is a web address"),
    "outside": (changed("images/a", "images/../../a"), "line 2: .*leaves the data folder"),
    "outside on windows": (changed("images/a", "..\\a"), "line 2: .*leaves the data folder"),
    "the folder itself": (changed("images/a.jpg", "."), "line 2: the path . is the data folder"),
    "a folder": (changed("images/a.jpg", "images"), "line 2: images is a folder"),
    "twice": (
        changed("images/b", "images/a"),
        r"line 3: images/a\.jpg stands in line 2 too: keep one row per image",
    ),
    "twice in other words": (
        changed("images/b.jpg", "./images/x/../a.jpg"),
        r"line 3: images/a\.jpg stands in line 2 too",
    ),
    "missing": (
        changed("images/a", "images/zzz"),
        r"line 2: the image images/zzz\.jpg does not exist in .*: restore the files or remove",
    ),
    "many missing": (
        LABELS.replace("images/", "pictures/"),
        r"line 2: .*; 5 images are missing, the first are pictures/a\.jpg, pictures/b\.jpg, pict",
    ),
    "other capitals": (
        changed("images/a.jpg", "Images/A.JPG"),
        r"Images/A\.JPG does not exist in .* \(there is images/a\.jpg, write it exactly so\)",
    ),
    "no suffix": (changed("images/a.jpg", "images/a"), r"\(there is images/a\.jpg, write it"),
    "no folder": (
        LABELS.replace("images/", ""),
        r"\(there is images/a\.jpg, write it exactly so\)",
    ),
    "a file as folder": (changed("images/a.jpg", "images/a.jpg/b.jpg"), "does not exist"),
    "a name too long": (
        changed("images/a", "images/" + "a" * 5000 + "/a"),
        r"line 2: the folder images/a+\.\.\. cannot be read \(File name too long\)",
    ),
}


@pytest.mark.parametrize("fault", BAD_LABELS)
def test_faults_of_the_csv_file(tmp_path, fault):
    labels, message = BAD_LABELS[fault]
    folder = make_folder(tmp_path / "mine", labels)
    with pytest.raises(DataError, match=message) as caught:
        read_any_folder(folder)
    is_one_sentence(caught, folder / "labels.csv")


def test_a_label_file_that_is_not_there(tmp_path):
    folder = make_folder(tmp_path / "mine")
    (folder / "labels.csv").rename(folder / "Labels.xlsx")
    with pytest.raises(DataError, match=r"does not exist; the folder has Labels\.xlsx: export it"):
        read_any_folder(folder)
    (folder / "Labels.xlsx").unlink()
    with pytest.raises(DataError, match=r"labels\.csv does not exist; expected a CSV file"):
        read_any_folder(folder)
    (folder / "labels.csv").mkdir()
    with pytest.raises(DataError, match=r"labels\.csv is a folder"):
        read_any_folder(folder)


# The image files.


def link_out(folder: Path) -> None:
    (folder.parent / "secret.jpg").write_bytes(b"x")
    (folder / "images" / "a.jpg").unlink()
    (folder / "images" / "a.jpg").symlink_to(folder.parent / "secret.jpg")


def link_the_folder_out(folder: Path) -> None:
    (folder / "images").rename(folder.parent / "images")
    (folder / "images").symlink_to(folder.parent / "images")


def link_to_another_image(folder: Path) -> None:
    (folder / "images" / "b.jpg").unlink()
    (folder / "images" / "b.jpg").symlink_to("a.jpg")


def link_to_nothing(folder: Path) -> None:
    (folder / "images" / "a.jpg").unlink()
    (folder / "images" / "a.jpg").symlink_to("gone.jpg")


def link_to_itself(folder: Path) -> None:
    (folder / "images" / "a.jpg").unlink()
    (folder / "images" / "a.jpg").symlink_to("a.jpg")


def pipe(folder: Path) -> None:
    (folder / "images" / "a.jpg").unlink()
    os.mkfifo(folder / "images" / "a.jpg")


def archive(folder: Path) -> None:
    shutil.make_archive(str(folder / "images"), "zip", folder / "images")
    shutil.rmtree(folder / "images")
    (folder / "labels.csv").write_text(LABELS.replace("images/", "images.zip/"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (link_out, r"line 2: images/a\.jpg is a link to .*secret\.jpg, outside of the data folder"),
        (link_the_folder_out, "line 2: images is a link to .*, outside of the data folder"),
        (link_to_another_image, r"images/b\.jpg stands in line 2 too \(as images/a\.jpg\)"),
        (link_to_nothing, r"the image images/a\.jpg does not exist"),
        (link_to_itself, r"the image images/a\.jpg does not exist"),
        (pipe, r"line 2: images/a\.jpg is not a regular file"),
        (archive, r"images\.zip is an archive: unpack it"),
    ],
)
def test_faults_of_image_files(tmp_path, change, message):
    folder = make_folder(tmp_path / "mine")
    change(folder)
    with pytest.raises(DataError, match=message):
        read_any_folder(folder)


def test_a_data_dir_that_is_none(tmp_path):
    archive = tmp_path / "mine.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"mine\.zip is an archive: unpack it and give the folder"):
        read_any_folder(archive)
    with pytest.raises(DataError, match=r"nowhere does not exist: it holds the images with a CSV"):
        read_any_folder(tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"void has no schema file, expected 'schema\.yaml'"):
        read_any_folder(tmp_path / "void")


# The whole way.


def test_records_of_a_folder(tmp_path):
    folder = make_folder(tmp_path / "mine")
    for i, name in enumerate(NAMES):
        jpeg = noise_jpeg({}, seed=i, person_id=1, image_index=0, camera_id=1, image_height=16)
        (folder / "images" / f"{name}.jpg").write_bytes(jpeg)
    data = load_data_set("folder", str(folder))
    train = data.read("train")
    assert train.file_name == ["images/a.jpg", "images/b.jpg"]
    assert train.images[0] == (folder / "images" / "a.jpg").read_bytes()
    assert train.person_id.tolist() == [17, 17] and train.camera_id.tolist() == [1, 2]
    np.testing.assert_array_equal(train.attributes, data.listing.splits["train"].attributes)
    assert data.read("val").file_name == ["images/c.jpg"]
    assert data.read("gallery").file_name == ["images/d.jpg"]
    assert data.read("query").file_name == ["images/e.jpg"]
    assert splits.test_set(data).seen.tolist() == [False, False]
    (folder / "images" / "c.jpg").write_bytes(b"text")
    with pytest.raises(DataError, match=r"1 of the images.*images/c\.jpg"):
        load_data_set("folder", str(folder))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("folder") / "data"
    for folder in (out, out.with_name("again")):
        write_noise_layout(
            folder,
            layout="folder",
            train_persons=20,
            test_persons=10,
            images_per_person=5,
        )
    return out


def test_the_rendered_look_alike(rendered):
    listing = read_any_folder(rendered)
    assert listing.is_rendered and listing.failed_facts() == [] and listing.warnings == []
    assert listing.facts["train_persons"] == 20 and listing.facts["test_persons"] == 10
    assert listing.facts["train_images"] == 100 and listing.facts["query_images"] == 10
    assert listing.facts["gallery_images"] == 40
    assert listing.schema.attribute_names == MARKET_SCHEMA.attribute_names
    with open(rendered / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    empty = [not row[name] for row in rows for name in MARKET_SCHEMA.group_names]
    assert 0.01 < np.mean(empty) < 0.12
    of_person = {
        row["person_id"]: [row[name] for name in MARKET_SCHEMA.group_names] for row in rows
    }
    for row in rows:
        assert of_person[row["person_id"]] == [row[name] for name in MARKET_SCHEMA.group_names]
    labels = (rendered / "labels.csv").read_bytes()
    assert (rendered.with_name("again") / "labels.csv").read_bytes() == labels


def test_a_changed_count_of_a_rendered_folder_is_named(rendered, tmp_path):
    folder = Path(shutil.copytree(rendered, tmp_path / "data"))
    lines = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match=r"gallery images: found 39, but .*manifest\.json has 40"):
        load_data_set("folder", str(folder))


def test_the_schema_file_that_serves_as_example(tmp_path):
    schema = read_schema(tmp_path, schema_text())
    assert schema.group_names == MARKET_SCHEMA.group_names
    for mine, market in zip(schema.groups, MARKET_SCHEMA.groups, strict=True):
        assert (mine.values, mine.binary) == (market.values, market.binary)
        assert set(mine.nouns) == set(market.nouns)
        assert mine.region == market.region


def test_a_region_may_be_written_as_any_word(tmp_path):
    text = "groups: [{name: hair, values: [short, long], region: Head_and-SHOULDERS}]"
    assert read_schema(tmp_path, text).groups[0].region == "head and shoulders"


def test_the_examples_of_the_readme_and_the_reference(root, tmp_path):
    """What stands there is a whole data set."""
    for number, document in enumerate(("README.md", "docs/your_own_images.md")):
        text = (root / document).read_text(encoding="utf-8")
        [labels] = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
        schema = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
        folder = tmp_path / str(number) / "mine"
        for row in csv.DictReader(labels.splitlines()):
            image = folder / row["path"]
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"x")
        (folder / "labels.csv").write_text(labels)
        (folder / "schema.yaml").write_text(schema)
        listing = read_any_folder(folder)
        assert listing.warnings == [] and "train" in listing.splits
        listing.schema.parse("female, long hair, red top")
