"""Ingest, export and opening, against the work that nobody can avoid. Prints ratios within this run.

    python benchmarks/ingest.py                 all, about four minutes
    python benchmarks/ingest.py --only copy     one of copy, export, memory, open

copy    one process reading files and taking sha256, against ingest in one process, copy and reference mode
export  writing the same bytes to one file, against WebDataset and Parquet export
memory  peak resident memory of ingest at 2,000 and at 200,000 samples
open    a manifest of 1,000,000 samples: opening, first sample of a seeded order, memory
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from infinity_mm.columns import id_array
from infinity_mm.ledger import Ledger
from infinity_mm.manifest import Manifest, Selected, ShardEntry, publish
from infinity_mm.media.index import build_index
from infinity_mm.schema import SAMPLES
from infinity_mm.store import Store, write_table
from pipelines.export import ExportConfig
from pipelines.export import run as run_export
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

FILES = 2000
ROUNDS = 5


def best(work: Callable[[Path], object], folder: Path, evict: Sequence[Path] = ()) -> float:
    """Seconds of the fastest of ROUNDS runs, each in a fresh folder; `evict`: files to read from disk."""
    seconds = []
    for _ in range(ROUNDS):
        shutil.rmtree(folder, ignore_errors=True)
        for path in evict:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
        started = time.perf_counter()
        work(folder)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def make_data(folder: Path, files: int) -> tuple[Path, int]:
    """JPEG files of about 110 KB, all different, and a LLaVA JSON of them."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    records, size = [], 0
    coarse = rng.integers(0, 255, (90, 120, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((480, 360), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(picture, np.int16) + rng.normal(0, 24, (360, 480, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=92)
    body = buffer.getvalue()
    for i in range(files):
        data = body[:-2] + rng.bytes(8).replace(b"\xff", b"\0") + body[-2:]
        (folder / f"images/{i}.jpg").write_bytes(data)
        size += len(data)
        records.append(
            {
                "id": str(i),
                "image": f"images/{i}.jpg",
                "conversations": [
                    {"from": "human", "value": f"<image>\nWhat is number {i}, and what does it show?"},
                    {"from": "gpt", "value": f"Picture {i} shows noise. " * 8},
                ],
            }
        )
    (folder / "data.json").write_text(json.dumps(records))
    return folder / "data.json", size


def copy(scratch: Path) -> None:
    data, size = make_data(scratch / "data", FILES)
    paths = [scratch / "data" / record["image"] for record in json.loads(data.read_text())]

    def read_and_hash(folder: Path) -> None:
        for path in paths:
            with open(path, "rb") as file:
                hashlib.sha256(file.read()).digest()

    def floor(folder: Path) -> None:
        with open(scratch / "floor", "wb") as out:
            for path in paths:
                with open(path, "rb") as file:
                    content = file.read()
                hashlib.sha256(content).digest()
                out.write(content)
            out.flush()
            os.fsync(out.fileno())

    def ingest(mode: str) -> Callable[[Path], object]:
        return lambda folder: run_ingest(
            IngestConfig.model_validate(
                {"inputs": [str(data)], "store": str(folder), "out": "raw", "mode": mode, "workers": 0}
            )
        )

    print(f"{FILES:,} files, {size / FILES / 1000:.0f} KB each; one process against one")
    for label, evict in (("in the page cache", []), ("on disk", paths)):
        base = best(read_and_hash, scratch / "none", evict)
        print(
            f"  {label}\n"
            f"  read and sha256                      {base:6.2f} s  {size / base / 1e6:6.0f} MB/s  1.00"
        )
        for name, work in (
            ("read, sha256, write one file, fsync", floor),
            ("ingest, copy mode", ingest("copy")),
            ("ingest, reference mode", ingest("reference")),
        ):
            seconds = best(work, scratch / "store", evict)
            print(f"  {name:<36} {seconds:6.2f} s  {size / seconds / 1e6:6.0f} MB/s  {seconds / base:.2f}")


def export(scratch: Path) -> None:
    data, size = make_data(scratch / "data", FILES)
    store = scratch / "store"
    run_ingest(IngestConfig(inputs=[str(data)], store=str(store), out="raw", workers=0))
    contents = [path.read_bytes() for path in sorted((scratch / "data/images").iterdir())]

    def write(folder: Path) -> None:
        folder.mkdir()
        with open(folder / "all", "wb") as out:
            for content in contents:
                out.write(content)
            out.flush()
            os.fsync(out.fileno())

    def export_as(name: str) -> Callable[[Path], object]:
        return lambda folder: run_export(
            ExportConfig.model_validate(
                {"store": str(store), "manifest": "raw", "to": folder, "format": name, "workers": 0}
            )
        )

    base = best(write, scratch / "out")
    print(f"{size / 1e6:.0f} MB of media, {FILES:,} samples; one process against one")
    print(f"  write the bytes to one file, fsync   {base:6.2f} s  {size / base / 1e6:6.0f} MB/s  1.00")
    for name in ("webdataset", "parquet", "llava"):
        seconds = best(export_as(name), scratch / "out")
        print(f"  export {name:<29} {seconds:6.2f} s  {size / seconds / 1e6:6.0f} MB/s  {seconds / base:.2f}")


def _peak(reset: bool = False) -> float:
    """Peak resident memory of this process in MB (Linux), counted anew from here with `reset`."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _ingest_small(folder: str, samples: int) -> None:
    """In a process of its own: `samples` records over samples/10 tiny pictures; ingest, print the peak."""
    root = Path(folder)
    (root / "images").mkdir(parents=True)
    for i in range(samples // 10):
        Image.new("RGB", (8, 8), (i % 256, i // 256 % 256, i // 65536)).save(root / f"images/{i}.png")
    with open(root / "data.jsonl", "w") as file:
        for i in range(samples):
            turns = [
                {"from": "human", "value": f"<image>\nquestion {i} " + "why " * 40},
                {"from": "gpt", "value": f"answer {i} " + "so " * 80},
            ]
            file.write(json.dumps({"image": f"images/{i // 10}.png", "conversations": turns}) + "\n")
    before = _peak(reset=True)
    started = time.perf_counter()
    run_ingest(
        IngestConfig(inputs=[str(root / "data.jsonl")], store=str(root / "store"), out="raw", workers=0)
    )
    seconds = time.perf_counter() - started
    print(
        f"  {samples:>9,} samples  peak {_peak():5.0f} MB (before ingest {before:.0f} MB)"
        f"  {samples / seconds:,.0f} samples/s"
    )


def memory(scratch: Path) -> None:
    print("peak resident memory of ingest, one process")
    for samples in (2000, 20_000, 200_000):
        command = [sys.executable, __file__, "--small", str(scratch / str(samples)), str(samples)]
        subprocess.run(command, check=True)


def _make_million(store: Store, shards: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    entries = []
    for shard in range(shards):
        ids = rng.integers(0, 256, (rows, 16), np.uint8)
        turns = [
            [
                {"role": "user", "parts": [{"type": "text", "text": f"question {shard} {i}", "media": None}]},
                {"role": "assistant", "parts": [{"type": "text", "text": "an answer " * 12, "media": None}]},
            ]
            for i in range(rows)
        ]
        columns = [
            id_array(ids), pa.array(turns, SAMPLES.field("turns").type),
            pa.array([[]] * rows, pa.list_(pa.binary(16))),
            pa.array(["made"] * rows), pa.array(["{}"] * rows, pa.large_string()),
            pa.nulls(rows, SAMPLES.field("rejected").type), pa.array([[]] * rows, pa.list_(pa.string())),
            pa.array([f"{shard}:{i}" for i in range(rows)]),
        ]  # fmt: skip
        name = write_table(store, "samples", pa.table(columns, schema=SAMPLES))
        sha256 = name.split("/")[1].removesuffix(".arrow")
        entries.append(
            ShardEntry(name, sha256, store.size(name), rows, Selected(np.arange(rows), np.ones(rows)))
        )
    with Ledger(store) as ledger:
        ledger.came("made", shards * rows)
        ledger.kept("made", shards * rows)
        entry = ledger.close(shards * rows)
    publish(
        store, stage="ingest", config={}, shards=entries, media=[build_index(store, [])], ledger=entry,
        counts=dict(ledger.counts), sources={"made": {}}, name="million",
    )  # fmt: skip


def _open_million(folder: str) -> None:
    """In a process of its own, so that memory is its own."""
    store = Store.open(folder)
    before = _peak(reset=True)
    started = time.perf_counter()
    manifest = Manifest.open(store, "million")
    opened = time.perf_counter() - started
    order = iter(manifest.order(seed=1))
    shard, row = next(order)
    manifest.table(shard).slice(row, 1).to_pylist()
    first = time.perf_counter() - started
    at_first = _peak()
    count = 1 + sum(1 for _ in order)
    walked = time.perf_counter() - started
    print(
        f"  opened in {opened:.3f} s, first sample of the seeded order after {first:.3f} s "
        f"(memory +{at_first - before:.0f} MB, with one shard mapped)\n"
        f"  all {count:,} places after {walked:.2f} s (memory +{_peak() - before:.0f} MB)"
    )


def open_million(scratch: Path) -> None:
    store = Store.create(scratch / "store")
    _make_million(store, 20, 50_000)
    print("a manifest of 1,000,000 samples in 20 shards")
    subprocess.run([sys.executable, __file__, "--million", str(scratch / "store")], check=True)


PARTS = {"copy": copy, "export": export, "memory": memory, "open": open_million}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--small", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--million", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.small:
        _ingest_small(args.small[0], int(args.small[1]))
    elif args.million:
        _open_million(args.million)
    else:
        for name, part in PARTS.items():
            if args.only in (None, name):
                with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as scratch:
                    part(Path(scratch))


if __name__ == "__main__":
    main()
