"""`imm manifest diff`: what one manifest has and another has not. Memory: one bucket of ids,
and 33 bytes a sample that only one of them has."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from infinity_mm.manifest import Manifest
from infinity_mm.spill import KEY, Spill, first_of_run

ROW = np.dtype([KEY, ("side", "u1"), ("shard", "i4"), ("row", "i4"), ("weight", "f8")])
SHOWN = 10


def diff(a: Manifest, b: Manifest) -> dict[str, Any]:
    """Counts and the first ids of samples only in `a`, only in `b`, and in both with another weight."""
    only: list[list[np.ndarray]] = [[], []]
    changed: list[bytes] = []
    same = changes = 0
    with Spill(ROW) as spill:
        for side, manifest in enumerate((a, b)):
            for number, shard in enumerate(manifest.shards):
                rows, weights = shard.selected
                spill.add(key=manifest.ids(number), side=side, shard=number, row=rows, weight=weights)
        for rows in spill.buckets():
            first = first_of_run(rows)
            later = first != np.arange(len(rows))
            paired = later.copy()
            paired[first[later]] = True
            for side in (0, 1):
                only[side].append(rows[~paired & (rows["side"] == side)])
            moved = later & (rows["weight"] != rows["weight"][first])
            changes += int(moved.sum())
            same += int(later.sum()) - int(moved.sum())
            changed += [k.tobytes() for k in rows["key"][moved][: SHOWN - len(changed)]]
    return {
        "a": {"manifest": a.file, "samples": a.samples},
        "b": {"manifest": b.file, "samples": b.samples},
        "same": same,
        "only_in_a": _side(a, np.concatenate(only[0])),
        "only_in_b": _side(b, np.concatenate(only[1])),
        "weight_changed": {"samples": changes, "first": [k.hex() for k in changed]},
        "equal": a.digest == b.digest,
    }


def _side(manifest: Manifest, rows: np.ndarray) -> dict[str, Any]:
    sources: Counter[str] = Counter()
    for number in np.unique(rows["shard"]):
        wanted = pa.array(rows["row"][rows["shard"] == number])
        sources.update(manifest.table(int(number)).column("source").take(wanted).to_pylist())
        manifest.release(int(number))
    return {
        "samples": len(rows),
        "sources": dict(sources.most_common()),
        "first": [k.tobytes().hex() for k in rows["key"][:SHOWN]],
    }
