"""What the two text files of a folder have in common: UTF-8, and how words are compared."""

import codecs
import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from input_pipeline.datasets.listing import one_of
from input_pipeline.errors import DataError

# The longer ones first: a UTF-32 mark begins with a UTF-16 one.
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_OTHER_FILES = {
    b"PK\x03\x04": "a zip or Excel file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"\x1f\x8b": "a gzip file",
}
# In a sentence: characters of a user's text, values of a group.
_LONGEST = 80
_NAMED = 12
_SEPARATORS = re.compile(r"[\s\-_:=+/]+")


def read_text(file: Path, *, expected: str) -> str:
    """The text of a UTF-8 file, without byte order mark.

    expected: completes "expected ...". DataError: it is no file, cannot be read, is empty, of
    another encoding or no text at all.
    """
    if file.is_dir():
        raise DataError(f"{file} is a folder: expected {expected}")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): expected {expected}") from error
    for mark, name in _OTHER_FILES.items():
        if content.startswith(mark):
            raise DataError(f"{file} is {name}: expected {expected}, export it as text in UTF-8")
    for mark, name in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise DataError(f"{file} is encoded in {name}, expected UTF-8: save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise DataError(f"{file} is empty: expected {expected}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: line {_line(content, error.start)} holds the byte "
            f"0x{content[error.start]:02x}, which is not UTF-8: save the file as UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"{file} is empty: expected {expected}")
    if "\0" in text:
        raise DataError(
            f"{file}: line {_line(content, content.index(0))} holds a NUL byte, expected text: "
            "save the file as UTF-8"
        )
    return text


def _line(content: bytes, position: int) -> int:
    """Number of the line that holds a byte, from 1."""
    return len(re.findall(rb"\r\n|\r|\n", content[:position])) + 1


def key(word: str) -> str:
    """What two spellings of a word share: "Long-Sleeved " and "long_sleeved" are "long sleeved".

    The minus of a number stays: -1 is not 1.
    """
    lower = unicodedata.normalize("NFC", word).lower().strip()
    if re.fullmatch(r"-[\d.]+", lower):
        return lower
    return " ".join(part for part in _SEPARATORS.split(lower) if part)


def name_key(name: str) -> str:
    """The same of a column's or a group's name: "Upper colour" is "upper_colour"."""
    return key(name).replace(" ", "_")


def some_of(words: Sequence[str]) -> str:
    """'a', 'b' or 'c' for a sentence; of many only the first."""
    if len(words) <= _NAMED:
        return one_of(words)
    return f"one of {len(words)} values ({', '.join(map(repr, words[:_NAMED]))}, ...)"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" or nothing."""
    by_key = {key(entry): entry for entry in known}
    near = difflib.get_close_matches(key(word)[:_LONGEST], by_key, n=1, cutoff=0.6)
    return f"; did you mean {by_key[near[0]]!r}?" if near else ""
