"""Pairs of near-duplicate pictures: hashes within a radius, and of low-information ones a second test too.

A pair is *near* if the hashes are within the radius and, where either picture is of low information, both
have thumbnails and those are alike (infinity_mm/media/thumbnail.py), or alike in another tone
(infinity_mm/media/tone.py) where both are `tonal`. What is indistinguishable is told once
(`NearPictures.same`) and searched once.

Pictures that are not of low information are searched by their hashes alone: exactly, as `hamming.neighbours`
does. Where a thumbnail is asked for the hash is no guide, since pages of one layout lie within a few bits of
one another by the thousand; there infinity_mm/near_thumbnails.py searches: exactly too, but for crowds, whose
bounds it states. It prunes by luma, which a change of tone moves, so that tones are compared among what the
hashes find, with bounds of its own:

- A picture whose hash has more than 64 others within the radius, as an even sample of 4,096 of them tells, is
  not looked for in another tone.
- A picture is compared with at most 64 earlier ones: the earliest.

Time and memory: those of the two searches, for each symmetry anew; 40 bytes a pair; a millionth of a second
for each hash of a `tonal` picture and each 1,000 of the sample, and 200 for each comparison of tones.
"""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from infinity_mm.hamming import BITS, neighbours, popcount
from infinity_mm.media.phash import SYMMETRIES
from infinity_mm.media.thumbnail import SIZE
from infinity_mm.media.tone import toned_alike
from infinity_mm.near_thumbnails import Found, Side, by_thumbnail

_ASKED = 1 << 10  # hashes whose pairs are counted
_COUNTED = 1 << 24  # pairs of hashes counted at once
_NEAR = 64  # hashes within the radius of one, beyond which it is no guide to other tones; pictures compared
_SAMPLED = 1 << 12  # hashes by which that is told
_BLOCK = 1 << 18  # pairs of hashes, which stay in a core's cache
_TESTED = 1 << 8  # pairs of thumbnails


class Looks(NamedTuple):
    """What N distinct pictures look like, the most preferred first."""

    phash: np.ndarray  # uint64 [N]
    low: np.ndarray  # bool [N]: of low information, see `thumbnail.low_information`
    thumbnail: np.ndarray  # int64 [N]: row in `thumbnails`, -1 for none
    thumbnails: np.ndarray  # uint8 [K, thumbnail.SIZE]
    symmetries: np.ndarray | None  # uint64 [N, 7]: the hashes as phash.SYMMETRIES; None: as they are only
    tonal: np.ndarray  # bool [N]: near hashes are a sign of other tones, see `tone.tonal`


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
        toned = _by_tone(later, earlier, radius, alike, within=within)
        if not symmetry:
            suspected = _suspected(later, earlier, radius, within=within)
            refused = max(0, suspected - len(alike[0]) - len(toned[0]))
        for places, others, bits in (_by_hash(later, earlier, radius, within=within), alike, toned):
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
        "tonal": (np.bool_, (count,)),
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
    kinds = looks.low[rows], looks.tonal[rows]
    return Side(rows, looks.phash[rows], *kinds, looks.thumbnail[rows], looks.thumbnails, symmetry=0)


def _by_hash(later: Side, earlier: Side, radius: int, *, within: bool) -> Found:
    """The pairs of which neither is of low information."""
    ours, theirs = np.flatnonzero(~later.low), np.flatnonzero(~earlier.low)
    if within and not later.symmetry:  # as one set, which takes half as long
        near, place = neighbours(later.hashes[ours], radius), np.arange(len(ours))
    else:
        hashes, place = np.unique(later.hashes[ours], return_inverse=True)
        near = neighbours(hashes, radius, earlier.hashes[theirs])
    number = np.diff(near.starts)[place]
    one, at = np.repeat(ours, number), _runs(near.starts[place], number)
    other, bits = theirs[near.others[at]], near.distances[at]
    keep = earlier.rows[other] < later.rows[one] if within else np.ones(len(one), bool)
    return one[keep], other[keep], bits[keep]


def _by_tone(later: Side, earlier: Side, radius: int, alike: Found, *, within: bool) -> Found:
    """The pairs, one of low information, that are alike in another tone and are not among those alike."""
    one, other, bits = _tonal_pairs(later, earlier, radius)
    pair, known = (a * len(earlier.rows) + b for a, b in ((one, other), alike[:2]))
    keep = (later.low[one] | earlier.low[other]) & ~np.isin(pair, known)
    if within:
        keep &= earlier.rows[other] < later.rows[one]
    asked = np.flatnonzero(keep)
    asked = asked[np.argsort(pair[asked])]
    asked = asked[np.arange(len(asked)) - np.searchsorted(one[asked], one[asked]) < _NEAR]
    one, other, bits = one[asked], other[asked], bits[asked]
    found = np.zeros(len(asked), bool)
    for start in range(0, len(asked), _TESTED):
        part = slice(start, start + _TESTED)
        found[part] = toned_alike(later.seen(one[part]), earlier.seen(other[part]))
    return one[found], other[found], bits[found]


def _tonal_pairs(later: Side, earlier: Side, radius: int) -> Found:
    """Pairs of tonal pictures with thumbnails whose hashes are within the radius, but for crowded hashes."""
    ours = np.flatnonzero(later.tonal & (later.thumbnail >= 0))
    theirs = np.flatnonzero(earlier.tonal & (earlier.thumbnail >= 0))
    ours = ours[~_crowded(later.hashes[ours], earlier.hashes[theirs], radius)]
    theirs = theirs[np.argsort(earlier.hashes[theirs])]
    hashes, place = np.unique(later.hashes[ours], return_inverse=True)
    targets, first, times = np.unique(earlier.hashes[theirs], return_index=True, return_counts=True)
    near = neighbours(hashes, radius, targets)
    number = np.diff(near.starts)[place]
    at = _runs(near.starts[place], number)
    target, one, bits = near.others[at], np.repeat(ours, number), near.distances[at]
    number = times[target]
    return np.repeat(one, number), theirs[_runs(first[target], number)], np.repeat(bits, number)


def _crowded(hashes: np.ndarray, targets: np.ndarray, radius: int) -> np.ndarray:
    """bool [n]: which hashes have more than 64 of the targets within the radius, as a sample has it."""
    step = max(1, -(-len(targets) // _SAMPLED))
    sample, most = targets[::step], max(_NEAR // step, 2)  # itself and one copy are no crowd
    kinds, place = np.unique(hashes, return_inverse=True)
    parts = np.array_split(kinds, max(1, len(kinds) * len(sample) // _BLOCK))
    near = [np.count_nonzero(popcount(part[:, None] ^ sample) <= radius, axis=1) for part in parts]
    return np.asarray((np.concatenate(near) > most)[place])


def _runs(starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """From each of the starts so many numbers on, one run after another."""
    return np.arange(int(numbers.sum())) + np.repeat(starts - np.cumsum(numbers) + numbers, numbers)


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
