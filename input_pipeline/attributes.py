"""The attribute schema: groups, the coding +1 / -1 / 0, categories, and descriptions as text.

Shape letters: A attribute columns, R groups, N rows, K distinct categories. numpy only.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from input_pipeline.errors import DataError

PRESENT, ABSENT_CODE, UNKNOWN = 1, -1, 0

# A value for `encode`: every column of the group is -1 (a top of no named colour).
ABSENT = "absent"

_FRAGMENT_BREAKS = re.compile(r"[,;.\n&]|\b(?:and|with|wearing|in|carrying|has)\b")
_SEPARATORS = re.compile(r"[\s\-_:=]+")
_NEGATIONS = ("no", "without", "not", "never")
_FILLERS = ("a", "an", "the", "person", "is", "of", "who", "who's", "clothes", "clothing", "body")


@dataclass(frozen=True)
class Group:
    """One question about a person and its possible answers.

    values: one column each; of a `binary` group exactly two in ONE column, -1 for the first and +1
      for the second.
    said: how `describe` puts each value; by default the value itself ("no hat", "hat" for no, yes).
    nouns: if given, a value counts only with one of these words ("red top", never "red" alone).
    synonyms: further words for a value, {"man": "male"}.
    """

    name: str
    values: tuple[str, ...]
    binary: bool = False
    said: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(f"group {self.name!r} needs two or more distinct values")
        if self.binary and len(self.values) != 2:
            raise ValueError(f"binary group {self.name!r} needs exactly two values")
        if self.said and len(self.said) != len(self.values):
            raise ValueError(f"group {self.name!r} says {len(self.said)} of its values")
        if ABSENT in self.values or set(self.synonyms.values()) - set(self.values):
            raise ValueError(f"group {self.name!r} has a reserved value or a synonym of no value")

    @property
    def title(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")

    @property
    def is_yes_no(self) -> bool:
        """True where the group's name itself stands for its second value."""
        return self.values == ("no", "yes")

    def say(self, value: str) -> str:
        """The words of one value, or of ABSENT."""
        if value == ABSENT:
            return f"no {self.title}"
        if self.said:
            return self.said[self.values.index(value)]
        if self.is_yes_no:
            return self.title if value == "yes" else f"no {self.title}"
        return value


@dataclass(frozen=True)
class Schema:
    """The groups of a data set, in the order of their columns.

    phrases: which groups `describe` puts together, each with the noun that closes the phrase unless
      the last value is itself such a noun: "black lower", but "black trousers". Groups in no phrase
      stand alone.
    """

    name: str
    groups: tuple[Group, ...]
    phrases: tuple[tuple[tuple[str, ...], str], ...] = ()

    def __post_init__(self) -> None:
        names = [group.name for group in self.groups]
        in_phrases = [name for members, _ in self.phrases for name in members]
        if len(set(names)) < len(names) or len(set(in_phrases)) < len(in_phrases):
            raise ValueError(f"schema {self.name!r} names a group twice")
        if set(in_phrases) - set(names):
            raise ValueError(f"schema {self.name!r} has phrases of unknown groups")

    @cached_property
    def group_sizes(self) -> tuple[int, ...]:
        """(R,) columns per group."""
        return tuple(1 if group.binary else len(group.values) for group in self.groups)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """(R,) the columns of each group."""
        ends = np.cumsum(self.group_sizes).tolist()
        return tuple(
            slice(end - size, end) for end, size in zip(ends, self.group_sizes, strict=True)
        )

    @property
    def num_attributes(self) -> int:
        """A."""
        return sum(self.group_sizes)

    @property
    def group_names(self) -> tuple[str, ...]:
        """(R,) names."""
        return tuple(group.name for group in self.groups)

    @cached_property
    def attribute_names(self) -> tuple[str, ...]:
        """(A,) "upper_colour=red"; of a binary group the value that is coded +1."""
        return tuple(
            f"{group.name}={value}"
            for group in self.groups
            for value in (group.values[1:] if group.binary else group.values)
        )

    def encode(self, values: Mapping[str, str | None]) -> np.ndarray:
        """(A,) int8 from {group: value, ABSENT or None}; a group left out or None is unknown.

        ABSENT makes every column of a one-hot group -1. ValueError: unknown group or value.
        """
        unknown = set(values) - set(self.group_names)
        if unknown:
            raise ValueError(f"schema {self.name!r} has no group {sorted(unknown)}")
        vector = np.full(self.num_attributes, UNKNOWN, np.int8)
        for group, columns in zip(self.groups, self.slices, strict=True):
            value = values.get(group.name)
            if value is None:
                continue
            if value not in group.values and (group.binary or value != ABSENT):
                raise ValueError(f"group {group.name!r} has no value {value!r}: {group.values}")
            if group.binary:
                vector[columns] = PRESENT if value == group.values[1] else ABSENT_CODE
            else:
                vector[columns] = [PRESENT if v == value else ABSENT_CODE for v in group.values]
        return vector

    def decode(self, vector: np.ndarray) -> dict[str, str | None]:
        """{group: value, ABSENT or None (unknown)} of an (A,) vector; the inverse of `encode`.

        ValueError: a vector of another length, or several values of one group at once.
        """
        vector = np.asarray(vector)
        if vector.shape != (self.num_attributes,):
            raise ValueError(f"expected a vector ({self.num_attributes},), got {vector.shape}")
        decoded: dict[str, str | None] = {}
        for group, columns in zip(self.groups, self.slices, strict=True):
            codes = vector[columns]
            value = None
            if group.binary:
                if codes[0] != UNKNOWN:
                    value = group.values[int(codes[0] > 0)]
            elif (codes > 0).sum() > 1:
                raise ValueError(f"several values of group {group.name!r} are present at once")
            elif (codes > 0).any():
                value = group.values[int(np.argmax(codes))]
            elif (codes < 0).all():
                value = ABSENT
            decoded[group.name] = value
        return decoded

    def describe(self, vector: np.ndarray, *, mention_absent: bool = True) -> str:
        """Readable text of an (A,) vector; unknown groups are not mentioned.

        mention_absent: False leaves out "no hat", "no upper colour" and the like (short titles);
          with True `parse` gives the vector back.
        """
        decoded = self.decode(vector)
        by_name = {group.name: group for group in self.groups}
        phrase_of = {name: phrase for phrase in self.phrases for name in phrase[0]}
        said, negative = [], []
        for name in self.group_names:
            members, noun = phrase_of.get(name, ((name,), ""))
            if members[0] != name:
                continue
            if name not in phrase_of and by_name[name].nouns and not by_name[name].said:
                noun = by_name[name].nouns[0]
            words = []
            for member in members:
                value = decoded[member]
                if value is not None:
                    text = by_name[member].say(value)
                    (negative if text.startswith("no ") else words).append(text)
            if words and noun and words[-1] not in self._nouns:
                words.append(noun)
            if words:
                said.append(" ".join(words))
        return ", ".join(said + (negative if mention_absent else []))

    def parse(self, text: str) -> np.ndarray:
        """(A,) int8 of a typed description; what it does not mention is unknown (0).

        DataError: an unknown word (named, with the nearest known ones), a value said of the wrong
        thing, two values of one group, or a description that says nothing.
        """
        found: dict[str, str] = {}
        for fragment in _FRAGMENT_BREAKS.split(text.lower()):
            words = self._chunks([word for word in _SEPARATORS.split(fragment) if word])
            for group, value in self._read_fragment(words):
                earlier = found.setdefault(group.name, value)
                if earlier != value:
                    raise DataError(
                        f"the description {text!r} says both {group.say(earlier)!r} and "
                        f"{group.say(value)!r} ({group.title}): keep one of them"
                    )
        if not found:
            raise DataError(
                f"the description {text!r} names no attribute: say for instance "
                f"{self.describe(self._example())!r}"
            )
        return self.encode(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON."""
        return {
            "name": self.name,
            "groups": [
                {
                    "name": group.name,
                    "values": list(group.values),
                    "binary": group.binary,
                    "said": list(group.said),
                    "nouns": list(group.nouns),
                    "synonyms": dict(group.synonyms),
                }
                for group in self.groups
            ],
            "phrases": [[list(members), noun] for members, noun in self.phrases],
        }

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> "Schema":
        """The inverse of `to_dict`. DataError: something is missing or malformed."""
        try:
            groups = tuple(
                Group(
                    name=entry["name"],
                    values=tuple(entry["values"]),
                    binary=bool(entry["binary"]),
                    said=tuple(entry["said"]),
                    nouns=tuple(entry["nouns"]),
                    synonyms=dict(entry["synonyms"]),
                )
                for entry in fields["groups"]
            )
            phrases = tuple((tuple(members), noun) for members, noun in fields["phrases"])
            return Schema(name=fields["name"], groups=groups, phrases=phrases)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the attribute schema is malformed ({error!r}): expected the fields that "
                "Schema.to_dict writes, export the model again"
            ) from error

    def _example(self) -> np.ndarray:
        return self.encode({group.name: group.values[0] for group in self.groups[:3]})

    @cached_property
    def _lexicon(self) -> dict[str, list[tuple[Group, str]]]:
        """Every word or run of words that is a value, with the groups and values it may mean."""
        lexicon: dict[str, list[tuple[Group, str]]] = {}
        for group in self.groups:
            words = dict(group.synonyms)
            if group.is_yes_no:
                words[group.title] = "yes"
            else:
                words |= {value: value for value in group.values}
            for word, value in words.items():
                key = " ".join(_SEPARATORS.split(word.lower()))
                lexicon.setdefault(key, []).append((group, value))
        return lexicon

    @cached_property
    def _nouns(self) -> dict[str, list[Group]]:
        """Words that tell what a value is said of; a group's own name always does."""
        nouns: dict[str, list[Group]] = {}
        for group in self.groups:
            for word in dict.fromkeys((group.title, *group.nouns)):
                nouns.setdefault(" ".join(_SEPARATORS.split(word)), []).append(group)
        return nouns

    def _chunks(self, words: Sequence[str]) -> list[str]:
        """Joins the words of known runs ("upper colour"), longest first; drops fillers."""
        known = {*self._lexicon, *self._nouns, *_NEGATIONS}
        longest = max(len(entry.split()) for entry in known)
        chunks, position = [], 0
        while position < len(words):
            for length in range(min(longest, len(words) - position), 0, -1):
                chunk = " ".join(words[position : position + length])
                if chunk in known:
                    break
            else:
                chunk, length = words[position], 1
                if chunk not in _FILLERS:
                    raise DataError(_unknown_word(chunk, known))
            if chunk in known:
                chunks.append(chunk)
            position += length
        return chunks

    def _read_fragment(self, chunks: Sequence[str]) -> list[tuple[Group, str]]:
        """The (group, value) pairs that a run of chunks between two commas asserts."""
        asserted: list[tuple[Group, str]] = []
        negated = False
        for position, chunk in enumerate(chunks):
            if chunk in _NEGATIONS:
                negated = True
                continue
            meanings = self._meanings(chunks, position)
            if negated and not meanings:
                group = next((g for g in self._nouns[chunk] if g.title == chunk), None)
                if group is None:
                    raise DataError(
                        f"'no {chunk}' is not clear: name the group ("
                        + ", ".join(f"no {g.title}" for g in self._nouns[chunk])
                        + ") or leave it out"
                    )
                meanings = [(group, ABSENT)]
            elif negated:
                meanings = [(group, _other_value(group, value)) for group, value in meanings]
            negated = negated and not meanings
            asserted += meanings
        if negated or (chunks and not asserted):
            raise DataError(
                f"{' '.join(chunks)!r} says nothing of the person: name a value with it, or leave "
                "it out of the description"
            )
        return asserted

    def _meanings(self, chunks: Sequence[str], position: int) -> list[tuple[Group, str]]:
        """What one chunk means beside its neighbours; nothing for a noun without a value."""
        candidates = self._lexicon.get(chunks[position], [])
        alone = [(group, value) for group, value in candidates if not group.nouns]
        with_noun = [(group, value) for group, value in candidates if group.nouns]
        if not with_noun:
            return alone
        # The next noun decides; before it, nouns that no such value is ever said of are passed
        # over ("black long-sleeved top"). Without one, the last noun before it ("upper red").
        after = [w for w in chunks[position:] if w in self._nouns]
        before = [w for w in reversed(chunks[:position]) if w in self._nouns]
        kin = {v for group, _ in with_noun for v in group.values}
        for noun in after or before:
            said_of = [(group, value) for group, value in with_noun if group in self._nouns[noun]]
            if said_of:
                return alone + said_of
            if any(kin & set(group.values) for group in self._nouns[noun] if group.nouns):
                break
        if alone:
            return alone
        examples = [f"{chunks[position]} {group.nouns[0]}" for group, _ in with_noun]
        raise DataError(
            f"{' '.join(chunks)!r} does not say what is {chunks[position]!r}: known are "
            + ", ".join(repr(example) for example in examples)
        )


def categories(attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows (K, A) of attributes (N, A), in lexicographic order, and (N,) int32 labels."""
    unique, labels = np.unique(attributes, axis=0, return_inverse=True)
    return unique, labels.reshape(-1).astype(np.int32)


def category_labels(attributes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N,) int32 index of each row of attributes (N, A) among known categories (K, A), else -1."""
    index = {row.tobytes(): i for i, row in enumerate(np.ascontiguousarray(known, np.int8))}
    rows = np.ascontiguousarray(attributes, np.int8)
    return np.array([index.get(row.tobytes(), -1) for row in rows], np.int32)


def carve_validation(
    labels: np.ndarray, num_categories: int, *, fraction: float, seed: int
) -> np.ndarray:
    """(K,) bool: the training categories that are held out for validation.

    labels: (N,) category of each training image. fraction: of the categories that have images, in
    [0, 1); 0 holds out none, any other fraction at least one and leaves at least one to train on.
    """
    if not 0.0 <= fraction < 1.0:
        raise DataError(
            f"validation_fraction is {fraction}: expected a number from 0 up to but not 1"
        )
    held_out = np.zeros(num_categories, bool)
    present = np.unique(labels)
    if fraction == 0.0:
        return held_out
    if len(present) < 2:
        raise DataError(
            f"{len(present)} training categories have images: validation needs two or more, set "
            "--config.data.validation_fraction=0"
        )
    count = min(max(1, round(fraction * len(present))), len(present) - 1)
    held_out[np.random.default_rng(seed).permutation(present)[:count]] = True
    return held_out


def _other_value(group: Group, value: str) -> str:
    if len(group.values) == 2:
        return group.values[1 - group.values.index(value)]
    raise DataError(
        f"'no {value}' leaves several values of {group.title} open ({', '.join(group.values)}): "
        "say the one that is meant or leave it out"
    )


def _unknown_word(word: str, known: set[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    hint = (
        f"did you mean {', '.join(near)}?"
        if near
        else f"known words are {', '.join(sorted(known))}"
    )
    return f"unknown word {word!r} in the description: {hint}"


_UPPER_COLOURS = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
_LOWER_COLOURS = (
    "black",
    "white",
    "pink",
    "purple",
    "yellow",
    "gray",
    "blue",
    "green",
    "brown",
)
_UPPER_NOUNS = (
    "top",
    "upper",
    "shirt",
    "t shirt",
    "tshirt",
    "jacket",
    "coat",
    "sweater",
    "upper body",
)
_LOWER_NOUNS = (
    "trousers",
    "lower",
    "pants",
    "jeans",
    "shorts",
    "dress",
    "skirt",
    "lower body",
)
_GREY = {"grey": "gray"}

MARKET_SCHEMA = Schema(
    name="market1501",
    groups=(
        Group(
            "age",
            ("young", "teenager", "adult", "old"),
            synonyms={
                "child": "young",
                "teen": "teenager",
                "teenage": "teenager",
                "elderly": "old",
            },
        ),
        Group(
            "gender",
            ("male", "female"),
            binary=True,
            synonyms={"man": "male", "boy": "male", "woman": "female", "girl": "female"},
        ),
        Group(
            "hair",
            ("short", "long"),
            binary=True,
            said=("short hair", "long hair"),
            nouns=("hair", "haired"),
        ),
        Group(
            "sleeve",
            ("long", "short"),
            binary=True,
            said=("long-sleeved", "short-sleeved"),
            nouns=("sleeves", "sleeve", "sleeved"),
        ),
        Group(
            "lower_length",
            ("long", "short"),
            binary=True,
            nouns=_LOWER_NOUNS,
            synonyms={"shorts": "short"},
        ),
        Group(
            "lower_type",
            ("dress", "pants"),
            binary=True,
            said=("dress", "trousers"),
            synonyms={"skirt": "dress", "trousers": "pants", "jeans": "pants", "shorts": "pants"},
        ),
        Group("hat", ("no", "yes"), binary=True, synonyms={"cap": "yes", "hats": "yes"}),
        Group("backpack", ("no", "yes"), binary=True, synonyms={"rucksack": "yes"}),
        Group("bag", ("no", "yes"), binary=True, synonyms={"shoulder bag": "yes"}),
        Group("handbag", ("no", "yes"), binary=True, synonyms={"hand bag": "yes", "purse": "yes"}),
        Group("upper_colour", _UPPER_COLOURS, nouns=_UPPER_NOUNS, synonyms=_GREY),
        Group("lower_colour", _LOWER_COLOURS, nouns=_LOWER_NOUNS, synonyms=_GREY),
    ),
    phrases=(
        (("age", "gender"), ""),
        (("sleeve", "upper_colour"), "top"),
        (("lower_length", "lower_colour", "lower_type"), "lower"),
    ),
)

# The label file's two-valued fields (1, 2) and the group whose values they are, in that order.
_MARKET_BINARY_FIELDS = {
    "gender": "gender",
    "hair": "hair",
    "up": "sleeve",
    "down": "lower_length",
    "clothes": "lower_type",
    "hat": "hat",
    "backpack": "backpack",
    "bag": "bag",
    "handbag": "handbag",
}

# The raw field of each of the A columns ("age" is one field of four columns), and the 27 fields.
_MARKET_COLUMN_FIELDS = (
    *("age",) * 4,
    *_MARKET_BINARY_FIELDS,
    *(f"up{colour}" for colour in _UPPER_COLOURS),
    *(f"down{colour}" for colour in _LOWER_COLOURS),
)
MARKET_FIELDS = tuple(dict.fromkeys(_MARKET_COLUMN_FIELDS))


def market_field_range(name: str) -> tuple[int, int]:
    """Smallest and largest value of one of the 27 raw fields."""
    return (1, 4) if name == "age" else (1, 2)


def market_fields_to_attributes(fields: Mapping[str, int]) -> np.ndarray:
    """(30,) int8 of the 27 raw Market-1501 fields (values 1 / 2, age 1..4); nothing is unknown."""
    codes = [(fields["age"] == age) for age in range(1, 5)] + [
        fields[name] == 2 for name in _MARKET_COLUMN_FIELDS[4:]
    ]
    return np.where(codes, PRESENT, ABSENT_CODE).astype(np.int8)


def attributes_to_market_fields(attributes: np.ndarray) -> dict[str, int]:
    """The inverse of `market_fields_to_attributes`. ValueError: unknown columns, or not one age."""
    attributes = np.asarray(attributes)
    if attributes.shape != (len(_MARKET_COLUMN_FIELDS),) or not attributes.all():
        raise ValueError("raw fields need a fully known Market-1501 attribute vector")
    if (attributes[:4] > 0).sum() != 1:
        raise ValueError("raw fields need exactly one age")
    fields = {"age": int(np.argmax(attributes[:4])) + 1}
    for name, code in zip(_MARKET_COLUMN_FIELDS[4:], attributes[4:], strict=True):
        fields[name] = 2 if code > 0 else 1
    return fields
