"""Which pictures of benchmarks the samples show, by hashes and by embeddings.

Pictures are alike if their hashes are within the radius and, where 64 bits say too little of either, their
finer hashes are near too (`infinity_mm.fine_hash`); clips, if the hashes of all their stills are within it.
Time and memory are those of `infinity_mm.hamming.neighbours` and `near_vectors`; besides, 40 bytes a medium,
260 for each whose hash is near a benchmark's, and 20 a match. Candidates are tested _AT_ONCE at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np

from infinity_mm.fine_hash import LIKE, NEAR, apart
from infinity_mm.hamming import neighbours, popcount
from infinity_mm.near_vectors import Vectors, near_vectors
from pipelines.decontaminate.items import Pictures
from pipelines.decontaminate.joining import Matches, ranges
from pipelines.decontaminate.looks import Looks
from pipelines.dedup.population import Population

_AT_ONCE = 1 << 18
_MOST = 1024  # pictures of benchmarks that a medium is near to by embeddings


class Shown(NamedTuple):
    """`alone`: alike without any other evidence; `asked`: alike enough where a question matches as well."""

    alone: Matches
    asked: Matches


def by_hash(population: Population, seen: Looks, pictures: Pictures, radius: int) -> Shown:
    """The samples that show a benchmark's picture; the value is the fewest bits that one of theirs is off."""
    alone, asked = [Matches.none()], [Matches.none()]
    for number, medium, bits, away in _alike(seen, pictures, radius):
        asked.append(Matches(medium, number, bits).where(away <= LIKE))
        alone.append(Matches(medium, number, bits).where(away <= NEAR))
    return Shown(
        *(_of_samples(population, Matches.joined(found)).best(high=False) for found in (alone, asked))
    )


def _alike(
    seen: Looks, pictures: Pictures, radius: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Pictures and media within the radius: numbers, the bits, and how far finer hashes are apart, 0 where
    they are not asked for. Blank clips have none: equal ones are taken for as far apart as a question may
    make up for."""
    for clip in (False, True):
        own = np.flatnonzero(seen.clip == clip)
        theirs = np.flatnonzero(pictures.hashed & (pictures.clip == clip))
        ours = _Grouped.made(seen.hashes[own, 0], own)
        those = _Grouped.made(pictures.hashes[theirs, 0], theirs)
        if not len(ours.hashes) or not len(those.hashes):
            continue
        near = neighbours(those.hashes, radius, ours.hashes)
        left = np.repeat(np.arange(len(those.hashes)), np.diff(near.starts))
        fine = _Fine(seen, pictures, ours, those, left, near.others)
        for number, place in _products(those, ours, left, near.others):
            differ = popcount(pictures.hashes[number] ^ seen.hashes[place])
            bits = differ.max(axis=1)
            within = bits <= radius
            number, place, bits = number[within], place[within], bits[within].astype(np.float32)
            if clip:
                blank = pictures.low[number] | seen.low[place]
                away = np.where(blank, np.where(bits == 0, LIKE, LIKE + 1), 0)
            else:
                away = fine.apart(number, place)
            yield number, seen.media[place], bits, away


class _Fine:
    """The finer hashes of the media that need one: those of low information, or near a picture that is."""

    def __init__(
        self,
        seen: Looks,
        pictures: Pictures,
        ours: "_Grouped",
        theirs: "_Grouped",
        left: np.ndarray,
        right: np.ndarray,
    ) -> None:
        self.seen, self.pictures = seen, pictures
        low = np.zeros(len(theirs.hashes), bool)
        of_low = theirs.owners[pictures.low[theirs.owners]]
        low[np.searchsorted(theirs.hashes, pictures.hashes[of_low, 0])] = True
        near_low = ours.members(np.unique(right[low[left]]))
        near = ours.members(np.unique(right))
        self.places = np.unique(np.concatenate([near_low, near[seen.low[near]]]))
        self.hashes, self.there = seen.fine(seen.media[self.places])

    def apart(self, number: np.ndarray, place: np.ndarray) -> np.ndarray:
        """int64: how far pictures and media are apart; 0 where their 64 bits are enough."""
        away = np.zeros(len(number), np.int64)
        test = np.flatnonzero(self.pictures.low[number] | self.seen.low[place])
        at = np.searchsorted(self.places, place[test])
        away[test] = apart(self.pictures.fine[number[test]], self.hashes[at])
        lacking = ~self.pictures.has_fine[number[test]] | ~self.there[at]
        away[test[lacking]] = LIKE + 1
        return away


class _Grouped(NamedTuple):
    """Distinct hashes, and who has each: of hash i `owners[starts[i] : starts[i + 1]]`."""

    hashes: np.ndarray  # uint64 [H], ascending
    starts: np.ndarray  # int64 [H + 1]
    owners: np.ndarray  # int64 [N]

    @classmethod
    def made(cls, hashes: np.ndarray, owners: np.ndarray) -> Self:
        order = np.argsort(hashes, kind="stable")
        distinct, starts = np.unique(hashes[order], return_index=True)
        return cls(distinct, np.append(starts, len(order)), owners[order])

    def sizes(self) -> np.ndarray:
        return np.diff(self.starts)

    def members(self, places: np.ndarray) -> np.ndarray:
        """The owners of some hashes."""
        return self.owners[ranges(self.starts[places], self.sizes()[places])]


def _products(
    one: _Grouped, other: _Grouped, left: np.ndarray, right: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of owners of pairs of hashes, some at a time."""
    wide = other.sizes()[right]
    sizes = one.sizes()[left] * wide
    ends = np.cumsum(sizes)
    for start in range(0, int(sizes.sum()), _AT_ONCE):
        place = np.arange(start, min(start + _AT_ONCE, int(ends[-1])))
        k = np.searchsorted(ends, place, "right")
        within = place - (ends[k] - sizes[k])
        yield (
            one.owners[one.starts[left[k]] + within // wide[k]],
            other.owners[other.starts[right[k]] + within % wide[k]],
        )


def by_embedding(
    population: Population, vectors: Vectors, media: np.ndarray, pictures: Pictures, cosine: float
) -> Matches:
    """The samples that show a benchmark's picture, by embeddings of some media; the value is the cosine."""
    known = np.flatnonzero(pictures.vectors.any(axis=1))
    if not len(media) or not len(known):
        return Matches.none()
    theirs = Vectors([(pictures.vectors, known)])
    found = near_vectors(vectors, cosine, against=theirs, most=_MOST)
    near = Matches(media[found.pairs[:, 0]], known[found.pairs[:, 1]], found.cosine)
    return _of_samples(population, near).best(high=True)


def _of_samples(population: Population, matches: Matches) -> Matches:
    """Matches of media as matches of the samples that use them."""
    order = np.argsort(population.media, kind="stable")
    starts = np.searchsorted(population.media[order], matches.sample)
    counts = np.searchsorted(population.media[order], matches.sample, "right") - starts
    return Matches(
        population.owner[order[ranges(starts, counts)]],
        np.repeat(matches.number, counts),
        np.repeat(matches.value, counts),
    )
