"""Pairs of embeddings whose cosine is at least a threshold: out of core, with the recall that was measured.

Few vectors (20,000 with each other) are compared outright. More are put into the cells of spherical k-means
on a sample. A row meets the rows of its own cell, and visits cells next to it whose border is near: the
border to another cell is a plane through the origin, and two vectors of at least the threshold are at most
sqrt(2 - 2 * threshold) apart, so that one of them lies within half of that of the border between them. Cells
whose border is farther are never visited, which loses no pair; of the others, those with the nearest borders
of all, so many that rows meet `probes` cells in the mean. A row that lies deep in its cell visits none. Cells
whose typical pair is near already are joined: a crowd of near-identical pictures is one cell. SemDeDup (Abbas
et al., 2023) searches within cells only, and does not say what that loses.

`probes` grows by half, up to 64, until the recall that was wanted is shown: pairs of up to 8,192 sampled rows
are found by exact search, and whether visits would find them is known before any is made.
`NearVectors.recall` then counts them among the pairs that were found.

Candidates are compared by float32 products of blocks; what is within rounding of the threshold is decided,
and every cosine is told, by a product in float64 of the same unit vectors, whatever block they lie in.

Time for N rows of D numbers, in multiplications: 4,000 N D for the sample, 1,000 sqrt(N) D a round and
2 sqrt(N) N D for the cells, and about sqrt(N) N D probes / 2 for the search. Disk, in `scratch`: the rows
once more and 190 bytes a row. Memory: 500 sqrt(N) D bytes for k-means, 100 bytes a row, 30 a pair found, 0.3
GB for blocks; the rows lie in the page cache. A crowd of K rows makes up to `most` * K pairs, in a time that
grows with K, not with its square.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from infinity_mm.executor import Report, Silent
from infinity_mm.interval import share
from infinity_mm.recall import Recall

_EXACT = 20_000  # rows that are compared with as many without cells
_BLOCK = 2048  # rows of either side of a product
_READ = 1 << 15  # rows read at once
_VISITS = 1 << 24  # of rows to cells, listed at once
_HELD = 1 << 22  # pairs found, before those that are too many are let go

_MOST_PROBES = 64  # cells that a row meets in the mean, its own among them; and that any row meets
_LEVELS = 255  # of how far borders are, the last being half of the distance that near vectors may have
_PER_CENTROID = 40  # rows of the sample of k-means
_ROUNDS = 8  # of k-means

_SAMPLE = 1024  # rows searched exactly at first, to tell the recall,
_LARGEST_SAMPLE = 8192  # doubled up to these,
_ROWS_WITH_PAIRS = 2000  # or until so many have a true pair


class Vectors:
    """The rows of several arrays as one: memory-mapped parts, each with the rows that are used of it.

    `order` (int64, a permutation) puts them in another order than that of the parts. Raises ValueError for
    parts that are not float16 or float32 [n, D] of one D, and for rows out of range.
    """

    def __init__(
        self, parts: Sequence[tuple[np.ndarray, np.ndarray]], order: np.ndarray | None = None
    ) -> None:
        for number, (stored, used) in enumerate(parts):
            if stored.ndim != 2 or stored.dtype not in (np.float16, np.float32):
                raise ValueError(
                    f"part {number} is {stored.dtype} of shape {stored.shape}: "
                    "float16 or float32 of two dimensions is wanted"
                )
            if stored.shape[1] != parts[0][0].shape[1]:
                raise ValueError(
                    f"part {number} has vectors of {stored.shape[1]} numbers, part 0 of "
                    f"{parts[0][0].shape[1]}: embed all rows by one model"
                )
            if len(used) and not 0 <= used.min() <= used.max() < len(stored):
                raise ValueError(
                    f"part {number} has {len(stored):,} rows, and rows {used.min()} to {used.max()} are "
                    "asked of it"
                )
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(used) for _, used in parts)])
        self._order = order
        self.dim = parts[0][0].shape[1] if parts else 0
        self.dtype = np.result_type(np.float16, *(stored.dtype for stored, _ in parts))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """[k, D] in `dtype`, as they lie in the parts, which are read from first to last."""
        out = np.empty((len(rows), self.dim), self.dtype)
        rows = rows if self._order is None else self._order[rows]
        part = np.searchsorted(self._starts, rows, "right") - 1
        for number in np.flatnonzero(np.bincount(part)).tolist():
            stored, used = self._parts[number]
            chosen = np.flatnonzero(part == number)
            places = used[rows[chosen] - self._starts[number]]
            order = np.argsort(places, kind="stable")
            out[chosen[order]] = stored[places[order]]
        return out

    def take(self, rows: np.ndarray) -> np.ndarray:
        """float32 [k, D], of unit length. Raises ValueError for a row without a direction."""
        stored = self.stored(rows)
        return _scaled(stored, _scales(stored, rows))


class NearVectors(NamedTuple):
    """Pairs, ascending, and what is known of those that are missing.

    A pair is a row and one that comes before it: (i, j) with i < j. Each row has up to `most` pairs with rows
    before it: the first of those that are near it. Whoever takes the rows in order, and keeps a row unless
    one before it that was kept is in a pair with it, keeps what they would had no pair been left out for
    `most`: a row that only a later one than its first `most` makes go has the pair with that one as well. So
    every row that goes has a kept one within the threshold, and two kept rows are near only if search missed
    their pair.

    `recall` is of the pairs that exact search with the same `most` finds for the rows of a sample, each as
    the later row of a pair. It is the lower of two: the share of those pairs that is found, of which rows in
    a crowd have the most; and the mean of that share over the rows, as if each had one pair. Pairs of one row
    are missed together, so the interval of both is that of as many trials as rows have a pair. It is a little
    too good for being that of the first number of probes that was good enough. Where all was compared,
    `clusters` and `probes` are 0, and every pair is there.
    """

    pairs: np.ndarray  # int64 [M, 2], rows of `vectors`; with `against` (row of vectors, row of against)
    cosine: np.ndarray  # float32 [M], at least the threshold
    same: np.ndarray  # int64 [N]: the first row stored as the same numbers; only that one is in pairs
    recall: Recall
    clusters: int
    probes: int  # cells that a row meets in the mean, at most


def near_vectors(
    vectors: Vectors,
    threshold: float,
    *,
    against: Vectors | None = None,
    recall: float = 0.99,
    most: int = 64,
    seed: int = 1,
    report: Report | None = None,
    scratch: str | None = None,
) -> NearVectors:
    """The pairs of at least the threshold: within `vectors`, whose first rows are preferred; or `against`.

    With `against`, pairs lead from each row of `vectors` to up to `most` rows of `against`, the first that
    are near, and `same` is each row itself. The same arguments give the same result on one machine, whatever
    the number of threads. `scratch` is the folder of temporary files.

    Raises ValueError for settings out of range, vectors of other sizes, and a vector that is zero or not
    finite.
    """
    _check(vectors, threshold, against, recall, most)
    report = report or Silent()
    if against is None:
        scales, same = _examined(vectors, report)
        later = earlier = _Set(vectors, np.flatnonzero(same == np.arange(len(same))), scales, 0)
    else:
        same = np.arange(len(vectors))
        # A pair is a later and an earlier number: those of `against` come before all others.
        later = _Set(vectors, same, _examined(vectors, report)[0], len(against))
        earlier = _Set(against, np.arange(len(against)), _examined(against, report)[0], 0)
    with tempfile.TemporaryDirectory(prefix="imm-vectors-", dir=scratch) as folder:
        found, stated, clusters, probes = _searched(
            later, earlier, threshold, recall, most, seed, report, folder
        )
    found = np.sort(found << np.uint64(32) | found >> np.uint64(32) if against is None else found)
    pairs = np.stack(_unpacked(found), axis=1)
    pairs[:, 0] -= later.shift
    return NearVectors(pairs, _cosines(pairs, vectors, against or vectors), same, stated, clusters, probes)


def _check(vectors: Vectors, threshold: float, against: Vectors | None, recall: float, most: int) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold}: a cosine above 0 and up to 1 is wanted, such as 0.95")
    if not 0 < recall < 1:
        raise ValueError(f"recall {recall}: a share between 0 and 1 is wanted, such as 0.99")
    if most < 1:
        raise ValueError(f"most {most}: a row needs at least one pair to be found a duplicate")
    if against is not None and len(vectors) and len(against) and vectors.dim != against.dim:
        raise ValueError(
            f"vectors of {vectors.dim} numbers against vectors of {against.dim}: embed both by one model"
        )
    if len(vectors) + (len(against) if against else 0) >= 1 << 32:
        raise ValueError("more than 2**32 rows: search them in parts")


class _Set(NamedTuple):
    """The rows that are searched of some vectors, ascending; a row's number is its own and the shift."""

    vectors: Vectors
    rows: np.ndarray
    scales: np.ndarray  # float32, of all rows: what makes them unit vectors
    shift: int

    def take(self, places: np.ndarray) -> np.ndarray:
        rows = self.rows[places]
        return _scaled(self.vectors.stored(rows), self.scales[rows])


class _Cells:
    """Rows grouped by cell: places are those of a cell from first to last row, cell after cell."""

    def __init__(
        self,
        numbers: np.ndarray,
        starts: np.ndarray,
        read: Callable[[np.ndarray], np.ndarray],
        beside: np.ndarray,
        level: np.ndarray,
        place: np.ndarray,
    ) -> None:
        self.numbers = numbers  # int64 [n], by place
        self.starts = starts  # int64 [cells + 1]
        self.read = read  # places: float32 [k, D], of unit length
        self.beside = beside  # uint16 [n, K], by row: other cells
        self.level = (
            level  # uint8 [n, K]: how far their borders are, _LEVELS if farther than a pair can reach
        )
        self.place = place  # int64 [n], by row

    def cell(self, number: int) -> np.ndarray:
        return np.arange(self.starts[number], self.starts[number + 1])

    def visits(self, first: int, last: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """(starts [last - first + 1], places): the rows that visit each of the cells, ascending.

        Rows visit the cells beside them whose level is below `reach`.
        """
        cells, rows = [np.empty(0, np.uint16)], [np.empty(0, np.int64)]
        for start in range(0, len(self.level) if reach else 0, _READ):
            part = slice(start, start + _READ)
            beside = np.asarray(self.beside[part])
            chosen = (self.level[part] < reach) & (beside >= first) & (beside < last)
            cells.append(beside[chosen])
            rows.append(chosen.nonzero()[0] + start)
        cell = np.concatenate(cells)
        order = np.argsort(cell, kind="stable")
        starts = np.searchsorted(cell[order], np.arange(first, last + 1))
        return starts, self.place[np.concatenate(rows)[order]]


class _Found:
    """Pairs of a later and an earlier number, packed; of each later one its `most` first."""

    def __init__(self, numbers: int, most: int) -> None:
        self.most = most
        self.limit = np.full(numbers, 1 << 32)  # what is not below it would not be kept
        self._blocks: list[np.ndarray] = []
        self._size = self._kept = 0

    def add(self, later: np.ndarray, earlier: np.ndarray) -> None:
        self._blocks.append(_packed(later, earlier))
        self._size += len(later)
        if self._size > 2 * self._kept + _HELD:
            self.pairs()

    def pairs(self) -> np.ndarray:
        """uint64, ascending."""
        packed = np.sort(np.concatenate([np.empty(0, np.uint64), *self._blocks]))
        packed = packed[np.append(True, packed[1:] != packed[:-1])[: len(packed)]]
        later, earlier = _unpacked(packed)
        rank = _rank(later)
        last = rank == self.most - 1
        self.limit[later[last]] = earlier[last]
        self._blocks = [packed[rank < self.most]]
        self._size = self._kept = len(self._blocks[0])
        return self._blocks[0]


def _examined(vectors: Vectors, report: Report) -> tuple[np.ndarray, np.ndarray]:
    """(scales float32 [N], same int64 [N]). Raises ValueError for a row without a direction."""
    scales, digests = np.empty(len(vectors), np.float32), np.empty(len(vectors), np.uint64)
    key = np.random.default_rng(0).integers(0, 1 << 63, vectors.dim, np.uint64) * np.uint64(2) + np.uint64(1)
    bits = np.uint16 if vectors.dtype == np.float16 else np.uint32
    report.start("vectors examined", len(vectors), "rows")
    for rows in _blocks(len(vectors), _READ):
        stored = vectors.stored(rows)
        scales[rows] = _scales(stored, rows)
        stored += stored.dtype.type(0)  # -0 and 0 are equal numbers
        digests[rows] = stored.view(bits).astype(np.uint64) @ key
        report.advance(len(rows))
    report.done()
    order = np.argsort(digests, kind="stable")
    fresh = np.append(True, np.diff(digests[order]) != 0)[: len(order)]
    same = np.empty(len(order), np.int64)
    same[order] = order[fresh][np.cumsum(fresh) - 1]
    again = np.flatnonzero(same != np.arange(len(same)))
    for part in _blocks(len(again), _READ):
        rows = again[part]
        differ = (vectors.stored(rows) != vectors.stored(same[rows])).any(axis=1)
        same[rows[differ]] = rows[differ]
    return scales, same


def _searched(
    later: _Set,
    earlier: _Set,
    threshold: float,
    recall: float,
    most: int,
    seed: int,
    report: Report,
    folder: str,
) -> tuple[np.ndarray, Recall, int, int]:
    """(pairs, packed; what is stated of them; cells; probes)."""
    both = len(later.rows) + (len(earlier.rows) if later is not earlier else 0)
    clusters = int(np.clip(2 * np.sqrt(both), 4, 1 << 15))
    numbers = len(later.vectors) + later.shift
    few = min(len(later.rows), len(earlier.rows))
    found = _Found(numbers, most)
    if few <= clusters or len(later.rows) * len(earlier.rows) <= _EXACT**2:
        high = low = _one_cell(later)
        if later is not earlier:
            low = _one_cell(earlier)
        probes = reach = clusters = 0
    else:
        draw = np.random.default_rng(seed)
        sets = [later] if later is earlier else [later, earlier]
        centroids = _centroids(_drawn(sets, clusters * _PER_CENTROID, draw), clusters, threshold, seed)
        clusters = len(centroids)
        cells = [_grouped(each, centroids, threshold, f"{folder}/{i}", report) for i, each in enumerate(sets)]
        high, low = cells[0], cells[-1]
        true = _exact(later, earlier, threshold, most, draw, report)
        probes, reach = _enough(true, high, low, recall)
    _sweep(high, low, reach, threshold, found, report)
    pairs = found.pairs()
    if later is earlier:
        pairs = np.sort(np.concatenate([pairs, _witnesses(pairs, high, reach, threshold, most, numbers)]))
    if not clusters:
        return pairs, Recall(len(pairs), len(pairs), 1.0, 1.0, recall), 0, 0
    return pairs, _stated(true, _has(pairs, true), recall), clusters, probes


def _drawn(sets: list[_Set], count: int, draw: np.random.Generator) -> np.ndarray:
    """float32 [about count, D]: as large a share of each set."""
    total = sum(len(each.rows) for each in sets)
    parts = []
    for each in sets:
        size = min(len(each.rows), -(-count * len(each.rows) // total))
        parts.append(each.take(np.sort(draw.choice(len(each.rows), size, replace=False))))
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _centroids(sample: np.ndarray, clusters: int, threshold: float, seed: int) -> np.ndarray:
    """float32 [at most clusters, D], of unit length; cells whose typical pair is near are one.

    The mean cosine of two vectors of two cells is that of their centroids, times the mean cosine of each
    cell's vectors with its own.
    """
    import faiss

    kmeans = faiss.Kmeans(
        sample.shape[1],
        clusters,
        niter=_ROUNDS,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
    )
    with _one_thread():
        kmeans.train(sample)
        cosine, cell = kmeans.index.search(sample, 1)
    size = np.bincount(cell[:, 0], minlength=clusters)
    total = np.bincount(cell[:, 0], cosine[:, 0], minlength=clusters)
    centroids = np.asarray(kmeans.centroids)
    tight = total / np.maximum(size, 1)
    near = (centroids @ centroids.T) * np.outer(tight, tight) >= threshold
    sums: dict[int, np.ndarray] = {}
    free = size > 0
    for each in np.argsort(-size, kind="stable").tolist():
        if free[each]:
            joined = free & near[each]
            joined[each] = True
            free &= ~joined
            sums[each] = total[joined] @ centroids[joined]
    out = np.stack([sums[each] for each in sorted(sums)])  # not by size: progress is then even
    return (out / np.linalg.norm(out, axis=1)[:, None]).astype(np.float32)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """For faiss, whose products have other last bits, and so other cells, with more."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _one_cell(rows: _Set) -> _Cells:
    count = len(rows.rows)
    beside = np.empty((count, 0), np.uint16)
    numbers, place = rows.rows + rows.shift, np.arange(count)
    return _Cells(numbers, np.array([0, count]), rows.take, beside, beside.astype(np.uint8), place)


def _grouped(rows: _Set, centroids: np.ndarray, threshold: float, path: str, report: Report) -> _Cells:
    """Every row in the cell of its nearest centroid, and written once more, cell by cell."""
    import faiss

    count, met = len(rows.rows), min(_MOST_PROBES, len(centroids))
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    apart = np.sqrt(np.maximum(2 - 2 * (centroids @ centroids.T), 1e-12))
    half = np.sqrt(2 - 2 * threshold) / 2 + 1e-4  # more, by far, than rounding takes
    cell = np.empty(count, np.uint16)
    beside = np.lib.format.open_memmap(f"{path}-beside.npy", "w+", np.uint16, (count, met - 1))
    level = np.lib.format.open_memmap(f"{path}-level.npy", "w+", np.uint8, (count, met - 1))
    report.start("vectors into cells", count, "rows")
    for places in _blocks(count, _READ):
        with _one_thread():
            cosine, nearest = index.search(rows.take(places), met)
        cell[places], beside[places] = nearest[:, 0], nearest[:, 1:]
        border = (cosine[:, :1] - cosine[:, 1:]) / apart[nearest[:, :1], nearest[:, 1:]]
        level[places] = np.minimum(border / half * _LEVELS, _LEVELS)
        report.advance(len(places))
    report.done()
    order = np.argsort(cell, kind="stable")
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    dim = rows.vectors.dim
    stored = np.lib.format.open_memmap(f"{path}-rows.npy", "w+", rows.vectors.dtype, (count, dim))
    for places in _blocks(count, 4 * _READ):
        ordered = places[np.argsort(cell[places], kind="stable")]
        stored[place[ordered]] = rows.vectors.stored(rows.rows[ordered])
    scales = rows.scales[rows.rows[order]]
    starts = np.append(0, np.cumsum(np.bincount(cell, minlength=len(centroids))))

    def read(places: np.ndarray) -> np.ndarray:
        return _scaled(stored[places], scales[places])

    return _Cells(rows.rows[order] + rows.shift, starts, read, beside, level, place)


def _exact(
    later: _Set, earlier: _Set, threshold: float, most: int, draw: np.random.Generator, report: Report
) -> np.ndarray:
    """All pairs, packed and cut to `most` as always, of rows of a sample with earlier rows."""
    order = draw.permutation(len(later.rows))[:_LARGEST_SAMPLE]
    found = _Found(len(later.vectors) + later.shift, most)
    every = _one_cell(later), _one_cell(earlier)
    first, last = 0, _SAMPLE
    pairs = np.empty(0, np.uint64)
    report.start("rows searched exactly", None, "rows")
    while first < len(order) and len(np.unique(_unpacked(pairs)[0])) < _ROWS_WITH_PAIRS:
        sample = np.sort(order[first:last])
        _meet(_Rows(every[0], sample), _Rows(every[1], every[1].cell(0)), threshold, found)
        pairs = found.pairs()
        report.advance(len(sample))
        first, last = last, 2 * last
    report.done()
    return pairs


def _enough(true: np.ndarray, high: _Cells, low: _Cells, recall: float) -> tuple[int, int]:
    """The probes that show the recall on the true pairs, or the most; and the levels that they reach."""
    later, earlier = _unpacked(true)
    level = np.minimum(_visit(high, later, low, earlier), _visit(low, earlier, high, later))
    sets = [high] if high is low else [high, low]
    rows = sum(len(cells.numbers) for cells in sets)
    visits = np.zeros(_LEVELS + 1, np.int64)
    for cells in sets:
        for part in _blocks(len(cells.level), _READ):
            visits += np.bincount(cells.level[part].ravel(), minlength=_LEVELS + 1)
    total = np.cumsum(visits[:_LEVELS])
    probes, reach = 1, 0
    while probes < _MOST_PROBES and reach < _LEVELS and not _stated(true, level < reach, recall).claimed:
        probes += max(1, probes // 2)
        reach = int(np.searchsorted(total, (probes - 1) * rows, "right"))
    return probes, reach


def _visit(visitor: _Cells, numbers: np.ndarray, host: _Cells, hosts: np.ndarray) -> np.ndarray:
    """int64 [k]: the level at which each visitor comes to the cell of its host: -1 if it is its own."""
    own, at = _cell_of(visitor, numbers)
    theirs, _ = _cell_of(host, hosts)
    there = visitor.beside[at] == theirs[:, None]
    level = np.where(there, visitor.level[at], _LEVELS).min(axis=1, initial=_LEVELS)
    return np.where(own == theirs, -1, level.astype(np.int64))


def _cell_of(cells: _Cells, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cell, row of `beside`) of rows by number."""
    rows = np.searchsorted(cells.numbers[cells.place], numbers)
    return np.searchsorted(cells.starts, cells.place[rows], "right") - 1, rows


def _stated(true: np.ndarray, found: np.ndarray, wanted: float) -> Recall:
    """The lower of two: of all true pairs the share found; and the mean of that share over rows with one."""
    _, start, count = np.unique(_unpacked(true)[0], return_index=True, return_counts=True)
    rows, total, hits = len(start), len(true), int(found.sum())
    shares = np.add.reduceat(found.astype(np.int64), start) / count if rows else np.empty(0)
    whole = int(shares.sum() + 1e-6)  # less what a sum of thirds lacks
    by_pair = Recall(hits, total, *share(hits * rows // max(total, 1), rows), wanted)
    return min(Recall.counted(whole, rows, wanted), by_pair, key=lambda stated: stated.low)


class _Rows(NamedTuple):
    """Some places of some cells, of ascending numbers."""

    cells: _Cells
    places: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        return self.cells.numbers[self.places]

    def of(self, chosen: np.ndarray | None) -> "_Rows":
        """Those whose number is chosen, by a mask of all numbers."""
        return self if chosen is None else _Rows(self.cells, self.places[chosen[self.numbers]])

    def and_(self, more: "_Rows") -> "_Rows":
        places = np.concatenate([self.places, more.places])
        return _Rows(self.cells, places[np.argsort(self.cells.numbers[places])])


def _sweep(
    high: _Cells,
    low: _Cells,
    reach: int,
    threshold: float,
    found: _Found,
    report: Report,
    later: np.ndarray | None = None,
    earlier: np.ndarray | None = None,
) -> None:
    """Every cell with its visitors; with masks of numbers, only pairs of a `later` and an `earlier` row."""
    cells = len(high.starts) - 1
    visits = max(high.level.size, low.level.size)
    step = max(1, cells * _VISITS // max(1, visits))
    report.start("cells searched", cells, "cells")
    for first in range(0, cells, step):
        last = min(first + step, cells)
        high_visits = high.visits(first, last, reach)
        low_visits = high_visits if high is low else low.visits(first, last, reach)
        for cell in range(first, last):
            own, visitors = _at(high, high_visits, cell, first)
            others, other_visitors = _at(low, low_visits, cell, first)
            if high is low and later is None:
                _meet(own, own, threshold, found)
                _meet(visitors, own, threshold, found, both=True)
            else:
                own = own.of(later)
                _meet(own.and_(visitors.of(later)), others.of(earlier), threshold, found)
                _meet(own, other_visitors.of(earlier), threshold, found)
            report.advance()
    report.done()


def _at(cells: _Cells, visits: tuple[np.ndarray, np.ndarray], cell: int, first: int) -> tuple[_Rows, _Rows]:
    """(The rows of a cell, its visitors)."""
    starts, places = visits
    visitors = places[starts[cell - first] : starts[cell - first + 1]]
    return _Rows(cells, cells.cell(cell)), _Rows(cells, visitors)


def _meet(one: _Rows, other: _Rows, threshold: float, found: _Found, both: bool = False) -> None:
    """Adds the pairs of a row of `one` and an earlier row of `other`, with `both` also the reverse.

    Of each later row the first `most`: blocks come in ascending order, and a row that has its pairs, or is
    earlier than all that follow, is out. So a crowd costs its first rows times all, not all times all.
    """
    numbers, others = one.numbers, other.numbers
    room = np.full(len(numbers), found.most)
    other_room = np.full(len(others), found.most if both else 0)
    for rows in _slices(len(numbers)):
        x = None
        for columns in _slices(len(others)):
            wants = (room[rows] > 0) & (_until(found, numbers[rows]) > others[columns.start])
            asked = (other_room[columns] > 0) & (_until(found, others[columns]) > numbers[rows.start])
            if not (wants.any() or asked.any()):
                continue
            if x is None:
                x = one.cells.read(one.places[rows])
            y = other.cells.read(other.places[columns])
            row, column = _near(x, y, wants, asked, threshold)
            after = numbers[rows][row] > others[columns][column]
            chosen = np.flatnonzero(after & wants[row])
            _add(found, numbers[rows], others[columns], row[chosen], column[chosen], room[rows])
            if both:
                chosen = np.flatnonzero(~after & asked[column])
                chosen = chosen[np.argsort(column[chosen], kind="stable")]
                _add(found, others[columns], numbers[rows], column[chosen], row[chosen], other_room[columns])


def _until(found: _Found, numbers: np.ndarray) -> np.ndarray:
    """The number from which on no row is wanted as the earlier one."""
    return np.minimum(numbers, found.limit[numbers])


def _near(
    x: np.ndarray, y: np.ndarray, wants: np.ndarray, asked: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """(row, column), ascending, of the near pairs of which one is wanted in x or asked for in y."""
    rows = np.arange(len(x)) if asked.any() else np.flatnonzero(wants)
    columns = np.arange(len(y)) if wants.any() else np.flatnonzero(asked)
    product = (x[rows] if len(rows) < len(x) else x) @ (y[columns] if len(columns) < len(y) else y).T
    error = (x.shape[1] + 8) * 2.0**-24  # of a product of unit vectors in float32, at most
    hit = np.flatnonzero(product >= np.float32(threshold - error))
    unsure = np.flatnonzero(product.ravel()[hit] < threshold + error)
    row, column = np.divmod(hit, len(columns))
    row, column = rows[row], columns[column]
    false = [np.empty(0, np.int64)]
    for part in _blocks(len(unsure), _READ):
        pairs = unsure[part]
        dots = _dots(x[row[pairs]], y[column[pairs]])
        false.append(pairs[dots.astype(np.float64) < threshold])  # which float32 may not hold
    return np.delete(row, np.concatenate(false)), np.delete(column, np.concatenate(false))


def _add(
    found: _Found,
    numbers: np.ndarray,
    others: np.ndarray,
    later: np.ndarray,
    earlier: np.ndarray,
    room: np.ndarray,
) -> None:
    """Adds what there is room for; `later` is ascending, and `earlier` of each."""
    fits = _rank(later) < room[later]
    later, earlier = later[fits], earlier[fits]
    room -= np.bincount(later, minlength=len(room))
    if len(later):
        found.add(numbers[later], others[earlier])


def _witnesses(
    pairs: np.ndarray, cells: _Cells, reach: int, threshold: float, most: int, numbers: int
) -> np.ndarray:
    """Packed pairs that are missing for the pass of `NearVectors`: of rows with `most` pairs and no kept one.

    The pass is made here, over rows in blocks that double, so that a row is compared with kept rows only and
    with the rows of its block that are not decided yet.
    """
    later, earlier = _unpacked(pairs)
    full = np.bincount(later, minlength=numbers) >= most
    kept = np.ones(numbers, bool)
    more = [np.empty(0, np.uint64)]
    begin, end = 0, _BLOCK if full.any() else 0
    while begin < end:
        first, last = np.searchsorted(later, [begin, end])
        block, before = later[first:last], earlier[first:last]
        kept[block[(before < begin) & kept[before]]] = False
        open_ = np.unique(block[kept[block]])
        known = np.arange(numbers) < begin
        witness = _missing(open_[full[open_]], kept & known, 1, cells, reach, threshold)
        kept[_unpacked(witness)[0]] = False
        more.append(witness)
        open_ = open_[kept[open_]]
        rest = kept & ~known
        rest[end:] = False
        hidden = _missing(open_[full[open_]], rest, end - begin, cells, reach, threshold)
        more.append(_kept_by(open_, pairs[first:last], hidden, kept))
        begin, end = end, min(2 * end, numbers)
    return np.concatenate(more)


def _missing(
    rows: np.ndarray, among: np.ndarray, most: int, cells: _Cells, reach: int, threshold: float
) -> np.ndarray:
    """Packed near pairs of the rows with the first `most` of earlier ones among a mask of numbers."""
    found = _Found(len(among), most)
    if len(rows):
        chosen = np.zeros(len(among), bool)
        chosen[rows] = True
        _sweep(cells, cells, reach, threshold, found, Silent(), chosen, among)
    return found.pairs()


def _kept_by(rows: np.ndarray, listed: np.ndarray, hidden: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Decides the rows, ascending, in place; the pairs of `hidden` that did. Every other row is decided."""
    used = []
    (later, earlier), (hidden_later, hidden_earlier) = _unpacked(listed), _unpacked(hidden)
    starts, ends = np.searchsorted(later, rows), np.searchsorted(later, rows, "right")
    hidden_starts, hidden_ends = (np.searchsorted(hidden_later, rows, side) for side in ("left", "right"))
    for at, row in enumerate(rows.tolist()):
        if kept[earlier[starts[at] : ends[at]]].any():
            kept[row] = False
            continue
        those = slice(hidden_starts[at], hidden_ends[at])
        witness = np.flatnonzero(kept[hidden_earlier[those]])
        if len(witness):
            kept[row] = False
            used.append(hidden[those][witness[0]])
    return np.array(used, np.uint64)


def _cosines(pairs: np.ndarray, one: Vectors, other: Vectors) -> np.ndarray:
    cosine = np.empty(len(pairs), np.float32)
    for part in _blocks(len(pairs), _READ):
        cosine[part] = _dots(one.take(pairs[part, 0]), other.take(pairs[part, 1]))
    return cosine


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float32 [k]: the cosine of each two rows, summed in float64."""
    # Not by einsum's dtype: it converts in buffers, and where those end would change the last bits.
    x, y = x.astype(np.float64), y.astype(np.float64)
    product, *squares = (np.einsum("ij,ij->i", one, other) for one, other in ((x, y), (x, x), (y, y)))
    return np.clip(product / np.sqrt(squares[0] * squares[1]), -1, 1).astype(np.float32)


def _scales(stored: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float32 [k]: what makes unit vectors of the stored rows."""
    with np.errstate(over="ignore", invalid="ignore"):
        wide = stored.astype(np.float64)
        length = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    wrong = np.flatnonzero(~((length > 1e-30) & (length < 1e30)))
    if len(wrong):
        raise ValueError(
            f"row {rows[wrong[0]]} is a vector of length {length[wrong[0]]}, as are {len(wrong) - 1} more of "
            f"{len(rows)} rows: it has no direction; embed it again or leave it out"
        )
    return (1 / length).astype(np.float32)


def _scaled(stored: np.ndarray, scales: np.ndarray) -> np.ndarray:
    unit = stored.astype(np.float32)
    unit *= scales[:, None]
    return unit


def _blocks(count: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _slices(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, min(start + _BLOCK, count))


def _packed(later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """uint64: numbers below 2**32, the later in the upper half."""
    return (later.astype(np.uint64) << np.uint64(32)) | earlier.astype(np.uint64)


def _unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _rank(groups: np.ndarray) -> np.ndarray:
    """int64 [k]: how many of its group come before it, where equal groups lie side by side."""
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[: len(groups)])
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def _has(pairs: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """bool [k]: whether the ascending `pairs` have each that is asked for."""
    if not len(pairs):
        return np.zeros(len(asked), bool)
    return pairs[np.minimum(np.searchsorted(pairs, asked), len(pairs) - 1)] == asked
