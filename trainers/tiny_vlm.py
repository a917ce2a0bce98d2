"""Train the tiny VLM from nothing: scenes, tower, stages, scores and card.

    python -m trainers.tiny_vlm --out FOLDER [--recipe tiny_long] [--place]

Every step is a command that a user could give in FOLDER, printed before it runs: scenes are drawn and
ingested while the tower warms up, `imm train llava --config tiny` runs on two ranks, and `imm eval` asks
about scenes that no training saw, with blind controls, and writes its card. A step whose product is there is
not run again; the training goes on at its last checkpoint. `--place` puts the model, its training record and
the digests of its files where `tiny` names it.
"""

import argparse
import time
from pathlib import Path

from infinity_mm.models.shipped import TINY_VLM
from trainers.commands import IMM, Job, drawn, place, run, run_all
from trainers.llava.config import read

RECIPE = "tiny"
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


def scenes(seed: int, scale: float = 1.0) -> list[list[Job]]:
    """Draw and ingest what is trained on and what is asked, each from a seed of its own; longest first."""
    chains = []
    for number, (name, (count, kinds, settings)) in enumerate(SCENES.items()):
        told = {"seed": seed + number, "chinese-share": CHINESE, **settings}
        chains.append(drawn(name, max(32, round(count * scale)), kinds, told))
    return chains


def tower(steps: int) -> Job:
    """Warm the tower up."""
    words = ("-m", "trainers.tiny_tower", "--out", "runs/tiny_tower", "--steps", str(steps))
    return Job(words, "runs/tiny_tower/model.safetensors")


def training(recipe: str, ranks: int, export: str) -> Job:
    """Train all stages."""
    words: tuple[str, ...] = (*IMM, "train", "llava", "--config", recipe)
    if ranks > 1:
        words = ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *words)
    return Job(words, f"{export}/model.safetensors")


def scores(export: str) -> Job:
    """Ask the held-out scenes, and write the card's numbers."""
    words = ("eval", "--model", export, "--manifest", HELD, "--truth", f"scenes/{HELD}/truth.jsonl")
    controls = ("--control", "none", "--control", "wrong")
    return Job((*IMM, *words, *controls, "--answers", "answers.jsonl", "--card"), "answers.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the first scenes [{SEED}]")
    parser.add_argument("--ranks", type=int, default=2, help="processes that train, a core each [2]")
    parser.add_argument("--recipe", default=RECIPE, help=f"tiny, or tiny_long, which ships [{RECIPE}]")
    parser.add_argument("--place", action="store_true", help="put the model where the package has it")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    recipe = read(Path(given.recipe))
    stages = [stage.name for stage in recipe.stages]
    export = f"{recipe.out}/{stages[-1]}/export"
    began = time.monotonic()
    run_all([[tower(TOWER_STEPS)], *scenes(given.seed)], given.out)
    run([training(given.recipe, given.ranks, export), scores(export)], given.out)
    print(f"{time.monotonic() - began:.0f} s in all")
    if given.place:
        place(given.out / recipe.out, stages, given.out / export, TINY_VLM)


if __name__ == "__main__":
    main()
