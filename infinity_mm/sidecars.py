"""Sidecars: what was measured, a Parquet file for each (shard, family of measures), in the shard's row order.

A measure has three states. A value; *not applicable*: the value is null and so is `error`; *failed*: `error`
says why, for all measures of the row's family. A file is keyed by the shard's content and by family, version
and settings, so a measurement is made once. A shard some of whose media could not be had (a disk that is
not there today) is measured again next time, and its file is named apart.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm.schema import ID
from infinity_mm.store import Store, digest_of, file_digest

# What may be otherwise tomorrow, or on another machine: such rows are measured again next time.
UNAVAILABLE = ("missing_media", "unreadable_media", "changed_media", "crashed_worker", "out_of_memory")


class Measure(NamedTuple):
    """A measure: its Arrow type, its unit, what it means and where its definition is from."""

    type: pa.DataType
    unit: str
    meaning: str
    source: str = ""


class Family(NamedTuple):
    """Measures made together, from one look at a medium or a sample.

    `of`: "media" or "samples". `open(settings)` gives a function from a look (`pipelines.measures.looks`) to
    the values, in the order of `measures`; it raises for a failed measure. `libraries`: whose versions
    the values depend on. `cost`: what a look costs, in words; families that share one (`decode`) are measured
    in one pass, whichever of them is wanted.
    """

    name: str
    of: str
    version: int
    measures: dict[str, Measure]
    open: Callable[[dict[str, Any]], Callable[[Any], Sequence[Any]]]
    libraries: Sequence[str] = ()
    cost: str = "text"

    def schema(self) -> pa.Schema:
        row_id = "media_id" if self.of == "media" else "sample_id"
        fields = [
            (row_id, ID),
            *((name, m.type) for name, m in self.measures.items()),
            ("error", pa.string()),
        ]
        return pa.schema(
            fields, metadata={"imm.schema": f"sidecar:{self.name}", "imm.version": str(self.version)}
        )


def deciding(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide values; one named `_x` says where x lies, and is none of them."""
    return {name: value for name, value in settings.items() if not name.startswith("_")}


def family_key(family: Family, settings: dict[str, Any]) -> str:
    """What a measurement depends on besides its input."""
    what = [family.name, family.version, deciding(settings), installed(family.libraries)]
    return digest_of(what)[:16]


def installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def sidecar_name(family: Family, settings: dict[str, Any], shard: str) -> str:
    return f"sidecars/{family.name}/{shard}-{family_key(family, settings)}.parquet"


def table_of(family: Family, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows (id, values…, error) as a table with the family's schema."""
    schema = family.schema()
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def write_sidecar(store: Store, name: str, table: pa.Table) -> str:
    """Publish measured rows in the shard's order; the name, which differs if media were unavailable."""
    errors, ids = table.column("error").to_pylist(), table.column(0).to_pylist()
    gone = [i for i, e in zip(ids, errors, strict=True) if e is not None and e.split(":")[0] in UNAVAILABLE]
    if gone:
        name = name.replace(".parquet", f".without-{hashlib.sha256(b''.join(gone)).hexdigest()[:12]}.parquet")
    with store.scratch() as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        store.publish(temporary, name)
    return name


def sidecar_entry(store: Store, name: str, family: str, shard: str) -> dict[str, Any]:
    """A manifest's line on a sidecar it was decided from."""
    return {
        "family": family,
        "shard": shard,
        "file": name,
        "sha256": file_digest(store.open_file(name)),
        "bytes": store.size(name),
    }
