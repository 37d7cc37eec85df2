"""The schema file of a folder: attribute groups as YAML or TOML. No TensorFlow.

docs/your_own_images.md is the reference of its keys. A single-choice group of two values becomes
one column (-1 the first, +1 the second), any other group a column per value.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from input_pipeline.attributes import ABSENT, AND, REGIONS, Group, Schema
from input_pipeline.datasets.any_folder.text_file import (
    did_you_mean,
    key,
    name_key,
    read_text,
    some_of,
)
from input_pipeline.datasets.listing import one_of
from input_pipeline.errors import DataError, short

# Columns of the CSV file that are no groups.
REQUIRED_COLUMNS = ("path", "split")
OPTIONAL_COLUMNS = ("person_id", "camera_id")

# What people write for a value that nobody knows; here it is an empty cell.
UNKNOWN_WORDS = ("unknown", "n a", "na", "nan", "null", "undefined", "?")

_NAMES = ("schema.yaml", "schema.yml", "schema.toml")
_KEYS = ("name", "groups")
_GROUP_KEYS = (
    *("name", "values", "kind", "multiple", "may_be_absent"),
    *("nouns", "synonyms", "said", "region"),
)
# Values that make a group of yes or no, however they are written and ordered.
_YES_NO = ({"no", "yes"}, {"false", "true"}, {"0", "1"}, {"off", "on"})
YES = ("yes", "true", "1", "on")
NO = ("no", "false", "0", "off")
# Words that turn the meaning of the next one in a typed description.
_NEGATIONS = ("no", "not", "never", "without")
_EXPECTED = "the schema of the folder, attribute groups as YAML or TOML"


class _Loader(yaml.BaseLoader):
    """Leaves all scalars text, so that `no` and 1990 are words; refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node. yaml.YAMLError: a key occurs twice."""
        keys = [key_node.value for key_node, _ in node.value]
        for place, word in enumerate(keys):
            if word in keys[:place]:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {word!r} occurs twice",
                    problem_mark=node.value[place][0].start_mark,
                )
        return super().construct_mapping(node, deep)


def find_schema_file(data_dir: Path, name: str) -> Path:
    """The file that a config names, else the one of the usual names that is there.

    DataError: there is none, or several, or one of another kind.
    """
    if name:
        file = data_dir / name
        if file.suffix.lower() not in (".yaml", ".yml", ".toml"):
            raise DataError(
                f"config.data.schema is {name!r}: expected a file that ends in .yaml, .yml or .toml"
            )
        if not file.exists():
            raise DataError(
                f"the schema file {file} does not exist: write it there (docs/your_own_images.md), "
                "or set --config.data.schema to its name below the data folder"
            )
        return file
    found = [file for file in (data_dir / name for name in _NAMES) if file.exists()]
    if not found:
        others = sorted(
            entry.name for entry in data_dir.iterdir() if entry.suffix in (".yaml", ".yml", ".toml")
        )
        hint = f" or set --config.data.schema={others[0]}" if others else ""
        raise DataError(
            f"{data_dir} has no schema file, expected {one_of(_NAMES)}: write it as in "
            f"docs/your_own_images.md{hint}"
        )
    if len(found) > 1:
        raise DataError(
            f"{data_dir} has several schema files ({', '.join(file.name for file in found)}): keep "
            f"one, or choose with --config.data.schema={found[0].name}"
        )
    return found[0]


def read_schema_file(file: Path, *, default_name: str) -> Schema:
    """The schema of a YAML or TOML file.

    default_name: of the schema where the file has none. DataError: whatever is wrong with it, also
    a value whose words would not be understood in a typed description.
    """
    fields = _load(file, read_text(file, expected=_EXPECTED))
    if not isinstance(fields, Mapping):
        raise DataError(
            f"{file} is {_kind(fields)}: expected the keys 'name' and 'groups', each at the "
            "beginning of a line"
        )
    _require_known_keys(fields, _KEYS, str(file))
    name = _word(fields["name"], f"{file}: 'name'") if "name" in fields else default_name
    entries = fields.get("groups")
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise DataError(
            f"{file}: 'groups' is {_kind(entries)}: expected a list of groups, each with a 'name' "
            "and 'values' or 'kind: yes_no'"
        )
    groups = [_read_group(entry, f"{file}: group {i + 1}") for i, entry in enumerate(entries)]
    names = [group.name for group in groups]
    for place, group_name in enumerate(names):
        if group_name in names[:place]:
            raise DataError(
                f"{file}: the groups {names.index(group_name) + 1} and {place + 1} are both called "
                f"{group_name!r}: rename one or put their values together"
            )
    schema = Schema(name, tuple(_with_nouns(groups)))
    for group in schema.groups:
        _require_understood(schema, group, file)
    return schema


def _load(file: Path, text: str) -> Any:
    try:
        if file.suffix.lower() == ".toml":
            return tomllib.loads(text)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else "the file"
        problem = " ".join(filter(None, (error.context, error.problem)))
    except (yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        where, problem = "the file", " ".join(str(error).split())
    except RecursionError:
        where, problem = "the file", "it is nested too deeply"
    except (TypeError, ValueError) as error:
        # A list or mapping where YAML wants a key; a TOML date that no calendar has.
        where, problem = "the file", str(error)
    language = "TOML" if file.suffix.lower() == ".toml" else "YAML"
    raise DataError(
        f"{file}: {where} does not read as {language} ({problem}): correct it, "
        "docs/your_own_images.md has an example"
    )


def _read_group(entry: Any, where: str) -> Group:
    """One group, words in lower case."""
    if not isinstance(entry, Mapping):
        raise DataError(
            f"{where} is {_kind(entry)}: expected the keys 'name' and 'values' or 'kind: yes_no'"
        )
    if "name" in entry:
        title = _word(entry["name"], f"{where}: 'name'")
        where = f"{where} ({title!r})"
    _require_known_keys(entry, _GROUP_KEYS, where)
    if "name" not in entry:
        raise DataError(f"{where} has no 'name': give it the name of its column in the CSV file")
    name = name_key(_word(entry["name"], where))
    if not name:
        raise DataError(f"{where}: the name has no letter or digit: choose another")
    if name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS):
        raise DataError(
            f"{where}: {name!r} is a column of the CSV file that is no attribute group: choose "
            "another name"
        )
    values = _read_values(entry, where)
    is_yes_no = values == ["no", "yes"]
    multiple = _flag(entry, "multiple", where)
    may_be_absent = _flag(entry, "may_be_absent", where)
    if is_yes_no and (multiple or may_be_absent):
        raise DataError(
            f"{where}: a group of yes or no has one of both: remove 'multiple' and 'may_be_absent'"
        )
    if may_be_absent is False and (multiple or len(values) > 2):
        raise DataError(
            f"{where}: 'may_be_absent: no' is only possible for one of two values: remove it"
        )
    if multiple and any(AND in value for value in values):
        raise DataError(
            f"{where}: a value holds '{AND}', which stands between the values of a group with "
            "several at once: choose another word"
        )
    said = _words(entry, "said", where)
    if said and len(said) != len(values):
        raise DataError(
            f"{where}: 'said' has {len(said)} texts for {len(values)} values ({', '.join(values)}):"
            " give one for each, in the same order"
        )
    if is_yes_no and key(str(entry.get("values", ["no"])[0])) in YES:
        # Written as [yes, no]; the group's own order is no, yes.
        said.reverse()
    return Group(
        name=name,
        values=tuple(values),
        binary=len(values) == 2 and not multiple and not may_be_absent,
        multiple=bool(multiple),
        said=tuple(said),
        nouns=tuple(noun.lower() for noun in _words(entry, "nouns", where)),
        synonyms=_read_synonyms(entry, values, where),
        region=_read_region(entry, where),
    )


def _read_region(entry: Mapping[str, Any], where: str) -> str:
    """Where on a person the group is looked for; the whole person where nothing is said."""
    if "region" not in entry:
        return "whole"
    found = entry["region"]
    region = key(found) if isinstance(found, str) else ""
    if region not in REGIONS:
        shown = repr(short(found)) if isinstance(found, str) and found else _kind(found)
        raise DataError(
            f"{where}: 'region' is {shown}: expected {one_of(tuple(REGIONS))}"
            f"{did_you_mean(region, tuple(REGIONS))}"
        )
    return region


def _read_values(entry: Mapping[str, Any], where: str) -> list[str]:
    """The values; ["no", "yes"] of a group of yes or no."""
    if "kind" in entry:
        kind = _word(entry["kind"], f"{where}: 'kind'")
        if name_key(kind) != "yes_no":
            raise DataError(
                f"{where}: 'kind' is {kind!r}: expected yes_no, or a list of 'values' in its place"
            )
        if "values" in entry:
            raise DataError(f"{where} has both 'values' and 'kind: yes_no': keep one of them")
        return ["no", "yes"]
    if "values" not in entry:
        raise DataError(f"{where} has no values: give it 'values' (a list) or 'kind: yes_no'")
    values = [value.lower() for value in _words(entry, "values", where)]
    keys = [key(value) for value in values]
    if set(keys) in _YES_NO:
        return ["no", "yes"]
    if len(values) < 2:
        raise DataError(
            f"{where}: 'values' has {len(values)} value(s), expected two or more; for something "
            "that is there or not write 'kind: yes_no'"
        )
    for place, value in enumerate(values):
        if not keys[place]:
            raise DataError(f"{where}: the value {value!r} has no letter or digit: write a word")
        if keys[place] in keys[:place]:
            raise DataError(
                f"{where}: the value {value!r} occurs twice (capitals, spaces, '-' and '_' make no "
                "difference): remove one"
            )
        if keys[place] == ABSENT:
            raise DataError(
                f"{where}: {value!r} cannot be a value, a cell with this word says 'none of the "
                "values': remove it from the list"
                + (" and set 'may_be_absent: yes'" if len(values) == 3 else "")
            )
        if keys[place] in UNKNOWN_WORDS:
            raise DataError(
                f"{where}: {value!r} cannot be a value, an empty cell says that nobody knows: "
                "remove it from the list and empty its cells"
            )
        if keys[place] in _NEGATIONS:
            raise DataError(
                f"{where}: the value {value!r} would be read as a negation in descriptions: use "
                f"another word, or remove it and write {ABSENT!r} in cells where none of the other "
                "values holds" + (", with 'may_be_absent: yes'" if len(values) == 3 else "")
            )
    return values


def _read_synonyms(entry: Mapping[str, Any], values: Sequence[str], where: str) -> dict[str, str]:
    synonyms = entry.get("synonyms") or {}
    if not isinstance(synonyms, Mapping):
        raise DataError(
            f"{where}: 'synonyms' is {_kind(synonyms)}: expected words with the value that each "
            f"means, like {{word: {values[0]}}}"
        )
    by_key = {key(value): value for value in values}
    if values == ["no", "yes"]:
        by_key |= dict.fromkeys(NO, "no") | dict.fromkeys(YES, "yes")
    read: dict[str, str] = {}
    for raw_word, raw_value in synonyms.items():
        word = _word(raw_word, f"{where}: 'synonyms'").lower()
        value = _word(raw_value, f"{where}: the synonym {word!r}")
        if key(value) not in by_key:
            raise DataError(
                f"{where}: the synonym {word!r} is of {value!r}, which is no value of the group "
                f"(expected {some_of(values)}){did_you_mean(value, values)}"
            )
        means = by_key[key(value)]
        if not key(word):
            raise DataError(f"{where}: the synonym {word!r} has no letter or digit: write a word")
        if by_key.get(key(word), means) != means or read.get(key(word), means) != means:
            raise DataError(
                f"{where}: the synonym {word!r} stands for {means!r} and for another value: keep "
                "one of them"
            )
        read[key(word)] = means
    return read


def _with_nouns(groups: Sequence[Group]) -> list[Group]:
    """The groups; one without nouns that shares a value with another gets its own name as noun.

    Two groups of the same colours would otherwise both take "red" for themselves. A synonym may be
    shared: "shorts" can say what and how long at once.
    """
    words = [
        {key(group.title)} if group.is_yes_no else {key(value) for value in group.values}
        for group in groups
    ]
    read = []
    for place, group in enumerate(groups):
        others = set().union(*(words[:place] + words[place + 1 :]))
        needs_noun = not group.nouns and words[place] & others
        read.append(replace(group, nouns=(group.title,)) if needs_noun else group)
    return read


def _require_understood(schema: Schema, group: Group, file: Path) -> None:
    """DataError unless each value, put into words as reports do, is understood when typed."""
    values = group.values if group.binary else (*group.values, ABSENT)
    for value in values:
        wanted = schema.encode({group.name: value})
        text = schema.describe(wanted)
        try:
            read = schema.parse(text)
            # Of a group with several values at once, typed words leave the others open.
            is_same = ((read == wanted) | (group.multiple & (read == 0))).all()
            means = ", ".join(f"{name}: {word}" for name, word in schema.understood(read).items())
            problem = "" if is_same else f"would be understood as {means}"
        except DataError as error:
            problem = f"would not be understood ({error})"
        if problem:
            raise DataError(
                f"{file}: group {group.name!r}, value {value!r}: the description {text!r} "
                f"{problem}; choose other words (descriptions are cut at , ; . & and at words like "
                "'and', 'with', 'in'), or change 'said', 'nouns' or 'synonyms' of the group"
            )


def _require_known_keys(fields: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    for name in fields:
        if name not in known:
            raise DataError(
                f"{where}: unknown key {short(str(name))!r}, expected {one_of(known)}"
                f"{did_you_mean(str(name), known)}"
            )


def _flag(entry: Mapping[str, Any], name: str, where: str) -> bool | None:
    """A key that is yes or no; None where it is not given."""
    if name not in entry:
        return None
    word = _word(entry[name], f"{where}: {name!r}").lower()
    if word not in (*YES, *NO):
        raise DataError(f"{where}: {name!r} is {word!r}: expected yes or no")
    return word in YES


def _words(entry: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A key that is a list of words; none where it is not given."""
    items = entry.get(name, [])
    if isinstance(items, (str, Mapping)) or not isinstance(items, Sequence):
        raise DataError(
            f"{where}: {name!r} is {_kind(items)}: expected a list, like {name}: [one, another]"
        )
    return [_word(item, f"{where}: {name!r}") for item in items]


def _word(item: Any, where: str) -> str:
    """A scalar as text: what TOML reads as a boolean or number was meant as a word."""
    if isinstance(item, (Mapping, list)) or item is None:
        raise DataError(f"{where} holds {_kind(item)}: expected one word or a few")
    text = " ".join((str(item).lower() if isinstance(item, bool) else str(item)).split())
    if not text:
        raise DataError(f"{where} is empty: write a word or remove it")
    return text


def _kind(item: Any) -> str:
    """What a part of the file is, for a sentence."""
    if item is None or item == "" or item == []:
        return "empty"
    if isinstance(item, Mapping):
        return "keys with values"
    return "a list" if isinstance(item, list) else f"the text {short(str(item))!r}"
