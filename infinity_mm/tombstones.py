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
        gone = np.zeros(table.num_rows, bool)
        if self.sources:
            values = pa.array(sorted(self.sources), pa.string())
            gone |= pc.is_in(table.column("source"), value_set=values).to_numpy()
        if self.ids:
            gone |= among(id_rows(table.column("sample_id")), self.ids)
            owners, media = media_of(table)
            np.logical_or.at(gone, owners, among(media, self.ids))
        return gone


def write_tombstone(store: Store, kind: str, value: str, why: str) -> dict[str, Any]:
    """Withdraw a sample or medium (`value`: hex id) or a source (its name or URI)."""
    if kind not in KINDS:
        raise ValueError(f"a tombstone is for one of {', '.join(KINDS)}, not {kind!r}")
    stone = {"kind": kind, "value": value, "why": why}
    store.write(f"tombstones/{digest_of([kind, value])[:32]}.json", json.dumps(stone).encode() + b"\n")
    return stone


def tombstones(store: Store) -> list[dict[str, Any]]:
    """Every withdrawal: kind, value, why."""
    names = [n for n in store.names("tombstones") if not n.startswith("tombstones/redacted-")]
    return [json.loads(store.read(name)) for name in names]


def read_tombstones(store: Store) -> Withdrawn:
    """All that is withdrawn from a store."""
    found = tombstones(store)
    ids = frozenset(bytes.fromhex(s["value"]) for s in found if s["kind"] in ("sample", "medium"))
    return Withdrawn(ids, frozenset(s["value"] for s in found if s["kind"] == "source"))
