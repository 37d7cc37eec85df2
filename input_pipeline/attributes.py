"""The attribute schema: groups, the coding +1 / -1 / 0, categories, and descriptions as text.

Shape letters: A attribute columns, R groups, N rows, K distinct categories. numpy only.
"""

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from input_pipeline.errors import DataError, short

PRESENT, ABSENT_CODE, UNKNOWN = 1, -1, 0

# A value for `encode`: every column of the group is -1 (a top of no named colour).
ABSENT = "absent"

# Between the values of a group that has several at once: "black+blue".
AND = "+"

# Where on a standing person who fills the image something is worn: first and last share of the
# height, by eye. Roughly, because people and detectors vary. Models keep the names: another share
# needs another name.
REGIONS = {
    "whole": (0.0, 1.0),
    "head": (0.0, 0.2),
    "head and shoulders": (0.0, 0.3),
    "upper": (0.1, 0.6),
    "carried": (0.1, 0.75),
    "hand": (0.3, 0.85),
    "lower": (0.4, 0.95),
    "feet": (0.75, 1.0),
}

_BREAKING_WORDS = ("and", "with", "wearing", "in", "carrying", "has")
_SEPARATORS = re.compile(r"[\s\-_:=+/]+")
# Of these, with "&", what may carry a denial on: "no hat and backpack".
_JOINING = ("and", "&")
_SIDES = {"left", "right"}
_NEGATIONS = ("no", "without", "not", "never")
_FILLERS = ("a", "an", "the", "person", "is", "of", "who", "who's", "clothes", "clothing", "body")


@dataclass(frozen=True)
class Group:
    """One question about a person and its possible answers.

    values: one column each; of a `binary` group exactly two in ONE column, -1 for the first and +1
      for the second.
    multiple: any number of the values may be present at once (two lower colours, a bag and a hat).
    said: how `describe` puts each value; by default the value itself ("no hat", "hat" for no, yes).
    nouns: if given, a value counts only with one of these words ("red top", never "red" alone).
    synonyms: further words for a value, {"man": "male"}.
    region: one of REGIONS, where guided attention begins to look for it.
    """

    name: str
    values: tuple[str, ...]
    binary: bool = False
    multiple: bool = False
    said: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = field(default_factory=dict)
    region: str = "whole"

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(f"group {self.name!r} needs two or more distinct values")
        if self.binary and (len(self.values) != 2 or self.multiple):
            raise ValueError(f"binary group {self.name!r} needs exactly two values, one at a time")
        if self.said and len(self.said) != len(self.values):
            raise ValueError(f"group {self.name!r} says {len(self.said)} of its values")
        if ABSENT in self.values or set(self.synonyms.values()) - set(self.values):
            raise ValueError(f"group {self.name!r} has a reserved value or a synonym of no value")
        if self.region not in REGIONS:
            raise ValueError(f"group {self.name!r} is in no region: {self.region!r}")

    @property
    def title(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")

    @property
    def is_yes_no(self) -> bool:
        """True where the group's name itself stands for its second value."""
        return self.values == ("no", "yes")

    def say(self, value: str) -> str:
        """The words of one value, of several joined by AND, or of ABSENT."""
        if value == ABSENT:
            return f"no {self.title}"
        if self.multiple and AND in value:
            return AND.join(self.say(part) for part in value.split(AND))
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

    @property
    def group_regions(self) -> tuple[tuple[float, float], ...]:
        """(R, 2) first and last share of the height, see REGIONS."""
        return tuple(REGIONS[group.region] for group in self.groups)

    def groups_with_sides(self) -> list[str]:
        """Names of groups whose words tell left from right, which a mirror image does not keep."""
        return [
            group.name
            for group in self.groups
            if _SIDES & set(re.split(r"[^a-z]+", " ".join([group.name, *group.values]).lower()))
        ]

    def coding(self) -> "Schema":
        """What labels are read by: the schema without its regions."""
        groups = tuple(replace(group, region="whole") for group in self.groups)
        return replace(self, groups=groups)

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

        ABSENT makes every column of a one-hot group -1; several values of a `multiple` group are
        joined by AND. ValueError: unknown group or value.
        """
        unknown = set(values) - set(self.group_names)
        if unknown:
            raise ValueError(f"schema {self.name!r} has no group {sorted(unknown)}")
        vector = np.full(self.num_attributes, UNKNOWN, np.int8)
        for group, columns in zip(self.groups, self.slices, strict=True):
            value = values.get(group.name)
            if value is None:
                continue
            present = value.split(AND) if group.multiple else [value]
            known = group.values if group.binary else (*group.values, ABSENT)
            wrong = [part for part in present if part not in known]
            if wrong:
                raise ValueError(f"group {group.name!r} has no value {wrong[0]!r}: {group.values}")
            if group.binary:
                vector[columns] = PRESENT if value == group.values[1] else ABSENT_CODE
            else:
                vector[columns] = [PRESENT if v in present else ABSENT_CODE for v in group.values]
        return vector

    def decode(self, vector: np.ndarray) -> dict[str, str | None]:
        """{group: value, ABSENT or None (unknown)} of an (A,) vector; the inverse of `encode`.

        Several values of a `multiple` group are joined by AND. ValueError: a vector of another
        length, or several values at once of a group that has one.
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
            elif (codes > 0).sum() > 1 and not group.multiple:
                raise ValueError(f"several values of group {group.name!r} are present at once")
            elif (codes > 0).any():
                value = AND.join(group.values[i] for i in np.flatnonzero(codes > 0))
            elif (codes < 0).all():
                value = ABSENT
            decoded[group.name] = value
        return decoded

    def understood(self, vector: np.ndarray) -> dict[str, str]:
        """{group: what an (A,) vector says of it} of the groups that it knows anything of.

        Unlike `decode` for any vector that `parse` gives: "backpack", "not umbrella" of a group
        with several values at once.
        """
        known: dict[str, str] = {}
        for group, columns in zip(self.groups, self.slices, strict=True):
            codes = np.asarray(vector)[columns]
            if not codes.any():
                continue
            if group.binary:
                known[group.name] = group.values[int(codes[0] > 0)]
                continue
            present = [v for v, code in zip(group.values, codes, strict=True) if code > 0]
            denied = [f"not {v}" for v, code in zip(group.values, codes, strict=True) if code < 0]
            is_whole = bool(codes.all())
            known[group.name] = AND.join(present if present and is_whole else present + denied)
            if is_whole and not present:
                known[group.name] = ABSENT
        return known

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

        Of a `multiple` group only what is mentioned is known: "backpack" does not deny an umbrella,
        "no umbrella" does.

        DataError: an unknown word (named, with the nearest known ones), a value said of the wrong
        thing, two values of one group, a denial that may or may not go on after "and", or a
        description that says nothing.
        """
        found: dict[str, str] = {}
        mentioned: dict[tuple[str, str], int] = {}
        shown = short(text)
        plain = _plain(text)
        breaks = ["", *self._fragment_breaks.findall(plain)]
        denied = ""
        for break_, fragment in zip(breaks, self._fragment_breaks.split(plain), strict=True):
            words = self._chunks([word for word in _SEPARATORS.split(fragment) if word])
            asserted = self._read_fragment(words)
            if denied and break_ in _JOINING and asserted:
                _refuse_unclear_denial(denied, words, asserted)
            denied = " ".join(words) if any(word in _NEGATIONS for word in words) else ""
            for group, value, code in asserted:
                if group.multiple and value != ABSENT:
                    if mentioned.setdefault((group.name, value), code) != code:
                        raise DataError(
                            f"the description {shown!r} says both {group.say(value)!r} and 'no "
                            f"{group.say(value)}': keep one of them"
                        )
                    continue
                earlier = found.setdefault(group.name, value)
                if earlier != value:
                    raise DataError(
                        f"the description {shown!r} says both {group.say(earlier)!r} and "
                        f"{group.say(value)!r} ({group.title}): keep one of them"
                    )
        for (name, value), code in mentioned.items():
            if code == PRESENT and found.get(name) == ABSENT:
                raise DataError(
                    f"the description {shown!r} says both {value!r} and 'no "
                    f"{name.replace('_', ' ')}': keep one of them"
                )
        if not found and not mentioned:
            raise DataError(
                f"the description {shown!r} names no attribute: say for instance "
                f"{self.describe(self._example())!r}"
            )
        vector = self.encode(found)
        columns = {name: column for column, name in enumerate(self.attribute_names)}
        for (group_name, value), code in mentioned.items():
            vector[columns[f"{group_name}={value}"]] = code
        return vector

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON."""
        return {
            "name": self.name,
            "groups": [
                {
                    "name": group.name,
                    "values": list(group.values),
                    "binary": group.binary,
                    "multiple": group.multiple,
                    "said": list(group.said),
                    "nouns": list(group.nouns),
                    "synonyms": dict(group.synonyms),
                    **({} if group.region == "whole" else {"region": group.region}),
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
                    multiple=bool(entry.get("multiple", False)),
                    said=tuple(entry["said"]),
                    nouns=tuple(entry["nouns"]),
                    synonyms=dict(entry["synonyms"]),
                    region=entry.get("region", "whole"),
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
                key = " ".join(_SEPARATORS.split(_plain(word)))
                lexicon.setdefault(key, []).append((group, value))
        return lexicon

    @cached_property
    def _nouns(self) -> dict[str, list[Group]]:
        """Words that tell what a value is said of; a group's own name always does."""
        nouns: dict[str, list[Group]] = {}
        for group in self.groups:
            for word in dict.fromkeys((group.title, *group.nouns)):
                nouns.setdefault(" ".join(_SEPARATORS.split(_plain(word))), []).append(group)
        return nouns

    @cached_property
    def _fragment_breaks(self) -> re.Pattern[str]:
        """What ends a fragment, but for words that are the schema's own ("no carrying")."""
        own = {*self._lexicon, *self._nouns}
        words = "|".join(word for word in _BREAKING_WORDS if word not in own)
        return re.compile(rf"[,;.\n&]|\b(?:{words})\b" if words else r"[,;.\n&]")

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

    def _read_fragment(self, chunks: Sequence[str]) -> list[tuple[Group, str, int]]:
        """What a run of chunks between two commas asserts: group, value, PRESENT or ABSENT_CODE."""
        asserted: list[tuple[Group, str, int]] = []
        negated = False
        for position, chunk in enumerate(chunks):
            if chunk in _NEGATIONS:
                if negated:
                    raise DataError(
                        f"{short(' '.join(chunks))!r} denies twice: say what the person has, or "
                        "deny it once"
                    )
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
                if group.binary:
                    raise DataError(
                        f"'no {chunk}' is not clear, a person has one of its two values: say "
                        f"{group.say(group.values[0])!r} or {group.say(group.values[1])!r}"
                    )
                meanings, negated = [(group, ABSENT)], False
            for group, value in meanings:
                if not negated:
                    asserted.append((group, value, PRESENT))
                elif group.multiple:
                    asserted.append((group, value, ABSENT_CODE))
                else:
                    asserted.append((group, _other_value(group, value), PRESENT))
            negated = negated and not meanings
        if negated or (chunks and not asserted):
            raise DataError(
                f"{short(' '.join(chunks))!r} says nothing of the person: name a value with it, or "
                "leave it out of the description"
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
            f"{short(' '.join(chunks))!r} does not say what is {chunks[position]!r}: known are "
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
    labels: np.ndarray,
    num_categories: int,
    *,
    fraction: float,
    seed: int,
    person_id: np.ndarray | None = None,
) -> np.ndarray:
    """(K,) bool: the training categories that are held out for validation.

    labels: (N,) category of each training image. fraction: of the categories that have images, in
    [0, 1); 0 holds out none, any other fraction at least one and leaves at least one to train on.
    person_id: (N,), -1 unknown. A person of several categories (because not all is known in all of
    the images) is held out with all of them. So persons may link many categories: what would
    exceed the fraction, or twice the fraction of the images, stays in training.

    Raises:
        DataError: a fraction out of range, or no categories that can be held out without taking
            half of the images with them.
    """
    if not 0.0 <= fraction < 1.0:
        raise DataError(
            f"validation_fraction is {fraction}: expected a number from 0 up to but not 1"
        )
    held_out = np.zeros(num_categories, bool)
    images = np.bincount(labels, minlength=num_categories)
    present = np.flatnonzero(images)
    if fraction == 0.0:
        return held_out
    if len(present) < 2:
        raise DataError(
            f"{len(present)} training categories have images: validation needs two or more, set "
            "--config.data.validation_fraction=0"
        )
    count = min(max(1, round(fraction * len(present))), len(present) - 1)
    together = _linked_categories(labels, num_categories, person_id)
    candidates = [
        (together == together[category]) & (images > 0)
        for category in np.random.default_rng(seed).permutation(present)
    ]
    for members in candidates:
        wanted = held_out | members
        if wanted.sum() <= count and images[wanted].sum() <= 2 * fraction * len(labels):
            held_out = wanted
    if held_out.any():
        return held_out
    smallest = min(candidates, key=lambda members: images[members].sum())
    if images[smallest].sum() > len(labels) / 2:
        raise DataError(
            "the persons of the training images link so many categories, because not all is known "
            "in all of their images, that none can be held out without half of the images: give "
            "some persons the split 'val', or set --config.data.validation_fraction=0"
        )
    return smallest


def _linked_categories(
    labels: np.ndarray, num_categories: int, person_id: np.ndarray | None
) -> np.ndarray:
    """(K,) a number that categories share which a person, or a chain of persons, links."""
    if person_id is None:
        return np.arange(num_categories)
    is_known = person_id >= 0
    persons, row = np.unique(person_id[is_known], return_inverse=True)
    size = num_categories + len(persons)
    edges = (labels[is_known], num_categories + row.reshape(-1))
    graph = scipy.sparse.coo_matrix((np.ones(len(edges[0])), edges), (size, size))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:num_categories]


def _plain(text: str) -> str:
    """Lower case, and one form of letters that Unicode can write in several ways."""
    return unicodedata.normalize("NFC", text).lower()


def _refuse_unclear_denial(
    denied: str, words: Sequence[str], asserted: Sequence[tuple[Group, str, int]]
) -> None:
    """Raise DataError for "no hat and backpack", which may mean a backpack or none.

    denied: what stands before the "and". words, asserted: what stands behind it.
    """
    if all(group.is_yes_no and value == "yes" for group, value, _ in asserted):
        noun = " ".join(words)
        raise DataError(
            f"{short(f'{denied} and {noun}')!r} is not clear: say '{denied}, no {noun}' or "
            f"'{denied}, {noun}'"
        )


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
    return f"unknown word {short(word)!r} in the description: {hint}"
