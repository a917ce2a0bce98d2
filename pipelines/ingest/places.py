"""Decide step 1 of ingest: from the places that records name to the media that are to be taken in.

A place (file and size and time, or a range) is taken once however many records name it, and not at all if
an earlier ingest of this store took it. What is left is cut, in the order records name it, into units of
at most `shard_bytes`. Everything goes through `Spill`: memory is one bucket.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import id_rows
from infinity_mm.media.shards import publish_table
from infinity_mm.schema import ID
from infinity_mm.spill import KEY, Spill, first_of_run
from infinity_mm.store import Store, digest_of
from pipelines.ingest.look import PLACES, places_file
from pipelines.ingest.media import take_file, taken_file
from pipelines.ingest.records import Piece

PLACE = np.dtype([KEY, ("piece", "i4"), ("ref", "i4"), ("known", "i4"), ("medium", "u1", (16,))])
UNIT_ROWS = 16_384
NEW = -1
SEEN = pa.schema([("key", ID), ("media_id", ID)])


class Failure(NamedTuple):
    reason: str
    detail: str


# A place that nobody was asked to take: its file changed between the plan and now.
CHANGED = Failure("changed_file", "the file changed while it was being read in: ingest again")


def read_places(store: Store, piece: Piece) -> pa.Table:
    return store.open_arrow(places_file(piece.key)).read_all()


def seen(store: Store, mode: str) -> Iterator[pa.RecordBatch]:
    """The places that earlier ingests took, in this mode, if their shards are all there."""
    for name in store.names("work/seen"):
        if not name.endswith(f".{mode}.arrow"):
            continue
        reader = store.open_arrow(name)
        shards = reader.schema.metadata[b"imm.shards"].decode().split()
        if all(store.exists(f"media/{shard}.arrow") for shard in shards):
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i)


def plan_media(
    store: Store, pieces: Sequence[Piece], mode: str, roots: object, shard_bytes: int
) -> list[str]:
    """Write the take files of all places that are new; their keys, in order. A key covers mode and roots."""
    wanted = [np.zeros(piece.refs, bool) for piece in pieces]
    with Spill(PLACE) as spill:
        for batch in seen(store, mode):
            spill.add(key=id_rows(batch.column("key")), piece=-1, ref=0, known=0, medium=0)
        for number, piece in enumerate(pieces):
            table = read_places(store, piece)
            good = np.flatnonzero(table.column("reason").is_null().to_numpy())
            spill.add(key=id_rows(table.column("key"))[good], piece=number, ref=good, known=NEW, medium=0)
        for rows in spill.buckets():
            first = first_of_run(rows) == np.arange(len(rows))
            for row in rows[first & (rows["known"] == NEW)]:
                wanted[row["piece"]][row["ref"]] = True
    how = digest_of([mode, roots])
    return list(_cut(store, pieces, wanted, how, shard_bytes))


def _cut(
    store: Store, pieces: Sequence[Piece], wanted: list[np.ndarray], how: str, shard_bytes: int
) -> Iterator[str]:
    held: list[pa.Table] = []
    size = rows = 0
    for piece, mask in zip(pieces, wanted, strict=True):
        if not mask.any():
            continue
        table = read_places(store, piece).filter(pa.array(mask))
        sizes = table.column("size").to_numpy()
        start = 0
        for i in range(len(sizes)):
            if rows and (size + sizes[i] > shard_bytes or rows == UNIT_ROWS):
                held.append(table.slice(start, i - start))
                yield _write_take(store, how, held)
                held, size, rows, start = [], 0, 0, i
            size, rows = size + int(sizes[i]), rows + 1
        held.append(table.slice(start))
    if rows:
        yield _write_take(store, how, held)


def _write_take(store: Store, how: str, tables: list[pa.Table]) -> str:
    table = pa.concat_tables(tables).select(PLACES.names).combine_chunks()
    digest = hashlib.sha256(how.encode() + id_rows(table.column("key")).tobytes())
    key = digest.hexdigest()[:32]
    if not store.exists(take_file(key)):
        publish_table(store, take_file(key), table.cast(PLACES))
    return key


class Resolved:
    """For every ref of every piece: its medium, or why there is none.

    `media`: (refs of all pieces, 16) uint8 on disk; `ok`: whether it stands; `failures` holds reasons by
    position, of media that failed when they were read (those that failed before are in the places file).
    """

    def __init__(self, store: Store, pieces: Sequence[Piece], takes: Sequence[str], mode: str, scratch: str):
        self.starts = np.cumsum([0] + [p.refs for p in pieces])
        total = int(self.starts[-1])
        self.media = np.memmap(f"{scratch}/media", np.uint8, "w+", shape=(max(1, total), 16))
        self.ok = np.zeros(total, bool)
        self.failures: dict[int, Failure] = {}
        failed: dict[bytes, Failure] = {}
        with Spill(PLACE) as spill:
            for batch in seen(store, mode):
                spill.add(
                    key=id_rows(batch.column("key")),
                    piece=-1,
                    ref=0,
                    known=1,
                    medium=id_rows(batch.column("media_id")),
                )
            for take in takes:
                table = store.open_arrow(taken_file(take)).read_all()
                good = table.column("reason").is_null()
                mask = good.to_numpy()
                for row in table.filter(pc.invert(good)).to_pylist():
                    failed[row["key"]] = Failure(row["reason"], row["detail"])
                found = table.filter(good)
                spill.add(
                    key=id_rows(found.column("key")),
                    piece=-1,
                    ref=0,
                    known=1,
                    medium=id_rows(found.column("media_id")),
                )
                spill.add(key=id_rows(table.column("key"))[~mask], piece=-1, ref=0, known=2, medium=0)
            for number, piece in enumerate(pieces):
                table = read_places(store, piece)
                bad = table.column("reason").is_null().to_numpy()
                rows = np.flatnonzero(bad)
                spill.add(key=id_rows(table.column("key"))[rows], piece=number, ref=rows, known=0, medium=0)
            for rows in spill.buckets():
                self._settle(rows, failed)

    def _settle(self, rows: np.ndarray, failed: dict[bytes, Failure]) -> None:
        answer = first_of_run(rows)
        asked = rows["known"] == 0
        place = self.starts[rows["piece"][asked]] + rows["ref"][asked]
        self.media[place] = rows["medium"][answer][asked]
        self.ok[place] = rows["known"][answer][asked] == 1
        for i in np.flatnonzero(asked & (rows["known"][answer] != 1)):
            position = int(self.starts[rows["piece"][i]] + rows["ref"][i])
            self.failures[position] = failed.get(rows["key"][i].tobytes(), CHANGED)
