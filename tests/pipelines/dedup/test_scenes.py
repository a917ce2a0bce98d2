"""All methods together on scenes whose copies are known: what is found, and that nothing else is dropped."""

import json
from typing import Any

import numpy as np
import pytest
from inputs import ledger, samples

from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.stage import run as run_dedup
from pipelines.embed import Embeddings, embed
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

Truths = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Truths]:
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(ScenesConfig(out=folder / "drawn", count=500, seed=31, defects=0.5))
    url = str(folder / "store")
    run_ingest(IngestConfig(inputs=[str(folder / "drawn/data.json")], store=url, out="raw", workers=0))
    run_filter(FilterConfig(manifest="raw", out="sound", store=url, workers=0))
    lines = (folder / "drawn/truth.jsonl").read_text().splitlines()
    truths = {f"data.json:{i}": json.loads(line) for i, line in enumerate(lines)}
    return Manifest.open(Store.open(url), "sound"), truths


def dropped(manifest: Manifest, by: str, **options: Any) -> list[dict[str, Any]]:
    config = DedupConfig(
        manifest="sound", out="out", store=manifest.store.url, replace=True, workers=0, by=[by], **options
    )
    return ledger(Manifest.open(manifest.store, run_dedup(config)["manifest"]))


def right(truths: Truths, row: dict[str, Any], witness: str) -> bool:
    mine, its = truths[row["origin"]], truths[witness]
    return mine["group"] == its["group"] or mine["scene_keys"] == its["scene_keys"]


def test_copies_are_found_and_nothing_else_is_dropped(scenes: tuple[Manifest, Truths]) -> None:
    manifest, truths = scenes
    origin = {s.sample_id: s.origin for s in samples(manifest)}
    rows = dropped(manifest, "exact,perceptual,text", flips=True)
    assert all(right(truths, row, origin[row["witness"]]) for row in rows)
    gone = {row["origin"] for row in rows} | {origin[row["witness"]] for row in rows}
    wanted = {
        o
        for o in origin.values()
        if truths[o]["defects"] and truths[o]["defects"][0] in ("rescaled", "recompressed", "flipped")
        and f"data.json:{truths[o]['original']['index']}" in origin.values()
    }  # fmt: skip
    assert len(wanted) >= 20
    assert len(wanted & gone) >= 0.9 * len(wanted)


def test_semantic_drops_are_within_the_cosine_of_their_witness(scenes: tuple[Manifest, Truths]) -> None:
    manifest, _truths = scenes
    rows = dropped(manifest, "semantic", embedder="tiny", cosine=0.97)
    assert len(rows) >= 10
    files = embed(manifest.store, manifest, "tiny", workers=0)
    embeddings, library = Embeddings(manifest.store, files), manifest.library()

    def vector(medium: bytes) -> np.ndarray:
        found = library.find(medium)
        row = embeddings.vectors(found.shard)[found.row].astype(np.float32)
        return row / np.linalg.norm(row)

    by_id = {s.sample_id: s for s in samples(manifest)}
    for row in rows:
        mine, its = by_id[row["sample_id"]], by_id[row["witness"]]
        cosine = min(
            float(vector(a) @ vector(b)) for a, b in zip(mine.media, its.media, strict=True)
        )  # fmt: skip
        assert cosine >= 0.97 - 1e-3 and float(row["value"]) == pytest.approx(cosine, abs=2e-3)


def test_what_a_dedup_says_of_itself(scenes: tuple[Manifest, Truths]) -> None:
    manifest, _ = scenes
    dropped(manifest, "perceptual,text,semantic", embedder="tiny", cosine=0.97)
    made = Manifest.open(manifest.store, "out")
    about = {m["name"]: m for m in made.document["dedup"]["methods"]}
    assert sum(m["dropped"] for m in about.values()) == made.document["counts"]["dropped"]
    there = {s.sample_id.hex() for s in samples(made)}
    for method in about.values():
        histogram = method["histogram"]
        assert len(histogram["edges"]) == len(histogram["counts"]) + 1 == len(histogram["beyond"]) + 1
        assert sum(histogram["counts"]) == method["alone"] >= method["dropped"]
        for miss in method["misses"]:
            assert {miss["a"], miss["b"]} <= there
            low = method["near_is"] == "low"
            assert (
                (miss["distance"] > method["threshold"]) if low else (miss["distance"] < method["threshold"])
            )
    assert about["perceptual"]["misses"] or about["semantic"]["misses"]
