"""`imm trace` follows what stands for a dropped sample into later manifests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deduped import Drop, deduped, method
from inputs import jpeg, record, samples

from infinity_mm.cli import main
from infinity_mm.cli.trace import show
from infinity_mm.manifest import Manifest
from infinity_mm.schema import Sample
from infinity_mm.trace import lineage, made_from, trace
from infinity_mm.withdraw import forget
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.mix import MixConfig
from pipelines.mix import run as run_mix
from pipelines.split import SplitConfig
from pipelines.split import run as run_split

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]
METHODS = [method("perceptual"), method("text")]


@pytest.fixture
def raw(ingest: Ingest, dataset: Dataset) -> Manifest:
    """Six pictures, ten pixels wider each."""
    files = {f"{i}.jpg": jpeg(i, (40 + 10 * i, 40)) for i in range(6)}
    return ingest(dataset([record(f"{i}.jpg", f"Question {i}?") for i in range(6)], files))


def filtered(manifest: Manifest, least: int, out: str = "sound") -> Manifest:
    config = FilterConfig(
        store=manifest.store.url, manifest=manifest.file, out=out, where=[f"width >= {least}"], workers=0
    )
    return Manifest.open(manifest.store, run_filter(config)["manifest"])


def dropped(manifest: Manifest, sample: Sample, reference: str | None = None) -> dict[str, Any]:
    """The first step of a sample's life that did not keep it."""
    [found] = trace(manifest.store, sample.sample_id.hex(), reference)["samples"]
    return next(step for step in found["life"] if step["outcome"] != "kept")


def names(stages: list[dict[str, Any]]) -> list[str]:
    return [name for stage in stages for name in stage["names"]]


def shown(manifest: Manifest, sample: Sample) -> str:
    return show(trace(manifest.store, sample.sample_id.hex()))


def test_a_witness_that_is_still_there(raw: Manifest) -> None:
    first, second, *_ = samples(raw)
    unique = deduped(raw, {first.sample_id: Drop("perceptual", "3", second.sample_id)}, METHODS)
    step = dropped(unique, first)
    assert step["witness"] == second.sample_id.hex()
    assert (names(step["witness_now"]["in"]), step["witness_now"]["dropped"]) == (["unique"], [])
    filtered(unique, 50)
    step = dropped(unique, first)
    assert (names(step["witness_now"]["in"]), step["witness_now"]["dropped"]) == (["sound"], [])
    assert f"witness {second.sample_id.hex()} (still in sound)" in shown(unique, first)
    # what is not looked at is not spoken of
    assert names(dropped(unique, first, "unique")["witness_now"]["in"]) == ["unique"]


def test_a_witness_that_a_later_stage_dropped(raw: Manifest) -> None:
    first, second, *_ = samples(raw)
    unique = deduped(raw, {first.sample_id: Drop("perceptual", "3", second.sample_id)}, METHODS)
    filtered(unique, 60)
    now = dropped(unique, first)["witness_now"]
    assert now["in"] == []
    [later] = now["dropped"]
    assert (later["stage"], later["names"], later["reason"], later["value"]) == (
        "filter", ["sound"], "width", "50"
    )  # fmt: skip
    assert (
        f"witness {second.sample_id.hex()} (dropped later by filter → sound: dropped, width: 50 "
        "(kept is: width >= 60)" in shown(unique, first)
    )


def test_branches_are_told_each(raw: Manifest) -> None:
    first, second, *_ = samples(raw)
    unique = deduped(raw, {first.sample_id: Drop("perceptual", "3", second.sample_id)}, METHODS)
    filtered(unique, 60, out="wide")
    filtered(unique, 50, out="all")
    now = dropped(unique, first)["witness_now"]
    assert (names(now["in"]), names(now["dropped"])) == (["all"], ["wide"])


def test_a_witness_in_one_part_of_a_split(raw: Manifest) -> None:
    first, second, *_ = samples(raw)
    unique = deduped(raw, {first.sample_id: Drop("perceptual", "3", second.sample_id)}, METHODS)
    run_split(SplitConfig(store=raw.store.url, manifest="unique", out="part", part=["a=0.5", "b=0.5"]))
    now = dropped(unique, first)["witness_now"]
    [part] = names(now["in"])
    assert second.sample_id in {s.sample_id for s in samples(Manifest.open(raw.store, part))}
    assert [step["reason"] for step in now["dropped"]] == ["other_part"]


def test_a_witness_that_came_in_twice_is_still_there(raw: Manifest) -> None:
    first, second, *_ = samples(raw)
    unique = deduped(raw, {first.sample_id: Drop("perceptual", "3", second.sample_id)}, METHODS)
    run_mix(MixConfig(store=raw.store.url, manifests=["raw", "unique"], out="mixed"))
    now = dropped(unique, first)["witness_now"]
    assert (names(now["in"]), now["dropped"]) == (["mixed"], [])


def test_a_chain_is_followed_to_its_end(raw: Manifest) -> None:
    a, b, c, *_ = samples(raw)
    first = deduped(raw, {a.sample_id: Drop("perceptual", "3", b.sample_id)}, METHODS, name="one")
    second = deduped(first, {b.sample_id: Drop("text", "0.9", c.sample_id)}, METHODS, name="two")
    [later] = dropped(second, a)["witness_now"]["dropped"]
    assert (later["reason"], later["witness"]) == ("text", c.sample_id.hex())
    assert names(later["witness_now"]["in"]) == ["two"]
    assert f"witness {c.sample_id.hex()} (still in two)" in shown(second, a)


def test_a_witness_in_a_manifest_it_was_held_against(raw: Manifest, ingest: Ingest, dataset: Dataset) -> None:
    other = ingest(dataset([record("z.jpg")], {"z.jpg": jpeg(99)}, name="o"), out="bench")
    [stranger], [first, *_] = samples(other), samples(raw)
    drops = {first.sample_id: Drop("perceptual", "3", stranger.sample_id)}
    unique = deduped(raw, drops, METHODS, against=[other])
    assert names(dropped(unique, first)["witness_now"]["in"]) == ["bench"]
    other.store.delete("refs/bench")
    assert dropped(unique, first)["witness_now"]["in"][0]["manifest"] == other.file[:12]
    other.store.delete(f"manifests/{other.file}.json")
    now = dropped(unique, first)["witness_now"]
    assert (now["in"], now["dropped"]) == ([], [])
    assert f"witness {stranger.sample_id.hex()}\n" in shown(unique, first) + "\n"


def test_what_it_was_merged_into(raw: Manifest) -> None:
    a, b, *_ = samples(raw)
    drops = {a.sample_id: Drop("merged", "", None, child=b.sample_id)}
    unique = deduped(raw, drops, METHODS)
    filtered(unique, 60)
    step = dropped(unique, a)
    assert "witness_now" not in step
    assert [later["reason"] for later in step["child_now"]["dropped"]] == ["width"]
    assert f"merged into {b.sample_id.hex()} (dropped later by filter → sound" in shown(unique, a)


def test_a_withdrawn_witness_says_so(raw: Manifest) -> None:
    a, b, *_ = samples(raw)
    unique = deduped(raw, {a.sample_id: Drop("perceptual", "3", b.sample_id)}, METHODS)
    forget(raw.store, b.sample_id.hex(), "asked to")
    assert dropped(unique, a)["witness_now"]["withdrawn"] == "asked to"
    assert f"witness {b.sample_id.hex()} (WITHDRAWN: asked to; still in unique)" in shown(unique, a)


def test_a_repeated_record_stands_for_itself(
    ingest: Ingest, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = ingest(dataset([record("a.jpg"), record("a.jpg")], {"a.jpg": jpeg(1)}))
    [sample] = samples(manifest)
    step = dropped(manifest, sample)
    assert (step["witness"], "witness_now" in step) == (sample.sample_id.hex(), False)
    assert main(["trace", "data.json:1", "--store", str(manifest.store.root), "--json"]) == 0
    [again] = json.loads(capsys.readouterr().out)["rejected_records"]
    assert (again["reason"], "sample_id" in again, "witness_now" in again) == ("repeat", False, False)


def test_what_was_made_from_a_manifest(raw: Manifest) -> None:
    unique = deduped(raw, {}, METHODS)
    sound = filtered(unique, 50)
    way = lineage(raw.store, sound)
    assert [m.file for m in made_from(way, raw.file)] == [unique.file, sound.file]
    assert [m.file for m in made_from(way, unique.file)] == [sound.file]
    assert made_from(way, sound.file) == []
