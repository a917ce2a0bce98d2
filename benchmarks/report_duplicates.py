"""What the section on duplicates adds to `imm report`: seconds and peak memory of gathering and drawing it.

    python benchmarks/report_duplicates.py [--samples 1000000] [--dropped 0.5] [--largest 100000]

Text-only samples, a share of which a stage of dedup dropped for others in groups of geometric size, one group
of `--largest`; then a filter that drops a tenth of what was kept. The samples are made here, so that the
ledger has the shape of a real one at any size.
"""

import argparse
import resource
import tempfile
import time

import numpy as np
import pyarrow as pa

from infinity_mm.columns import id_array
from infinity_mm.ledger import LEDGER, Ledger
from infinity_mm.manifest import Manifest, Selected, ShardEntry, publish
from infinity_mm.report.duplicates import duplicates as drawn
from infinity_mm.sample_shards import SHARD_ROWS, ShardWriter
from infinity_mm.schema import SAMPLES
from infinity_mm.store import Store
from pipelines.report.duplicates import duplicates
from pipelines.report.stages import steps

METHODS = ("exact", "perceptual", "text")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--dropped", type=float, default=0.5)
    parser.add_argument("--largest", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(f"{folder}/store")
        sound = make(store, args.samples, args.dropped, args.largest)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        way = steps(store, sound)
        found = [duplicates(step, way, []) for step in way if step.kind == "dedup"]
        gathered = time.perf_counter() - started
        page = drawn(found)
        whole = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [one] = found
    print(
        f"{args.samples:,} samples, {one.dropped:,} dropped for {one.groups:,}: "
        f"gathered {gathered:.2f} s, drawn {whole - gathered:.2f} s, page {len(page) / 1e6:.2f} MB, "
        f"peak {before / 1e3:.0f} MB before, {after / 1e3:.0f} MB after"
    )


def make(store: Store, count: int, share: float, largest: int) -> Manifest:
    """A manifest of samples, a dedup of it, and a filter of that."""
    random = np.random.default_rng(0)
    ids = random.integers(0, 256, (count, 16), np.uint8)
    writer = ShardWriter(store, "samples")
    for start in range(0, count, SHARD_ROWS):
        writer.write(batch(ids[start : start + SHARD_ROWS], start))
    writer.finish()
    shards = writer.selected()
    raw = published(store, "ingest", shards, ids, np.ones(count, bool), None, [], "raw")
    gone = random.random(count) < share
    kept = np.flatnonzero(~gone)
    heads = kept[: max(1, int(gone.sum() * 0.6))]
    witness = heads[np.minimum(random.geometric(2 / len(heads), count), len(heads)) - 1]
    witness[np.flatnonzero(gone)[:largest]] = heads[0]
    unique = published(store, "dedup", shards, ids, ~gone, witness, [raw], "unique")
    left = ~gone & (random.random(count) > 0.1)
    return published(store, "filter", shards, ids, left, None, [unique], "sound", came=~gone)


def batch(ids: np.ndarray, start: int) -> pa.RecordBatch:
    def turn(role: str, text: str) -> dict[str, object]:
        return {"role": role, "parts": [{"type": "text", "text": text, "media": None}]}

    rows = [
        {
            "sample_id": one.tobytes(),
            "turns": [turn("user", f"Question {start + i}?"), turn("assistant", f"Answer {start + i}.")],
            "media": [], "source": "made", "meta": "{}", "rejected": None, "names": [],
            "origin": f"made.jsonl:{start + i}",
        }
        for i, one in enumerate(ids)
    ]  # fmt: skip
    return pa.RecordBatch.from_pylist(rows, SAMPLES)


def published(
    store: Store, stage: str, shards: list[ShardEntry], ids: np.ndarray, left: np.ndarray,
    witness: np.ndarray | None, parents: list[Manifest], name: str, came: np.ndarray | None = None,
) -> Manifest:  # fmt: skip
    """A manifest of the rows `left` of those that `came`; the others are in the ledger, with a witness."""
    came = np.ones(len(ids), bool) if came is None else came
    lost = np.flatnonzero(came & ~left)
    method = lost % len(METHODS) if witness is not None else np.zeros(len(lost), np.int64)
    names = np.array(METHODS if witness is not None else ["chars"])
    columns = {
        "sample_id": id_array(ids[lost]),
        "origin": pa.array([f"made.jsonl:{i}" for i in lost]),
        "source": pa.array(["made"] * len(lost)),
        "outcome": pa.array(["dropped"] * len(lost)),
        "reason": pa.array(names[method].tolist()),
        "value": pa.array((lost % 9).astype(str).tolist()),
        "limit": pa.array(["8"] * len(lost)),
        "others": pa.array([[]] * len(lost), pa.list_(pa.string())),
        "witness": pa.nulls(len(lost), LEDGER.field("witness").type)
        if witness is None
        else id_array(ids[witness[lost]]),
        "child": pa.nulls(len(lost), LEDGER.field("child").type),
        "detail": pa.nulls(len(lost), pa.string()),
    }
    starts = np.cumsum([0, *(s.rows for s in shards)])
    chosen = [
        s._replace(selected=Selected(rows := np.flatnonzero(left[a : a + s.rows]), np.ones(len(rows))))
        for s, a in zip(shards, starts, strict=False)
    ]
    with Ledger(store) as ledger:
        ledger.came("made", int(came.sum()))
        ledger.kept("made", int(left.sum()))
        ledger.add_table(pa.table(columns, schema=LEDGER))
        account = ledger.close(int(left.sum()))
    methods = [
        {
            "name": m, "unit": "bits", "threshold": 8.0, "near_is": "low", "meaning": m,
            "recall": "exact search", "dropped": ledger.reasons[m], "alone": ledger.reasons[m], 
            "pairs": ledger.reasons[m],
            "histogram": {"edges": [-0.5, 8.5, 64.5], "counts": [ledger.reasons[m], 0], "beyond": [0, 9]},
            "misses": [],
        }
        for m in METHODS
    ]  # fmt: skip
    about = {"methods": methods, "against": [], "against_files": [], "keep": ["longest"], "merged": 0}
    return publish(
        store, stage=stage, config={}, shards=chosen, media=[], ledger=account, counts=dict(ledger.counts),
        parents=parents, sources={"made": {}}, name=name, extra={} if witness is None else {"dedup": about},
    )  # fmt: skip


if __name__ == "__main__":
    main()
