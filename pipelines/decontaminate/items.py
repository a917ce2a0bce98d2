"""The items of all benchmarks together; their pictures, questions and answers numbered, each one once.

Numbers are of one benchmark: what two benchmarks share has two. Memory: some 60 bytes an item beside what the
fingerprints hold.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import id_rows, one_chunk
from infinity_mm.fine_hash import BYTES
from infinity_mm.fingerprints import Fingerprint
from infinity_mm.order import mix
from infinity_mm.shingles import ShingleSets
from infinity_mm.spill import halves
from pipelines.decontaminate.joining import Having, pair, ranges
from pipelines.decontaminate.texts import TextIndex
from pipelines.measures.medium_look import STILLS


class Pictures(NamedTuple):
    """Distinct pictures and clips by number. `hashes`: those of a clip's stills, or a picture's own in the
    first column. What is not there (`hashed`, `has_fine` say so of hashes and of `fine`) is zeros."""

    hashed: np.ndarray  # bool [P]
    clip: np.ndarray  # bool [P]
    hashes: np.ndarray  # uint64 [P, STILLS]
    low: np.ndarray  # bool [P]
    fine: np.ndarray  # uint8 [P, BYTES]
    has_fine: np.ndarray  # bool [P]
    vectors: np.ndarray  # float16 [P, dim]; dim is 0 without embeddings


class _Entries(NamedTuple):
    """Pairs of an item and the number of what it has."""

    item: np.ndarray  # int64 [T]
    number: np.ndarray  # int64 [T]


class Items:
    """`bounds`: the items of benchmark b are those from bounds[b] to bounds[b + 1]; `ids`: N×16 uint8;
    `benchmark`: of each item, int64 [N]; `bare`: items that have no media, bool [N]."""

    def __init__(self, marks: Sequence[Fingerprint], least: int, *, embedded: bool = False) -> None:
        """`least`: shingles that an answer must have to be looked for; `embedded`: read embeddings too."""
        self.names = [mark.name for mark in marks]
        self.shingle = int(marks[0].about["shingle"])
        self.least = least
        sizes = [mark.table.num_rows for mark in marks]
        self.bounds = np.concatenate([[0], np.cumsum(sizes)])
        self.count = int(self.bounds[-1])
        self.benchmark = np.repeat(np.arange(len(marks)), sizes)
        table = pa.concat_tables([m.table.select(["item", "pictures", "exchanges"]) for m in marks])
        table = table.combine_chunks()
        self.ids = id_rows(table.column("item"))
        owner, entries = _flat(table, "pictures")
        self.bare = np.bincount(owner, minlength=self.count) == 0
        self.pictures, self.shows = self._pictures(owner, entries, _vectors(marks, len(owner), embedded))
        owner, exchanges = _flat(table, "exchanges")
        self.questions, self.asks, asked = self._texts(owner, exchanges, "question")
        self.answers, self.tells, told = self._texts(owner, exchanges, "answer")
        known = (asked >= 0) & (told >= 0)
        self._answered = owner[known], asked[known], told[known]

    # what items have together

    def with_picture(self) -> Having:
        return Having.made(*self.shows)

    def with_picture_and_question(self) -> Having:
        starts = np.searchsorted(self.asks.item, self.shows.item)
        counts = np.searchsorted(self.asks.item, self.shows.item, "right") - starts
        one = np.repeat(np.arange(len(counts)), counts)
        other = ranges(starts, counts)
        return Having.made(self.shows.item[one], pair(self.shows.number[one], self.asks.number[other]))

    def with_question(self, *, bare: bool) -> Having:
        """With a question; `bare`: and without media."""
        wanted = self.bare[self.asks.item] if bare else np.ones(len(self.asks.item), bool)
        return Having.made(self.asks.item[wanted], self.asks.number[wanted])

    def with_question_and_answer(self, *, bare: bool) -> Having:
        """With a question and an answer to it of `least` shingles; `bare`: and without media."""
        item, asked, told = self._answered
        wanted = self.answers.sizes[told] >= self.least
        if bare:
            wanted &= self.bare[item]
        return Having.made(item[wanted], pair(asked[wanted], told[wanted]))

    def pictures_asked_about(self) -> np.ndarray:
        """int64 [Q]: about how many different pictures, or sets of them, the items ask each question."""
        shown = np.zeros(self.count, np.uint64)
        np.add.at(shown, self.shows.item, mix(self.shows.number.astype(np.uint64), 0))
        return distinct_of(self.asks.number, shown[self.asks.item], len(self.questions.sizes))

    # numbering

    def _pictures(
        self, owner: np.ndarray, entries: pa.StructArray, vectors: np.ndarray
    ) -> tuple[Pictures, _Entries]:
        own, stills = entries.field("hash"), entries.field("stills")
        clip = np.asarray(pc.is_valid(stills))
        hashes = np.zeros((len(owner), STILLS), np.uint64)
        hashes[:, 0] = np.asarray(pc.fill_null(own, 0))
        hashes[clip] = np.asarray(stills.flatten()).reshape(-1, STILLS)
        low = np.asarray(pc.fill_null(entries.field("low"), False))
        told = entries.field("fine")
        has_fine = np.asarray(pc.is_valid(told))
        fine = np.zeros((len(owner), BYTES), np.uint8)
        fine[has_fine] = np.frombuffer(b"".join(told.drop_null().to_pylist()), np.uint8).reshape(-1, BYTES)
        hashed = np.asarray(pc.is_valid(own)) | clip
        known = np.flatnonzero(hashed | vectors.any(axis=1))
        whole = Pictures(hashed, clip, hashes, low, fine, has_fine, vectors)
        flags = np.stack([hashed, clip, low], axis=1)
        parts = [self.benchmark[owner, None].astype("<u4"), flags, hashes, fine]
        parts += [] if hashed.all() else [np.where(hashed[:, None], np.float16(0), vectors)]
        as_bytes = [
            np.ascontiguousarray(part).view(np.uint8).reshape(len(owner), part.shape[1] * part.itemsize)
            for part in parts
        ]
        row = np.concatenate(as_bytes, axis=1)[known]
        _, first, number = np.unique(
            np.ascontiguousarray(row).view(f"V{row.shape[1]}").ravel(), return_index=True, return_inverse=True
        )
        return Pictures(*(column[known[first]] for column in whole)), _entries(owner[known], number)

    def _texts(
        self, owner: np.ndarray, exchanges: pa.StructArray, field: str
    ) -> tuple[TextIndex, _Entries, np.ndarray]:
        """The index of a field's texts, which item has which, and the number of each exchange's, or -1."""
        keys = exchanges.field(field)
        known = np.flatnonzero(np.asarray(pc.is_valid(keys)))
        rows = id_rows(keys.take(pa.array(known)))
        high, low = halves(rows)
        columns = np.stack([self.benchmark[owner[known]].astype(np.uint64), high, low], axis=1)
        _, first, number = np.unique(columns, axis=0, return_index=True, return_inverse=True)
        number = number.reshape(-1)
        lists = one_chunk(exchanges.field(f"{field}_shingles").take(pa.array(known[first])))
        sizes = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
        values = np.asarray(lists.flatten(), dtype=np.uint64)
        sets = ShingleSets(values, np.concatenate([[0], np.cumsum(sizes)]))
        index = TextIndex.made(sets, [rows[i].tobytes() for i in first], self.shingle)
        of = np.full(len(owner), -1, np.int64)
        of[known] = number
        return index, _entries(owner[known], number), of


def _vectors(marks: Sequence[Fingerprint], count: int, embedded: bool) -> np.ndarray:
    """float16 [count, dim]: the embeddings of all entries of `pictures`; dim 0 if they are not to be read."""
    if not embedded:
        return np.empty((count, 0), np.float16)
    flat = [one_chunk(mark.table.column("embeddings")).flatten() for mark in marks]
    values = np.concatenate([np.asarray(lists.flatten(), np.float16) for lists in flat])
    return values.reshape(count, len(values) // max(count, 1))


def distinct_of(numbers: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """int64 [count]: how many different values (uint64 [T]) each number (int64 [T]) comes with."""
    order = np.lexsort((values, numbers))
    number, value = numbers[order], values[order]
    new = np.ones(len(order), bool)
    new[1:] = (number[1:] != number[:-1]) | (value[1:] != value[:-1])
    return np.bincount(number[new], minlength=count)


def _entries(item: np.ndarray, number: np.ndarray) -> _Entries:
    """Sorted by item, each pair once."""
    pairs = np.unique(np.stack([item, number], axis=1).astype(np.int64), axis=0)
    return _Entries(pairs[:, 0], pairs[:, 1])


def _flat(table: pa.Table, name: str) -> tuple[np.ndarray, pa.StructArray]:
    """The entries of a list column one after another, and the row of each (int64)."""
    column = one_chunk(table.column(name))
    return np.asarray(pc.list_parent_indices(column), dtype=np.int64), column.flatten()
