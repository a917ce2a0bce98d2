"""`imm demo`: the whole way on a small made-up data set, each command shown as one would type it."""

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli import main
from infinity_mm.cli.options import stage_command
from infinity_mm.manifest import Manifest
from infinity_mm.progress import Progress
from infinity_mm.store import Store

MARK = "made-by-imm-demo"
# Planted defects that a look at structure and bytes must find; the others are for later stages.
STRUCTURAL = {
    *("corrupt_bytes", "truncated", "bit_flipped", "html_as_jpg", "zero_bytes", "wrong_extension"),
    *("broken_roles", "empty_turn", "marker_mismatch", "missing_file", "exact_copy"),
}


class DemoConfig(BaseModel):
    """Run the whole way on a small made-up data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(Path("demo"), description="Folder to work in; a former demo there is replaced.")
    count: int = Field(800, ge=50, description="Records to draw.")
    seed: int = Field(7, ge=0, description="Seed of the drawing.")


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
    return {**found, **{name: str(path) for name, path in made.items()}}


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
