"""What goes out comes back with the same ids; recipes skip what is unchanged; kills lose nothing."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from inputs import imm, jpeg, record, samples

from infinity_mm.formats.registry import WRITERS
from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from pipelines.export import ExportConfig
from pipelines.export import run as run_export
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest
from pipelines.recipe import STAGES, RecipeConfig, configs
from pipelines.recipe import run as run_recipe

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 sound scenes: pictures, pairs of pictures, clips, text only, English and Chinese, system turns."""
    folder = tmp_path_factory.mktemp("scenes") / "made"
    config = ScenesConfig(
        out=folder, count=150, seed=3, video_share=0.1, multi_image_share=0.1, text_only_share=0.1
    )
    make_scenes(config)
    return folder / "data.json"


def export(manifest: Manifest, to: Path, **options: Any) -> dict[str, Any]:
    config = ExportConfig(
        store=manifest.store.url, manifest=manifest.file, to=to, **{"workers": 0, **options}
    )
    return run_export(config)


@pytest.mark.parametrize("format", list(WRITERS))
@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_all_that_a_format_holds_comes_back(
    ingest: Ingest, scenes: Path, tmp_path: Path, format: str, mode: str
) -> None:
    manifest = ingest(scenes, mode=mode)
    result = export(manifest, tmp_path / "out", format=format)
    assert result["in"] == result["kept"] + result["dropped"] + result["failed"] == manifest.samples
    lost = {r["sample_id"] for r in pq.read_table(tmp_path / "out/.export/ledger.parquet").to_pylist()}
    assert len(lost) == result["dropped"] and result["failed"] == 0
    back = ingest(tmp_path / "out", store="back", out="back")
    assert [s.sample_id for s in samples(back)] == [
        s.sample_id for s in samples(manifest) if s.sample_id not in lost
    ]
    if format != "infinity-mm":
        assert back.digest == manifest.digest


def test_export_is_the_same_for_any_workers(ingest: Ingest, scenes: Path, tmp_path: Path) -> None:
    manifest = ingest(scenes)
    for workers in (0, 2):
        export(manifest, tmp_path / str(workers), format="webdataset", workers=workers)
    files = [sorted(p.name for p in (tmp_path / str(w)).iterdir()) for w in (0, 2)]
    assert files[0] == files[1]
    for name in files[0]:
        path = tmp_path / "0" / name
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_folder_with_something_else_is_refused(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(plain)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").touch()
    with pytest.raises(ValueError, match="something else"):
        export(manifest, tmp_path / "out")
    export(manifest, tmp_path / "new", format="llava")
    assert export(manifest, tmp_path / "new", format="llava")["kept"] == 39
    with pytest.raises(ValueError, match=r"another export .* give --replace"):
        export(manifest, tmp_path / "new", format="messages")
    assert export(manifest, tmp_path / "new", format="messages", replace=True)["kept"] == 39
    assert not list((tmp_path / "new").glob("*.json.*"))
    assert list((tmp_path / "new").glob("data-*.jsonl"))


def test_a_medium_that_is_gone_costs_its_samples_only(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(plain, mode="reference")
    (plain.parent / "images/3.jpg").unlink()
    result = export(manifest, tmp_path / "out")
    assert (result["kept"], result["failed"], result["reasons"]) == (37, 2, {"missing_media": 2})


def test_filter_and_export_killed_anywhere_end_the_same(dataset: Dataset, tmp_path: Path) -> None:
    files = {f"images/{i}.jpg": jpeg(i, (200, 150)) for i in range(150)}
    path = dataset([record(f"images/{i % 150}.jpg", f"Question {i}?") for i in range(300)], files)
    for name in ("one", "two"):
        config = IngestConfig(
            inputs=[str(path)], store=str(tmp_path / name), out="raw", workers=0, shard_bytes=1_000_000
        )
        run_ingest(config)

    def commands(store: str) -> list[list[str]]:
        base = ["--store", str(tmp_path / store), "--workers", "2"]
        to = str(tmp_path / f"{store}-out")
        return [
            ["filter", "raw", "--out", "sound", *base],
            ["dedup", "sound", "--by", "exact,perceptual,text", "--merge-turns", "--out", "distinct", *base],
            ["manifest", "export", "distinct", "--format", "webdataset", "--to", to, *base],
        ]

    draw = random.Random(9)
    killed = 0
    for undisturbed, disturbed in zip(commands("one"), commands("two"), strict=True):
        started = time.monotonic()
        assert imm(*undisturbed).wait() == 0
        whole = time.monotonic() - started
        for _ in range(2):
            process = imm(*disturbed)
            time.sleep(whole * draw.uniform(0.4, 0.95))
            os.killpg(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        again = imm(*disturbed)
        assert again.wait() == 0, again.communicate()[1].decode()
    assert killed > 0
    assert Store.open(tmp_path / "one").refs() == Store.open(tmp_path / "two").refs()
    tars = [sorted((tmp_path / f"{store}-out").glob("*.tar")) for store in ("one", "two")]
    assert [t.read_bytes() for t in tars[0]] == [t.read_bytes() for t in tars[1]]


# recipes


RECIPE = """
store: {store}
workers: 0
stages:
  - ingest: {{inputs: [{data}], out: raw}}
  - filter: {{manifest: raw, out: sound, allow: [{allow}]}}
  - split: {{manifest: sound, out: set}}
  - mix: {{manifests: [set-train=2], out: train}}
  - export: {{manifest: train, to: {store}-out, format: llava}}
"""


def write_recipe(folder: Path, data: Path, allow: str = "") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(store=folder / "store", data=data, allow=allow))
    return path


def test_a_recipe_runs_once_and_then_skips(plain: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, plain)
    first = run_recipe(RecipeConfig(recipe=path))
    assert [s["stage"] for s in first["stages"]] == ["ingest", "filter", "split", "mix", "export"]
    assert first["skipped"] == 0
    again = run_recipe(RecipeConfig(recipe=path))
    assert [s["skipped"] for s in again["stages"]] == [False, True, True, True, False]
    for a, b in zip(first["stages"], again["stages"], strict=True):
        assert {k: v for k, v in a.items() if k != "skipped"} == {
            k: v for k, v in b.items() if k != "skipped"
        }
    assert run_recipe(RecipeConfig(recipe=path, force=True))["skipped"] == 0


def test_a_changed_rule_runs_again_from_there(plain: Path, tmp_path: Path) -> None:
    run_recipe(RecipeConfig(recipe=write_recipe(tmp_path, plain)))
    changed = RecipeConfig(recipe=write_recipe(tmp_path, plain, "wrong_format"))
    with pytest.raises(ValueError, match="--replace"):
        run_recipe(changed)
    again = run_recipe(changed.model_copy(update={"replace": True}))
    assert again["stages"][1]["skipped"] is False
    assert again["stages"][2]["skipped"] is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "is not YAML"),
        ("a: 1", "no list of `stages`"),
        ("stages: [{polish: {}}]", "stage 1: give one of ingest"),
        ("stages: [{filter: {manifest: raw, out: x, blur: 3}}]", r"stage 1 \(filter\): blur"),
        ("stages: [{filter: {out: x}}]", r"stage 1 \(filter\): manifest: Field required"),
        ("speed: 1\nstages: [{filter: {manifest: raw, out: x}}]", "unknown 'speed'"),
    ],
)
def test_a_wrong_recipe_is_said_before_anything_runs(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        configs(RecipeConfig(recipe=path))


def test_every_option_of_a_stage_can_stand_in_a_recipe(tmp_path: Path) -> None:
    for name, entry in STAGES.items():
        fields = entry.config.model_fields.items()
        required = [field.alias or f for f, field in fields if field.is_required() or f == "out"]
        values = {name: _some(name) for name in required}
        path = tmp_path / "r.json"
        path.write_text(json.dumps({"stages": [{name: values}]}))
        [(_, config)] = configs(RecipeConfig(recipe=path))
        assert isinstance(config, entry.config)


def _some(field: str) -> Any:
    if field == "with":
        return "tiny"
    return ["x"] if field in ("inputs", "manifests", "against") else "x"
