"""What is the same and what is near: of media, as ordered lists, and of conversations.

Each relation is made when a method first asks for it. Pairs a little beyond a threshold, of a sample of the
data, come with the pairs within it, so that a report can show the nearest misses; `Classes.distance` tells
them apart. Time and memory are those of the searches: `infinity_mm.near_pictures`, `near_text`,
`near_vectors`.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from infinity_mm.executor import Report
from infinity_mm.near_pictures import near_pictures
from infinity_mm.near_text import NearPairs, measure_recall, near_pairs, pairs_of_sample
from infinity_mm.near_vectors import Vectors, near_vectors
from infinity_mm.order import mix
from infinity_mm.schema import samples_from
from infinity_mm.shingles import shingle_sets
from pipelines.dedup.classes import Classes, of_lists
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.embedded import embedded
from pipelines.dedup.looking import CLIPS, LOOKS, TURNED, looks_of
from pipelines.dedup.population import Population, codes
from pipelines.measure import Files
from pipelines.measures.sample_look import SampleLook

KEYS = {
    "conversation": "conversation_key",
    "questions": "questions_key",
    "answers": "answers_key",
}
LOOKED = 2_000  # things whose near misses are looked for
BITS_BEYOND = 6  # above the radius
TEXT_BEYOND = 0.15  # below the threshold of similarity
COSINE_BEYOND = 0.1  # below the threshold
LOOKED_VECTORS = 512
_BATCH = 4096
_VECTORS_AT_ONCE = 1 << 15


class Relation(NamedTuple):
    """Classes with the pairs within `limit` and some beyond it; what is to be said of the search."""

    classes: Classes
    limit: float
    recall: str = "exact search"


class Relations:
    """The relations between the samples of a population. `order`: the samples, the most preferred first."""

    def __init__(
        self,
        config: DedupConfig,
        population: Population,
        files: Sequence[Files],
        order: np.ndarray,
        report: Report,
    ) -> None:
        self.config, self.population, self.files, self.report = config, population, files, report
        self.rank = np.empty(population.total, np.int64)
        self.rank[order] = np.arange(population.total)

    def _of_media(self, names: Sequence[str]) -> pl.DataFrame:
        return self.population.of_media(self.files, names, fail=True)

    def _of_samples(self, names: Sequence[str]) -> pl.DataFrame:
        return self.population.of_samples(self.files, names, fail=True)

    # media

    @cached_property
    def bytes(self) -> Relation:
        """Ordered lists of the same files."""
        return self._lists(self.population.media)

    @cached_property
    def pixels(self) -> Relation:
        """Ordered lists of pictures with the same pixels; clips are the same if their files are."""
        found = codes(self._of_media(["pixel_digest"])["pixel_digest"])
        own = np.arange(len(found)) + found.max(initial=-1) + 1
        return self._lists(np.where(found < 0, own, found)[self.population.media])

    def _lists(self, units: np.ndarray, near: Classes | None = None, limit: float = 0.0) -> Relation:
        near = near or Classes.alone(units)
        return Relation(of_lists(self.population.offsets, units, near.pairs, near.distance), limit)

    @cached_property
    def media_rank(self) -> np.ndarray:
        """int64: the media, those of the most preferred samples first."""
        best = np.full(len(self.population.media_ids), self.population.total, np.int64)
        np.minimum.at(best, self.population.media, self.rank[self.population.owner])
        return np.argsort(best, kind="stable")

    @cached_property
    def perceptual(self) -> Relation:
        """Ordered lists of media whose hashes are within the radius; a clip's are those of its frames."""
        return self._by_hash(self.config.radius, BITS_BEYOND)

    @cached_property
    def hashes(self) -> Relation:
        """The same with equal hashes; pictures that a hash says too little of must look alike, too."""
        return self._by_hash(0, 0)

    def _by_hash(self, radius: int, beyond: int) -> Relation:
        population = self.population
        with looks_of(population, self.files, self.media_rank, flips=self.config.flips) as looked:
            self.report.start("search near pictures", len(looked.looks.phash), "pictures")
            found = near_pictures(looked.looks, radius)
            pairs, bits = [found.pairs], [found.bits.astype(np.float32)]
            if beyond:
                chosen = some_of(len(looked.looks.phash), LOOKED)
                more = near_pictures(looked.part(chosen), radius + beyond, looked.looks)
                far = more.bits > radius
                ends = found.same[chosen[more.pairs[far, 0]]], found.same[more.pairs[far, 1]]
                pairs.append(np.sort(np.stack(ends, axis=1), axis=1))
                bits.append(more.bits[far].astype(np.float32))
            self.report.advance(len(looked.looks.phash))
            self.report.done()
            units, offsets = looked.units(found.same), looked.offsets
        lists = of_lists(offsets, units, np.concatenate(pairs), np.concatenate(bits))
        return Relation(lists, float(radius))

    @cached_property
    def semantic(self) -> Relation:
        """Ordered lists of media whose embeddings are near; a clip's is that of its middle frame."""
        config, population = self.config, self.population
        limit = 1 - config.cosine
        vectors, rows = embedded(config, config.embedder, population, self.report, self.media_rank)
        found = near_vectors(vectors, config.cosine, recall=config.recall, report=self.report)
        beyond, cosine = self._beyond_cosine(vectors)
        units = np.arange(len(population.media_ids))
        units[rows] = rows[found.same]
        pairs = rows[np.concatenate([found.pairs, beyond])]
        distance = np.concatenate(
            [np.minimum(1 - found.cosine, limit), np.maximum(1 - cosine, _above(limit))]
        )
        near = Classes(units, np.sort(pairs, axis=1), np.maximum(distance, 0).astype(np.float32))
        stated = "exact search" if found.clusters == 0 else str(found.recall)
        return self._lists(units[population.media], near, limit)._replace(recall=stated)

    def _beyond_cosine(self, vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (rows) a little below the threshold, of a sample of the vectors; and their cosines."""
        below = max(self.config.cosine - COSINE_BEYOND, 0.0)
        count = len(vectors)
        chosen = some_of(count, LOOKED_VECTORS)
        sample = vectors.take(chosen)
        pairs, cosines = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
        for start in range(0, count, _VECTORS_AT_ONCE):
            rows = np.arange(start, min(start + _VECTORS_AT_ONCE, count))
            cosine = sample @ vectors.take(rows).T
            left, right = np.nonzero((cosine >= below) & (cosine < self.config.cosine))
            once = chosen[left] < rows[right]
            pairs.append(np.stack([chosen[left], rows[right]], axis=1)[once])
            cosines.append(cosine[left, right][once])
        return np.concatenate(pairs), np.concatenate(cosines)

    def of_pictures(self) -> list[Classes]:
        """What the methods asked for take for the same picture, pairs within the limit only."""
        found = [self.bytes]
        if "exact" in self.config.by and self.config.exact_key == "pixels":
            found.append(self.pixels)
        if "perceptual" in self.config.by:
            found.append(self.perceptual)
        if "semantic" in self.config.by:
            found.append(self.semantic)
        return [within(relation) for relation in found]

    # conversations

    @cached_property
    def turns(self) -> Relation:
        """Conversations of the same turns, to the letter."""
        return Relation(Classes.alone(codes(self._of_samples(["turns_key"])["turns_key"])), 0.0)

    @cached_property
    def same_texts(self) -> Relation:
        """Conversations that read the same."""
        return Relation(Classes.alone(self._keys("conversation")), 0.0)

    @cached_property
    def near_texts(self) -> Relation:
        """Conversations that have most shingles in common."""
        return self.near_field("conversation")

    def near_field(self, field: str) -> Relation:
        """The same of questions or answers alone. Texts shorter than a shingle are near what they equal."""
        config = self.config
        limit = 1 - config.jaccard
        keys = self._keys(field)
        first = self._first_of(keys)
        self.report.start(f"shingle {field}", len(first), "texts")
        at = np.argsort(first, kind="stable")
        sets = shingle_sets(self._texts(field, first[at]), config.shingle).take(np.argsort(at))
        self.report.done()
        self.report.start(f"search near {field}", None, "texts")
        found = near_pairs(sets, config.jaccard, config.permutations, config.recall)
        stated = measure_recall(sets, found, config.jaccard, wanted=config.recall)
        beyond = pairs_of_sample(sets, max(config.jaccard - TEXT_BEYOND, 0.05), LOOKED)
        self.report.done()
        classes = np.where(keys < 0, -1, found.same[keys])
        pairs, distance = _with_beyond(found, beyond, config.jaccard, limit)
        return Relation(Classes(classes, pairs, distance), limit, str(stated))

    def _keys(self, field: str) -> np.ndarray:
        """int64 [samples]: a number for what reads the same, those of preferred samples first."""
        found = codes(self._of_samples([KEYS[field]])[KEYS[field]])
        best = np.full(int(found.max(initial=-1)) + 1, self.population.total, np.int64)
        has = found >= 0
        np.minimum.at(best, found[has], self.rank[has])
        place = np.empty(len(best), np.int64)
        place[np.argsort(best, kind="stable")] = np.arange(len(best))
        return np.where(has, place[found], -1)

    def _first_of(self, keys: np.ndarray) -> np.ndarray:
        """int64 [keys]: the first sample that has each."""
        distinct, first = np.unique(keys, return_index=True)
        return first[distinct >= 0]

    def _texts(self, field: str, wanted: np.ndarray) -> Iterator[str]:
        """What these samples (ascending) say, whole conversations a line a turn."""
        for shard in self.population.shards:
            own = wanted[
                np.searchsorted(wanted, shard.start) : np.searchsorted(wanted, shard.start + len(shard.rows))
            ]
            if not len(own):
                continue
            manifest = self.population.manifests[shard.manifest]
            table = manifest.table(shard.number)
            rows = shard.rows[own - shard.start]
            for start in range(0, len(rows), _BATCH):
                part = table.take(pa.array(rows[start : start + _BATCH]))
                for sample in samples_from(part):
                    look = SampleLook(sample)
                    yield look.text if field == "conversation" else "\n".join(getattr(look, field))
                    self.report.advance()
            manifest.release(shard.number)


def some_of(count: int, most: int) -> np.ndarray:
    """int64, ascending: at most `most` of so many, by chance, the same ones each time."""
    return np.sort(np.argsort(mix(np.arange(count, dtype=np.uint64), 1))[:most])


def within(relation: Relation) -> Classes:
    """The classes with the pairs within the limit."""
    return split(relation.classes, relation.limit)[0]


def split(classes: Classes, limit: float) -> tuple[Classes, Classes]:
    """The pairs within the limit, and those beyond it."""
    near = classes.distance <= np.float32(limit)
    one, other = (
        classes._replace(pairs=classes.pairs[mask], distance=classes.distance[mask]) for mask in (near, ~near)
    )
    return one, other


def measures_of_samples(config: DedupConfig) -> list[str]:
    """The measures of samples that the methods of a configuration read."""
    names = []
    if "exact" in config.by and config.texts == "same":
        names.append("turns_key")
    if config.texts == "near" or (config.texts == "same" and {"perceptual", "semantic"} & set(config.by)):
        names.append(KEYS["conversation"])
    if "text" in config.by:
        names.append(KEYS[config.field])
    return list(dict.fromkeys(names))


def measures_of_media(config: DedupConfig) -> list[str]:
    """The measures of media that they read."""
    names: list[str] = []
    if "exact" in config.by and config.exact_key == "pixels":
        names.append("pixel_digest")
    by_hash = "perceptual" in config.by or ("exact" in config.by and config.exact_key == "phash")
    if by_hash or ("text" in config.by and config.media == "near"):
        names += [*LOOKS, *CLIPS]
        if config.flips:
            names += TURNED
    return names


def _with_beyond(
    found: NearPairs, beyond: tuple[np.ndarray, np.ndarray], threshold: float, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs and distances, with those of `beyond` that are below the threshold of similarity."""
    pairs, jaccard = beyond
    below = jaccard < threshold
    distance = np.concatenate([1 - found.jaccard, np.maximum(1 - jaccard[below], _above(limit))])
    return np.concatenate([found.pairs, pairs[below]]), distance.astype(np.float32)


def _above(limit: float) -> float:
    """The least float32 beyond a limit: what is beyond stays so when it is rounded."""
    return float(np.nextafter(np.float32(limit), np.float32(np.inf)))
