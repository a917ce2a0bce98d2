"""Pairs of near-duplicate texts: MinHash-LSH proposes, the exact Jaccard similarity of shingles decides.

No pair below the threshold is ever returned; what the proposal misses, `measure_recall` states. The pairs are
the same in content whatever the order of the texts. Sets of equal shingles are told once (`NearPairs.same`)
and searched once. In a bucket, that is among sets with an equal band, sets lie in the order of the following
band, and each meets the 16 after it and the first 16: all, in buckets of up to 17; else at most 32, so that a
bucket of k sets costs 32 k pairs, not k * k. Two sets that after some bands have 32 near ones each are not
compared any more. Templated texts, of which most are near most others, are thus linked through some of them,
not each with each.

`exact_pairs` finds every pair, through the rarest shingles of each set. On texts with few common phrases it
is quick; where one long phrase is in most texts its time grows with the square of their number.

Memory: 8 bytes a shingle three times over, 8 bytes a text and band, 8 bytes a candidate.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from infinity_mm.minhash import Bands, band_keys, bands_for, check_threshold, signatures
from infinity_mm.order import mix
from infinity_mm.recall import Recall
from infinity_mm.shingles import ShingleSets

_MOST_PAIRS = 20_000  # true pairs after which exact search for a recall stops
_MET = 16  # sets after it, and first sets, that a set meets in a bucket
_PLENTY = 32  # near sets of either after which two are not compared any more
_AT_ONCE = 1 << 22  # shingles or candidates
_TEXTS_AT_ONCE = 1 << 15


class NearPairs(NamedTuple):
    """`same[i]` is the first row whose shingles are those of row i: i itself if there is none or i has none.

    `pairs` are of rows i < j that are their own `same`, ascending, each once.
    """

    pairs: np.ndarray  # int64 [M, 2]
    jaccard: np.ndarray  # float64 [M], from the threshold to below 1
    same: np.ndarray  # int64 [N]


def near_pairs(
    sets: ShingleSets, threshold: float, permutations: int = 128, recall: float = 0.99, seed: int = 1
) -> NearPairs:
    """All pairs that LSH proposes and whose Jaccard similarity is at least the threshold.

    The bands are those of `bands_for(threshold, permutations, recall)`, which raises ValueError for settings
    out of range. Sets without shingles are in no pair.
    """
    bands = bands_for(threshold, permutations, recall)
    same, rows = _distinct(sets)
    distinct = _coded(sets.take(rows))
    keys = _keys_of(sets, rows, bands, permutations, seed)
    seen = np.empty(0, np.uint64)
    degree = np.zeros(len(rows), np.int64)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for band in range(bands.number):
        fresh = _absent(_candidates(keys[:, band], keys[:, (band + 1) % bands.number]), seen)
        left, right = _unpacked(fresh)
        fresh = fresh[np.minimum(degree[left], degree[right]) < _PLENTY]
        seen = np.sort(np.concatenate([seen, fresh]), kind="stable")
        found.append(_verified(distinct, fresh, threshold))
        degree += np.bincount(np.concatenate(_unpacked(found[-1][0])), minlength=len(rows))
    return NearPairs(*_as_rows(found, rows), same)


def exact_pairs(sets: ShingleSets, threshold: float) -> NearPairs:
    """As `near_pairs`, but every pair is found. Raises ValueError for a threshold out of range.

    Two sets as similar as the threshold share one of the k rarest shingles of either, where k is its size,
    less the shingles that they must share, plus one. Source: Chaudhuri, Ganti and Kaushik, "A primitive
    operator for similarity joins in data cleaning", 2006.
    """
    check_threshold(threshold)
    same, rows = _distinct(sets)
    found = list(_exact(_coded(sets.take(rows)), threshold, len(rows)))
    return NearPairs(*_as_rows(found, rows), same)


def measure_recall(
    sets: ShingleSets, near: NearPairs, threshold: float, sample: int = 20_000, wanted: float = 0.99
) -> Recall:
    """Of the pairs that have a set of a sample, the share which `near`, found among these sets, has.

    The sample is the `sample` distinct sets of least hash, the same in any order; exact search of them among
    all sets ends early once it has 20,000 pairs.
    """
    _, rows = _distinct(sets)
    of, found = 0, 0
    known = np.sort(_packed(near.pairs[:, 0], near.pairs[:, 1]))
    for true in _exact(_coded(sets.take(rows)), threshold, min(sample, len(rows))):
        pairs, _ = _as_rows([true], rows)
        of += len(pairs)
        found += len(pairs) - len(_absent(_packed(pairs[:, 0], pairs[:, 1]), known))
        if of >= _MOST_PAIRS:
            break
    return Recall.counted(found, of, wanted)


def pairs_of_sample(sets: ShingleSets, threshold: float, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Every pair that has one of the `sample` distinct sets of least hash: int64 [M, 2], float64 [M].

    Rows as in `NearPairs.pairs`; the search ends early once it has 20,000 pairs.
    """
    _, rows = _distinct(sets)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for true in _exact(_coded(sets.take(rows)), threshold, min(sample, len(rows))):
        found.append(true)
        if sum(len(packed) for packed, _ in found) >= _MOST_PAIRS:
            break
    return _as_rows(found, rows)


def _distinct(sets: ShingleSets) -> tuple[np.ndarray, np.ndarray]:
    """`same` of NearPairs, and the rows that are their own and not empty, in an order of their content.

    Sets are equal if their sizes and two sums of 64-bit hashes of their elements are.
    """
    filled = np.flatnonzero(sets.sizes())
    same = np.arange(len(sets.offsets) - 1)
    if not len(filled):
        return same, filled
    starts = sets.offsets[filled]
    digest = np.stack([np.add.reduceat(mix(sets.values, key), starts) for key in (1, 2)])
    digest = np.concatenate([digest, sets.sizes()[filled].astype(np.uint64)[None]])
    order = np.lexsort(digest[::-1])
    ordered = digest[:, order]
    first = np.ones(len(order), bool)
    first[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    rows = filled[order[first]]
    same[filled[order]] = rows[np.cumsum(first) - 1]
    return same, rows


def _coded(sets: ShingleSets) -> ShingleSets:
    """The same sets with each shingle as a number from 0, uint64: the rarer, the smaller."""
    distinct, codes, counts = np.unique(sets.values, return_inverse=True, return_counts=True)
    rank = np.empty(len(distinct), np.uint64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(distinct), dtype=np.uint64)
    return ShingleSets(rank[codes], sets.offsets)


def _keys_of(sets: ShingleSets, rows: np.ndarray, bands: Bands, permutations: int, seed: int) -> np.ndarray:
    """uint64 [rows, bands.number]; signatures are made and let go a few texts at a time."""
    keys = np.empty((len(rows), bands.number), np.uint64)
    for first in range(0, len(rows), _TEXTS_AT_ONCE):
        part = slice(first, first + _TEXTS_AT_ONCE)
        keys[part] = band_keys(signatures(sets.take(rows[part]), permutations, seed), bands, seed)
    return keys


def _candidates(key: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Packed pairs of sets with an equal key, ascending and distinct, as many as a bucket may have."""
    ordered = np.sort(key)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    members = np.flatnonzero(~_is_absent(key, repeated))
    order = members[np.lexsort((following[members], key[members]))]
    bucket = key[order]
    start = np.searchsorted(bucket, bucket)
    at = np.arange(len(order))
    pairs = [np.empty(0, np.uint64)]
    for distance in range(1, _MET + 1):
        after = at[distance:][bucket[distance:] == bucket[:-distance]]
        pairs.append(_packed(order[after - distance], order[after]))
        beyond = at[at - start > _MET + distance - 1]
        pairs.append(_packed(order[start[beyond] + distance - 1], order[beyond]))
    return _once(np.concatenate(pairs))


def _exact(sets: ShingleSets, threshold: float, sample: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs with one of the first `sample` sets, in parts: packed, and their similarity."""
    sizes = sets.sizes()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    posting = owner[np.argsort(sets.values, kind="stable")]
    counts = np.bincount(sets.values.astype(np.int64))
    starts = np.cumsum(counts) - counts
    # a hair less, lest the rounding of the product asks for one shared shingle more
    prefix = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    rarest = _prefixes(sets, prefix[:sample])
    visits = np.add.reduceat(counts[rarest.values], rarest.offsets[:-1]) if sample else np.empty(0, np.int64)
    ends = np.cumsum(visits)
    first = 0
    while first < sample:
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, "right")))
        part = rarest.take(np.arange(first, last))
        others = ShingleSets(posting, np.append(starts, len(posting))).take(part.values.astype(np.int64))
        asked = np.repeat(np.repeat(np.arange(first, last), part.sizes()), others.sizes())
        later = others.values > asked
        yield _verified(sets, _once(_packed(asked[later], others.values[later])), threshold)
        first = last


def _prefixes(sets: ShingleSets, lengths: np.ndarray) -> ShingleSets:
    """The smallest elements of each of the first sets, as many as `lengths` says."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    part = sets.take(np.arange(len(lengths)))
    order = np.lexsort((part.values, np.repeat(np.arange(len(lengths)), part.sizes())))
    at = np.arange(offsets[-1]) + np.repeat(part.offsets[:-1] - offsets[:-1], lengths)
    return ShingleSets(part.values[order[at]].astype(np.int64), offsets)


def _verified(sets: ShingleSets, packed: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The packed pairs whose Jaccard similarity is at least the threshold, and it, float64."""
    sizes = sets.sizes()
    left, right = _unpacked(packed)
    small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
    packed = packed[small / large >= threshold]
    left, right = _unpacked(packed)
    total = sizes[left] + sizes[right]
    shared, ends = np.empty(len(packed), np.int64), np.cumsum(total)
    first = 0
    while first < len(packed):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, "right")))
        shared[first:last] = _shared(sets, left[first:last], right[first:last])
        first = last
    jaccard = shared / (total - shared)
    return packed[jaccard >= threshold], jaccard[jaccard >= threshold]


def _shared(sets: ShingleSets, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """int64 [K]: how many elements, all below 2**32, two sets have in common."""
    both = sets.take(np.concatenate([left, right]))
    pair = np.repeat(np.tile(np.arange(len(left), dtype=np.uint64), 2), both.sizes())
    element = np.sort((pair << np.uint64(32)) | both.values)
    twice = element[1:][element[1:] == element[:-1]]
    return np.bincount((twice >> np.uint64(32)).astype(np.int64), minlength=len(left))


def _packed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """uint64: pairs of rows below 2**32, the lesser in the upper half."""
    low, high = np.minimum(one, other).astype(np.uint64), np.maximum(one, other).astype(np.uint64)
    return (low << np.uint64(32)) | high


def _unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _as_rows(found: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of places in `rows` as pairs of rows, int64 [M, 2], ascending; and their similarity."""
    packed = np.concatenate([np.empty(0, np.uint64), *(pairs for pairs, _ in found)])
    jaccard = np.concatenate([np.empty(0), *(similarity for _, similarity in found)])
    left, right = _unpacked(packed)
    packed = _packed(rows[left], rows[right])
    order = np.argsort(packed)
    return np.stack(_unpacked(packed[order]), axis=1), jaccard[order]


def _once(values: np.ndarray) -> np.ndarray:
    """Distinct and ascending. np.unique hashes, which takes packed pairs many times as long."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _absent(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Those of the values that the ascending `known` does not have."""
    return values[_is_absent(values, known)]


def _is_absent(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    if not len(known):
        return np.ones(len(values), bool)
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] != values
