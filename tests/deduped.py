"""A manifest as `imm dedup` publishes it, of drops that a test decides."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, publish
from pipelines.selection import Verdict, row_of, select


class Drop:
    """What a ledger says of a dropped sample; `witness` and `child` are ids."""

    def __init__(self, method: str, value: str, witness: bytes | None, **more: Any) -> None:
        self.method, self.more = method, {"value": value, "witness": witness, **more}


def method(name: str, **more: Any) -> dict[str, Any]:
    """What the document says of a method; `more` replaces parts of it."""
    about = {
        "name": name, "unit": "bits", "threshold": 8.0, "near_is": "low",
        "meaning": f"{name} in few words", "dropped": 0, "alone": 0, "pairs": 0, "recall": "exact search",
        "histogram": {"edges": [], "counts": [], "beyond": []}, "misses": [],
    }  # fmt: skip
    return about | more


def deduped(
    manifest: Manifest,
    drops: Mapping[bytes, Drop],
    methods: Sequence[dict[str, Any]],
    name: str = "unique",
    against: Sequence[Manifest] = (),
    merged: int = 0,
) -> Manifest:
    """Drop these samples; the counts of `methods` are made to fit."""
    counted = [m | {"dropped": sum(d.method == m["name"] for d in drops.values())} for m in methods]
    with Ledger(manifest.store) as ledger:

        def decide(number: int, at: np.ndarray, table: pa.Table) -> Verdict:
            ids = table.column("sample_id").to_pylist()
            rows: list[Row] = [
                row_of(table, i, "dropped", drops[one].method, **{"limit": "8", **drops[one].more})
                for i, one in enumerate(ids)
                if one in drops
            ]
            return Verdict(np.array([one not in drops for one in ids], bool), rows)

        shards = select(manifest, ledger, decide)
        kept = sum(len(s.selected.rows) for s in shards)
        return publish(
            manifest.store, stage="dedup", config={}, shards=shards, media=manifest.document["media"],
            ledger=ledger.close(kept), counts=dict(ledger.counts), parents=[manifest],
            sources=manifest.document["sources"], name=name,
            extra={
                "dedup": {
                    "methods": counted, "against": [m.digest[:12] for m in against],
                    "against_files": [m.file for m in against], "keep": ["resolution", "longest"],
                    "merged": merged,
                }
            },
        )  # fmt: skip
