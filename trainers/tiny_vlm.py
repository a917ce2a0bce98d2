"""Train the tiny VLM from nothing: scenes, tower, stages, scores and card.

    python -m trainers.tiny_vlm --out FOLDER [--place]

Every step is a command that a user could give in FOLDER, printed before it runs: scenes are drawn and
ingested while the tower warms up, `imm train llava --config tiny` runs on two ranks, and `imm eval` asks
about scenes that no training saw, with blind controls, and writes its card. A step whose product is there is
not run again; the training goes on at its last checkpoint. `--place` puts the model, its training record and
the digests of its files where `tiny` names it.
"""

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from infinity_mm.models.shipped import TINY_VLM
from trainers.llava.config import read
from trainers.monitor import RECORD, read_record

RECIPE = "tiny"
IMM = ("-m", "infinity_mm.cli")
SEED = 700_000  # of the first scenes; the others' follow. Far from those that tests and benchmarks draw with
ASKED = ("colour", "shape", "size", "count", "relation", "exists")
JUDGED = ("write_question", "judge_relevance", "judge_answer", "score_answer")
STILL = {"multi-image-share": 0, "text-only-share": 0, "video-share": 0}
# No question tells another's answer: what stands in the words before is not looked for in the picture.
TURNS = {"multi-turn-share": 1, "turns": 8, "apart": True}
# By manifest: records, kinds (none: all there are), and what else sets them apart.
SCENES: dict[str, tuple[int, tuple[str, ...], dict[str, float]]] = {
    "questions": (45_000, ASKED, {**STILL, **TURNS, "brief-share": 0.6}),
    "captions": (10_000, ("caption",), {**STILL, "multi-turn-share": 0}),
    "easy": (8_000, ASKED, {**STILL, **TURNS, "max-objects": 2, "brief-share": 0.7}),
    "judging": (14_000, JUDGED, {**STILL, "judged": 4}),
    "held": (4_000, (), {"multi-turn-share": 0}),
}
HELD = "held"
CHINESE = 0.2  # of all scenes
TOWER_STEPS = 600
EVERY = 20  # the record that ships has the events, and every 20th step
DIGESTS = "digests.json"


class Job(NamedTuple):
    """A command, and the file that is there once it has been done."""

    words: tuple[str, ...]  # after the name of Python
    product: str


def scenes(seed: int, scale: float = 1.0) -> list[list[Job]]:
    """Draw and ingest what is trained on and what is asked, each from a seed of its own; longest first."""
    chains = []
    for number, (name, (count, kinds, settings)) in enumerate(SCENES.items()):
        given = {
            "count": max(32, round(count * scale)),
            "seed": seed + number,
            "chinese-share": CHINESE,
            **settings,
        }
        words = [f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items()]
        words += [word for kind in kinds for word in ("--kinds", kind)]
        folder = f"scenes/{name}"
        source = ("--source", f"scenes-{name}", "--licence", "CC0-1.0")
        draw = Job((*IMM, "scenes", "--out", folder, *words), f"{folder}/truth.jsonl")
        ingest = (*IMM, "ingest", f"{folder}/data.json", "--out", name, *source)
        chains.append([draw, Job(ingest, f"store/refs/{name}")])
    return chains


def tower(steps: int) -> Job:
    """Warm the tower up."""
    words = ("-m", "trainers.tiny_tower", "--out", "runs/tiny_tower", "--steps", str(steps))
    return Job(words, "runs/tiny_tower/model.safetensors")


def training(ranks: int, export: str) -> Job:
    """Train all stages."""
    words: tuple[str, ...] = (*IMM, "train", "llava", "--config", RECIPE)
    if ranks > 1:
        words = ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *words)
    return Job(words, f"{export}/model.safetensors")


def scores(export: str) -> Job:
    """Ask the held-out scenes, and write the card's numbers."""
    words = ("eval", "--model", export, "--manifest", HELD, "--truth", f"scenes/{HELD}/truth.jsonl")
    controls = ("--control", "none", "--control", "wrong")
    return Job((*IMM, *words, *controls, "--answers", "answers.jsonl", "--card"), "answers.jsonl")


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the first scenes [{SEED}]")
    parser.add_argument("--ranks", type=int, default=2, help="processes that train, a core each [2]")
    parser.add_argument("--place", action="store_true", help="put the model where the package has it")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    recipe = read(Path(RECIPE))
    stages = [stage.name for stage in recipe.stages]
    export = f"{recipe.out}/{stages[-1]}/export"
    began = time.monotonic()
    with ThreadPoolExecutor(2) as both:
        chains = [[tower(TOWER_STEPS)], *scenes(given.seed)]
        for done in [both.submit(run, jobs, given.out) for jobs in chains]:
            done.result()
    run([training(given.ranks, export), scores(export)], given.out)
    print(f"{time.monotonic() - began:.0f} s in all")
    if given.place:
        place(given.out / recipe.out, stages, given.out / export, TINY_VLM)


if __name__ == "__main__":
    main()
