"""The samples that a dedup compares, of one manifest and of those it is held against, as arrays.

Samples are numbered in the manifest's order, those of `against` after them; a medium is numbered once however
many samples use it. Memory: some 40 bytes a sample and medium, and 8 bytes for each value that is asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from infinity_mm.columns import id_rows, media_of
from infinity_mm.manifest import Manifest
from infinity_mm.spill import halves
from pipelines.frames import ERROR, Frames, shard_table
from pipelines.measure import Files
from pipelines.measures.registry import is_media

_COLUMNS = ["sample_id", "media", "source"]


class Shard(NamedTuple):
    """A sample shard of one of the manifests: its number there, the rows that count, its first sample."""

    manifest: int
    number: int
    rows: np.ndarray
    start: int


class Population:
    """`size`: samples of the manifest; the rest are of `against`. What is withdrawn is not among them."""

    def __init__(self, manifest: Manifest, against: Sequence[Manifest] = ()) -> None:
        self.manifests = [manifest, *against]
        self.shards: list[Shard] = []
        ids, media, counts, sources, weights = [], [], [], [], []
        start = 0
        for k, one in enumerate(self.manifests):
            for number, shard in enumerate(one.shards):
                table = shard_table(one, number, _COLUMNS)
                there = np.flatnonzero(~one.withdrawn.rows(table))
                if len(there) < table.num_rows:
                    table = table.take(pa.array(there))
                self.shards.append(Shard(k, number, shard.selected.rows[there], start))
                start += table.num_rows
                owners, used = media_of(table)
                ids.append(id_rows(table.column("sample_id")).copy())
                media.append(used.copy())
                counts.append(np.bincount(owners, minlength=table.num_rows))
                sources.append(table.column("source").combine_chunks())
                weights.append(shard.selected.weights[there])
                one.release(number)
            if k == 0:
                self.size = start
        self.total = start
        self.ids = np.concatenate([np.empty((0, 16), np.uint8), *ids])
        self.offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *counts]))])
        self.media_ids, self.media = _numbered(np.concatenate([np.empty((0, 16), np.uint8), *media]))
        self.source = pa.chunked_array(sources, pa.string()).combine_chunks().dictionary_encode()
        self.owner = np.repeat(np.arange(self.total), np.diff(self.offsets))  # of each entry of `media`
        self.weights = np.concatenate([np.empty(0), *weights])
        self._failed: dict[int, tuple[str, str]] = {}

    def start_of(self, number: int) -> int:
        """The first sample of a shard of the manifest."""
        return self.shards[number].start

    def of(self, sample: int) -> int:
        """The number of the manifest that a sample is of."""
        at = np.searchsorted([s.start for s in self.shards], sample, "right") - 1
        return self.shards[int(at)].manifest

    @property
    def settled(self) -> np.ndarray:
        """bool: the samples of `against`."""
        return np.arange(self.total) >= self.size

    def of_samples(self, files: Sequence[Files], names: Sequence[str], *, fail: bool) -> pl.DataFrame:
        """Measures of samples, a row a sample; with `fail` a failed measure makes the sample failed."""
        frames = self._frames(files, names)
        pieces = [frames[s.manifest].sample_columns(s.number, s.rows) for s in self.shards]
        frame = pl.concat(pieces) if pieces else pl.DataFrame({n: [] for n in names})
        for error in [c for c in frame.columns if fail and c.startswith(ERROR)]:
            for i in np.flatnonzero(frame[error].is_not_null().to_numpy()):
                self.fail(int(i), frame[error][int(i)])
        return frame

    def of_media(self, files: Sequence[Files], names: Sequence[str], *, fail: bool) -> pl.DataFrame:
        """Measures of media, a row a medium; with `fail` a failed one makes all its samples failed."""
        frames = self._frames(files, names)
        home, where, row = self.homes
        pieces, places = [], []
        for k, one in enumerate(frames):
            mine = np.flatnonzero(home == k)
            if len(mine):
                pieces.append(one.media_rows(where[mine], row[mine]))
                places.append(mine)
            one.forget()
        if not pieces:
            return frames[0].media_rows(where, row)
        back = np.argsort(np.concatenate(places), kind="stable")
        frame = pl.concat(pieces)[back]
        for error in [c for c in frame.columns if fail and c.startswith(ERROR)]:
            bad = np.flatnonzero(frame[error].is_not_null().to_numpy()).tolist()
            self.fail_media({i: frame[error][i] for i in bad})
        return frame

    def of_media_in_parts(self, files: Sequence[Files], name: str) -> Iterator[tuple[np.ndarray, pl.Series]]:
        """A measure of media that is too large to hold for all: the numbers of some media, and its values."""
        home, where, row = self.homes
        for k, one in enumerate(self._frames(files, [name])):
            for number, digest in enumerate(one.media_shards):
                mine = np.flatnonzero((home == k) & (where == number))
                if len(mine):
                    yield mine, one.media(digest)[name][row[mine]]
                    one.forget()

    def _frames(self, files: Sequence[Files], names: Sequence[str]) -> list[Frames]:
        return [Frames(m, names, f) for m, f in zip(self.manifests, files, strict=True)]

    @cached_property
    def homes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each medium: the first manifest that has it, the number of its media shard there, its row."""
        home = np.full(len(self.media_ids), -1, np.int64)
        where, row = np.full(len(home), -1, np.int32), np.zeros(len(home), np.int32)
        for k, one in enumerate(self.manifests):
            left = np.flatnonzero(where < 0)
            found, at = one.library().find_many(self.media_ids[left])
            where[left], row[left] = found, at
            home[left[found >= 0]] = k
        home[home < 0] = 0
        return home, where, row

    # failures

    def fail(self, sample: int, error: str) -> None:
        """Note that a sample can't be compared; its first error counts."""
        self._failed.setdefault(sample, _said(error))

    def fail_media(self, errors: Mapping[int, str]) -> None:
        """The same for all samples that use a medium with an error."""
        if errors:
            for at in np.flatnonzero(np.isin(self.media, list(errors))):
                self.fail(int(self.owner[at]), errors[int(self.media[at])])

    @property
    def failed(self) -> np.ndarray:
        """bool [samples]: those that can't be compared, because a measure of theirs failed."""
        mask = np.zeros(self.total, bool)
        mask[list(self._failed)] = True
        return mask

    def failure(self, sample: int) -> tuple[str, str]:
        """Its reason and what else is known."""
        return self._failed[sample]


def _said(error: str) -> tuple[str, str]:
    reason, _, detail = error.partition(": ")
    return reason, detail


def _numbered(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct ids (M×16 uint8, ascending), and the number of each (int64)."""
    if not len(ids):
        return ids, np.empty(0, np.int64)
    high, low = halves(ids)
    order = np.lexsort((low, high))
    new = np.ones(len(order), bool)
    new[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return ids[order[new]], number


def codes(values: pl.Series) -> np.ndarray:
    """int64: a number for each value, equal where they are; -1 for null."""
    encoded = values.to_arrow().dictionary_encode()
    found: np.ndarray = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


Read = Callable[[Sequence[str]], pl.DataFrame]
KEEP = ("resolution", "longest", "first")
SOURCES = "source:"


def preference(population: Population, keep: Sequence[str], read: Read) -> np.ndarray:
    """The samples, the most preferred first (int64), by each of `keep` in turn, then by id.

    `read` gives measures by name, one value a sample or medium. A measure that does not apply or failed comes
    last. Ids are content, so the order does not depend on that of shards or workers unless `first` is asked.
    """
    keys: list[np.ndarray] = []
    for name in keep:
        if name == "first":
            keys.append(np.arange(population.total, dtype=np.float64))
        elif name.startswith(SOURCES):
            listed = name.removeprefix(SOURCES).split(">")
            rank = {source: k for k, source in enumerate(listed)}
            each = [rank.get(s, len(rank)) for s in population.source.dictionary.to_pylist()]
            keys.append(np.array(each or [0], np.float64)[np.asarray(population.source.indices)])
        else:
            keys.append(-_quantity(population, name, read))
    high, low = halves(population.ids)
    settled = population.settled
    return np.lexsort((low, high, *keys[::-1], ~settled))


def _quantity(population: Population, name: str, read: Read) -> np.ndarray:
    """float64 [samples], more is better: of media the mean, of `resolution` the sum; -inf where not known."""
    if name == "resolution":
        values = read(["width", "height"])
        pixels = values["width"].cast(pl.Float64) * values["height"].cast(pl.Float64)
        return _of_samples(population, pixels.fill_null(0).to_numpy(), mean=False)
    sign = -1.0 if name.startswith("-") else 1.0
    name = "chars" if name == "longest" else name.removeprefix("-")
    values_ = read([name])[name].cast(pl.Float64).to_numpy()
    each = _of_samples(population, values_, mean=True) if is_media(name) else values_
    return np.where(np.isnan(each), -np.inf, sign * each)


def _of_samples(population: Population, of_media: np.ndarray, *, mean: bool) -> np.ndarray:
    each = of_media[population.media]
    known = ~np.isnan(each)
    total = np.bincount(population.owner[known], weights=each[known], minlength=population.total)
    if not mean:
        return total
    count = np.bincount(population.owner[known], minlength=population.total)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
