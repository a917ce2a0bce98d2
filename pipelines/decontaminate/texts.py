"""Which texts of benchmarks the samples say: the map step over sample shards, and its index.

A text of a benchmark is in a sample's text if most of its shingles are; one that has none to compare, being
shorter than a shingle or made of phrases that the whole benchmark shares, if it equals the sample's text, or
a line of it. Time: that of making shingles, some 30 µs a text, and at most COMMON steps for each shingle and
benchmark. Memory: 20 bytes a shingle of the benchmarks in every worker; 16 bytes for each match.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from infinity_mm.executor import Guard, Report, Step, Work
from infinity_mm.executor import run as run_step
from infinity_mm.manifest import check_shard
from infinity_mm.schema import samples_from
from infinity_mm.shingles import ShingleSets, shingle_sets, text_key
from infinity_mm.store import Store
from pipelines.decontaminate.joining import Matches, ranges
from pipelines.dedup.population import Population
from pipelines.measures.sample_look import SampleLook

PIECE = 8192  # samples that a worker looks at between two words to the parent
BATCH = 1024


class TextIndex(NamedTuple):
    """Texts by number. `values`: the distinct shingles, ascending; the texts that have shingle i are
    `texts[starts[i] : starts[i + 1]]`; `sizes`: shingles of each text; `exact`: texts without one, by key."""

    shingle: int
    values: np.ndarray  # uint64 [V]
    starts: np.ndarray  # int64 [V + 1]
    texts: np.ndarray  # int32 [T]
    sizes: np.ndarray  # int64 [N]
    exact: dict[bytes, list[int]]

    @classmethod
    def made(cls, sets: ShingleSets, keys: Sequence[bytes], shingle: int) -> Self:
        """The index of texts 0 to N - 1, of which `sets` has the shingles and `keys` the text_key."""
        sizes = sets.sizes()
        order = np.argsort(sets.values, kind="stable")
        values, starts = np.unique(sets.values[order], return_index=True)
        exact: dict[bytes, list[int]] = {}
        for number in np.flatnonzero(sizes == 0).tolist():
            exact.setdefault(keys[number], []).append(number)
        return cls(
            shingle,
            values,
            np.append(starts, len(order)),
            np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order],
            sizes,
            exact,
        )

    def find(self, texts: Sequence[str], overlap: float) -> Matches:
        """The matches of some texts, by their places: the share of the benchmark text's shingles, or 1."""
        rows, numbers, shares = [], [], []
        if len(self.values):
            sets = shingle_sets(texts, self.shingle)
            row = np.repeat(np.arange(len(texts)), sets.sizes())
            at = np.minimum(np.searchsorted(self.values, sets.values), len(self.values) - 1)
            hit = self.values[at] == sets.values
            row, at = row[hit], at[hit]
            counts = self.starts[at + 1] - self.starts[at]
            number = self.texts[ranges(self.starts[at], counts)].astype(np.int64)
            pairs, shared = np.unique(np.repeat(row, counts) * len(self.sizes) + number, return_counts=True)
            size = self.sizes[pairs % len(self.sizes)]
            most = shared >= overlap * size - 1e-9
            rows.append(pairs[most] // len(self.sizes))
            numbers.append(pairs[most] % len(self.sizes))
            shares.append((shared / size)[most].astype(np.float32))
        if self.exact:
            pairs_ = [(i, n) for i, text in enumerate(texts) for n in self._equal(text)]
            rows.append(np.array([i for i, _ in pairs_], np.int64))
            numbers.append(np.array([n for _, n in pairs_], np.int64))
            shares.append(np.ones(len(pairs_), np.float32))
        return Matches.joined(zip(rows, numbers, shares, strict=True))

    def _equal(self, text: str) -> Iterable[int]:
        """The texts without shingles that a text or one of its lines equals."""
        said = {text_key(line) for line in {text, *text.splitlines()} if line.strip()}
        return {number for key in said for number in self.exact.get(key, ())}


class Indexes(NamedTuple):
    """What the map step looks for."""

    store: str
    questions: TextIndex
    answers: TextIndex
    overlap: float


class Piece(NamedTuple):
    """Rows of a sample shard, and the number of the first in the population."""

    entry: dict[str, Any]
    rows: np.ndarray
    start: int


def open_step(config: Indexes) -> Work:
    """The map step: Piece -> the matches of its samples' questions, and of their answers."""
    store = Store.open(config.store)
    checked: set[str] = set()

    def work(piece: Piece, guard: Guard) -> tuple[Matches, Matches]:
        if piece.entry["sha256"] not in checked:
            check_shard(store, piece.entry)
            checked.add(piece.entry["sha256"])
        table: pa.Table = store.open_arrow(piece.entry["file"]).read_all()
        asked, told = [], []
        for at in range(0, len(piece.rows), BATCH):
            looks = [SampleLook(s) for s in samples_from(table.take(pa.array(piece.rows[at : at + BATCH])))]
            start = piece.start + at
            asked.append(_found(config.questions, [look.questions for look in looks], start, config.overlap))
            told.append(_found(config.answers, [look.answers for look in looks], start, config.overlap))
        return Matches.joined(asked), Matches.joined(told)

    return work


def _found(index: TextIndex, said: Sequence[Sequence[str]], start: int, overlap: float) -> Matches:
    """The matches of samples that say several texts each, the best of each; `start`: the first's number."""
    if not index.exact and not len(index.values):
        return Matches.none()
    owner = np.repeat(np.arange(len(said)), [len(texts) for texts in said]) + start
    found = index.find([text for texts in said for text in texts], overlap)
    return Matches(owner[found.sample], found.number, found.value).best(high=True)


def text_matches(
    population: Population, indexes: Indexes, *, workers: int, report: Report
) -> tuple[Matches, Matches]:
    """The matches of all samples' questions, and of all their answers."""
    manifest = population.manifests[0]
    pieces = [
        Piece(manifest.shards[s.number]._asdict() | {"selected": None}, s.rows[at : at + PIECE], s.start + at)
        for s in population.shards
        for at in range(0, len(s.rows), PIECE)
    ]
    step = Step(name="compare texts", open=open_step, config=indexes)
    results = run_step(step, pieces, workers=workers, report=report)
    return Matches.joined(asked for asked, _ in results), Matches.joined(told for _, told in results)
