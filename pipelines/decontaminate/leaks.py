"""Which samples are in which benchmark, by picture and question, by picture alone and by text alone.

*By picture and question*: a picture of the sample matches one of an item, and a question of the sample one of
the same item. Items without media are compared by text alone, with the samples that have none either.

*By text alone*: a question counts that has `least_shingles` shingles of its own, and that neither benchmark
nor data ask about more than `most_pictures` different pictures; every other question counts with its answer,
if that has as many shingles. "What is this?" alone says nothing, whatever asks it.

Time and memory: a few arrays as long as the matches.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from infinity_mm.executor import Report
from infinity_mm.order import mix
from pipelines.decontaminate.config import DecontaminateConfig
from pipelines.decontaminate.items import Items, distinct_of
from pipelines.decontaminate.joining import (
    Having,
    Hits,
    asking,
    asking_and_telling,
    showing,
    showing_and_asking,
    together,
)
from pipelines.decontaminate.looks import Looks
from pipelines.decontaminate.pictures import Shown, by_embedding, by_hash
from pipelines.decontaminate.texts import Indexes, text_matches
from pipelines.dedup.embedded import embedded
from pipelines.dedup.population import Population
from pipelines.measure import Files


class Way(NamedTuple):
    """What one way of comparing finds: hits, and which items they are of."""

    hits: Hits
    leaked: np.ndarray  # bool [items]


class Leaks:
    """`ways`: by name (both, image, text), those that were compared. `item`: of each sample, int64, -1 if it
    is in no benchmark; the nearest of the first benchmark that has it. `common`: the questions too common to
    be matched alone, bool [Q], None if texts were not compared."""

    def __init__(
        self,
        population: Population,
        items: Items,
        ways: dict[str, Way],
        by: str,
        common: np.ndarray | None,
    ) -> None:
        self.items, self.ways, self.chosen, self.common = items, ways, ways[by], common
        hits = self.chosen.hits
        bits, cosine, share = (
            np.nan_to_num(v, nan=n) for v, n in zip(hits[3:6], (np.inf, 0, 0), strict=True)
        )
        order = np.lexsort((hits.item, -share, -cosine, bits, items.benchmark[hits.item], hits.sample))
        sample = hits.sample[order]
        first = np.ones(len(order), bool)
        first[1:] = sample[1:] != sample[:-1]
        self._hits = Hits(*(column[order[first]] for column in hits))
        self._place = np.full(population.total, -1, np.int64)
        self._place[self._hits.sample] = np.arange(len(self._hits.sample))
        self.item = np.append(self._hits.item, -1)[self._place]

    def hit(self, sample: int) -> Hits:
        """The hit that a sample is dropped for: numbers, not arrays."""
        return Hits(*(column[self._place[sample]] for column in self._hits))

    @cached_property
    def others(self) -> dict[int, list[int]]:
        """Of samples that are in several benchmarks, those after the first."""
        hits = self.chosen.hits
        pairs = np.unique(np.stack([hits.sample, self.items.benchmark[hits.item]], axis=1), axis=0)
        more: dict[int, list[int]] = {}
        again = np.flatnonzero(pairs[1:, 0] == pairs[:-1, 0]) + 1
        for sample, benchmark in pairs[again].tolist():
            more.setdefault(sample, []).append(benchmark)
        return more


def find_leaks(
    config: DecontaminateConfig, population: Population, files: Files, items: Items, report: Report
) -> Leaks:
    """Compare a population with all benchmarks, by every way that `by` has the measures for."""
    found: dict[str, list[tuple[Hits, Having]]] = {}
    texts = _Texts(config, population, items, report) if config.by != "image" else None
    if texts is not None:
        found["text"] = texts.hits(bare=False)
    if config.by != "text":
        shown = _shown(config, population, files, items, report)
        having = items.with_picture()
        found["image"] = [(showing(one.alone, having, measure), having) for measure, one in shown.items()]
        if texts is not None:
            having = items.with_picture_and_question()
            found["both"] = texts.hits(bare=True)
            for measure, one in shown.items():
                hits = showing_and_asking(one.asked, texts.asked, having, measure)
                found["both"].append((hits, having))
    sound = ~population.failed
    ways = {name: _way(items, sound, hits) for name, hits in found.items()}
    return Leaks(population, items, ways, config.by, None if texts is None else texts.common)


def _shown(
    config: DecontaminateConfig, population: Population, files: Files, items: Items, report: Report
) -> dict[str, Shown]:
    """Which samples show which pictures, by what is measured: bits, and cosine if that is asked for."""
    seen = Looks(population, files, fail=True)
    found = {"bits": by_hash(population, seen, items.pictures, config.radius)}
    if config.cosine is not None:
        vectors, media = embedded(config, config.embedder, population, report)
        near = by_embedding(population, vectors, media, items.pictures, config.cosine)
        found["cosine"] = Shown(near, near)
    return found


def _way(items: Items, sound: np.ndarray, found: Sequence[tuple[Hits, Having]]) -> Way:
    kept, leaked = [], np.zeros(items.count, bool)
    for hits, having in found:
        mine = Hits(*(column[sound[hits.sample]] for column in hits))
        leaked[having.all(np.unique(mine.place))] = True
        kept.append(mine)
    return Way(together(kept), leaked)


class _Texts:
    """What the samples ask and tell. `common`: questions too common to be matched alone, bool [Q]."""

    def __init__(
        self, config: DecontaminateConfig, population: Population, items: Items, report: Report
    ) -> None:
        indexes = Indexes(population.manifests[0].store.url, items.questions, items.answers, config.overlap)
        self.items = items
        self.asked, self.told = text_matches(population, indexes, workers=config.workers, report=report)
        pictures = np.maximum(items.pictures_asked_about(), self._pictures_asked_about(population))
        self.common = pictures > config.most_pictures
        self.long = items.questions.sizes >= config.least_shingles
        self._without = np.diff(population.offsets) == 0

    def _pictures_asked_about(self, population: Population) -> np.ndarray:
        """int64 [Q]: about how many different media, or lists of them, the samples ask each question."""
        with np.errstate(over="ignore"):
            mixed = np.cumsum(mix(population.media.astype(np.uint64), 0), dtype=np.uint64)
            sums = np.concatenate([np.zeros(1, np.uint64), mixed])[population.offsets]
            shown = sums[1:] - sums[:-1]
        return distinct_of(self.asked.number, shown[self.asked.sample], len(self.items.questions.sizes))

    def hits(self, *, bare: bool) -> list[tuple[Hits, Having]]:
        """By text alone; `bare`: samples and items without media only."""
        asked, told = self.asked, self.told
        if bare:
            asked, told = (m.where(self._without[m.sample]) for m in (asked, told))
        alone = (self.long & ~self.common)[asked.number]
        question = self.items.with_question(bare=bare)
        answer = self.items.with_question_and_answer(bare=bare)
        return [
            (asking(asked.where(alone), question), question),
            (asking_and_telling(asked.where(~alone), told, answer), answer),
        ]
