"""The ledger of a stage: a row for everything that is not kept, and an account that must close.

`in = kept + dropped + failed` and `out = kept + made` are checked when the ledger is closed, for the whole
and for each source. Rows are written as they come (Parquet, zstd), memory is one row group.
"""

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm.schema import ID
from infinity_mm.store import Store, file_digest

LEDGER_VERSION = 1
GROUP_ROWS = 65_536
LEDGER = pa.schema(
    [
        ("sample_id", ID),
        ("origin", pa.string()),
        ("source", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("value", pa.string()),
        ("limit", pa.string()),
        ("others", pa.list_(pa.string())),
        ("witness", ID),
        ("child", ID),
        ("detail", pa.string()),
    ],
    metadata={"imm.schema": "ledger", "imm.version": str(LEDGER_VERSION)},
)


class Row(NamedTuple):
    """One sample or record that was not kept. `outcome`: dropped or failed; `reason`: the rule's name.

    `value` and `limit`: what was measured and what was allowed; `others`: the other rules it broke;
    `witness`: the kept sample that stands for it; `child`: what it was merged into.
    """

    sample_id: bytes | None
    origin: str
    source: str
    outcome: str
    reason: str
    value: str | None = None
    limit: str | None = None
    others: Sequence[str] = ()
    witness: bytes | None = None
    child: bytes | None = None
    detail: str | None = None


class AccountError(AssertionError):
    """The account of a stage does not close: a defect of the stage, never of the data."""


class Ledger:
    """Open, `kept`/`made`/`add` in input order, then `close`. Without `keep_rows` it only counts."""

    def __init__(self, store: Store, keep_rows: bool = True) -> None:
        self.store, self._keep_rows = store, keep_rows
        self.counts: Counter[str] = Counter({"in": 0, "kept": 0, "dropped": 0, "failed": 0, "made": 0})
        self.reasons: Counter[str] = Counter()
        self.sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._rows: list[Row] = []
        self._written = 0
        self._stack = ExitStack()
        if keep_rows:
            self._temporary = self._stack.enter_context(store.scratch())
            self._writer = self._stack.enter_context(
                pq.ParquetWriter(self._temporary, LEDGER, compression="zstd")
            )

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def came(self, source: str, count: int = 1) -> None:
        """Count what goes in."""
        self.counts["in"] += count
        self.sources[source]["in"] += count

    def kept(self, source: str, count: int = 1) -> None:
        self.counts["kept"] += count
        self.sources[source]["kept"] += count

    def made(self, source: str, count: int = 1) -> None:
        self.counts["made"] += count
        self.sources[source]["made"] += count

    def add(self, row: Row) -> None:
        """Write what was not kept."""
        self.counts[row.outcome] += 1
        self.sources[row.source][row.outcome] += 1
        self.reasons[row.reason] += 1
        self._rows.append(row)
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def add_table(self, table: pa.Table) -> None:
        """Write many rows with the LEDGER columns at once."""
        self._flush()
        for count in (
            table.group_by(["source", "outcome", "reason"]).aggregate([([], "count_all")]).to_pylist()
        ):
            self.counts[count["outcome"]] += count["count_all"]
            self.sources[count["source"]][count["outcome"]] += count["count_all"]
            self.reasons[count["reason"]] += count["count_all"]
        self._write(table)

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(LEDGER)
        arrays = [pa.array(list(c), f.type) for c, f in zip(columns, LEDGER, strict=True)]
        self._rows = []
        self._write(pa.table(arrays, schema=LEDGER))

    def _write(self, table: pa.Table) -> None:
        if table.num_rows and self._keep_rows:
            self._writer.write_table(table, row_group_size=GROUP_ROWS)
            self._written += table.num_rows

    def close_to(self, path: str, out: int) -> None:
        """Check the account and put the file at a local path: the ledger of an export."""
        self.check(out)
        self._flush()
        self._writer.close()
        shutil.copyfile(self._temporary, f"{path}.tmp")
        os.replace(f"{path}.tmp", path)
        self._stack.close()

    def close(self, out: int) -> dict[str, Any]:
        """Check the account against the `out` samples of the new manifest, publish; the manifest entry."""
        self.check(out)
        self._flush()
        self._writer.close()
        sha256 = file_digest(self._temporary)
        name = f"ledgers/{sha256}.parquet"
        if not self.store.exists(name):
            self.store.publish(self._temporary, name)
        self._stack.close()
        return {
            "file": name,
            "sha256": sha256,
            "bytes": self.store.size(name),
            "rows": self._written,
            "reasons": dict(sorted(self.reasons.items())),
            "sources": {s: {k: c[k] for k in self.counts} for s, c in sorted(self.sources.items())},
        }

    def check(self, out: int) -> None:
        """Raises AccountError if a sample is unaccounted for."""
        for name, c in [("all sources", self.counts), *self.sources.items()]:
            if c["in"] != c["kept"] + c["dropped"] + c["failed"]:
                raise AccountError(f"{name}: in = kept + dropped + failed does not hold: {json.dumps(c)}")
        if out != self.counts["kept"] + self.counts["made"]:
            raise AccountError(f"out = kept + made does not hold: {out} out, {json.dumps(self.counts)}")
