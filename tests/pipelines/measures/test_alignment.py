"""clip_score: what it is of, when it does not apply, one embedding a picture, and `imm filter` by it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from inputs import jpeg, ledger, record
from onnx_file import mean_of_rows

import pipelines.embed
import pipelines.measure
import pipelines.measures.alignment
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.models.embedder import open_embedder
from infinity_mm.report.model import Report
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store, read_table
from infinity_mm.withdraw import forget
from pipelines.config import MeasuringConfig
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.measure import measure, settings_of
from pipelines.measuring import MeasureConfig
from pipelines.measuring import run as run_measure
from pipelines.report.stage import ReportConfig, collect

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


def says(image: str | list[str] | None, *answers: str) -> dict[str, Any]:
    """A record whose assistant says these things in turn."""
    made = record(image, "What is it?", answers[0])
    for answer in answers[1:]:
        made["conversations"] += [{"from": "human", "value": "And?"}, {"from": "gpt", "value": answer}]
    return made


def scores(manifest: Manifest, **more: Any) -> list[tuple[float | None, str | None]]:
    """clip_score and error of each row of a manifest's only sample shard."""
    settings = settings_of(MeasuringConfig(), ["clip_score"])
    files, _ = measure(manifest.store, manifest, settings, **{"workers": 0, **more})
    [file] = files["alignment"].values()
    table = read_table(manifest.store, file)
    return list(zip(table.column("clip_score").to_pylist(), table.column("error").to_pylist(), strict=True))


def cosine(text: str, *pictures: bytes) -> float:
    embedder = open_embedder("tiny", "cpu")
    images = embedder.images([decode_image(data).pixels for data in pictures])
    return float((images @ embedder.texts([text])[0]).mean())


def filtered(manifest: Manifest, out: str = "x", **options: Any) -> dict[str, Any]:
    config = FilterConfig(store=manifest.store.url, manifest="raw", out=out, **{"workers": 0, **options})
    return run_filter(config)


def test_it_is_the_cosine_of_picture_and_answers(ingest: Ingest, dataset: Dataset) -> None:
    files = {"a.jpg": jpeg(1, (64, 64)), "b.png": jpeg(2, (64, 64), "PNG")}
    two = says(["a.jpg", "b.png"], "Two noises.")
    two["conversations"][0]["value"] = "<image><image>\nWhat are they?"
    records = [
        says("a.jpg", "A noise."),
        says("a.jpg", " A red circle. ", "图中有一个红色的圆形。"),
        two,
        says(None, "No picture."),
        says("b.png", "A blue star. " * 100),
    ]
    found = scores(ingest(dataset(records, files)))
    wanted = [
        cosine("A noise.", files["a.jpg"]),
        cosine("A red circle. 图中有一个红色的圆形。", files["a.jpg"]),
        cosine("Two noises.", files["a.jpg"], files["b.png"]),
        None,
        cosine("A blue star. " * 99, files["b.png"]),  # past the context nothing counts
    ]
    assert [error for _, error in found] == [None] * 5
    assert found[3][0] is None
    for (score, _), right in zip(found, wanted, strict=True):
        assert right is None or score == pytest.approx(right, abs=2e-3)


def test_it_does_not_apply_where_nothing_is_said(ingest: Ingest, dataset: Dataset) -> None:
    manifest = ingest(dataset([says("a.jpg", " "), says("a.jpg", "A noise.")], {"a.jpg": jpeg(1)}))
    [silent, told] = scores(manifest)
    assert silent == (None, None)
    assert told[0] is not None
    result = filtered(manifest, where=["clip_score >= -1"], allow=["empty_turn"])
    assert (result["kept"], result["failed"]) == (2, 0)


def test_a_medium_that_has_no_vector_fails_the_samples_that_show_it(ingest: Ingest, dataset: Dataset) -> None:
    files = {"a.jpg": jpeg(1), "cut.jpg": jpeg(2)[:-99], "c.jpg": jpeg(3)}
    both = says(["a.jpg", "cut.jpg"], "Two noises.")
    both["conversations"][0]["value"] = "<image><image>\nWhat are they?"
    manifest = ingest(dataset([says("a.jpg", "A."), says("cut.jpg", "B."), both, says("c.jpg", "C.")], files))
    forget(manifest.store, manifest.table(0).column("media")[3][0].as_py().hex(), "a wish")
    manifest = Manifest.open(manifest.store, "raw")
    assert [error and error.partition(":")[0] for _, error in scores(manifest)] == [
        *(None, "truncated", "truncated", "withdrawn")
    ]
    allow = ["undecodable_media"]
    made = filtered(manifest, where=["clip_score > -2"], allow=allow)
    assert made["failed"] == 2
    rows = ledger(Manifest.open(manifest.store, made["manifest"]))
    assert {row["reason"] for row in rows} == {"truncated", "withdrawn"}


def test_a_picture_is_embedded_once(ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = ingest(plain)
    decoded: list[bytes] = []
    decode = pipelines.embed.decode_image

    def counting(data: bytes, **more: Any) -> Any:
        decoded.append(data)
        return decode(data, **more)

    monkeypatch.setattr(pipelines.embed, "decode_image", counting)
    assert filtered(manifest, where=["clip_score > 0"])["measured_shards"] > 0
    again = filtered(manifest, out="y", where=["clip_score > 0.1"])
    assert again["measured_shards"] == 0
    assert "nothing was decoded" in again["note"]
    manifest.store.delete(manifest.store.names("sidecars/alignment")[0])
    filtered(manifest, out="z", where=["clip_score > 0.2"])
    assert len(decoded) == len(set(decoded)) == 20


def test_pieces_and_workers_change_nothing(
    ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.measure, "MODEL_BATCH", 4)
    monkeypatch.setattr(pipelines.measure, "PIECES", {"media": 3, "samples": 8, "model": 8})
    found = [scores(ingest(plain, store=store), workers=workers) for store, workers in (("a", 0), ("b", 2))]
    assert found[0] == found[1]
    assert sum(score is not None for score, _ in found[0]) == 35


def test_a_text_that_can_not_be_embedded_costs_itself() -> None:
    class Fussy:
        def texts(self, texts: list[str]) -> np.ndarray:
            if "bad" in texts:
                raise RuntimeError("index out of range")
            return np.ones((len(texts), 2), np.float32)

    good, bad, fine = pipelines.measures.alignment.texts(Fussy(), ["a", "bad", "b"])  # type: ignore[arg-type]
    assert isinstance(bad, ValueError)
    assert "index out of range" in str(bad)
    assert np.array_equal(good, fine)


def test_it_is_measured_only_where_it_is_asked_for(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    url = manifest.store.url
    plainly = run_measure(MeasureConfig(store=url, manifest="raw", workers=0))
    assert "clip_score" not in plainly["measures"]
    assert manifest.store.names("sidecars/alignment") == []

    def shown() -> set[str]:
        page = collect(ReportConfig(store=url, manifests=["raw"], out="r.html", workers=0), [manifest])
        assert isinstance(page, Report)
        return {d.measured.name for d in page.distributions}

    assert "clip_score" not in shown()
    asked = run_measure(MeasureConfig(store=url, manifest="raw", workers=0, **{"with": ["clip_score"]}))
    assert asked["measures"]["clip_score"]["n"] == 35
    assert "clip_score" in shown()


def test_embedders_that_give_no_score_are_said(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(plain)
    (tmp_path / "g.onnx").write_bytes(mean_of_rows(["n", 3, 8, 8]))
    with pytest.raises(ValueError, match="clip_score needs one with texts"):
        filtered(manifest, where=["clip_score > 0"], embedder=f"onnx:{tmp_path}/g.onnx")
    with pytest.raises(ValueError, match="no embedder 'tyni'"):
        filtered(manifest, where=["clip_score > 0"], embedder="tyni")
    assert filtered(manifest, where=["chars > 0"], embedder="tyni")["kept"] == 39  # no rule needs it


def test_a_recipe_names_the_embedder(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    manifest = ingest(plain)
    recipe = tmp_path / "r.yaml"
    recipe.write_text("rules: {fits: clip_score > 0}\nembedder: tyni\n")
    with pytest.raises(ValueError, match="no embedder 'tyni'"):
        filtered(manifest, recipe=[str(recipe)])


def test_filter_drops_false_captions_of_scenes(tmp_path: Path, ingest: Ingest) -> None:
    scenes = tmp_path / "scenes"
    make_scenes(
        ScenesConfig(out=scenes, count=400, seed=77, defects=0.9, kinds=("caption",), multi_turn_share=0)
    )
    manifest = ingest(scenes / "data.json")
    made = filtered(manifest, where=["clip_score >= 0.2"])
    assert made["kept"] and made["reasons"]["clip_score"]
    truth = [json.loads(line) for line in (scenes / "truth.jsonl").read_text().splitlines()]
    planted = {t["id"] for t in truth if t["defects"] == ["false_caption"]}
    sound = {t["id"] for t in truth if not t["defects"] and t["medium"] == "image"}
    rows = ledger(Manifest.open(manifest.store, made["manifest"]))
    ids = {row["index"]: row["id"] for row in truth}
    dropped = {ids[int(row["origin"].partition(":")[2])] for row in rows if row["reason"] == "clip_score"}
    assert len(planted) > 10
    assert len(dropped & planted) / len(planted) > 2 * len(dropped & sound) / len(sound)
    assert all(-1 <= float(row["value"]) < 0.2 for row in rows if row["reason"] == "clip_score")


def test_a_score_is_a_number_from_minus_1_to_1(ingest: Ingest, plain: Path) -> None:
    found = pl.Series([score for score, _ in scores(ingest(plain))], dtype=pl.Float32).drop_nulls()
    assert found.is_between(-1, 1).all()
    assert found.n_unique() > 20


def test_settings_tell_no_path(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    made = filtered(manifest, where=["clip_score > -1"])
    document = Manifest.open(Store.open(manifest.store.url), made["manifest"]).document
    assert set(document["measures"]["alignment"]) == {"embedder", "max_pixels"}
    assert document["config"]["embedder"] == "tiny"
