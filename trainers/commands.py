"""Commands that make a model that ships: run in order, each once, and what they made put in its place."""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from trainers.monitor import RECORD, read_record

IMM = ("-m", "infinity_mm.cli")
EVERY = 20  # the record that ships has the events, and every 20th step
DIGESTS = "digests.json"


class Job(NamedTuple):
    """A command, and the file that is there once it has been done."""

    words: tuple[str, ...]  # after the name of Python
    product: str


def drawn(name: str, count: int, kinds: Sequence[str], settings: Mapping[str, object]) -> list[Job]:
    """Draw scenes and ingest them under a name. `settings` are options of `imm scenes`; True is a flag."""
    words = [f"--{key}" if value is True else f"--{key}={value}" for key, value in settings.items()]
    words += [word for kind in kinds for word in ("--kinds", kind)]
    folder = f"scenes/{name}"
    source = ("--source", f"scenes-{name}", "--licence", "CC0-1.0")
    draw = (*IMM, "scenes", "--out", folder, f"--count={count}", *words)
    ingest = (*IMM, "ingest", f"{folder}/data.json", "--out", name, *source)
    return [Job(draw, f"{folder}/truth.jsonl"), Job(ingest, f"store/refs/{name}")]


def run(jobs: Sequence[Job], out: Path) -> None:
    """Run commands in order, in the folder. Raises SystemExit where one fails."""
    for job in jobs:
        told = shlex.join(["python", *job.words]).replace("python -m infinity_mm.cli", "imm")
        if (out / job.product).exists():
            print(f"done before: {told}", flush=True)
            continue
        began = time.monotonic()
        print(f"$ {told}", flush=True)
        done = subprocess.run([sys.executable, *job.words], cwd=out, check=False)
        if done.returncode:
            raise SystemExit(
                f"error: exit code {done.returncode} of: {told}\nGive the same command again to go on."
            )
        print(f"  {time.monotonic() - began:.0f} s", flush=True)


def run_all(chains: Sequence[Sequence[Job]], out: Path) -> None:
    """Run chains of commands, two of them at a time. Raises SystemExit where one fails."""
    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(run, jobs, out) for jobs in chains]:
            done.result()


def place(out: Path, stages: Sequence[str], export: Path, target: Path) -> None:
    """Copy a trained model to where it ships, with its record and its digests."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(export, target)
    with (target / RECORD).open("w", encoding="utf-8") as record:
        for stage in stages:
            lines = read_record(out / stage / RECORD)
            last = len(lines) - 1
            for number, line in enumerate(lines):
                if number % EVERY == 0 or number == last:
                    record.write(json.dumps({"stage": stage, **line}) + "\n")
    files = sorted(file for file in target.iterdir() if file.name != DIGESTS)
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (target / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n")
