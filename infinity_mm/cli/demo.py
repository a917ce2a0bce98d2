"""`imm demo`: the whole way on a small made-up data set, each command shown as one would type it."""

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli import main
from infinity_mm.cli.options import stage_command
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.media.errors import MediaError
from infinity_mm.progress import Progress
from infinity_mm.store import Store

MARK = "made-by-imm-demo"
# Planted defects that a look at structure and bytes must find; the others are for later stages.
STRUCTURAL = {
    *("corrupt_bytes", "truncated", "bit_flipped", "html_as_jpg", "zero_bytes", "wrong_extension"),
    *("broken_roles", "empty_turn", "marker_mismatch", "missing_file", "exact_copy"),
}


SYNTHESIS: dict[str, Any] = {
    "--prompts": "scenes", "--types": "scenes", "--blind": "gray", "--min-score": 5.5, "--judge-all": True,
    "--min-judged": 0.65, "--questions": 2, "--max-answer": 40, "--licence": "Apache-2.0", "--out": "made",
}  # fmt: skip
RECIPE = """\
model: {{checkpoint: tiny}}
store: {store}
out: {runs}
compute: {{dtype: float32, recompute: false}}
export_dtype: float16
workers: 1
stages:
  - name: more
    data: {{made: 0.3}}
    train: ["*"]
    batch: 16
    length: 2048
    tiles: 128
    grid: 2
    frames: 4
    overlong: skip
    optimizer: {{lr: {{"*": 1e-4, vision_tower: 1e-5}}}}
"""


class DemoConfig(BaseModel):
    """Run the whole way on a small made-up data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(Path("demo"), description="Folder to work in; a former demo there is replaced.")
    count: int = Field(800, ge=50, description="Records to draw.")
    seed: int = Field(7, ge=0, description="Seed of the drawing.")
    written: int = Field(60, ge=1, description="Samples to have a small model write.")


def run(config: DemoConfig, progress: Progress) -> dict[str, Any]:
    """Each step as a command; the result says how the filter's decisions compare with the truth."""
    out = config.out
    _empty(out)
    scenes, store = out / "scenes", out / "store"
    print("The data: made-up pictures and conversations, a quarter of them with a planted defect.")
    _imm("scenes", "--out", scenes, "--count", config.count, "--seed", config.seed, "--defects", 0.25)
    print("Bring it in. A medium is stored once; a bad record costs one row of the ledger.")
    _imm("ingest", scenes / "data.json", "--out", "raw", "--licence", "Apache-2.0", "--store", store)
    print("Keep what is sound: roles, turns, markers, and media that decode strictly.")
    _imm("filter", "raw", "--out", "sound", "--store", store)
    found = compare(store, scenes / "truth.jsonl")
    print(
        f"  Against the truth: {found['found']} of {found['planted']} structural defects found "
        f"(recall {found['recall']:.3f}), {found['wrong']} sound samples lost "
        f"(precision {found['precision']:.3f}).\n"
    )
    print("Rules are SQL over measures, and measures are there already: nothing is decoded again.")
    _imm("filter", "sound", "--recipe", "documents", "--out", "good", "--store", store)
    print("Keep one of what says the same about the same picture; the others name it as their witness.")
    _imm("dedup", "good", "--by", "exact,perceptual", "--flips", "--out", "distinct", "--store", store)
    print("One page, without a network: what the data is, what each rule dropped and what it nearly dropped.")
    _imm("report", "distinct", "--out", out / "report.html", "--store", store)
    print("Split it so that no picture is in both parts, and weigh the training part.")
    _imm("split", "distinct", "--out", "set", "--part", "train=0.9", "--part", "val=0.1", "--store", store)
    _imm("mix", "set-train=2", "--out", "train", "--store", store)
    print("Check every byte, and take it out for a trainer.")
    _imm("manifest", "verify", "train", "--media", "--store", store)
    _imm("manifest", "export", "train", "--format", "webdataset", "--to", out / "tars", "--store", store)
    print("What became of one sample that was dropped?")
    _imm("trace", found["dropped_id"], "--store", store)
    made = {"store": store, "tars": out / "tars", "page": out / "report.html"}
    made["truth"] = scenes / "truth.jsonl"
    if vlm_is_there():
        made |= close_the_loop(out, store, scenes / "truth.jsonl", config.written)
    return {**found, **{name: str(path) for name, path in made.items()}}


def vlm_is_there() -> bool:
    """Whether what the second half needs is installed."""
    return all(find_spec(name) for name in ("torch", "transformers", "open_clip"))


def close_the_loop(out: Path, store: Path, truth: Path, written: int) -> dict[str, Path]:
    """New data written and checked by a small model, and a short training on it."""
    print("What does each picture show? A small CLIP that ships says it.")
    _imm("tag", "distinct", "--with", "tiny", "--vocabulary", "scenes", "--out", "tagged", "--store", store)
    print("A small VLM that ships writes questions and answers about the pictures, and checks what it wrote.")
    words = [word for name, value in SYNTHESIS.items() for word in (name, value) if word is not True]
    _imm("synthesize", "tagged", *words, "--max-samples", written, "--store", store)
    print("The pictures' truth is known, so each answer is right or wrong:\n")
    print("\n".join(how_right(store, truth)) + "\n")
    recipe = out / "train.yaml"
    recipe.write_text(RECIPE.format(store=store, runs=out / "runs"))
    print(f"Go on training the small VLM with it, for a few steps. The recipe, {recipe}:\n")
    print(recipe.read_text())
    _imm("train", "llava", "--config", recipe)
    model = out / "runs" / "more" / "export"
    picture = next(file for file in sorted((out / "scenes" / "images").rglob("*.*")) if _decodes(file))
    _imm("generate", "--model", model, "--image", picture, "--prompt", "Describe the picture.")
    print(
        "The page about the data that was made: pictures, questions, answers, scores, and what was refused."
    )
    _imm("report", "made", "--out", out / "made.html", "--store", store)
    return {"made": out / "made.html", "model": model}


def _decodes(file: Path) -> bool:
    """Whether a file is a sound picture: some of the demo's were spoiled on purpose."""
    try:
        decode_image(file.read_bytes())
    except MediaError:
        return False
    return True


def how_right(store: Path, truth: Path) -> list[str]:
    """Precision of the answers written before and after each check, of all and of each type."""
    from pipelines.synthesize.config import SynthesizeConfig
    from pipelines.synthesize.stage import replay
    from pipelines.synthesize.truth import by_type, is_right, passed, scenes_of, table

    given = {name.lstrip("-").replace("-", "_"): value for name, value in SYNTHESIS.items()}
    config = SynthesizeConfig(store=str(store), manifest="tagged", **given)
    scenes = scenes_of(Manifest.open(Store.open(store), "tagged"), truth)
    pairs = [p for p in replay(config) if p.answer and p.kind.id != "caption" and p.image.medium in scenes]
    right = [is_right(pair, scenes[pair.image.medium]) for pair in pairs]
    lines = table(pairs, right, {step: passed(step) for step in ("score", "judge", "alike")})
    lines += ["", f"{'type':<32}{'answers':>9}{'right':>8}{'kept':>7}{'right':>8}"]
    for kind, own in by_type(pairs).items():
        kept = [i for i in own if pairs[i].rejected is None]
        shares = (sum(right[i] for i in some) / max(1, len(some)) for some in (own, kept))
        before, after = (f"{share:.2f}" for share in shares)
        lines.append(f"{kind:<32}{len(own):>9}{before:>8}{len(kept):>7}{after:>8}")
    return lines


def _empty(out: Path) -> None:
    """Make the folder; a former demo is replaced, anything else refused."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MARK).exists():
            raise ValueError(f"{out} is there and is not a former demo: name another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def _imm(*words: object) -> None:
    """Run one command as if typed, showing it. Raises RuntimeError if it fails."""
    args = [str(word) for word in words]
    print(f"\n$ imm {shlex.join(args)}", flush=True)
    code = main(args)
    print(flush=True)
    if code != 0:
        raise RuntimeError(f"imm {shlex.join(args)} ended with exit code {code}")


def compare(store_url: Path, truth_path: Path) -> dict[str, Any]:
    """Precision and recall of ingest and filter together against the planted structural defects.

    Two records that leak the same benchmark item are equal: dropping the later as a repeat is right.
    """
    store = Store.open(store_url)
    truth = [json.loads(line) for line in truth_path.read_text().splitlines()]
    reasons: dict[int, str] = {}
    dropped_id = ""
    for name in ("raw", "sound"):
        ledger = Manifest.open(store, name).document["ledger"]["file"]
        for row in pq.read_table(store.path(ledger)).to_pylist():
            index = int(row["origin"].rsplit(":", 1)[1])
            reasons[index] = row["reason"]
            if row["sample_id"] is not None and name == "sound" and not dropped_id:
                dropped_id = row["sample_id"].hex()
    groups = [record["group"] for record in truth]
    repeats = {i for i, reason in reasons.items() if reason == "repeat" and groups[i] in groups[:i]}
    planted = {i for i, record in enumerate(truth) if _structural(record)} | repeats
    gone = set(reasons)
    return {
        "records": len(truth),
        "planted": len(planted),
        "found": len(planted & gone),
        "wrong": len(gone - planted),
        "recall": len(planted & gone) / max(1, len(planted)),
        "precision": len(planted & gone) / max(1, len(gone)),
        "missed": dict(Counter(d for i in planted - gone for d in truth[i]["defects"])),
        "dropped_id": dropped_id,
        "reasons": dict(Counter(reasons.values()).most_common()),
    }


def _structural(record: dict[str, Any]) -> bool:
    """Whether a record's defect shows in its structure or its bytes. A turn of a picture without a word is
    sound in structure (captions are asked for so); that its question is short is another measure's."""
    wordless = record["detail"].get("sub_kind") == "empty_question" and record["medium"] != "text"
    return bool(STRUCTURAL & set(record["defects"])) and not wordless


def show(result: Mapping[str, Any]) -> str:
    """What was made, what was dropped and why, what to try next."""
    store = result["store"]
    why = ", ".join(f"{reason} {count}" for reason, count in result["reasons"].items())
    return "\n".join(
        [
            f"Made: {store}, with the manifests raw, sound, good, distinct, set-train, set-val and train;",
            f"      {result['page']}, the report: open it in a browser;",
            f"      {result['tars']}, the training part as WebDataset tars.",
            *(
                [
                    f"      {result['made']}, the report of what was written and refused;",
                    f"      {result['model']}, the model that was trained on it, as transformers loads it.",
                ]
                if "made" in result
                else ["Not shown, for torch is not installed: writing data by a model, and training."]
            ),
            f"Dropped at first: {sum(result['reasons'].values())} of {result['records']} records: {why}.",
            f"The truth of every record is in {result['truth']}.",
            "Next:",
            f"  imm manifest show train --store {store}",
            f"  imm manifest diff raw sound --store {store}",
            f"  imm calibrate good --count 50 --store {store}   # what dedup thresholds mean here",
            f"  imm filter sound --where 'tokens <= 60' --dry-run --store {store}   # decodes nothing again",
            "  imm ingest YOUR.json --out mine --licence … --mode reference",
        ]
    )


app = stage_command(DemoConfig, run, show=show, name="demo", help="Run the whole way on made-up data.")
