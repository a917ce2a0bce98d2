"""Mutated records over mutated pictures through ingest and filter: no crash, and a conserved ledger.

    python benchmarks/fuzz_ingest.py --count 20000 --seed 0

Data sets of 1,000 scene records, three in four with a change: bytes of the JSON, a value of another type,
or bytes of a picture. Every line that is not blank must be kept or a row of the ledger, and what is kept
must pass `verify` (ids recomputed, every medium read). Prints what became of the records.
"""

import argparse
import copy
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from infinity_mm.verify import verify
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

ROUND = 1000
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1.5, 10**30, "", "\ud800", "<image>", "../../etc/passwd", "/etc/passwd", "a\0b"),
    *([], {}, [[]], {"a": {"b": []}}, "https://example.org/a.jpg", "data:image/png;base64,AAAA", "猫"),
    *("\n\n", "x" * 5000),
)  # fmt: skip


def mutate_value(value: Any, draw: random.Random) -> Any:
    """Change one place in a nested value."""
    value = copy.deepcopy(value)
    at: Any = value
    while True:
        keys: Any = list(at) if isinstance(at, dict) else range(len(at))
        if not keys:
            return draw.choice(ODD)
        key = draw.choice(list(keys))
        if isinstance(at[key], (dict, list)) and at[key] and draw.random() < 0.7:
            at = at[key]
            continue
        kind = draw.randrange(4)
        if kind == 0:
            at[key] = draw.choice(ODD)
        elif kind == 1:
            del at[key]
        elif kind == 2 and isinstance(at, list):
            at.append(draw.choice([at[key], draw.choice(ODD)]))
        elif isinstance(at[key], str):
            cut = draw.randrange(len(at[key]) + 1)
            at[key] = at[key][:cut] + str(draw.choice(ODD)) + at[key][cut:]
        else:
            at[key] = draw.choice(ODD)
        return value


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flip, cut, insert or overwrite some bytes."""
    out = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8, 40])):
        at = draw.randrange(len(out) + 1)
        kind = draw.randrange(4)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del out[at : at + draw.choice([1, 4, len(out)])]
        elif kind == 2:
            out[at:at] = draw.randbytes(draw.choice([1, 4, 64]))
        else:
            out[at : at + 4] = draw.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
    return bytes(out)


def make_round(folder: Path, count: int, seed: int) -> int:
    """A mutated data set as JSON lines; how many lines are not blank."""
    draw = random.Random(seed)
    make_scenes(ScenesConfig(out=folder, count=count, seed=seed))
    lines: list[bytes] = []
    for record in json.loads((folder / "data.json").read_text()):
        kind = draw.randrange(4)
        line = json.dumps(mutate_value(record, draw) if kind == 0 else record).encode()
        if kind == 1:
            line = mutate_bytes(line, draw)
        if kind == 2:
            names = record.get("image") or record.get("video") or []
            for name in [names] if isinstance(names, str) else names[:1]:
                path = folder / name
                path.write_bytes(mutate_bytes(path.read_bytes(), draw))
        lines += line.replace(b"\r", b"\n").split(b"\n")
    (folder / "data.jsonl").write_bytes(b"\n".join(lines))
    return sum(bool(line.strip()) for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    totals: Counter[str] = Counter()
    for number in range(-(-args.count // ROUND)):
        with tempfile.TemporaryDirectory(prefix="imm-fuzz-") as scratch:
            folder, url = Path(scratch) / "data", str(Path(scratch) / "store")
            count = min(ROUND, args.count - number * ROUND)
            lines = make_round(folder, count, args.seed * 100_000 + number)
            raw = run_ingest(
                IngestConfig(
                    inputs=[str(folder / "data.jsonl")], store=url, out="raw", format="llava", workers=0
                )
            )
            sound = run_filter(FilterConfig(store=url, manifest="raw", out="sound", workers=0))
            for result, came in ((raw, lines), (sound, raw["kept"])):
                rows = Manifest.open(Store.open(url), result["manifest"]).document["ledger"]["rows"]
                kept, lost = result["kept"], result["dropped"] + result["failed"]
                if not (result["in"] == came == kept + lost and rows == lost):
                    print(f"seed {args.seed}, round {number}: {came} came, but the account is {result}")
                    return 1
            found = verify(Store.open(url), "sound", media=True)
            if not found["ok"]:
                print(f"seed {args.seed}, round {number}: {found['problems']}")
                return 1
            totals.update({"lines": lines, "kept": sound["kept"]})
            totals.update(raw["reasons"])
            totals.update(sound["reasons"])
    lines, kept = totals.pop("lines"), totals.pop("kept")
    print(f"{lines:,} mutated records: {kept:,} kept, and a row of the ledger for each of the rest:")
    print("  " + ", ".join(f"{reason} {count:,}" for reason, count in totals.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
