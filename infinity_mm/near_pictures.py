"""Pairs of near-duplicate pictures: hashes within a radius, and of low-information ones a second test too.

A pair is *near* if the hashes are within the radius and, where either picture is of low information, both
have thumbnails and those are alike (infinity_mm/media/thumbnail.py). What is indistinguishable is told once
(`NearPictures.same`) and searched once.

Pictures that are not of low information are searched by their hashes alone: exactly, as `hamming.neighbours`
does. Where a thumbnail is asked for the hash is no guide, since pages of one layout lie within a few bits of
one another by the thousand; there infinity_mm/near_thumbnails.py searches: exactly too, but for crowds, whose
bounds it states.

Time and memory: those of the two searches, for each symmetry anew; 40 bytes a pair.
"""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from infinity_mm.hamming import BITS, neighbours
from infinity_mm.media.phash import SYMMETRIES
from infinity_mm.media.thumbnail import SIZE
from infinity_mm.near_thumbnails import Found, Side, by_thumbnail

_ASKED = 1 << 10  # hashes whose pairs are counted
_COUNTED = 1 << 24  # pairs of hashes counted at once


class Looks(NamedTuple):
    """What N distinct pictures look like, the most preferred first."""

    phash: np.ndarray  # uint64 [N]
    low: np.ndarray  # bool [N]: of low information, see `thumbnail.low_information`
    thumbnail: np.ndarray  # int64 [N]: row in `thumbnails`, -1 for none
    thumbnails: np.ndarray  # uint8 [K, thumbnail.SIZE]
    symmetries: np.ndarray | None  # uint64 [N, 7]: the hashes as phash.SYMMETRIES; None: as they are only


class NearPictures(NamedTuple):
    """Pairs of near pictures, ascending, each once and with the symmetry of fewest bits."""

    same: np.ndarray  # int64 [N]: the first row with an equal hash and, where of low information, thumbnail
    pairs: np.ndarray  # int64 [M, 2]: i < j that are their own `same`; else (row, row of `against`)
    bits: np.ndarray  # uint8 [M]: Hamming distance, at most the radius
    symmetry: np.ndarray  # uint8 [M]: 0, or which of phash.SYMMETRIES makes j (the row) look like i (against)
    refused: int  # pairs within the radius, one of low information, that are not in `pairs`; as they are,
    # and estimated from an even sample where more than 1,024 hashes are of low information


def near_pictures(looks: Looks, radius: int, against: Looks | None = None) -> NearPictures:
    """All near pairs within `looks`, or from `looks` to `against`, whose equals are told once too.

    Exact but for crowds (see the module); what their bounds leave out counts as refused. Raises ValueError
    for a radius out of range and for looks whose parts do not fit together.
    """
    if not 0 <= radius <= BITS:
        raise ValueError(f"radius {radius}: a radius of {BITS}-bit hashes lies between 0 and {BITS}")
    for name, given in (("looks", looks), ("against", against)):
        if given is not None:
            _check(given, name)
    within = against is None
    same = _first_same(looks)
    later = _side(looks, same)
    earlier = later if against is None else _side(against, _first_same(against))
    found: list[tuple[np.ndarray, ...]] = []
    refused = 0
    for symmetry in range(1 if looks.symmetries is None else 1 + len(SYMMETRIES)):
        if symmetry:
            assert looks.symmetries is not None
            turned = np.ascontiguousarray(looks.symmetries[later.rows, symmetry - 1])
            later = later._replace(hashes=turned, symmetry=symmetry)
        alike = by_thumbnail(later, earlier, radius, within=within)
        if not symmetry:
            suspected = _suspected(later, earlier, radius, within=within)
            refused = max(0, suspected - len(alike[0]))
        for places, others, bits in (_by_hash(later, earlier, radius, within=within), alike):
            found.append(
                (later.rows[places], earlier.rows[others], bits, np.full(len(bits), symmetry, np.uint8))
            )
    return NearPictures(same, *_pairs(found, within=within), refused)


def _check(looks: Looks, name: str) -> None:
    count = len(looks.phash)
    wanted: dict[str, tuple[type, tuple[int, ...]]] = {
        "phash": (np.uint64, (count,)),
        "low": (np.bool_, (count,)),
        "thumbnail": (np.int64, (count,)),
        "thumbnails": (np.uint8, (len(looks.thumbnails), SIZE)),
    }
    if looks.symmetries is not None:
        wanted["symmetries"] = (np.uint64, (count, len(SYMMETRIES)))
    for field, (dtype, shape) in wanted.items():
        array = getattr(looks, field)
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name}.{field} is {array.dtype} of shape {array.shape}: {np.dtype(dtype)} of shape {shape} "
                "is wanted"
            )
    if count and not -1 <= looks.thumbnail.min() <= looks.thumbnail.max() < len(looks.thumbnails):
        raise ValueError(
            f"{name}.thumbnail names rows that are not among its {len(looks.thumbnails)} thumbnails"
        )


def _first_same(looks: Looks) -> np.ndarray:
    """`same` of NearPictures. A picture of low information without a thumbnail is like no other."""
    _, kind, counts = np.unique(looks.phash, return_inverse=True, return_counts=True)
    keys: dict[tuple[int, bytes], int] = {}
    same = np.arange(len(looks.phash))
    for row in np.flatnonzero(counts[kind] > 1).tolist():
        seen = b""
        if looks.low[row]:
            at = looks.thumbnail[row]
            seen = blake2b(looks.thumbnails[at]).digest() if at >= 0 else b"%d" % row
        same[row] = keys.setdefault((int(kind[row]), seen), row)
    return same


def _side(looks: Looks, same: np.ndarray) -> Side:
    """The rows that are their own `same`, as they are."""
    rows = np.flatnonzero(same == np.arange(len(same)))
    return Side(rows, looks.phash[rows], looks.low[rows], looks.thumbnail[rows], looks.thumbnails, symmetry=0)


def _by_hash(later: Side, earlier: Side, radius: int, *, within: bool) -> Found:
    """The pairs of which neither is of low information."""
    ours, theirs = np.flatnonzero(~later.low), np.flatnonzero(~earlier.low)
    if within and not later.symmetry:  # as one set, which takes half as long
        near, place = neighbours(later.hashes[ours], radius), np.arange(len(ours))
    else:
        hashes, place = np.unique(later.hashes[ours], return_inverse=True)
        near = neighbours(hashes, radius, earlier.hashes[theirs])
    number = np.diff(near.starts)[place]
    one = np.repeat(ours, number)
    at = np.arange(len(one)) + np.repeat(near.starts[place] - np.cumsum(number) + number, number)
    other, bits = theirs[near.others[at]], near.distances[at]
    keep = earlier.rows[other] < later.rows[one] if within else np.ones(len(one), bool)
    return one[keep], other[keep], bits[keep]


def _suspected(later: Side, earlier: Side, radius: int, *, within: bool) -> int:
    """How many pairs lie within the radius of which one is of low information, by hashes alone.

    They may be nearly all pairs there are, so beyond 1,024 hashes an even sample of them is asked.
    """
    (hashes, number, plain), (targets, others, other_plain) = _counted(later), _counted(earlier)
    low_there = others > other_plain
    weight = number - plain if within else number
    asked = np.flatnonzero(weight)
    sample = asked[:: max(1, -(-len(asked) // _ASKED))]
    twice = 0
    at_once = max(64, _COUNTED // max(1, len(targets)))
    for part in np.split(sample, range(at_once, len(sample), at_once)):
        near = neighbours(hashes[part], radius, targets)
        one, other = np.repeat(part, np.diff(near.starts)), near.others
        pairs = number[one] * others[other] - plain[one] * other_plain[other]
        twice += int(pairs.sum())
        if within:  # two low ones are found from both, a hash itself is no pair
            twice += int(pairs[~low_there[other]].sum()) - int(weight[part].sum())
        else:
            twice += int(pairs.sum())
    return round(twice / 2 * int(weight.sum()) / max(1, int(weight[sample].sum())))


def _counted(side: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct hashes, and how many pictures have each, altogether and not of low information."""
    hashes, kind = np.unique(side.hashes, return_inverse=True)
    number = np.bincount(kind, minlength=len(hashes))
    return hashes, number, np.bincount(kind[~side.low], minlength=len(hashes))


def _pairs(found: list[tuple[np.ndarray, ...]], *, within: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`pairs`, `bits` and `symmetry` of NearPictures from (rows, others, bits, symmetries)."""
    row, other, bits, symmetry = (np.concatenate(column) for column in zip(*found, strict=True))
    pairs = np.stack([other, row] if within else [row, other], axis=1)
    order = np.lexsort((symmetry, bits, pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    once = np.ones(len(pairs), bool)
    once[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[once], bits[order][once], symmetry[order][once]
