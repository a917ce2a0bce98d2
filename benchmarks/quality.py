"""What the rules find and what they lose, against truth.

    python benchmarks/quality.py                  both parts, about three minutes
    python benchmarks/quality.py --only scenes    planted defects: precision and recall of every rule
    python benchmarks/quality.py --only real      labelled real data: what each recipe loses of what is good

scenes  each rule judged alone: how many of the defects that it is there to find it finds, what else it drops
real    sources of one kind together; but for the one corrupt file and the misnamed ones all are good there
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1] / "tests"))
from inputs import MAPS

from infinity_mm.cli.tables import columns
from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.frames import COLUMNS, shard_table
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest
from pipelines.judge import BROKEN, Judge
from pipelines.measure import measure, settings_of
from pipelines.mix import MixConfig
from pipelines.mix import run as run_mix
from pipelines.rules import Compiled, roots

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COUNT, SEED, DEFECTS = 4000, 2026, 0.5
RECIPES = ("infinity_mm", "strict", "documents")
KINDS = {
    "photographs": (
        "flickr8k", "flickr8k_alt", "flickr8k_conversations", "flickr8k_match", "coco_mini", "coco_mini_qa",
        "coco_pairs_224", "coco_pairs_full", "imagenet",
    ),
    "web pictures": ("cc12m",),
    "charts": ("chartqa", "opencqa"),
    "tables": ("tabmwp",),
    "receipts": ("sroie", "sroie_qa"),
    "diagrams": ("mathv", "nlvr"),
    "drawn shapes": ("easy_vqa",),
    "exam pages": ("gaokao_mm",),
}  # fmt: skip
UNDECODABLE = ("corrupt_bytes", "truncated", "bit_flipped", "html_as_jpg", "zero_bytes")
# The defects that each rule is there to find, where need be only some kinds of them.
FINDS: dict[str, dict[str, set[str]]] = {
    "role_order": {"broken_roles": set()},
    "empty_turn": {"empty_turn": {"empty_answer", "blank_answer"}},
    "marker_without_media": {"marker_mismatch": {"extra_marker", "no_media"}},
    "media_without_marker": {"marker_mismatch": {"missing_marker"}},
    "undecodable_media": {name: set[str]() for name in UNDECODABLE},
    "wrong_format": {"wrong_extension": set()},
    "small_picture": {"tiny": set()},
    "long_picture": {"huge": {"wide"}},
    "huge_picture": {"huge": set()},
    "blank_picture": {"blank": set(), "huge": set()},
    "washed_out_picture": {"over_exposed": set()},
    "blurred_picture": {"blurred": set()},
    "answer_leaked": {"answer_leaked": set()},
    "refusal": {"refusal": set()},
    "repetition": {"repeated_phrase": set()},
    "other_language": {"wrong_language": set()},
}


def scenes(folder: Path) -> None:
    """Every rule of every recipe on drawn records, a half of them with a planted defect."""
    make_scenes(ScenesConfig(out=folder / "scenes", count=COUNT, seed=SEED, defects=DEFECTS))
    truth = [json.loads(line) for line in (folder / "scenes/truth.jsonl").read_text().splitlines()]
    url = str(folder / "store")
    run_ingest(IngestConfig(inputs=[str(folder / "scenes/data.json")], store=url, out="raw", source="scenes"))
    manifest = Manifest.open(Store.open(url), "raw")
    planted = [{d: record["detail"].get("sub_kind", "") for d in record["defects"]} for record in truth]
    print(f"\nscenes: {COUNT:,} records, {sum(map(bool, planted)):,} with a planted defect, seed {SEED}")
    print(f"ingest kept {manifest.samples:,}: {manifest.document['ledger']['reasons']}")
    for recipe in RECIPES[1:]:
        rules = FilterConfig(manifest="raw", dry_run=True, recipe=recipe).compiled()
        rows = [("rule", "drops", "its defect", "other defects", "sound", "planted", "precision", "recall")]
        rows += [_line(name, drops, came, planted) for name, drops, came in _alone(manifest, rules)]
        print(f"\n{recipe}, each rule alone")
        print("\n".join(columns(rows, right=range(1, 8))))


def _alone(manifest: Manifest, rules: list[Compiled]) -> Iterator[tuple[str, set[int], set[int]]]:
    """The records that each rule drops, and those that came to it, by their places."""
    config = FilterConfig(manifest="raw", dry_run=True)
    files, _ = measure(manifest.store, manifest, settings_of(config, list(roots(rules))), workers=2)
    judge = Judge(manifest, rules, files)
    drops: list[set[int]] = [set() for _ in rules]
    came: set[int] = set()
    for number in range(len(manifest.shards)):
        table: pa.Table = shard_table(manifest, number, COLUMNS)
        decided = judge.decide(number, np.arange(table.num_rows), table)
        places = [int(origin.rsplit(":", 1)[1]) for origin in table.column("origin").to_pylist()]
        came.update(places)
        for i in range(len(rules)):
            drops[i].update(places[k] for k in np.flatnonzero(decided.status[i] == BROKEN))
    for i, rule in enumerate(rules):
        yield rule.rule.name, drops[i], came


def _line(name: str, drops: set[int], came: set[int], planted: list[dict[str, str]]) -> tuple[str, ...]:
    wanted = FINDS.get(name, {})
    meant = {
        i for i in came for defect, kind in planted[i].items()
        if defect in wanted and (not wanted[defect] or kind in wanted[defect])
    }  # fmt: skip
    found, sound = len(drops & meant), sum(not planted[i] for i in drops)
    counts = (len(drops), found, len(drops) - found - sound, sound, len(meant))
    precision = f"{found / len(drops):.3f}" if drops and wanted else "-"
    recall = f"{found / len(meant):.3f}" if meant else "-"
    return name, *(f"{n:,}" for n in counts), precision, recall


def real(folder: Path) -> None:
    """What each recipe drops of each kind of real data, beyond what is built in."""
    url = str(folder / "store")
    for name in MAPS:
        config = IngestConfig(
            inputs=[str(DATA / f"{name}.jsonl")], store=url, out=name, source=name, map=MAPS[name] or None,
            mode="reference",
        )  # fmt: skip
        run_ingest(config)
    for kind, names in KINDS.items():
        run_mix(MixConfig(store=url, manifests=list(names), out=kind.replace(" ", "_")))
        run_filter(
            FilterConfig(store=url, manifest=kind.replace(" ", "_"), out=f"sound_{kind.replace(' ', '_')}")
        )
    rows = [("kind", "samples", *RECIPES)]
    reasons: dict[str, list[str]] = {recipe: [] for recipe in RECIPES}
    for kind in KINDS:
        sound = Manifest.open(Store.open(url), f"sound_{kind.replace(' ', '_')}")
        cells = [kind, f"{sound.samples:,}"]
        for recipe in RECIPES:
            result = run_filter(FilterConfig(store=url, manifest=sound.file, recipe=recipe, dry_run=True))
            lost = result["dropped"] + result["failed"]
            cells.append(f"{lost:,} ({lost / max(1, sound.samples):.1%})")
            if result["reasons"]:
                counts = Counter(result["reasons"]).most_common()
                reasons[recipe].append(f"  {kind}: " + ", ".join(f"{n} {c}" for n, c in counts))
        rows.append(tuple(cells))
    print("\nreal data: good samples that a recipe drops")
    print("\n".join(columns(rows, right=range(1, 5))))
    for recipe, lines in reasons.items():
        print(f"{recipe}, by rule", *lines, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("scenes", "real"))
    only = parser.parse_args().only
    if only != "real":
        with tempfile.TemporaryDirectory(prefix=".bench-") as folder:
            scenes(Path(folder))
    if only != "scenes":
        if not DATA.is_dir():
            print("real: left out, the labelled data is not beside the checkout")
            return
        with tempfile.TemporaryDirectory(prefix=".bench-") as folder:
            real(Path(folder))


if __name__ == "__main__":
    main()
