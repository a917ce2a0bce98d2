"""The decide half that selecting stages share: go through a manifest shard by shard, keep or account.

A stage gives a function from the selected rows of one shard to a Verdict. What a tombstone names is dropped
here, before the stage sees it. Memory: one sample shard, mapped.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, Selected, ShardEntry
from infinity_mm.schema import SAMPLES


class Verdict(NamedTuple):
    """`keep`: bool, one for each row given; `rows`: a ledger row for each that is not, in order, or a table
    of them; `weights`: new weights of all rows given, or None to leave them."""

    keep: np.ndarray
    rows: Sequence[Row] | pa.Table
    weights: np.ndarray | None = None


Decide = Callable[[int, np.ndarray, pa.Table], Verdict]


def select(
    manifest: Manifest, ledger: Ledger, decide: Decide, columns: Sequence[str] = SAMPLES.names
) -> list[ShardEntry]:
    """Run `decide(shard number, at, table)` over a manifest; the shards with what is kept of them.

    The table has the selected rows that are not withdrawn, those of the SAMPLES columns that are asked for
    (sample_id, media, source and origin at least); `at` (int64) are their places among the shard's selected
    rows.
    """
    withdrawn = manifest.withdrawn
    shards: list[ShardEntry] = []
    for number, shard in enumerate(manifest.shards):
        table = manifest.table(number).select(list(columns))
        if len(shard.selected.rows) < table.num_rows:
            table = table.take(pa.array(shard.selected.rows))
        sources = table.column("source")
        for name, count in zip(*_counts(sources), strict=True):
            ledger.came(name, count)
        gone = withdrawn.rows(table)
        for i in np.flatnonzero(gone):
            ledger.add(row_of(table, int(i), "dropped", "withdrawn", detail="imm forget named it"))
        there = np.flatnonzero(~gone)
        selected = Selected(shard.selected.rows[there], shard.selected.weights[there])
        if gone.any():
            table = table.take(pa.array(there))
        verdict = decide(number, there, table)
        if isinstance(verdict.rows, pa.Table):
            ledger.add_table(verdict.rows)
        else:
            for row in verdict.rows:
                ledger.add(row)
        for name, count in zip(*_counts(table.column("source").filter(pa.array(verdict.keep))), strict=True):
            ledger.kept(name, count)
        weights = selected.weights if verdict.weights is None else verdict.weights
        kept = Selected(selected.rows[verdict.keep], weights[verdict.keep])
        if len(kept.rows):
            shards.append(shard._replace(selected=kept))
        manifest.release(number)
    return shards


def row_of(table: pa.Table, i: int, outcome: str, reason: str, **more: object) -> Row:
    """A ledger row for row `i` of a table with the SAMPLES columns."""
    identity, origin, source = (table.column(c)[i].as_py() for c in ("sample_id", "origin", "source"))
    return Row(identity, origin, source, outcome, reason, **more)  # type: ignore[arg-type]


def _counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    counts = pc.value_counts(column)
    return counts.field("values").to_pylist(), counts.field("counts").to_pylist()
