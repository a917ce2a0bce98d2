"""Kill ingest, filter, dedup and export at random moments, run each again, compare with an undisturbed run.

    python benchmarks/kills.py [--count 50] [--seed 0]      about five minutes

Every manifest (data and provenance) and every exported tar must be the same to the byte. Prints how many
kills hit a running command; exits 1 at the first difference.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from infinity_mm.verify import verify

IMM = [sys.executable, "-c", "import sys; from infinity_mm.cli import main; sys.exit(main())"]


def commands(data: Path, store: Path, out: Path) -> list[list[str]]:
    """The commands of one run."""
    base = ["--store", str(store), "--workers", "2"]
    small = ["--unit-bytes", "40000", "--shard-bytes", "60000"]
    return [
        ["ingest", str(data), "--out", "raw", *small, *base],
        ["filter", "raw", "--out", "sound", *base],
        ["dedup", "sound", "--by", "exact,perceptual,text", "--merge-turns", "--out", "distinct", *base],
        ["manifest", "export", "distinct", "--format", "webdataset", "--to", str(out), *base],
    ]


def start(command: list[str]) -> "subprocess.Popen[bytes]":
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*IMM, *command], start_new_session=True, **quiet)


def state(store: Path, out: Path) -> tuple[dict[str, str], list[bytes]]:
    return Store.open(store).refs(), [p.read_bytes() for p in sorted(out.glob("data-*.tar"))]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as scratch:
        root = Path(scratch)
        make_scenes(ScenesConfig(out=root / "scenes", count=1500, seed=1, defects=0.3))
        data = root / "scenes/data.json"
        took = []
        for command in commands(data, root / "store", root / "out"):
            started = time.monotonic()
            assert start(command).wait() == 0
            took.append(time.monotonic() - started)
        expected = state(root / "store", root / "out")
        hit = [0] * len(took)
        round_number = 0
        while sum(hit) < args.count:
            round_number += 1
            store, out = root / f"store{round_number}", root / f"out{round_number}"
            for i, command in enumerate(commands(data, store, out)):
                for _ in range(2):
                    process = start(command)
                    time.sleep(took[i] * draw.uniform(0.15, 1.0))
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)
                    hit[i] += process.wait() == -signal.SIGKILL
                if start(command).wait() != 0:
                    print(f"round {round_number}: {command[0]} did not go on")
                    return 1
            if state(store, out) != expected or not verify(Store.open(store), "distinct", media=True)["ok"]:
                print(f"round {round_number}: the result differs from an undisturbed run's")
                return 1
    print(
        f"{sum(hit)} kills hit a running command (ingest {hit[0]}, filter {hit[1]}, dedup {hit[2]}, "
        f"export {hit[3]}) in "
        f"{round_number} rounds; every manifest and tar equal to the undisturbed run's"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
