"""What a method takes for the same, and for near: classes of samples, and pairs of classes with a distance.

A sample is its media *and* its conversation, so a method's classes are joined from two: `of_lists` makes the
classes of ordered lists of media from those of single media, `joint` those of (media, conversation). All
distances are the nearer the smaller, 0 for what is the same. Memory: 8 bytes a sample and a few arrays of
that size while classes are made; 20 bytes a pair; candidates are looked at _AT_ONCE at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_AT_ONCE = 1 << 22  # candidate pairs
_HALF = np.int64(1 << 32)


class Classes(NamedTuple):
    """`of`: the class of each sample, -1 where the method does not apply to it. `pairs`: classes a < b that
    are near, each once, and their `distance`."""

    of: np.ndarray  # int64 [N]
    pairs: np.ndarray  # int64 [M, 2]
    distance: np.ndarray  # float32 [M]

    @classmethod
    def alone(cls, of: np.ndarray) -> "Classes":
        """Classes none of which are near."""
        return cls(of, np.empty((0, 2), np.int64), np.empty(0, np.float32))


class Near:
    """Looks up the distance of two classes: 0 if they are one, infinite if they are not near."""

    def __init__(self, pairs: np.ndarray, distance: np.ndarray) -> None:
        keys = pairs.min(axis=1) * _HALF + pairs.max(axis=1)
        order = np.argsort(keys)
        self._keys, self._distance = keys[order], distance[order]

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """float32 [K] for two int64 [K]."""
        out = np.where(left == right, 0, np.inf).astype(np.float32)
        if len(self._keys):
            keys = np.minimum(left, right) * _HALF + np.maximum(left, right)
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            found = self._keys[at] == keys
            out[found] = self._distance[at[found]]
        return out


def of_lists(offsets: np.ndarray, units: np.ndarray, pairs: np.ndarray, distance: np.ndarray) -> Classes:
    """Classes of ordered lists: near if they are of one length and near at every place, by the most distant.

    offsets: int64 [N + 1]; units: int64 [T], the classes of the members; pairs, distance: of those classes.
    An empty list is in no class.
    """
    lengths = np.diff(offsets)
    of = np.full(len(lengths), -1, np.int64)
    near = Near(pairs, distance)
    found: list[Classes] = []
    base = 0
    for length in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == length)
        lists = units[offsets[rows][:, None] + np.arange(length)]
        distinct, inverse = np.unique(lists, axis=0, return_inverse=True)
        of[rows] = base + inverse.reshape(-1)
        close = _near_lists(distinct, pairs, near)
        found.append(close._replace(pairs=close.pairs + base))
        base += len(distinct)
    return Classes(
        of,
        np.concatenate([np.empty((0, 2), np.int64), *(c.pairs for c in found)]),
        np.concatenate([np.empty(0, np.float32), *(c.distance for c in found)]),
    )


def _near_lists(lists: np.ndarray, pairs: np.ndarray, near: Near) -> Classes:
    """Pairs of rows of `lists` (int64 [C, L], distinct) that are near; `of` is empty."""
    length = lists.shape[1]
    by = max(range(length), key=lambda place: len(np.unique(lists[:, place])))
    order = np.argsort(lists[:, by], kind="stable")
    members = lists[order, by]
    same = np.empty((0, 2), np.int64) if length == 1 else np.repeat(np.unique(members)[:, None], 2, axis=1)
    met = np.concatenate([pairs.astype(np.int64), same])
    starts = [np.searchsorted(members, met[:, side]) for side in (0, 1)]
    counts = [np.searchsorted(members, met[:, side], "right") - starts[side] for side in (0, 1)]
    found, apart = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for _, left, right in _products(starts[0], counts[0], starts[1], counts[1]):
        left, right = order[left], order[right]
        other = (left != right) & ((lists[left, by] != lists[right, by]) | (left < right))
        left, right = left[other], right[other]
        distance = np.zeros(len(left), np.float32)
        for place in range(length):
            np.maximum(distance, near(lists[left, place], lists[right, place]), out=distance)
        close = np.isfinite(distance)
        found.append(np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1)[close])
        apart.append(distance[close])
    return Classes(np.empty(0, np.int64), np.concatenate(found), np.concatenate(apart))


def joint(first: Classes, second: Classes, *, near: bool) -> Classes:
    """Classes of both: the same if both are; near if `first` is near or the same, and `second` the same.

    With `near`, `second` may be near too. Distances are those of `first`. Samples that `first` does not apply
    to are in no class; those that `second` does not apply to are of one class to it.
    """
    applies = np.flatnonzero(first.of >= 0)
    keys, inverse = np.unique(first.of[applies] * _HALF + second.of[applies] + 1, return_inverse=True)
    of = np.full(len(first.of), -1, np.int64)
    of[applies] = inverse
    firsts, seconds = keys // _HALF, keys % _HALF - 1
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = list(_matched(first, firsts, seconds, keys))
    if near:
        found += _crossed(first, second, firsts, seconds)
        # the same of `first`, near of `second`
        swapped = np.argsort(seconds, kind="stable")
        across = Classes(seconds, second.pairs, np.zeros(len(second.pairs), np.float32))
        swapped_keys = seconds[swapped] * _HALF + firsts[swapped] + 1
        for left, right, apart in _matched(across, seconds[swapped], firsts[swapped], swapped_keys):
            found.append((swapped[left], swapped[right], apart))
    left = np.concatenate([np.empty(0, np.int64), *(f[0] for f in found)])
    right = np.concatenate([np.empty(0, np.int64), *(f[1] for f in found)])
    apart = np.concatenate([np.empty(0, np.float32), *(f[2] for f in found)])
    return Classes(of, np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1), apart)


def _matched(
    first: Classes, firsts: np.ndarray, seconds: np.ndarray, keys: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Units (ascending `keys`) near in `first` and the same in `second`: left, right, distance."""
    starts = [np.searchsorted(firsts, first.pairs[:, side]) for side in (0, 1)]
    counts = [np.searchsorted(firsts, first.pairs[:, side], "right") - starts[side] for side in (0, 1)]
    fewer = np.where(counts[0] <= counts[1], 0, 1)
    start, count = np.where(fewer, starts[1], starts[0]), np.where(fewer, counts[1], counts[0])
    target = np.where(fewer, first.pairs[:, 0], first.pairs[:, 1]) if len(first.pairs) else fewer
    for pair, unit, _ in _products(start, count, np.zeros_like(start), np.ones_like(start)):
        wanted = target[pair] * _HALF + seconds[unit] + 1
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[at] == wanted
        yield unit[hit], at[hit], first.distance[pair[hit]]


def _crossed(
    first: Classes, second: Classes, firsts: np.ndarray, seconds: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Units near in both."""
    near = Near(second.pairs, second.distance)
    starts = [np.searchsorted(firsts, first.pairs[:, side]) for side in (0, 1)]
    counts = [np.searchsorted(firsts, first.pairs[:, side], "right") - starts[side] for side in (0, 1)]
    for pair, left, right in _products(starts[0], counts[0], starts[1], counts[1]):
        hit = (seconds[left] != seconds[right]) & np.isfinite(near(seconds[left], seconds[right]))
        yield left[hit], right[hit], first.distance[pair[hit]]


def _products(
    left_start: np.ndarray, left_count: np.ndarray, right_start: np.ndarray, right_count: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each row i, every (i, place of its left range, place of its right range), some at a time."""
    row = np.repeat(np.arange(len(left_start)), left_count)
    left = _ranges(left_start, left_count)
    sizes = right_count[row]
    ends = np.cumsum(sizes)
    first = 0
    while first < len(row):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, "right")))
        part = sizes[first:last]
        yield (
            np.repeat(row[first:last], part),
            np.repeat(left[first:last], part),
            _ranges(right_start[row[first:last]], part),
        )
        first = last


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int64: starts[0], starts[0] + 1 … counts[0] of them, then those of the next."""
    before = np.cumsum(counts) - counts
    total = int(counts.sum())
    return np.arange(total, dtype=np.int64) + np.repeat(starts - before, counts)
