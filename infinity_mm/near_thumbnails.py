"""Pairs of alike thumbnails whose hashes are near too, without comparing each with each.

Alike thumbnails have all their coarse values within a tolerance. A tree splits the pictures by the value that
leaves the fewest pairs, and puts those within the tolerance of the split on both sides of it, so that no pair
is lost. What lies in a leaf together is compared: hashes, coarse values, and then the cells.

Two bounds hold in crowds, and only there:

- A picture has at most 64 pairs with earlier ones: those with the earliest. Rows come in order of preference,
  so these are the ones that would be kept.
- A node of the tree that does not split and has more than 2**20 pairs is a crowd: more than 1,024 pictures of
  which most are within the tolerance of one another in all coarse values. There a picture is compared with up
  to 128 that differ from the middle of the crowd at the same spot and by about as much, and with the 64 that
  most others have as their first partner. Pairs may be missing, above all of pictures with few copies; where
  there are many copies, nearly all meet the first of them.

Time: N log N for the tree, and for each picture at most about a thousand compared thumbnails of some ten
microseconds each, two hundred in a crowd. Memory: 200 bytes a thumbnail besides the thumbnails, which may be
memory-mapped, and 1,000 for each picture of the largest crowd.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from infinity_mm.hamming import popcount
from infinity_mm.media.thumbnail import TOLERANCE, alike, coarse, coarsely_alike, luma_cells, symmetric

_PARTNERS = 64  # earlier pictures that a picture has pairs with
_LEAF = 1 << 16  # pairs compared at once
_CROWD = 1 << 20  # pairs above which what does not split is a crowd
_WORTHWHILE = 0.8  # of a node's pairs are left after a split that is one
_SAMPLE = 512
_QUANTILES = (0.25, 0.5, 0.75)
_SPOTS, _SPOT_SIDE = 2, 32  # where a picture of a crowd differs most, in cells joined two by two
_MET = 32  # that a picture meets there, before and after it
_LEADERS = 1 << 10  # first partners in a crowd that are compared with one another
_ROWS = 1 << 12  # thumbnails looked at together
_TESTED = 1 << 8  # pairs of thumbnails

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # int64 places on one side, on the other, uint8 bits
Places = tuple[np.ndarray, np.ndarray]


class Side(NamedTuple):
    """The pictures on one side of a search, as a symmetry of phash.SYMMETRIES (0 for none) makes them."""

    rows: np.ndarray  # int64 [n], ascending
    hashes: np.ndarray  # uint64 [n], so transformed
    low: np.ndarray  # bool [n]
    tonal: np.ndarray  # bool [n]: see Looks
    thumbnail: np.ndarray  # int64 [n]: rows of `thumbnails`, -1 for none
    thumbnails: np.ndarray  # uint8 [K, thumbnail.SIZE], as they are
    symmetry: int

    def take(self, places: np.ndarray) -> "Side":
        return self._replace(
            rows=self.rows[places],
            hashes=self.hashes[places],
            low=self.low[places],
            tonal=self.tonal[places],
            thumbnail=self.thumbnail[places],
        )

    def seen(self, places: np.ndarray) -> np.ndarray:
        """Thumbnails, uint8 [n, SIZE]."""
        found = self.thumbnails[self.thumbnail[places]]
        return symmetric(found, self.symmetry) if self.symmetry else found


def by_thumbnail(later: Side, earlier: Side, radius: int, *, within: bool) -> Found:
    """Pairs (place in later, place in earlier) within the radius, one of low information, and alike.

    `within`: only those of which the row in `earlier` is less.
    """
    ours, theirs = np.flatnonzero(later.thumbnail >= 0), np.flatnonzero(earlier.thumbnail >= 0)
    later, earlier = later.take(ours), earlier.take(theirs)
    meeting = _Meeting(later, earlier, _coarse(later), _coarse(earlier), radius, within)
    parts = []
    for places, others, crowd in _leaves(meeting.coarse, meeting.other_coarse):
        parts.append(_crowd(meeting, places, others) if crowd else meeting.near(places, others))
    one, other, bits = _joined(parts)
    return ours[one], theirs[other], bits


def _coarse(side: Side) -> np.ndarray:
    """uint8 [n, 92]."""
    parts = [coarse(side.seen(part)) for part in _chunks(np.arange(len(side.rows)), _ROWS)]
    return np.concatenate([np.empty((0, len(TOLERANCE)), np.uint8), *parts])


def _chunks(places: np.ndarray, size: int) -> list[np.ndarray]:
    return np.split(places, range(size, len(places), size)) if len(places) else []


def _joined(parts: list[Found]) -> Found:
    none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8)
    one, other, bits = (np.concatenate(column) for column in zip(none, *parts, strict=True))
    return one, other, bits


class _Meeting(NamedTuple):
    """Two sides of pictures that all have thumbnails, and how their pairs are told."""

    later: Side
    earlier: Side
    coarse: np.ndarray  # uint8 [n, 92]
    other_coarse: np.ndarray  # uint8 [m, 92]
    radius: int
    within: bool

    def near(self, places: np.ndarray, others: np.ndarray) -> Found:
        """The near pairs of places with others, both ascending and few."""
        bits = popcount(self.later.hashes[places][:, None] ^ self.earlier.hashes[others])
        place, other = np.nonzero(bits <= self.radius)
        return self.near_of((places[place], others[other]))

    def near_of(self, pairs: Places) -> Found:
        """The near ones of these pairs, ascending and distinct: of each place those with the first 64."""
        one, other = pairs
        bits = popcount(self.later.hashes[one] ^ self.earlier.hashes[other])
        keep = (bits <= self.radius) & (self.later.low[one] | self.earlier.low[other])
        if self.within:
            keep &= self.earlier.rows[other] < self.later.rows[one]
        one, other, bits = one[keep], other[keep], bits[keep]
        keep = coarsely_alike(self.coarse[one], self.other_coarse[other])
        one, other, bits = one[keep], other[keep], bits[keep]
        start = np.searchsorted(one, one)  # of the pairs of the same place
        turn = (np.arange(len(one)) - start) // _PARTNERS
        near, partners = np.zeros(len(one), bool), np.zeros(len(one), np.int64)
        for number in range(int(turn.max(initial=-1)) + 1):
            asked = np.flatnonzero((turn == number) & (partners[start] < _PARTNERS))
            for part in _chunks(asked, _TESTED):
                near[part] = alike(self.later.seen(one[part]), self.earlier.seen(other[part]))
            np.add.at(partners, start[asked], near[asked])
        return _first_partners((one[near], other[near], bits[near]))


def _first_partners(found: Found) -> Found:
    """Each pair once, ascending, and of each place those with the first 64."""
    one, other, bits = found
    order = np.lexsort((other, one))
    one, other, bits = one[order], other[order], bits[order]
    once = _changes(one) | _changes(other)
    one, other, bits = one[once], other[once], bits[once]
    first = np.arange(len(one)) - np.searchsorted(one, one) < _PARTNERS
    return one[first], other[first], bits[first]


def _changes(values: np.ndarray) -> np.ndarray:
    """bool: where a value is not that before it; the first is not."""
    changes = np.ones(len(values), bool)
    changes[1:] = values[1:] != values[:-1]
    return changes


def _leaves(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Places in `one` and in `other` to be compared each with each, and whether they are a crowd.

    Of coarse values uint8 [n, 92] and [m, 92]. Each place of `one` is in one leaf. Places are ascending.
    """
    nodes = [(np.arange(len(one)), np.arange(len(other)))]
    while nodes:
        left, right = nodes.pop()
        pairs = len(left) * len(right)
        if pairs <= _LEAF:
            if pairs:
                yield left, right, False
            continue
        column, at, share = _split(_sample(one, left), _sample(other, right))
        if share <= _WORTHWHILE:
            beyond = int(TOLERANCE[column])
            low, value = one[left, column] <= at, other[right, column].astype(np.int16)
            nodes.append((left[low], right[value <= at + beyond]))
            nodes.append((left[~low], right[value > at - beyond]))
        elif pairs <= _CROWD:
            yield from ((part, right, False) for part in np.array_split(left, -(-pairs // _LEAF)))
        else:
            yield left, right, True


def _sample(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """int16 [at most 512, 92], evenly spread."""
    return values[_even(places)].astype(np.int16)


def _even(places: np.ndarray) -> np.ndarray:
    return places[:: max(1, -(-len(places) // _SAMPLE))]


def _split(one: np.ndarray, other: np.ndarray) -> tuple[int, int, float]:
    """The column and the value that leave the least share of pairs, and that share."""
    at = np.quantile(one, _QUANTILES, axis=0, method="lower").astype(np.int16)[:, None]
    low = (one <= at).mean(axis=1)
    below, above = (other <= at + TOLERANCE).mean(axis=1), (other > at - TOLERANCE).mean(axis=1)
    share = low * below + (1 - low) * above
    quantile, column = np.unravel_index(np.argmin(share), share.shape)
    return int(column), int(at[quantile, 0, column]), float(share[quantile, column])


def _crowd(meeting: _Meeting, left: np.ndarray, right: np.ndarray) -> Found:
    """The near pairs of a crowd that stand out alike, and those with the first partners of most."""
    found = meeting.near_of(_standing_out_alike(meeting, left, right))
    hubs = _hubs(meeting, found)
    chunks = np.array_split(left, -(-len(left) * _PARTNERS // _LEAF))
    return _first_partners(_joined([found, *(meeting.near(chunk, hubs) for chunk in chunks)]))


def _standing_out_alike(meeting: _Meeting, left: np.ndarray, right: np.ndarray) -> Places:
    """Pairs that differ most from the middle of the crowd at the same spot, and by about as much.

    Each picture is at its two spots, in the order of how much it differs there, and meets the 32 before and
    after it.
    """
    middle = np.median(luma_cells(meeting.earlier.seen(_even(right)), _SPOT_SIDE), axis=0).astype(np.int16)
    spots = [_spots(meeting.later, left, middle), _spots(meeting.earlier, right, middle)]
    spot, excess = (np.concatenate(column) for column in zip(*spots, strict=True))
    number = np.concatenate([np.repeat(left, _SPOTS), np.repeat(right, _SPOTS)])
    is_later = np.arange(len(number)) < _SPOTS * len(left)
    order = np.lexsort((number, excess, spot))
    spot, number, is_later = spot[order], number[order], is_later[order]
    ones, others = [], []
    for distance in range(1, 2 * _MET + 1):  # twice, since every picture of one crowd is on both sides
        together = spot[distance:] == spot[:-distance]
        ends = slice(distance, None), slice(None, -distance)
        for at, to in (ends, ends[::-1]):
            keep = together & is_later[at] & ~is_later[to]
            ones.append(number[at][keep])
            others.append(number[to][keep])
    one, other = np.concatenate(ones), np.concatenate(others)
    order = np.lexsort((other, one))
    one, other = one[order], other[order]
    once = _changes(one) | _changes(other)
    return one[once], other[once]


def _spots(side: Side, places: np.ndarray, middle: np.ndarray) -> Places:
    """int64 [2 n] and int16 [2 n]: the spots where each differs most from the middle, and by how much."""
    spots, excess = [], []
    for part in _chunks(places, _ROWS):
        apart = luma_cells(side.seen(part), _SPOT_SIDE).astype(np.int16) - middle
        spots.append(np.argpartition(-np.abs(apart), _SPOTS, axis=1)[:, :_SPOTS])
        excess.append(np.take_along_axis(apart, spots[-1], axis=1))
    return np.concatenate(spots).ravel(), np.concatenate(excess).ravel()


def _hubs(meeting: _Meeting, found: Found) -> np.ndarray:
    """The 64 places in `earlier`, ascending, that are the first partner of most, copies of one told once."""
    one, other, _ = found
    leaders, weight = np.unique(other[_changes(one)], return_counts=True)
    heaviest = np.sort(np.argsort(-weight, kind="stable")[:_LEADERS])
    leaders, weight = leaders[heaviest], weight[heaviest]
    earlier, values = meeting.earlier, meeting.other_coarse
    copy, of, _ = _Meeting(earlier, earlier, values, values, meeting.radius, True).near(leaders, leaders)
    first = _changes(copy)
    copies, originals = np.searchsorted(leaders, copy[first]), np.searchsorted(leaders, of[first])
    for place, to in zip(copies[::-1].tolist(), originals[::-1].tolist(), strict=True):
        weight[to] += weight[place]
        weight[place] = 0
    heaviest = np.argsort(-weight, kind="stable")[:_PARTNERS]
    return np.sort(leaders[heaviest[weight[heaviest] > 0]])
