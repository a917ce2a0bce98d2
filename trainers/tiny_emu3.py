"""Train the tiny Emu3 from nothing: scenes, vision tokenizer, codes, stages, drawings judged, card.

    python -m trainers.tiny_emu3 --out FOLDER [--place]

Every step is a command that a user could give in FOLDER, printed before it runs: scenes are drawn and
ingested while the vision tokenizer is trained, `imm tokenize` makes codes of their pictures,
`imm train emu3 --config tiny` runs on two ranks, `benchmarks/emu3_drawing.py` has it draw captions that no
training saw and makes the best setting its own, and `imm eval` asks about pictures, with blind controls. A
step whose product is there is not run again. `--place` puts the model, its training record and the digests
of its files where `tiny-emu3` names it.
"""

import argparse
import time
from pathlib import Path

from infinity_mm.models.shipped import TINY_EMU3
from trainers.commands import IMM, Job, drawn, place, run, run_all
from trainers.emu3.config import read

RECIPE = "tiny"
SEED = 720_000  # of the first scenes; the others' follow. Far from those that tests and benchmarks draw with
ASKED = ("colour", "shape", "size", "count", "exists")
STILL = {"multi-image-share": 0, "text-only-share": 0, "video-share": 0, "multi-turn-share": 0}
SCENES: dict[str, tuple[int, tuple[str, ...], dict[str, float]]] = {
    "captions": (40_000, ("caption",), {**STILL, "max-objects": 2, "other-share": 0}),
    "questions": (12_000, ASKED, {**STILL, "max-objects": 2, "brief-share": 0.6}),
    "held": (2_000, ASKED, {**STILL, "max-objects": 2}),
}
HELD = "held"
CHINESE = 0.2  # of all scenes
TOKENIZER = "runs/tiny_vq"
DRAWING = Path(__file__).parents[1] / "benchmarks" / "emu3_drawing.py"


def scenes(seed: int, scale: float = 1.0) -> list[list[Job]]:
    """Draw and ingest what is trained on and what is asked, each from a seed of its own; longest first."""
    chains = []
    for number, (name, (count, kinds, settings)) in enumerate(SCENES.items()):
        told = {"seed": seed + number, "chinese-share": CHINESE, **settings}
        raw = name if name == HELD else f"raw-{name}"
        chains.append(drawn(raw, max(32, round(count * scale)), kinds, told))
    return chains


def tokenizer() -> Job:
    """Train the vision tokenizer."""
    return Job(("-m", "trainers.tiny_vq", "--out", TOKENIZER), f"{TOKENIZER}/scores.json")


def codes() -> list[list[Job]]:
    """Make codes of the pictures that are trained on."""
    words = (*IMM, "tokenize", "--tokenizer", TOKENIZER, "--keep-size")
    names = [name for name in SCENES if name != HELD]
    return [[Job((*words, f"raw-{name}", "--out", name), f"store/refs/{name}")] for name in names]


def training(ranks: int, export: str) -> Job:
    """Train all stages."""
    words: tuple[str, ...] = (*IMM, "train", "emu3", "--config", RECIPE)
    if ranks > 1:
        words = ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *words)
    return Job(words, f"{export}/model.safetensors")


def scores(export: str) -> list[Job]:
    """Judge drawings of captions, and answers about held-out scenes."""
    draw = (str(DRAWING), export, "--write")
    ask = ("eval", "--model", export, "--manifest", HELD, "--truth", f"scenes/{HELD}/truth.jsonl")
    controls = ("--control", "none", "--control", "wrong", "--answers", "answers.jsonl", "--card")
    return [Job(draw, f"{export}/drawing.json"), Job((*IMM, *ask, *controls), "answers.jsonl")]


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
    run_all([[tokenizer()], *scenes(given.seed)], given.out)
    run_all(codes(), given.out)
    run([training(given.ranks, export), *scores(export)], given.out)
    print(f"{time.monotonic() - began:.0f} s in all")
    if given.place:
        place(given.out / recipe.out, stages, given.out / export, TINY_EMU3)


if __name__ == "__main__":
    main()
