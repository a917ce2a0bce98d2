"""Tags of scenes by the tiny CLIP, and the types that its tags lead to, against what was drawn.

    python benchmarks/tags.py [--count 1000] [--seed 41]      about a minute

By threshold, precision and recall of colours and shapes (of objects, bars and texts), of text and of
charts. Then the table of types: every other picture with the kind of its question is a seed; for the rest,
which types are drawn for pictures of objects, of a text and of a chart, by tags as they were drawn and as
found.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest
from pipelines.tag.kept import Cut, Tagged, Tags, tags_of
from pipelines.tag.stage import TagConfig
from pipelines.tag.stage import run as run_tag
from pipelines.tag.vocabulary import Vocabulary
from pipelines.types.sampler import Sampler
from pipelines.types.table import Seeds, Table
from pipelines.types.taxonomy import Taxonomy

THRESHOLDS = (0.13, 0.14, 0.145, 0.15, 0.16, 0.17)
BEST = 0.145  # the threshold of about the highest F1, for the types
EVERY = 15  # tags: the whole vocabulary
APART = ("written text", "chart")
KINDS = ("colour", "shape", "size", "count", "exists", "relation", "read_text", "chart")


def drawn(scene: dict[str, Any]) -> set[str]:
    """The tags that a scene deserves."""
    found = {one[key] for one in scene["objects"] for key in ("colour", "shape")}
    if scene["text"]:
        found |= {"written text", scene["text"]["colour"]}
    if scene["chart"]:
        found |= {"chart", *(bar["colour"] for bar in scene["chart"])}
    return found


class Picture(NamedTuple):
    id: bytes
    kind: str  # of its question
    truth: set[str]
    found: list[Tagged]


def pictures(folder: Path, count: int, seed: int) -> list[Picture]:
    """Scenes of one picture with one question, tagged."""
    make_scenes(
        ScenesConfig(
            out=folder / "drawn", count=count, seed=seed, kinds=KINDS, multi_turn_share=0,
            video_share=0, text_only_share=0, multi_image_share=0,
        )
    )  # fmt: skip
    store = {"store": str(folder / "store"), "workers": 0}
    ingest(IngestConfig(inputs=[str(folder / "drawn/data.json")], out="raw", **store))
    options = {"manifest": "raw", "out": "tagged", "with": "tiny", "vocabulary": "scenes", "top": EVERY}
    made = run_tag(TagConfig.model_validate(store | options))
    manifest = Manifest.open(Store.open(store["store"]), made["manifest"])
    truths = [json.loads(line) for line in (folder / "drawn/truth.jsonl").read_text().splitlines()]
    tags, told = Tags(manifest), []
    for number in range(len(manifest.shards)):
        table = manifest.table(number).select(["sample_id", "origin", "media"]).to_pylist()
        rows = {row["sample_id"]: row for row in table}
        for sample, [found] in tags_of(tags, number):
            truth = truths[int(rows[sample]["origin"].rpartition(":")[2])]
            assert isinstance(found, list)
            told.append(Picture(rows[sample]["media"][0], truth["kind"], drawn(truth["scenes"][0]), found))
    return told


def quality(shown: Sequence[Picture], threshold: float, tags: set[str]) -> tuple[float, float]:
    """Precision and recall of some tags."""
    cut = [{one.tag for one in picture.found if (one.score or 0) >= threshold} & tags for picture in shown]
    true = [picture.truth & tags for picture in shown]
    hits = sum(len(a & b) for a, b in zip(cut, true, strict=True))
    return hits / max(1, sum(map(len, cut))), hits / max(1, sum(map(len, true)))


def types(shown: Sequence[Picture], by_truth: bool) -> tuple[Table, Counter[tuple[str, str]]]:
    """The table of every other picture, and what is drawn for the rest: (what is shown, type) to count."""

    def tags(picture: Picture) -> list[Tagged]:
        if by_truth:
            return [Tagged(tag, 1.0) for tag in sorted(picture.truth)]
        return Cut(BEST, EVERY).of(*zip(*picture.found, strict=True))

    seeds = Seeds(Taxonomy.load("scenes"))
    for picture in shown[::2]:
        seeds.add(picture.kind, tags(picture))
    table = seeds.table()
    sampler, counts = Sampler(table, seed=1, shard="0"), Counter[tuple[str, str]]()
    for picture in shown[1::2]:
        what = next((tag for tag in APART if tag in picture.truth), "objects")
        counts.update((what, type) for type in sampler.draw(picture.id, tags(picture), 2))
    return table, counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=41)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shown = pictures(Path(folder), given.count, given.seed)
    every = set(Vocabulary.load("scenes").tags)
    kinds = {"colours and shapes": every - set(APART), **{tag: {tag} for tag in APART}}
    print(f"{len(shown):,} pictures; precision and recall")
    print(f"{'threshold':>9}", *(f"{kind:>20}" for kind in kinds))
    for threshold in THRESHOLDS:
        told = [quality(shown, threshold, tags) for tags in kinds.values()]
        print(f"{threshold:>9}", *(f"{p:>12.3f} {r:>7.3f}" for p, r in told))
    for by_truth in (True, False):
        table, counts = types(shown, by_truth)
        print(f"\ntypes drawn, 2 a picture, tags {'as drawn' if by_truth else 'as found'}")
        print(f"{'':>12}", *(f"{type:>10}" for type in table.types))
        for what in ("objects", *APART):
            total = sum(n for (shows, _), n in counts.items() if shows == what)
            print(f"{what:>12}", *(f"{counts[what, type] / max(1, total):>10.1%}" for type in table.types))
        for row in table.rows(4):
            print(f"  {row.type:<10} {row.seeds:>4}  {', '.join(f'{t} {w:.2f}' for t, w in row.tags)}")


if __name__ == "__main__":
    main()
