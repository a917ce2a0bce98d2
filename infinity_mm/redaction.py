"""What `imm gc` erases of withdrawn samples and media besides their bytes and text: their measures, vectors,
and what ledgers say of them. A measure may quote: the words of a refusal, a leaked answer, a field of meta.

A file is written again under its name, with the rows' values empty, and zeros for a vector;
`tombstones/redacted-*` keeps its new sha256, so that manifests that name it still verify.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity_mm.columns import one_chunk
from infinity_mm.manifest import read_redacted
from infinity_mm.store import Store, file_digest, read_table
from infinity_mm.tombstones import Withdrawn, read_tombstones

SAID = ("value", "limit", "detail")  # what a ledger quotes of a sample
WITHDRAWN = "withdrawn: imm forget named it"


def telling_rows(store: Store, live: set[str], orphaned: set[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Sidecars and ledgers among the live files, and their rows that say something of what is withdrawn.

    `orphaned`: media that are withdrawn with the samples that show them.
    """
    withdrawn = read_tombstones(store)
    ids, sources = withdrawn
    if not (ids or sources or orphaned):
        return
    gone = {name: _withdrawn_ids(store, name, withdrawn) for name in live if name.startswith("samples/")}
    every = frozenset().union(ids, *gone.values())
    for name in sorted(live):
        if name.startswith("ledgers/"):
            yield from _of_ledger(store, name, every, sources)
        elif name.startswith("sidecars/"):
            of_samples = gone.get(f"samples/{os.path.basename(name)[:64]}.arrow")
            yield from _of_sidecar(store, name, ids | orphaned if of_samples is None else of_samples)


def _withdrawn_ids(store: Store, name: str, withdrawn: Withdrawn) -> frozenset[bytes]:
    """The samples of a shard that are withdrawn by themselves or with their source."""
    table = store.open_arrow(name).read_all().select(["sample_id", "source"])
    mask = pa.array(withdrawn.themselves(table))
    return frozenset(table.column("sample_id").filter(mask).to_pylist())


def _of_ledger(
    store: Store, name: str, ids: frozenset[bytes], sources: frozenset[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """The rows of a ledger on these samples, or on records of these sources, that quote something."""
    table = read_table(store, name, ["sample_id", "source", *SAID])
    named = pc.or_(_is_in(table, "sample_id", ids), _is_in(table, "source", sources))
    yield from _some(name, named, [pc.is_valid(table.column(column)) for column in SAID])


def _of_sidecar(store: Store, name: str, ids: frozenset[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """The rows of a sidecar on these samples or media that have a value, or an error that may quote one."""
    if not ids:
        return
    table = read_table(store, name)
    said = [_is_said(column) for column in table.columns[1:-1]]
    said.append(pc.fill_null(pc.not_equal(table.column("error"), WITHDRAWN), False))
    yield from _some(name, _is_in(table, table.column_names[0], ids), said)


def _is_said(column: pa.ChunkedArray) -> np.ndarray:
    """Which rows have a value (bool); a vector of zeros is none."""
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(_vectors(column).any(axis=1))
    return np.asarray(pc.is_valid(column))


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of vectors as [rows, dim], without a copy."""
    return np.asarray(one_chunk(column).flatten().to_numpy()).reshape(-1, column.type.list_size)


def _is_in(table: pa.Table, column: str, values: frozenset[bytes] | frozenset[str]) -> pa.ChunkedArray:
    return pc.is_in(table.column(column), value_set=pa.array(sorted(values), table.schema.field(column).type))


def _some(name: str, named: pa.ChunkedArray, said: list[Any]) -> Iterator[tuple[str, np.ndarray]]:
    rows = np.flatnonzero(np.asarray(named) & np.logical_or.reduce([np.asarray(one) for one in said]))
    if len(rows):
        yield name, rows


def redact_rows(store: Store, name: str, rows: np.ndarray) -> None:
    """Write a sidecar or ledger again without what some rows say; the note first, in case of a crash."""
    table = read_table(store, name)
    keep = np.ones(table.num_rows, bool)
    keep[rows] = False
    mask = pa.array(keep)
    ledger = name.startswith("ledgers/")
    for i, field in enumerate(table.schema):
        if field.name in SAID if ledger else 0 < i < len(table.schema) - 1:
            column = _without(table.column(i), mask)
        elif field.name == "error" and not ledger:
            column = pc.if_else(mask, table.column(i), pa.scalar(WITHDRAWN))
        else:
            continue
        table = table.set_column(i, field, column)
    with store.scratch() as temporary:
        if name.endswith(".arrow"):
            with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table.combine_chunks())
        else:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        file = {"sha256": file_digest(temporary), "bytes": os.path.getsize(temporary)}
        before = read_redacted(store, name)
        entry = {"files": [*before["files"], file], "ids": before["ids"]}
        store.write(f"tombstones/redacted-{os.path.basename(name)}.json", json.dumps(entry).encode())
        store.publish(temporary, name)


def _without(column: pa.ChunkedArray, keep: pa.BooleanArray) -> pa.Array | pa.ChunkedArray:
    """A column with nothing where `keep` is false."""
    if pa.types.is_fixed_size_list(column.type):
        vectors = _vectors(column).copy()
        vectors[~np.asarray(keep)] = 0
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), column.type.list_size)
    return pc.if_else(keep, column, pa.scalar(None, column.type))
