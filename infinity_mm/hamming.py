"""All pairs of 64-bit hashes within a Hamming radius, exactly: banded search, each candidate verified.

Bands are disjoint groups of bits. With thresholds t_i that add up to radius - bands + 1, a pair within the
radius differs in at most t_i bits of some band i, or it would differ in sum(t_i + 1) = radius + 1 bits: the
pigeonhole of Norouzi, Punjani and Fleet, "Fast exact search in Hamming space with multi-index hashing", 2014,
with the tight thresholds of Qin et al., "GPH: similarity search in Hamming space", 2018. Hashes are sorted by
their value in a band, so what shares a value lies side by side, and a bucket meets the buckets up to t_i
flipped bits away as one dense block of exclusive-or and popcount.

Which bits, how many bands and how wide follows from the data: bits in which about half of all pairs differ
come first, and of all plans the one of least cost is taken, as estimated on a sample of pairs. A bucket that
is still large (blank and text pages share most bits) is searched by a plan of its own. Plans change the time,
never the pairs.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BITS = 64
MOST = 1 << 28  # hashes: two places and a distance are sorted as one 64-bit number

_TILE = 1 << 17  # pairs compared at once: 1 MiB of differing bits, which stays in a core's cache
_COLUMNS = 1 << 12
_BATCH = 1 << 20  # pairs found, that are looked at together
_FEW = 1 << 27  # pairs that are compared outright: a plan takes as long as these do
_LARGE = 1 << 28  # pairs above which a bucket is searched by a plan of its own
_SHRINK = 0.9  # of its parent's pairs a bucket has at most, if it is: this ends the descent
_WIDEST, _NARROWEST, _MOST_FLIPS = 16, 6, 2
_SAMPLE = (256, 512)
_WORTHWHILE = 0.5  # of what comparing all pairs costs: a plan's estimate is the rougher of the two

# Nanoseconds, measured: benchmarks/hamming.py --only costs
_PAIR = 0.7
_BUCKET = 15_000.0
_SLICE = 400.0
_ROW = 40.0

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]
Pairs = tuple[Places, Places]


class Neighbours(NamedTuple):
    """Row i holds others[starts[i]:starts[i + 1]] and their distances, the nearest first, then by place.

    starts: int64 [N + 1]; others: int32 [M], places in `against`, or else in `hashes`; distances, in bits:
    uint8 [M].
    """

    starts: npt.NDArray[np.int64]
    others: npt.NDArray[np.int32]
    distances: npt.NDArray[np.uint8]


class _Band(NamedTuple):
    """A group of bits and how many of them may differ."""

    bits: tuple[int, ...]
    flips: int

    @property
    def mask(self) -> np.uint64:
        return np.uint64(sum(1 << bit for bit in self.bits))


def neighbours(hashes: Hashes, radius: int, against: Hashes | None = None) -> Neighbours:
    """Every pair within `radius` bits and no other: within `hashes`, or from `hashes` to `against`.

    hashes: uint64 [N], distinct; against: uint64 [K], distinct; radius: 0 to 64. Within one set both
    directions of a pair are given, and no hash is its own neighbour; a hash of `hashes` that is also in
    `against` is at distance 0.

    Memory: blocks of candidates hold at most 2**17 pairs (1.2 MB), however skewed the data. What is found
    takes 13 bytes a directed pair while it is ordered, 5 in the end, and is not bounded: N identical-looking
    pages are N * N pairs. A process measured by benchmarks/hamming.py, 64-bit Linux: 0.19 GB at 1,000,000
    hashes, radius 8 and 8,200,000 directed pairs, 0.51 GB at 10,000,000, radius 4 and 18,500,000. One thread.

    Raises ValueError for equal hashes, another dtype or shape, a radius out of range, or more than 2**28
    hashes.
    """
    if not 0 <= radius <= BITS:
        raise ValueError(f"radius {radius}: a radius of {BITS}-bit hashes lies between 0 and {BITS}")
    _check(hashes, "hashes")
    if against is not None:
        _check(against, "against")
    packed = np.empty(_BATCH, np.uint64)
    size = 0
    for rows, others in _search(hashes, against, radius):
        apart = popcount(hashes[rows] ^ (hashes if against is None else against)[others])
        found = [_pack(rows, apart, others)]
        if against is None:
            found.append(_pack(others, apart, rows))
        for block in found:
            if size + block.size > packed.size:
                # In place, unlike a list of blocks that is joined: what is found may be most of the memory.
                packed.resize(max(size + block.size, packed.size + packed.size // 8), refcheck=False)
            packed[size : size + block.size] = block
            size += block.size
    packed.resize(size, refcheck=False)
    return _unpack(packed, hashes.size)


def _check(hashes: Hashes, name: str) -> None:
    if hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise ValueError(
            f"{name} is {hashes.dtype} of shape {hashes.shape}: uint64 of one dimension is wanted"
        )
    if hashes.size > MOST:
        raise ValueError(f"{name} has {hashes.size:,} hashes: at most {MOST:,} are searched at once")
    ordered = np.sort(hashes)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if twice.size:
        value = ordered[twice[0]]
        places = np.flatnonzero(hashes == value)[:2].tolist()
        raise ValueError(
            f"{name} must be distinct, but places {places[0]} and {places[1]} are both {value:#018x}, "
            f"and {twice.size:,} places repeat another: collapse equal hashes first"
        )


def _pack(rows: Places, apart: npt.NDArray[np.uint8], others: Places) -> npt.NDArray[np.uint64]:
    """(row, distance, other) as one number that sorts as they do: 28, 8 and 28 bits."""
    packed = rows.astype(np.uint64) << np.uint64(8)
    packed |= apart
    packed <<= np.uint64(28)
    packed |= others.view(np.uint32)
    return packed


def _unpack(packed: npt.NDArray[np.uint64], rows: int) -> Neighbours:
    """Sorts `packed` in place and takes it apart, in place too."""
    packed.sort()
    starts = np.searchsorted(packed, np.arange(rows + 1, dtype=np.uint64) << np.uint64(36)).astype(np.int64)
    others = packed.astype(np.uint32)
    others &= np.uint32(MOST - 1)
    packed >>= np.uint64(28)
    return Neighbours(starts, others.view(np.int32), packed.astype(np.uint8))


def _table_popcount(numbers: Hashes) -> npt.NDArray[np.uint8]:
    """The bits set in each number, through a table of 65,536: for a numpy before 2.0."""
    parts = np.ascontiguousarray(numbers).view(np.uint16)
    return _TABLE[parts].reshape(*numbers.shape, 4).sum(axis=-1, dtype=np.uint8)


_TABLE = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)
# The bits set in each number, uint8 of the same shape.
popcount: Callable[[Hashes], npt.NDArray[np.uint8]] = getattr(np, "bitwise_count", _table_popcount)


def _search(left: Hashes, right: Hashes | None, radius: int) -> Iterator[Pairs]:
    """Blocks of places (in left, in right), each pair once; where right is None, of pairs within left."""
    bands = _plan(left, right, radius)
    across = left if right is None else right
    if not bands:
        yield from _compare(left, across, radius, triangle=right is None)
        return
    for number, band in enumerate(bands):
        for rows, others in _batches(_search_band(left, right, radius, band)):
            differing = left[rows] ^ across[others]
            new = np.ones(rows.size, bool)
            for earlier in bands[:number]:
                new &= popcount(differing & earlier.mask) > earlier.flips
            yield rows[new], others[new]


def _batches(blocks: Iterator[Pairs]) -> Iterator[Pairs]:
    """The same pairs in fewer blocks: most buckets find only a few."""
    held: list[Pairs] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += block[0].size
        if size >= _BATCH:
            yield np.concatenate([rows for rows, _ in held]), np.concatenate([others for _, others in held])
            held, size = [], 0
    if held:
        yield np.concatenate([rows for rows, _ in held]), np.concatenate([others for _, others in held])


def _compare(left: Hashes, right: Hashes, radius: int, *, triangle: bool) -> Iterator[Pairs]:
    """Every pair compared, in tiles; with `triangle` only what is further on in right than in left."""
    columns = min(right.size, _COLUMNS)
    height = _TILE // max(columns, 1)
    for top in range(0, left.size, height):
        rows = left[top : top + height, None]
        for start in range(top if triangle else 0, right.size, _COLUMNS):
            tile = right[start : start + _COLUMNS]
            within = np.flatnonzero(popcount(rows ^ tile) <= radius)
            if within.size:
                row, column = np.divmod(within, tile.size)
                row += top
                column += start
                if triangle:
                    above = column > row
                    row, column = row[above], column[above]
                yield row.astype(np.int32), column.astype(np.int32)


def _search_band(left: Hashes, right: Hashes | None, radius: int, band: _Band) -> Iterator[Pairs]:
    """Blocks of pairs that also differ by at most `band.flips` bits in the band, each pair once."""
    order, rows, row_starts = _sorted_by(left, band.bits)
    if right is None:
        other_order, others, other_starts = order, rows, row_starts
    else:
        other_order, others, other_starts = _sorted_by(right, band.bits)
    masks = _masks(len(band.bits), band.flips)
    limit = _SHRINK * rows.size * others.size
    for value in np.flatnonzero(np.diff(row_starts)).tolist():
        low, high = row_starts[value], row_starts[value + 1]
        met = [value ^ mask for mask in masks]
        if right is None:
            met = [other for other in met if other >= value]
        spans = [
            (other_starts[other], other_starts[other + 1])
            for other in met
            if other_starts[other] < other_starts[other + 1]
        ]
        bucket = rows[low:high]
        for row, column in _search_bucket(
            bucket, low, others, spans, radius, within=right is None, limit=limit
        ):
            yield order[row + low], other_order[column]


def _search_bucket(
    bucket: Hashes,
    low: int,
    others: Hashes,
    spans: list[tuple[int, int]],
    radius: int,
    *,
    within: bool,
    limit: float,
) -> Iterator[Pairs]:
    """Blocks of (place in bucket, place in others) over the spans of `others`.

    With `within`, the first span is the bucket itself, which begins at `low`: its pairs are given once.
    A span is searched by a plan of its own up to `limit` pairs, which are fewer than its parent has.
    """
    size = sum(end - start for start, end in spans)
    if bucket.size * size <= _LARGE:
        if size:
            offsets = np.cumsum([0] + [end - start for start, end in spans])
            shifts = np.array([start for start, _ in spans]) - offsets[:-1]
            joined = np.concatenate([others[start:end] for start, end in spans])
            for row, column in _compare(bucket, joined, radius, triangle=within):
                span = np.searchsorted(offsets, column, side="right") - 1
                yield row, (column + shifts[span]).astype(np.int32)
        return
    for start, end in spans:
        itself = within and start == low
        span_hashes = others[start:end]
        if bucket.size * (end - start) <= limit:
            pairs = _search(bucket, None if itself else span_hashes, radius)
        else:
            pairs = _compare(bucket, span_hashes, radius, triangle=itself)
        for row, column in pairs:
            yield row, column + np.int32(start)


def _sorted_by(hashes: Hashes, bits: tuple[int, ...]) -> tuple[Places, Hashes, list[int]]:
    """(order [N], the hashes in it, where each value of the bits starts [2**bits + 1])."""
    values = np.zeros(hashes.size, np.uint16)
    for place, bit in enumerate(bits):
        values |= ((hashes >> np.uint64(bit)) & np.uint64(1)).astype(np.uint16) << np.uint16(place)
    order = np.argsort(values, kind="stable").astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(values, minlength=1 << len(bits)))])
    return order, hashes[order], starts.tolist()


def _masks(width: int, flips: int) -> list[int]:
    """All numbers of `width` bits with at most `flips` set, 0 first."""
    return [
        sum(1 << bit for bit in chosen)
        for count in range(flips + 1)
        for chosen in combinations(range(width), count)
    ]


def _plan(left: Hashes, right: Hashes | None, radius: int) -> list[_Band]:
    """The bands of least estimated cost; none where comparing every pair is as cheap."""
    across = left if right is None else right
    pairs = left.size * across.size / (2 if right is None else 1)
    if pairs <= _FEW:
        return []
    draw = np.random.default_rng(0)
    differing = (draw.choice(left, _SAMPLE[0])[:, None] ^ draw.choice(across, _SAMPLE[1])).ravel()
    differing = differing[differing != 0]
    if not differing.size:
        return []
    shares = [np.count_nonzero(differing & np.uint64(1 << bit)) / differing.size for bit in range(BITS)]
    bits = sorted(range(BITS), key=lambda bit: -min(shares[bit], 1 - shares[bit]))
    best: list[_Band] = []
    least = pairs * _PAIR * _WORTHWHILE
    for count in range(-(-(radius + 1) // (_MOST_FLIPS + 1)), radius + 2):
        for width in range(min(BITS // count, _WIDEST), _NARROWEST - 1, -2):
            flips, more = divmod(radius - count + 1, count)
            bands = [_Band(tuple(bits[k : count * width : count]), flips + (k < more)) for k in range(count)]
            cost = _cost(bands, differing, left.size, across.size, pairs, halved=right is None)
            if cost < least:
                best, least = bands, cost
    return best


def _cost(
    bands: list[_Band], differing: Hashes, rows: int, columns: int, pairs: float, *, halved: bool
) -> float:
    """Estimated nanoseconds: of candidates, of the buckets that are visited, and of sorting.

    A band's share of candidates is that of the sampled pairs, and at least that of random bits, since a
    sample of pairs sees no share below its own size.
    """
    cost = 0.0
    for band in bands:
        width = len(band.bits)
        masks = len(_masks(width, band.flips))
        share = np.count_nonzero(popcount(differing & band.mask) <= band.flips) / differing.size
        slices = masks / (2 if halved else 1)
        cost += pairs * max(share, masks / (1 << width)) * _PAIR
        cost += min(1 << width, rows) * (_BUCKET + slices * _SLICE)
        cost += (rows + (0 if halved else columns)) * _ROW
    return cost
