"""What each method of `imm dedup` finds of planted duplicates on scenes, and what it drops wrongly.

    python benchmarks/dedup_quality.py            about three minutes

A copy has the conversation of its original and its picture in another form; what it is dropped for must be of
its group, or show the same scene. Texts: conversations of scenes told again with other punctuation, with a
word more, or with every fourth word another, with the same picture.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from infinity_mm.cli.tables import columns
from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.scenes.copies import COPIES
from infinity_mm.store import Store
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.stage import run as run_dedup
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

RUNS: dict[str, dict[str, Any]] = {
    "exact (files)": {"by": "exact", "exact_key": "bytes", "texts": "any"},
    "exact (pixels)": {"by": "exact", "texts": "any"},
    "exact (hash, conversation)": {"by": "exact", "exact_key": "phash"},
    "perceptual": {"by": "perceptual"},
    "perceptual, flips": {"by": "perceptual", "flips": True},
    "semantic (tiny, 0.98)": {"by": "semantic", "embedder": "tiny", "cosine": 0.98},
    "semantic (tiny, 0.95)": {"by": "semantic", "embedder": "tiny", "cosine": 0.95},
}
RETOLD = ("punctuation", "a word more", "every fourth word")


def dropped(store: str, manifest: str, options: dict[str, Any]) -> dict[str, str]:
    """Origin of what is dropped -> origin of its witness."""
    result = run_dedup(
        DedupConfig(manifest=manifest, out="out", store=store, replace=True, keep=["first"], **options)
    )
    made = Manifest.open(Store.open(store), result["manifest"])
    parent = Manifest.open(made.store, made.parents[0])
    origin: dict[bytes, str] = {}
    for number in range(len(parent.shards)):
        table = parent.table(number)
        origin |= dict(
            zip(table.column("sample_id").to_pylist(), table.column("origin").to_pylist(), strict=True)
        )
    rows = pq.read_table(made.store.open_file(made.document["ledger"]["file"])).to_pylist()
    return {row["origin"]: origin[row["witness"]] for row in rows if row["witness"]}


def pictures(folder: Path, count: int) -> None:
    make_scenes(ScenesConfig(out=folder / "scenes", count=count, seed=77, defects=0.5))
    truths = [json.loads(line) for line in (folder / "scenes/truth.jsonl").open()]
    store = str(folder / "store")
    inputs = [str(folder / "scenes/data.json")]
    run_ingest(IngestConfig(inputs=inputs, store=store, out="raw"))
    run_filter(FilterConfig(manifest="raw", out="sound", store=store))
    sound = Manifest.open(Store.open(store), "sound")
    there = {o for n in range(len(sound.shards)) for o in _selected(sound, n)}
    planted: dict[str, set[str]] = defaultdict(set)
    for truth in truths:
        if truth["original"] and truth["defects"][0] in COPIES:
            mine, its = (f"data.json:{i}" for i in (truth["index"], truth["original"]["index"]))
            if mine in there and its in there:
                planted[truth["defects"][0]].add(mine)
    group = {f"data.json:{t['index']}": t["group"] for t in truths}
    keys = {f"data.json:{t['index']}": tuple(t["scene_keys"]) for t in truths}
    heads = ["method", *planted, "dropped", "rightly", "precision"]
    rows = []
    for name, options in RUNS.items():
        gone = dropped(store, "sound", options)
        right = sum(group[o] == group[w] or keys[o] == keys[w] for o, w in gone.items())
        found = [f"{len(mine & gone.keys())} of {len(mine)}" for mine in planted.values()]
        share = f"{right / len(gone):.3f}" if gone else "-"
        rows.append([name, *found, f"{len(gone):,}", f"{right:,}", share])
    print(f"\nplanted copies among {len(there):,} sound scenes: how many are dropped")
    print("\n".join(columns([heads, *rows], right=range(1, len(heads)))))


def _selected(manifest: Manifest, number: int) -> list[str]:
    table = manifest.table(number).take(manifest.shards[number].selected.rows)
    return list(table.column("origin").to_pylist())


def texts(folder: Path, count: int) -> None:
    make_scenes(ScenesConfig(out=folder / "plain", count=count, seed=78))
    entries = json.loads((folder / "plain/data.json").read_text())
    made, planted = list(entries), {}
    for number, entry in enumerate(entries):
        if sum(len(turn["value"].split()) for turn in entry["conversations"]) < 20:
            continue
        how = RETOLD[number % len(RETOLD)]
        turns = [{**turn, "value": _retold(turn["value"], how)} for turn in entry["conversations"]]
        planted[f"data.json:{len(made)}"] = (how, f"data.json:{number}")
        made.append({**entry, "conversations": turns})
    (folder / "plain/data.json").write_text(json.dumps(made))
    store = str(folder / "texts")
    run_ingest(IngestConfig(inputs=[str(folder / "plain/data.json")], store=store, out="raw"))
    rows = []
    for threshold in (0.8, 0.6, 0.4):
        gone = dropped(store, "raw", {"by": "text", "jaccard": threshold})
        found = Counter(how for mine, (how, _) in planted.items() if mine in gone)
        of = Counter(how for how, _ in planted.values())
        right = sum(planted.get(o, ("", ""))[1] == w for o, w in gone.items())
        share = f"{right / len(gone):.3f}" if gone else "-"
        rows.append([f"{threshold}", *(f"{found[h]} of {of[h]}" for h in RETOLD), f"{len(gone):,}", share])
    print(f"\nconversations told again, of {len(made):,} records: how many are dropped")
    heads = ["jaccard", *RETOLD, "dropped", "precision"]
    print("\n".join(columns([heads, *rows], right=range(1, len(heads)))))


def _retold(text: str, how: str) -> str:
    if how == "punctuation":
        return text.replace(",", " ,").replace(".", "!").upper().replace("<IMAGE>", "<image>")
    if how == "a word more":
        return f"{text} indeed"
    words = text.split(" ")
    return " ".join("thing" if i % 4 == 3 else word for i, word in enumerate(words))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=4000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        pictures(Path(temporary), given.count)
        texts(Path(temporary), given.count)
