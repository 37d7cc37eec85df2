"""What the cells of a row mean: attribute values, split and ids. No TensorFlow."""

import re
from collections.abc import Callable, Iterable, Sequence

from input_pipeline.attributes import ABSENT, AND, Group, Schema
from input_pipeline.datasets.any_folder.schema_file import NO, UNKNOWN_WORDS, YES
from input_pipeline.datasets.any_folder.text_file import did_you_mean, key, some_of
from input_pipeline.datasets.listing import UNKNOWN_ID, one_of
from input_pipeline.errors import short

# The split of each word; images to be found are a gallery here, a test in everyday words.
SPLIT_OF = {
    "train": "train",
    "val": "val",
    "test": "gallery",
    "gallery": "gallery",
    "query": "query",
}

# pandas writes a column of 0, 1 and nothing with a decimal point.
_YES_NO_CELLS = {
    **dict.fromkeys((*YES, "1.0"), "yes"),
    **dict.fromkeys((*NO, "0.0"), "no"),
}
_OTHER_ANDS = re.compile(r"[,;|/&]| and ")
_LARGEST_ID = 2**31 - 1


class CellError(Exception):
    """What is wrong with a cell, as the end of a sentence that begins with where it stands."""


def value_reader(schema: Schema, group: Group) -> Callable[[str], bytes]:
    """A function from a stripped cell to the group's codes, int8 as bytes; CellError: no value.

    Cells repeat, so every text is looked at once.
    """
    columns = schema.slices[schema.group_names.index(group.name)]
    words = {key(word): value for word, value in group.synonyms.items()}
    words |= {key(value): value for value in group.values}
    if group.is_yes_no:
        words |= _YES_NO_CELLS
    cache: dict[str, bytes] = {}
    wrong: dict[str, CellError] = {}

    def read(cell: str) -> bytes:
        codes = cache.get(cell)
        if codes is not None:
            return codes
        if cell in wrong:
            raise wrong[cell]
        try:
            value = _value(group, words, cell)
        except CellError as error:
            wrong[cell] = error
            raise
        codes = cache[cell] = schema.encode({group.name: value})[columns].tobytes()
        return codes

    return read


def _value(group: Group, words: dict[str, str], cell: str) -> str | None:
    """The value(s) that a cell names, ABSENT, or None for an empty cell."""
    if not cell:
        return None
    if key(cell) == ABSENT and not group.binary:
        return ABSENT
    parts = cell.split(AND) if group.multiple else [cell]
    values = [words.get(key(part)) for part in parts]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        wrong = parts[values.index(None)].strip()
        raise CellError(_no_value(group, words, cell, wrong))
    return AND.join(dict.fromkeys(known))


def _no_value(group: Group, words: dict[str, str], cell: str, wrong: str) -> str:
    expected = f"expected {some_of(group.values)}, or nothing where nobody knows"
    if key(cell) == ABSENT:
        return (
            f"{cell!r} is not possible, the group has one of its two values ({expected}); set "
            "'may_be_absent: yes' for the group in the schema file if a person may have neither"
            if not group.is_yes_no
            else f"found {cell!r}, {expected}"
        )
    if key(wrong) in (*UNKNOWN_WORDS, "none", ""):
        none_of_them = "" if group.binary else f", {ABSENT!r} says that it is none of the values"
        return (
            f"found {short(cell)!r}, expected {some_of(group.values)}; an empty cell says that "
            f"nobody knows{none_of_them}"
        )
    parts = [part for part in re.split(rf"{_OTHER_ANDS.pattern}|\{AND}", cell) if part.strip()]
    if len(parts) > 1 and all(key(part) in words for part in parts):
        return f"found {short(cell)!r}, several values at once: " + (
            f"join them with {AND!r}, as in {AND.join(part.strip() for part in parts)}"
            if group.multiple
            else "keep one, or set 'multiple: yes' for the group in the schema file and join them "
            f"with {AND!r}"
        )
    return f"found {short(wrong)!r}, {expected}{did_you_mean(wrong, group.values)}"


def read_split(cell: str) -> str:
    """One of listing.SPLITS. CellError: another word."""
    split = SPLIT_OF.get(cell.lower())
    if split is None:
        words = ("train", "val", "test", "query")
        found = f"found {short(cell)!r}" if cell else "it is empty"
        raise CellError(f"{found}, expected {one_of(words)}{did_you_mean(cell, words)}")
    return split


def check_id(cell: str) -> None:
    """CellError for a word that says that nobody knows: it would be one person of many images."""
    if cell and key(cell) in UNKNOWN_WORDS:
        raise CellError(
            f"found {short(cell)!r}, expected a number or name, or nothing where nobody knows"
        )


def ids(cells: Sequence[str]) -> list[int]:
    """Ids of the cells of a column; UNKNOWN_ID for an empty one.

    Whole numbers below 2^31 stay as they are, if all cells are such. Otherwise the texts are
    numbered from 0 in their sorted order, so that the order of the rows does not matter.
    """
    distinct = {cell for cell in cells if cell}
    number_of = (
        {cell: int(cell) for cell in distinct}
        if all(map(_is_id, distinct))
        else {cell: number for number, cell in enumerate(sorted(distinct))}
    )
    number_of[""] = UNKNOWN_ID
    return [number_of[cell] for cell in cells]


def _is_id(cell: str) -> bool:
    # The length first: Python refuses to read thousands of digits.
    return cell.isascii() and cell.isdigit() and len(cell) < 20 and int(cell) <= _LARGEST_ID


def number_of_persons(ids_of_rows: Iterable[int]) -> int:
    """Different known persons."""
    return len(set(ids_of_rows) - {UNKNOWN_ID})
