"""Matches of samples with what benchmarks show, ask and tell, and the items that have these together.

A benchmark's pictures, questions and answers are numbered, each distinct one once. A sample *matches* a
number; an item *has* numbers. So which items a sample is like by picture and question is a join by sample,
looked up among the pairs that items have: no step goes through samples times items. Memory: 20 bytes a
match; the products of a sample's matches are made _AT_ONCE at a time.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

import numpy as np

_AT_ONCE = 1 << 22
_HALF = np.int64(1 << 32)


class Matches(NamedTuple):
    """A sample matches a number with a value: bits, or a share of shingles. One sample and number once."""

    sample: np.ndarray  # int64 [M]
    number: np.ndarray  # int64 [M]
    value: np.ndarray  # float32 [M]

    @classmethod
    def none(cls) -> Self:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    @classmethod
    def joined(cls, parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Self:
        """Several as one."""
        return cls(*(np.concatenate(column) for column in zip(cls.none(), *parts, strict=True)))

    def best(self, *, high: bool) -> Self:
        """Sorted by sample and number, each pair once, with its best value: the highest, or the lowest."""
        order = np.lexsort((-self.value if high else self.value, self.number, self.sample))
        sample, number, value = (column[order] for column in self)
        first = np.ones(len(order), bool)
        first[1:] = (sample[1:] != sample[:-1]) | (number[1:] != number[:-1])
        return type(self)(sample[first], number[first], value[first])

    def where(self, mask: np.ndarray) -> Self:
        return type(self)(*(column[mask] for column in self))


class Having(NamedTuple):
    """Which items have a key: of key i, ascending, `items[starts[i] : starts[i + 1]]`, ascending."""

    keys: np.ndarray  # int64 [K]
    starts: np.ndarray  # int64 [K + 1]
    items: np.ndarray  # int64 [T]

    @classmethod
    def made(cls, items: np.ndarray, keys: np.ndarray) -> Self:
        """From pairs, int64 [T] each."""
        order = np.lexsort((items, keys))
        distinct, starts = np.unique(keys[order], return_index=True)
        return cls(distinct, np.append(starts, len(order)), items[order])

    def places(self, keys: np.ndarray) -> np.ndarray:
        """int64: the place of each key, -1 if no item has it."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)

    def all(self, places: np.ndarray) -> np.ndarray:
        """The items of some keys, one after another."""
        return self.items[ranges(self.starts[places], self.starts[places + 1] - self.starts[places])]


def pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One int64 for two numbers, each below 2**31."""
    return first * _HALF + second


class Hits(NamedTuple):
    """A sample is like an item. `item`: the first of those that have the same; `place`: of what they have, in
    the Having it was looked up in; `bits`, `cosine` (of a picture) and `share` (of a text's shingles): the
    values of the matches, nan for what was not compared; `answered`: whether the share is the answer's."""

    sample: np.ndarray  # int64 [H]
    item: np.ndarray  # int64 [H]
    place: np.ndarray  # int64 [H]
    bits: np.ndarray  # float32 [H]
    cosine: np.ndarray  # float32 [H]
    share: np.ndarray  # float32 [H]
    answered: np.ndarray  # bool [H]


def showing(shown: Matches, having: Having, measure: str) -> Hits:
    """Samples that match an item's picture. `measure`: what its values are, bits or cosine."""
    place = having.places(shown.number)
    hit = place >= 0
    return _hits(having, place[hit], shown.sample[hit], {measure: shown.value[hit]})


def asking(asked: Matches, having: Having) -> Hits:
    """Samples that match an item's question."""
    place = having.places(asked.number)
    hit = place >= 0
    return _hits(having, place[hit], asked.sample[hit], {"share": asked.value[hit]})


def showing_and_asking(shown: Matches, asked: Matches, having: Having, measure: str) -> Hits:
    """Samples that match a picture and a question of one item; of both sorted by sample."""
    parts = [
        _hits(having, place, shown.sample[one], {measure: shown.value[one], "share": asked.value[other]})
        for one, other, place in _met(shown, asked, having)
    ]
    return together(parts)


def asking_and_telling(asked: Matches, told: Matches, having: Having) -> Hits:
    """Samples that match a question of an item and the answer to it; the share is the answer's."""
    parts = [
        _hits(having, place, asked.sample[one], {"share": told.value[other]}, answered=True)
        for one, other, place in _met(asked, told, having)
    ]
    return together(parts)


def _met(
    left: Matches, right: Matches, having: Having
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows of left and of right, of one sample, whose numbers some item has as a pair, and its place."""
    starts = np.searchsorted(right.sample, left.sample)
    counts = np.searchsorted(right.sample, left.sample, "right") - starts
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, "right")))
        one = np.repeat(np.arange(first, last), counts[first:last])
        other = ranges(starts[first:last], counts[first:last])
        place = having.places(pair(left.number[one], right.number[other]))
        hit = place >= 0
        yield one[hit], other[hit], place[hit]
        first = last


def _hits(
    having: Having,
    place: np.ndarray,
    sample: np.ndarray,
    values: dict[str, np.ndarray],
    *,
    answered: bool = False,
) -> Hits:
    nothing = np.full(len(place), np.nan, np.float32)
    measured = {name: values.get(name, nothing) for name in ("bits", "cosine", "share")}
    first = having.items[having.starts[place]]
    return Hits(sample, first, place, **measured, answered=np.full(len(place), answered))


def together(hits: Iterable[Hits]) -> Hits:
    """Several as one."""
    kinds = (np.int64, np.int64, np.int64, np.float32, np.float32, np.float32, bool)
    columns = zip([np.empty(0, kind) for kind in kinds], *hits, strict=True)
    return Hits(*(np.concatenate(column) for column in columns))


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int64: starts[0], starts[0] + 1 … counts[0] of them, then those of the next."""
    before = np.cumsum(counts) - counts
    return np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - before, counts)
