"""Decide step 2 of ingest: from pieces and media to sample shards, origins and the ledger.

Two passes over the pieces in input order. The first computes every sample's id and finds repeats; the
second writes what is kept into shards of at most SHARD_ROWS rows. Memory: a batch of records, a bucket of
ids, and 1 byte a record.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import id_array
from infinity_mm.ledger import Ledger, Row
from infinity_mm.sample_shards import ShardWriter
from infinity_mm.schema import SAMPLES, sample_id
from infinity_mm.spill import KEY, Spill, first_of_run
from infinity_mm.store import Store
from infinity_mm.tombstones import Withdrawn
from pipelines.ingest.places import Resolved, read_places
from pipelines.ingest.records import Piece, piece_files

ORDINAL = np.dtype([KEY, ("ordinal", "i8")])
KEPT, REJECTED, LOST, REPEAT, WITHDRAWN = range(5)


class Source(NamedTuple):
    """Where a piece came from: the input's name as given, and whether its rows are lines."""

    path: str
    first: int


class Identified(NamedTuple):
    """`ids`: (records, 16) on disk; `status`: KEPT, REJECTED, LOST, REPEAT or WITHDRAWN of each record."""

    ids: np.ndarray
    status: np.ndarray
    starts: np.ndarray


def batches(store: Store, piece: Piece) -> Iterator[tuple[int, pa.RecordBatch]]:
    """A piece's record batches with the number of their first record in it."""
    reader = store.open_arrow(piece_files(piece.key)[0])
    start = 0
    for i in range(reader.num_record_batches):
        batch = reader.get_batch(i)
        yield start, batch
        start += batch.num_rows


def identify(
    store: Store, pieces: Sequence[Piece], resolved: Resolved, withdrawn: Withdrawn, scratch: str
) -> Identified:
    """Compute ids, mark what is rejected, lost a medium or is withdrawn, and the later of equal samples."""
    starts = np.cumsum([0] + [p.rows for p in pieces])
    total = int(starts[-1])
    ids = np.memmap(f"{scratch}/ids", np.uint8, "w+", shape=(max(1, total), 16))
    status = np.full(total, REJECTED, np.uint8)
    with Spill(ORDINAL) as spill:
        for number, piece in enumerate(pieces):
            base = int(resolved.starts[number])
            for start, batch in batches(store, piece):
                first = int(starts[number]) + start
                good = batch.column("reason").is_null().to_numpy(zero_copy_only=False)
                refs = batch.column("refs")
                ends = np.asarray(refs.offsets)
                flat = np.asarray(refs.values) + base
                media_ok = resolved.ok[flat] if len(flat) else np.zeros(0, bool)
                media = resolved.media[flat].tobytes() if len(flat) else b""
                digests = batch.column("digest").to_pylist()
                for i in np.flatnonzero(good):
                    begin, end = ends[i], ends[i + 1]
                    if not media_ok[begin:end].all():
                        status[first + i] = LOST
                        continue
                    value = sample_id(digests[i], [media[begin * 16 : end * 16]])
                    ids[first + i] = np.frombuffer(value, np.uint8)
                    status[first + i] = KEPT
                    if withdrawn.ids and not withdrawn.ids.isdisjoint(
                        [value, *(media[k * 16 : k * 16 + 16] for k in range(begin, end))]
                    ):
                        status[first + i] = WITHDRAWN
                if withdrawn.sources:
                    named = pa.array(sorted(withdrawn.sources), pa.string())
                    gone = pc.is_in(batch.column("source"), value_set=named).to_numpy(zero_copy_only=False)
                    here = status[first : first + batch.num_rows]
                    here[gone & (here == KEPT)] = WITHDRAWN
                kept = first + np.flatnonzero(status[first : first + batch.num_rows] == KEPT)
                spill.add(key=ids[kept], ordinal=kept)
        for rows in spill.buckets():
            later = first_of_run(rows) != np.arange(len(rows))
            status[rows["ordinal"][later]] = REPEAT
    return Identified(ids, status, starts)


class Assembly:
    """Writes shards, origins and ledger in input order."""

    def __init__(self, store: Store, ledger: Ledger, resolved: Resolved, known: Identified) -> None:
        self.store, self.ledger, self.resolved, self.known = store, ledger, resolved, known
        self.shards = ShardWriter(store, "samples")
        self.origins = ShardWriter(store, "origins")

    def run(self, pieces: Sequence[Piece], sources: Sequence[Source]) -> None:
        for number, (piece, source) in enumerate(zip(pieces, sources, strict=True)):
            refs: pa.Table | None = None
            for start, batch in batches(self.store, piece):
                first = int(self.known.starts[number]) + start
                status = self.known.status[first : first + batch.num_rows]
                for name, count in _counts(batch.column("source")):
                    self.ledger.came(name, count)
                kept = batch.column("source").filter(pa.array(status == KEPT))
                for name, count in _counts(kept):
                    self.ledger.kept(name, count)
                origins = _origins(batch, source)
                if (status != KEPT).any():
                    if refs is None:
                        refs = read_places(self.store, piece)
                    self._not_kept(batch, status, first, number, origins, refs)
                self.shards.write(self._samples(batch, status == KEPT, first, number, origins))
                if (status == REPEAT).any():
                    self.origins.write(self._samples(batch, status == REPEAT, first, number, origins))

    def _samples(
        self, batch: pa.RecordBatch, mask: np.ndarray, first: int, number: int, origins: pa.Array
    ) -> pa.RecordBatch:
        """The SAMPLES columns of the chosen records."""
        chosen = batch.filter(pa.array(mask))
        rows = first + np.flatnonzero(mask)
        refs = chosen.column("refs")
        flat = np.asarray(refs.flatten()) + int(self.resolved.starts[number])
        media = self.resolved.media[flat] if len(flat) else np.empty((0, 16), np.uint8)
        lengths = np.asarray(pc.list_value_length(refs).fill_null(0))
        ends = pa.array(np.cumsum(np.concatenate([[0], lengths])), pa.int32())
        return pa.record_batch(
            [
                id_array(self.known.ids[rows]),
                chosen.column("turns"),
                pa.ListArray.from_arrays(ends, id_array(media)),
                chosen.column("source"),
                chosen.column("meta"),
                chosen.column("rejected"),
                chosen.column("names"),
                origins.filter(pa.array(mask)),
            ],
            schema=SAMPLES,
        )

    def _not_kept(
        self,
        batch: pa.RecordBatch,
        status: np.ndarray,
        first: int,
        number: int,
        origins: pa.Array,
        refs: pa.Table,
    ) -> None:
        for i in np.flatnonzero(status != KEPT):
            origin, source = origins[i].as_py(), batch.column("source")[i].as_py()
            if status[i] == REJECTED:
                reason, detail = (batch.column(c)[i].as_py() for c in ("reason", "detail"))
                self.ledger.add(Row(None, origin, source, "failed", reason, detail=detail))
            elif status[i] == LOST:
                self.ledger.add(self._lost(batch.column("refs")[i].as_py(), number, origin, source, refs))
            elif status[i] == WITHDRAWN:
                identity = self.known.ids[first + i].tobytes()
                self.ledger.add(
                    Row(identity, origin, source, "dropped", "withdrawn", detail="imm forget named it")
                )
            else:
                identity = self.known.ids[first + i].tobytes()
                self.ledger.add(
                    Row(identity, origin, source, "dropped", "repeat", witness=identity,
                        detail="the same turns and media came before")
                )  # fmt: skip

    def _lost(self, numbers: list[int], piece: int, origin: str, source: str, refs: pa.Table) -> Row:
        base = int(self.resolved.starts[piece])
        found: list[tuple[str, str]] = []
        for n in numbers:
            if not self.resolved.ok[base + n]:
                failure = self.resolved.failures.get(base + n)
                found.append(
                    (failure.reason, failure.detail)
                    if failure
                    else (refs.column("reason")[n].as_py(), refs.column("detail")[n].as_py())
                )
        others = sorted({reason for reason, _ in found[1:]} - {found[0][0]})
        return Row(
            None,
            origin,
            source,
            "failed",
            found[0][0],
            others=others,
            detail="; ".join(d for _, d in found[:5]),
        )


def _counts(column: pa.Array) -> list[tuple[str, int]]:
    return [(v["values"].as_py(), v["counts"].as_py()) for v in pc.value_counts(column)]


def _origins(batch: pa.RecordBatch, source: Source) -> pa.Array:
    """`path:row`, or `path:key` where records have a name of their own there."""
    rows = pc.cast(pc.add(batch.column("row"), source.first), pa.string())
    return pc.binary_join_element_wise(source.path, pc.coalesce(batch.column("key"), rows), ":")
