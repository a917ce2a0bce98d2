"""What the loss filter finds: planted defects and wrong answers, by their loss under a scorer.

    python benchmarks/loss_filter.py                        both parts, with the small VLM that ships
    python benchmarks/loss_filter.py --scorer FOLDER        with another model
    python benchmarks/loss_filter.py --only defects         one of defects, wrong, speed

defects  each defect of conversations that `imm scenes` plants: the area under the curve of vlm_loss against
         sound records (0.5 is chance), and how many of them the highest 5 % of all losses hold
wrong    sound records, of which one in twenty is given the answer of another record to a question of the same
         kind: areas within each kind of question, and precision and recall of the highest 5 %, cut over all
         records or within each kind
speed    samples a second, over the bare model's forward pass on the same batches
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from infinity_mm.cli.tables import columns
from infinity_mm.engines.scoring import find_scorer
from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.scenes.conversation_defects import CONVERSATION_DEFECTS
from infinity_mm.schema import samples_from
from infinity_mm.store import Store, read_table
from pipelines.config import MeasuringConfig
from pipelines.frames import shard_table
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest
from pipelines.measure import measure, settings_of

COUNT, SEED, SHARE = 4000, 2026, 0.05
ASKED = ("caption", "colour", "shape", "size", "count", "relation", "exists", "read_text", "chart")


def ingested(folder: Path) -> Manifest:
    """The records of folder/scenes in a store of their own."""
    url = str(folder / "store")
    run_ingest(IngestConfig(inputs=[str(folder / "scenes/data.json")], store=url, out="raw", source="scenes"))
    return Manifest.open(Store.open(url), "raw")


def losses(manifest: Manifest, scorer: str) -> dict[int, float]:
    """vlm_loss by the place of the record, of those that have one; prints what became of the others."""
    files, _ = measure(
        manifest.store, manifest, settings_of(MeasuringConfig(scorer=scorer), ["vlm_loss"]), workers=2
    )
    found, without = {}, Counter[str]()
    for number, shard in enumerate(manifest.shards):
        table = read_table(manifest.store, files["vlm_loss"][shard.sha256])
        origins = shard_table(manifest, number, ["origin"]).column("origin").to_pylist()
        rows = zip(table.column("vlm_loss").to_pylist(), table.column("error").to_pylist(), strict=True)
        for origin, (loss, error) in zip(origins, rows, strict=True):
            if loss is not None:
                found[int(origin.rsplit(":", 1)[1])] = loss
            else:
                without[str(error).split(":")[0] if error else "not applicable"] += 1
    print(f"{len(found):,} records have a loss; not: {dict(without)}")
    return found


def area(bad: list[float], good: list[float]) -> float:
    """The chance that a bad one's loss is above a good one's."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, "left") + np.searchsorted(ordered, bad, "right")
    return float(below.mean() / (2 * len(ordered)))


def highest(found: dict[int, float], groups: dict[int, str]) -> set[int]:
    """The places above the quantile of their group, as the rule with QUANTILE_DISC drops them."""
    dropped: set[int] = set()
    for group in set(groups.values()):
        own = {place: loss for place, loss in found.items() if groups[place] == group}
        ordered = sorted(own.values())
        limit = ordered[-(-len(ordered) * 95 // 100) - 1]
        dropped |= {place for place, loss in own.items() if loss > limit}
    return dropped


def defects(folder: Path, scorer: str, count: int) -> None:
    make_scenes(ScenesConfig(out=folder / "scenes", count=count, seed=SEED, defects=0.3))
    truth = [json.loads(line) for line in (folder / "scenes/truth.jsonl").read_text().splitlines()]
    found = losses(ingested(folder), scorer)
    good = [found[i] for i in found if not truth[i]["defects"]]
    dropped = highest(found, dict.fromkeys(found, ""))
    rows = [("defect", "records", "area", "median loss", "in highest 5 %", "recall")]
    for name in ("", *CONVERSATION_DEFECTS):
        own = [i for i in found if truth[i]["defects"] == ([name] if name else [])]
        if own:
            held = len(dropped & set(own))
            bad = [found[i] for i in own]
            rows.append(
                (name or "none", f"{len(own):,}", f"{area(bad, good):.3f}", f"{np.median(bad):.2f}",
                 f"{held:,}", f"{held / len(own):.0%}")
            )  # fmt: skip
    spoiled = {i for i in found if set(truth[i]["defects"]) & set(CONVERSATION_DEFECTS)}
    print("\n".join(columns(rows, right=range(1, 6))))
    print(f"of {len(dropped):,} dropped, {len(dropped & spoiled) / len(dropped):.1%} have a planted defect; "
          f"of all, {len(spoiled) / len(found):.1%}")  # fmt: skip


def wrong(folder: Path, scorer: str, count: int) -> None:
    make_scenes(
        ScenesConfig(
            out=folder / "scenes", count=count, seed=SEED + 1, multi_turn_share=0, kinds=ASKED,
            video_share=0, multi_image_share=0, text_only_share=0,
        )
    )  # fmt: skip
    records = json.loads((folder / "scenes/data.json").read_text())
    truth = [json.loads(line) for line in (folder / "scenes/truth.jsonl").read_text().splitlines()]
    given = swapped(truth)
    for place, text in given.items():
        records[place]["conversations"][-1]["value"] = text
    (folder / "scenes/data.json").write_text(json.dumps(records, ensure_ascii=False))
    found = losses(ingested(folder), scorer)
    kinds = {i: str(truth[i]["kind"]) for i in found}
    rows = [("kind", "right", "wrong", "area", "median right", "median wrong")]
    for kind in ASKED:
        good, bad = (
            [found[i] for i in found if kinds[i] == kind and (i in given) == is_wrong] for is_wrong in (0, 1)
        )
        rows.append(
            (kind, f"{len(good):,}", f"{len(bad):,}", f"{area(bad, good):.3f}", f"{np.median(good):.3f}",
             f"{np.median(bad):.3f}")
        )  # fmt: skip
    good, bad = ([found[i] for i in found if (i in given) == is_wrong] for is_wrong in (0, 1))
    rows.append(("all", f"{len(good):,}", f"{len(bad):,}", f"{area(bad, good):.3f}", f"{np.median(good):.3f}",
                 f"{np.median(bad):.3f}"))  # fmt: skip
    print("\n".join(columns(rows, right=range(1, 6))))
    for how, groups in (("all records", dict.fromkeys(found, "")), ("each kind", kinds)):
        dropped, planted = highest(found, groups), set(given) & set(found)
        hit = len(dropped & planted)
        print(f"highest 5 % of {how}: {len(dropped):,} dropped, precision {hit / len(dropped):.1%}, "
              f"recall {hit / len(planted):.1%}")  # fmt: skip


def swapped(truth: list[dict[str, Any]]) -> dict[int, str]:
    """For one record in twenty, the answer of another to a question of its kind and language, which differs
    in what it says."""
    rng = np.random.default_rng(SEED)
    given: dict[int, str] = {}
    for place in np.flatnonzero(rng.random(len(truth)) < SHARE).tolist():
        own = truth[place]
        same = [t for t in truth if (t["kind"], t["language"]) == (own["kind"], own["language"])]
        others = [t["answers"][0] for t in same if t["answers"][0]["value"] != own["answers"][0]["value"]]
        given[place] = others[int(rng.integers(len(others)))]["text"]
    return given


def speed(folder: Path, spec: str, count: int) -> None:
    import torch

    from infinity_mm.engines import scoring

    make_scenes(ScenesConfig(out=folder / "scenes", count=min(count, 500), seed=SEED + 2, video_share=0))
    manifest = ingested(folder)
    library = manifest.library()
    samples = [
        (sample.turns, [library.read(one) for one in sample.media])
        for number in range(len(manifest.shards))
        for sample in samples_from(manifest.table(number))
    ]
    scorer = find_scorer(spec).load()
    scorer.losses(samples[:8])
    whole = _timed(lambda: scorer.losses(samples))
    laid = {place: scorer.layout.lay_out(*sample) for place, sample in enumerate(samples)}
    batches = [
        scoring._collated([laid[place + start] for place in places], scorer._pad)
        for start in range(0, len(laid), scoring.WINDOW)
        for places in scoring._batches(
            {i: laid[start + i] for i in range(min(scoring.WINDOW, len(laid) - start))}, scorer.batch
        )
    ]
    dtype = scorer.model.dtype

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                scorer.model.model(
                    **{
                        k: v.to(scorer.device, dtype if v.is_floating_point() else v.dtype)
                        for k, v in batch.items()
                    }
                )
        if scorer.device != "cpu":
            torch.cuda.synchronize()

    least = _timed(bare)
    rate, most = len(samples) / whole, len(samples) / least
    print(f"{rate:,.1f} samples/s; the model alone, without logits, {most:,.1f}; share {rate / most:.2f}")


def _timed(work: Any) -> float:
    """The shortest of three."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


PARTS = {"defects": defects, "wrong": wrong, "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--scorer", default="tiny")
    parser.add_argument("--count", type=int, default=COUNT, help="records that are drawn")
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            print(f"\n{name}: {given.scorer}")
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder), given.scorer, given.count)
                sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
