"""`imm calibrate`: on pictures whose variants and whose differences are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inputs import picture, record, saved
from PIL import Image
from pydantic import ValidationError

from infinity_mm.cli import main
from infinity_mm.manifest import Manifest
from pipelines.calibrate.distances import Distances
from pipelines.calibrate.stage import ORIGINAL, CalibrateConfig, Sampled, _curve, run


@pytest.fixture
def pictures(dataset: Callable[..., Path], ingest: Callable[..., Manifest]) -> Manifest:
    files = {f"{i}.png": saved(picture(i, (160, 120))) for i in range(14)}
    files |= {"bad.png": files["0.png"][:200], "twin.jpg": saved(picture(0, (160, 120)), "JPEG", quality=95)}
    return ingest(dataset([record(name, f"{name}?") for name in files], files))


def calibrated(manifest: Manifest, **options: Any) -> dict[str, Any]:
    return run(CalibrateConfig(manifest=manifest.file, store=manifest.store.url, workers=0, **options))


def test_recall_rises_with_the_threshold_and_easy_variants_are_found(pictures: Manifest) -> None:
    found = calibrated(pictures, variants=["rescaled", "recompressed", "reformatted", "flipped"])
    assert found["pictures"] == 15 and found["skipped"]["undecodable"] == 1
    plain, flips = found["methods"]
    for method in (plain, flips):
        recalls = [row["recall"] for row in method["curve"]]
        assert recalls == sorted(recalls) and method["twins"] == 1
        at = next(row for row in method["curve"] if row["threshold"] == 8)
        assert at["by_variant"]["rescaled"] == at["by_variant"]["reformatted"] == 1.0
    assert plain["curve"][8]["by_variant"]["flipped"] < 0.2
    assert flips["curve"][8]["by_variant"]["flipped"] == 1.0


def test_precision_counts_different_pictures_and_the_setting_is_precise_enough() -> None:
    """Four originals, one variant each; a table of distances by hand."""
    media = [f"o{i}".encode() for i in range(4)] + [f"v{i}".encode() for i in range(4)]
    table = np.full((8, 8), np.inf, np.float32)
    for i, distance in enumerate((1, 3, 5, 9)):
        table[i, 4 + i] = distance
    for (i, j), distance in {(0, 1): 4, (1, 2): 6, (2, 3): 0}.items():
        table[i, j] = distance
    found = Distances("m", "--m", "bits", np.arange(10), float, media, table)
    sampled = Sampled([{ORIGINAL: media[i], "rescaled": media[4 + i]} for i in range(4)], {})
    twins = np.zeros((4, 4), bool)
    twins[2, 3] = True
    config = CalibrateConfig(manifest="m", variants=["rescaled"], precision=0.7)
    curve = _curve(config, found, sampled, twins, 400)
    rows = {row["threshold"]: row for row in curve["curve"]}
    assert [rows[t]["recall"] for t in (0, 1, 3, 5, 9)] == [0, 0.25, 0.5, 0.75, 1]
    assert [rows[t]["false_pairs"] for t in (3, 4, 6)] == [0, 1, 2]
    assert rows[0]["precision"] is None and rows[3]["precision"] == 1 and rows[5]["precision"] == 0.75
    assert curve["setting"]["threshold"] == 5 and curve["twins"] == 1 and curve["different_pairs"] == 5
    expected, most = rows[5]["false_in_manifest"]
    assert expected == pytest.approx(1 / 5 * 400 * 399 / 2) and most > expected


def test_the_page_and_the_table(
    pictures: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    command = ["calibrate", pictures.file, "--store", pictures.store.url, "--count", "10", "--workers", "0"]
    assert main([*command, "--variants", "rescaled", "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert "threshold  recall  precision  false pairs  rescaled" in said and "--radius" in said
    text = page.read_text()
    assert "<svg" in text and "rescaled" in text and "http" not in text.replace("http-equiv", "")
    assert main([*command, "--out", str(page)]) == 1
    assert "give --replace" in capsys.readouterr().err
    assert main([*command, "--variants", "rescaled", "--json"]) == 0
    assert {"pictures", "methods", "variants"} <= set(json.loads(capsys.readouterr().out))


def test_too_few_pictures(dataset: Callable[..., Path], ingest: Callable[..., Manifest]) -> None:
    files = {"a.png": saved(Image.new("RGB", (40, 30), "red"))}
    raw = ingest(dataset([record("a.png")], files))
    with pytest.raises(ValueError, match="only 1 pictures"):
        calibrated(raw)
    with pytest.raises(ValidationError, match="no variant 'bent'"):
        CalibrateConfig(manifest="m", variants=["bent"])
