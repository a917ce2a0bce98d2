"""Writing sample shards: Arrow files of SAMPLES rows, named by their content; and parents of what is made."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from infinity_mm.manifest import Selected, ShardEntry
from infinity_mm.schema import ID, SAMPLES, Sample
from infinity_mm.store import Store, file_digest, write_table

SHARD_ROWS = 50_000
LINEAGE = pa.schema([("child", ID), ("parent", ID)], metadata={"imm.schema": "lineage", "imm.version": "1"})


def batch_of(samples: Iterable[Sample]) -> pa.RecordBatch:
    """Samples as rows."""
    return pa.RecordBatch.from_pylist([_row(sample) for sample in samples], SAMPLES)


def _row(sample: Sample) -> dict[str, object]:
    turns = [{"role": t.role, "parts": [p._asdict() for p in t.parts]} for t in sample.turns]
    return {**sample._asdict(), "turns": turns}


def write_lineage(store: Store, pairs: Iterable[tuple[bytes, bytes]]) -> str:
    """Publish the sidecar that names each made sample's parents, as (child, parent); its name."""
    columns = [pa.array(list(column), ID) for column in zip(*pairs, strict=True)]
    return write_table(store, "sidecars/lineage", pa.table(columns, schema=LINEAGE), ".parquet")


class ShardWriter:
    """Writes record batches into files of at most SHARD_ROWS rows, cut at that row exactly."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store, self.folder = store, folder
        self.entries: list[dict[str, Any]] = []
        self._rows = 0
        self._open: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            if self._open is None:
                scratch = self.store.scratch()
                path = scratch.__enter__()
                sink = pa.OSFile(path, "wb")
                self._open = (scratch, path, sink, pa.ipc.new_file(sink, SAMPLES))
            part = batch.slice(0, SHARD_ROWS - self._rows)
            self._open[3].write_batch(part)
            self._rows += part.num_rows
            batch = batch.slice(part.num_rows)
            if self._rows == SHARD_ROWS:
                self.finish()

    def finish(self) -> None:
        """Publish the open file."""
        if self._open is None:
            return
        scratch, path, sink, writer = self._open
        writer.close()
        sink.close()
        sha256 = file_digest(path)
        name = f"{self.folder}/{sha256}.arrow"
        if not self.store.exists(name):
            self.store.publish(path, name)
        scratch.__exit__(None, None, None)
        self.entries.append(
            {"file": name, "sha256": sha256, "bytes": self.store.size(name), "rows": self._rows}
        )
        self._rows, self._open = 0, None

    def selected(self) -> list[ShardEntry]:
        """The files as shard entries with every row selected."""
        return [
            ShardEntry(
                e["file"],
                e["sha256"],
                e["bytes"],
                e["rows"],
                Selected(np.arange(e["rows"]), np.ones(e["rows"])),
            )
            for e in self.entries
        ]
