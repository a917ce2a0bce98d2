"""vlm_loss: what it is, when it does not apply, when it fails, and how a model is named for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_vlms
from inputs import jpeg, ledger, record

import pipelines.measure
from infinity_mm.cli import main
from infinity_mm.engines.base import Failure
from infinity_mm.engines.scoring import Loss, Scorer, open_scorer
from infinity_mm.manifest import Manifest
from infinity_mm.report.model import Report
from infinity_mm.schema import samples_from
from infinity_mm.store import read_table
from infinity_mm.withdraw import forget
from pipelines.config import MeasuringConfig
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.measure import measure, settings_of
from pipelines.measures.vlm_loss import _answer
from pipelines.measuring import MeasureConfig
from pipelines.measuring import run as run_measure
from pipelines.recipe import RecipeConfig
from pipelines.recipe import run as run_recipe
from pipelines.report.stage import ReportConfig, collect

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_vlms.llava(tmp_path_factory.mktemp("vlm") / "llava"))


def losses(manifest: Manifest, model: str, **more: Any) -> list[tuple[float | None, int | None, str | None]]:
    """vlm_loss, vlm_loss_tokens and error of each row of a manifest's only sample shard."""
    settings = settings_of(MeasuringConfig(scorer=model), ["vlm_loss"])
    files, _ = measure(manifest.store, manifest, settings, **{"workers": 0, **more})
    [file] = files["vlm_loss"].values()
    table = read_table(manifest.store, file)
    names = ("vlm_loss", "vlm_loss_tokens", "error")
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def filtered(manifest: Manifest, out: str = "x", **options: Any) -> dict[str, Any]:
    config = FilterConfig(store=manifest.store.url, manifest="raw", out=out, **{"workers": 0, **options})
    return run_filter(config)


def test_it_is_the_scorers_loss(ingest: Ingest, dataset: Dataset, model: str) -> None:
    files = {"a.jpg": jpeg(1, (64, 64)), "b.png": jpeg(2, (64, 64), "PNG")}
    two = record(["a.jpg", "b.png"], "Which?", "The second.")
    twice = record("b.png", "What?", "Noise.")
    twice["conversations"] += [{"from": "human", "value": "And now?"}, {"from": "gpt", "value": "一个。"}]
    manifest = ingest(dataset([record("a.jpg"), two, twice, record(None, "Why?", "Who knows.")], files))
    found = losses(manifest, model)
    data = {
        bytes(id): manifest.library().read(bytes(id))
        for s in samples_from(manifest.table(0))
        for id in s.media
    }
    samples = [(s.turns, [data[bytes(id)] for id in s.media]) for s in samples_from(manifest.table(0))]
    right = open_scorer(model, "cpu").losses(samples)
    for (loss, tokens, error), one in zip(found, right, strict=True):
        assert isinstance(one, Loss)
        assert error is None
        assert tokens == one.tokens
        assert loss == pytest.approx(one.mean, abs=1e-5)


def test_it_does_not_apply_or_it_fails_and_is_never_0(ingest: Ingest, dataset: Dataset, model: str) -> None:
    files = {"a.jpg": jpeg(1), "cut.jpg": jpeg(2)[:-99], "c.jpg": jpeg(3)}
    records = [
        record("a.jpg", "What?", "A."),
        record("a.jpg", "What?", " "),
        record("cut.jpg", "What?", "B."),
        record("c.jpg", "What?", "C."),
        record(None, "What?", "words and more words " * 300),
    ]
    manifest = ingest(dataset(records, files))
    forget(manifest.store, manifest.table(0).column("media")[3][0].as_py().hex(), "a wish")
    manifest = Manifest.open(manifest.store, "raw")
    found = losses(manifest, model)
    assert [loss is not None for loss, _, _ in found] == [True, False, False, False, False]
    assert [error and error.partition(":")[0] for _, _, error in found] == [
        *(None, None, "truncated", "withdrawn", "vlm_loss_failed")
    ]
    assert "too_long" in str(found[4][2])
    allow = ["undecodable_media", "empty_turn"]
    made = filtered(manifest, where=["vlm_loss <= 99"], scorer=model, allow=allow)
    assert (made["kept"], made["failed"]) == (2, 2)  # the sample that shows what is withdrawn is gone
    rows = ledger(Manifest.open(manifest.store, made["manifest"]))
    assert {row["reason"]: row["value"] for row in rows if row["outcome"] == "failed"} == {
        "truncated": None,
        "vlm_loss_failed": None,
    }


def test_what_a_larger_device_may_take_is_measured_again(
    ingest: Ingest, dataset: Dataset, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ingest(dataset([record(None, "What?", "A."), record(None, "What?", "B.")], {}))
    given = Scorer.losses

    def full(scorer: Scorer, samples: Any) -> list[Any]:
        return [Failure("out_of_memory", "9 tokens"), *given(scorer, samples)[1:]]

    monkeypatch.setattr(Scorer, "losses", full)
    assert losses(manifest, model)[0] == (None, None, "out_of_memory: 9 tokens")
    monkeypatch.undo()
    assert losses(manifest, model)[0][2] is None


def test_reasons_reach_the_ledger() -> None:
    assert str(_answer(Failure("corrupt", "a bad checksum"))) == "corrupt: a bad checksum"
    assert str(_answer(Failure("out_of_memory", "9 tokens"))) == "out_of_memory: 9 tokens"
    assert isinstance(_answer(Failure("not_finite", "nan")), ValueError)
    assert _answer(Loss(2.0, 3)) == (2.0, 3)


def test_pieces_and_workers_change_nothing(
    ingest: Ingest, plain: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.measure, "MODEL_BATCH", 8)
    monkeypatch.setattr(pipelines.measure, "PIECES", {"media": 64, "samples": 4096, "model": 16})
    one, two = (losses(ingest(plain, store=s), model, workers=w) for s, w in (("a", 0), ("b", 2)))
    assert one == two
    assert len({loss for loss, _, _ in one}) > 30


def test_it_is_measured_once_and_only_where_it_is_asked_for(ingest: Ingest, plain: Path, model: str) -> None:
    manifest = ingest(plain)
    url = manifest.store.url
    assert "vlm_loss" not in run_measure(MeasureConfig(store=url, manifest="raw", workers=0))["measures"]

    def shown(**more: Any) -> set[str]:
        page = collect(
            ReportConfig(store=url, manifests=["raw"], out="r.html", workers=0, **more), [manifest]
        )
        assert isinstance(page, Report)
        return {d.measured.name for d in page.distributions}

    assert "vlm_loss" not in shown()
    asked = MeasureConfig(store=url, manifest="raw", workers=0, **{"with": [f"loss:{model}"]})
    assert (asked.with_, asked.scorer) == (["vlm_loss"], model)
    first = run_measure(asked)
    assert first["measures"]["vlm_loss"]["n"] == 39
    assert first["measured_shards"] == {"vlm_loss": 1}
    assert run_measure(asked)["measured_shards"] == {"vlm_loss": 0}
    assert "vlm_loss" in shown(scorer=model)
    assert filtered(manifest, where=["vlm_loss <= 99"], scorer=model)["note"].endswith("nothing was decoded")


def test_a_rule_names_the_model(ingest: Ingest, plain: Path, model: str, tmp_path: Path) -> None:
    manifest = ingest(plain)
    rule = f'"loss:{model}" <= QUANTILE_DISC("loss:{model}", 0.95) OVER (PARTITION BY source)'
    made = filtered(manifest, where=[rule])
    assert made["reasons"]["vlm_loss"] == 1
    document = Manifest.open(manifest.store, made["manifest"]).document
    assert document["config"]["scorer"] == model
    assert document["rules"][-1]["keep"].startswith("vlm_loss <= QUANTILE_DISC(vlm_loss, 0.95)")
    assert document["measures"]["vlm_loss"].keys() == {"scorer", "max_pixels"}
    assert document["rules"][-1]["cuts"][0] | {"limit": ""} == {
        "group": {"source": "data"}, "limit": "", "measured": 39, "over": 1
    }  # fmt: skip
    recipe = tmp_path / "r.yaml"
    rules = {"likely": "vlm_loss <= QUANTILE_DISC(vlm_loss, 0.5)"}
    recipe.write_text(json.dumps({"scorer": model, "rules": rules}))
    assert filtered(manifest, "y", recipe=[str(recipe)])["reasons"]["likely"] == 19
    recipe.write_text(json.dumps({"rules": {"likely": f'"loss:{model}" <= 0'}}))
    assert filtered(manifest, "z", recipe=[str(recipe)])["reasons"]["likely"] == 39


def test_two_models_are_refused(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"losses of two models \(a, b\): name one"):
        FilterConfig(manifest="raw", out="x", where=['"loss:a" < 2', 'two: "loss:b" < 2'])
    assert main(["measure", "raw", "--with", "loss:a", "--scorer", "b"]) == 2
    assert "losses of two models (b, a)" in capsys.readouterr().err
    same = FilterConfig(manifest="raw", out="x", scorer="a", where=['"loss:a" < "loss:a" + 1'])
    assert (same.where, same.scorer) == (["vlm_loss < vlm_loss + 1"], "a")


def test_a_model_that_is_not_there_is_said_before_anything_is_done(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    with pytest.raises(ValueError, match="scorer /no/where: there is no such folder"):
        filtered(manifest, where=["vlm_loss < 3"], scorer="/no/where")
    assert filtered(manifest, where=["chars > 0"], scorer="/no/where")["kept"] == 39  # no rule needs it


def test_another_model_under_the_same_name_runs_a_recipes_stage_again(
    ingest: Ingest, plain: Path, tmp_path: Path
) -> None:
    manifest = ingest(plain)
    folder = tiny_vlms.llava(tmp_path / "model")
    stage = {"manifest": "raw", "out": "f", "scorer": str(folder), "rules": {"likely": "vlm_loss <= 99"}}
    path = tmp_path / "stages.yaml"
    path.write_text(json.dumps({"store": manifest.store.url, "workers": 0, "stages": [{"filter": stage}]}))
    assert [run_recipe(RecipeConfig(recipe=path))["skipped"] for _ in range(2)] == [0, 1]
    (folder / "generation_config.json").write_text("{}")
    assert run_recipe(RecipeConfig(recipe=path, replace=True))["skipped"] == 0
