"""Withdrawal: `imm forget` writes a tombstone; what it names is skipped and reported from then on.

One small file a withdrawal, so two people can forget at once. The bytes go with `imm gc`.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import among, id_rows, media_of
from infinity_mm.store import Store, digest_of

KINDS = ("sample", "medium", "source")


class Withdrawn(NamedTuple):
    """What tombstones forbid: sample and media ids together, and whole sources by name."""

    ids: frozenset[bytes]
    sources: frozenset[str]

    def rows(self, table: pa.Table) -> np.ndarray:
        """Which rows of a table with the SAMPLES columns are named, by sample, medium or source (bool)."""
        gone = self.themselves(table)
        if self.ids:
            owners, media = media_of(table)
            np.logical_or.at(gone, owners, among(media, self.ids))
        return gone

    def themselves(self, table: pa.Table) -> np.ndarray:
        """Which rows are named by sample or source, whatever becomes of their media (bool)."""
        gone = np.zeros(table.num_rows, bool)
        if self.sources:
            values = pa.array(sorted(self.sources), pa.string())
            gone |= pc.is_in(table.column("source"), value_set=values).to_numpy()
        if self.ids:
            gone |= among(id_rows(table.column("sample_id")), self.ids)
        return gone


def write_tombstone(store: Store, kind: str, values: list[str], why: str) -> None:
    """Withdraw samples or media (`values`: hex ids) or sources (names)."""
    if kind not in KINDS:
        raise ValueError(f"a tombstone is for one of {', '.join(KINDS)}, not {kind!r}")
    name = f"tombstones/{digest_of([kind, sorted(values)])[:32]}.json"
    if not why and store.exists(name):
        return  # an earlier reason stays
    stone = {"kind": kind, "values": sorted(values), "why": why}
    store.write(name, json.dumps(stone).encode() + b"\n")


def tombstones(store: Store) -> list[dict[str, Any]]:
    """Every withdrawal: kind, values, why."""
    names = [n for n in store.names("tombstones") if not n.startswith("tombstones/redacted-")]
    return [json.loads(store.read(name)) for name in names]


def read_tombstones(store: Store) -> Withdrawn:
    """All that is withdrawn from a store."""
    found = [(stone["kind"], value) for stone in tombstones(store) for value in stone["values"]]
    return Withdrawn(
        frozenset(bytes.fromhex(value) for kind, value in found if kind != "source"),
        frozenset(value for kind, value in found if kind == "source"),
    )
