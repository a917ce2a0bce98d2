"""What a store already holds never spoils a later run, and a later run never spoils what it holds."""

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import imm, jpeg, ledger, record, samples

import pipelines.ingest.media
import pipelines.ingest.stage
from infinity_mm.formats.registry import WRITERS
from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.store import Store, StoreError, digest_of
from infinity_mm.trace import trace
from infinity_mm.transfer import copy
from infinity_mm.verify import verify
from infinity_mm.withdraw import forget, gc
from pipelines.export import ExportConfig
from pipelines.export import run as run_export
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.places import plan_media
from pipelines.recipe import RecipeConfig
from pipelines.recipe import run as run_recipe

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


def ok(store: Store, *names: str) -> None:
    for name in names:
        found = verify(store, name, media=True)
        assert found["ok"], (name, found["problems"])


@pytest.fixture
def folder(dataset: Dataset) -> Callable[..., Path]:
    """`folder(name, a=1, b=2)`: records over pictures a.jpg, b.jpg of those seeds."""

    def make(name: str, **seeds: int) -> Path:
        records = [record(f"{picture}.jpg", f"{name} {picture}?") for picture in seeds]
        return dataset(records, {f"{picture}.jpg": jpeg(seed) for picture, seed in seeds.items()}, name)

    return make


def test_the_same_media_in_another_layout(ingest: Ingest, folder: Callable[..., Path]) -> None:
    store = ingest(folder("one", a=1), out="one").store
    ingest(folder("two", a=1, b=2, c=3), out="two")
    ok(store, "one", "two")
    ingest(folder("three", x=2, y=3), out="three")
    gc(store)
    ingest(folder("four", p=2, q=3), out="four")
    ok(store, "one", "two", "three", "four")


@pytest.mark.parametrize(
    "modes", [("reference", "copy"), ("copy", "reference"), ("reference", "copy", "reference")]
)
@pytest.mark.parametrize("collect", [False, True])
def test_modes_one_after_another(ingest: Ingest, plain: Path, modes: tuple[str, ...], collect: bool) -> None:
    for number, mode in enumerate(modes):
        manifest = ingest(plain, out=f"m{number}", mode=mode)
        if collect:
            gc(manifest.store)
    ok(manifest.store, *(f"m{number}" for number in range(len(modes))))
    shutil.rmtree(plain.parent)
    copied = [f"m{number}" for number, mode in enumerate(modes) if mode == "copy"]
    ok(manifest.store, *copied)


def test_a_copied_manifest_brings_its_bytes_to_a_store_that_only_refers(
    ingest: Ingest, plain: Path, tmp_path: Path
) -> None:
    copied = ingest(plain, store="a")
    target = ingest(plain, store="b", out="other", mode="reference").store
    copy(copied, target, "got", False)
    shutil.rmtree(plain.parent)
    ok(target, "got")


def test_a_picture_that_was_a_file_and_now_comes_inline(
    ingest: Ingest, dataset: Dataset, tmp_path: Path
) -> None:
    before = ingest(dataset([record("a.jpg")], {"a.jpg": jpeg(1)}, "a"), out="a", mode="reference")
    shutil.rmtree(tmp_path / "a")
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg(1)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "Noise."}]
    (tmp_path / "inline.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    ingest(tmp_path / "inline.jsonl", out="b", mode="reference")
    ok(before.store, "b")


def test_the_place_a_medium_was_read_from_is_the_one_that_counts(ingest: Ingest, dataset: Dataset) -> None:
    path = dataset([record("a.jpg")], {"a.jpg": jpeg(1)})
    store = ingest(path, out="a", mode="reference").store
    dataset([record("a.jpg"), record("old_a.jpg")], {"a.jpg": jpeg(2), "old_a.jpg": jpeg(1)})
    assert ingest(path, out="b", mode="reference").samples == 2
    ok(store, "a", "b")


def test_a_failure_to_read_is_no_result(ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            pipelines.ingest.media, "_pread", lambda ref, view: ("unreadable_file", "input/output error")
        )
        assert ingest(plain).document["counts"]["failed"] == 36
    assert ingest(plain, replace=True).document["counts"]["kept"] == 39


def test_what_is_withdrawn_stays_out_of_what_comes_later(
    ingest: Ingest, plain: Path, dataset: Dataset
) -> None:
    first = ingest(plain)
    gone = samples(first)[2]
    forget(first.store, gone.sample_id.hex(), "asked to")
    again = ingest(plain, out="again")
    assert [row["reason"] for row in ledger(again)] == ["withdrawn", "repeat"]
    assert gone.sample_id not in {s.sample_id for s in samples(again)}
    assert verify(first.store, "raw", media=False)["withdrawn"]["samples"] == 1


def test_a_redacted_sample_can_be_traced_and_its_medium_forgotten(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    gone = samples(manifest)[0]
    forget(manifest.store, gone.sample_id.hex(), "")
    gc(manifest.store)
    assert "withdrawn" in trace(manifest.store, gone.sample_id.hex())["samples"][0]
    assert forget(manifest.store, gone.media[0].hex(), "")["kind"] == "medium"
    gc(manifest.store)
    ok(manifest.store, "raw")


def test_erasing_twice(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    for sample in samples(manifest)[:2]:
        forget(manifest.store, sample.sample_id.hex(), "")
        assert gc(manifest.store)["samples_erased"] == 1
        ok(manifest.store, "raw")


def test_withdrawn_media_are_not_measured_again(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    forget(manifest.store, samples(manifest)[0].media[0].hex(), "")
    made = [
        run_filter(FilterConfig(store=manifest.store.url, manifest="raw", out=f"f{i}", workers=0))
        for i in range(2)
    ]
    assert [m["measured_shards"] for m in made] == [4, 0], "a family of the decode each, then none"


def export(manifest: Manifest, to: Path, **options: Any) -> dict[str, Any]:
    return run_export(ExportConfig(store=manifest.store.url, manifest="raw", to=to, workers=0, **options))


def test_an_export_from_before_a_withdrawal_is_not_taken_up(
    ingest: Ingest, plain: Path, tmp_path: Path
) -> None:
    manifest = ingest(plain)
    export(manifest, tmp_path / "out")
    forget(manifest.store, samples(manifest)[0].sample_id.hex(), "")
    with pytest.raises(ValueError, match="withdrawn"):
        export(manifest, tmp_path / "out")
    assert export(manifest, tmp_path / "out", replace=True)["kept"] == 38


def test_an_export_tries_failed_media_again(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(plain, mode="reference")
    os.rename(plain.parent, tmp_path / "away")
    assert export(manifest, tmp_path / "out")["failed"] == 35
    os.rename(tmp_path / "away", plain.parent)
    assert export(manifest, tmp_path / "out")["kept"] == 39


def test_a_recipe_tries_again_what_could_not_be_read(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(plain, mode="reference")
    recipe = tmp_path / "r.yaml"
    stage = {"filter": {"manifest": "raw", "out": "f", "workers": 0}}
    recipe.write_text(json.dumps({"store": manifest.store.url, "stages": [stage]}))
    os.rename(plain.parent, tmp_path / "away")
    assert run_recipe(RecipeConfig(recipe=recipe))["stages"][0]["failed"] == 35
    os.rename(tmp_path / "away", plain.parent)
    again = run_recipe(RecipeConfig(recipe=recipe, replace=True))["stages"][0]
    assert (again["skipped"], again["failed"]) == (False, 0)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/X\xff"
    os.mkdir(folder)
    with open(folder + b"/a.jpg", "wb") as file:
        file.write(jpeg(1))
    with open(folder + b"/d\xfe.json", "w") as file:
        json.dump([record("a.jpg")], file)
    for mode in ("copy", "reference"):
        arguments = ["ingest", os.fsdecode(folder + b"/d\xfe.json"), "--store", str(tmp_path / mode)]
        process = imm(*arguments, "--out", "raw", "--mode", mode, "--workers", "0")
        assert process.wait() == 0, process.communicate()[1].decode()
        ok(Store.open(tmp_path / mode), "raw")


def test_a_manifest_names_files_of_the_store_only(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(plain)
    document = {**manifest.document, "sidecars": [{"file": "sidecars/../../pwn.txt"}]}
    document.pop("provenance_digest")
    document["provenance_digest"] = digest_of(document)
    name = f"{document['digest']}-{document['provenance_digest'][:16]}"
    manifest.store.write(f"manifests/{name}.json", json.dumps(document).encode())
    with pytest.raises(ManifestError, match="no file of a store"):
        Manifest.open(manifest.store, name)


def test_a_folder_of_pictures_is_no_store_and_gc_deletes_only_its_own(
    ingest: Ingest, plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine/media").mkdir(parents=True)
    with pytest.raises(StoreError, match="other files"):
        Store.create(tmp_path / "mine")
    store = ingest(plain).store
    Path(store.path("media/holiday.jpg")).write_bytes(b"x")
    gc(store)
    assert store.exists("media/holiday.jpg")


def test_a_medium_too_large_for_a_format_is_a_row(
    ingest: Ingest, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ingest(plain)
    largest = max(int(manifest.library().info(s.media[0])["length"]) for s in samples(manifest) if s.media)
    monkeypatch.setattr(WRITERS["parquet"], "largest_medium", largest - 1)
    result = export(manifest, tmp_path / "out", format="parquet")
    assert result["dropped"] == result["reasons"]["inexpressible"] > 0
    assert result["kept"] + result["dropped"] == 39


def test_a_file_that_changes_while_it_is_read_in_is_a_row(
    ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_then_grow(*args: Any) -> list[str]:
        takes = plan_media(*args)
        with open(plain.parent / "images/7.jpg", "ab") as file:
            file.write(b"more")
        return takes

    monkeypatch.setattr(pipelines.ingest.stage, "plan_media", plan_then_grow)
    manifest = ingest(plain)
    assert [row["reason"] for row in ledger(manifest)] == ["changed_file", "changed_file", "repeat"]
