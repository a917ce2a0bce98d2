"""The tiny VLM that ships: its files, what it can do on scenes that no training saw, and its size."""

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from infinity_mm.cli import main
from infinity_mm.models.shipped import TINY_VLM
from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.commands import DIGESTS

TOGETHER = 16_000_000  # bytes of all models that ship
FLOORS = {  # of answers whose value is right; the card has what it reached on many more
    "colour of the one object": 0.95,
    "shape of the one object": 0.95,
    "size of the one object": 0.95,
    "count": 0.9,
    "exists": 0.85,
    "colour of one of several": 0.85,
    "shape of one of several": 0.85,
}


def test_its_files_are_those_that_were_trained() -> None:
    digests = json.loads((TINY_VLM / DIGESTS).read_text())
    found = {file.name for file in TINY_VLM.iterdir()} - {DIGESTS}
    assert found == set(digests)
    for name, digest in digests.items():
        assert hashlib.sha256((TINY_VLM / name).read_bytes()).hexdigest() == digest, name


def test_all_models_that_ship_are_small() -> None:
    files = [file for file in TINY_VLM.parent.rglob("*") if file.is_file() and file.suffix != ".py"]
    assert sum(file.stat().st_size for file in files) < TOGETHER


def test_transformers_loads_it_whole() -> None:
    import_torchvision()
    from transformers import LlavaOnevisionForConditionalGeneration

    _, report = LlavaOnevisionForConditionalGeneration.from_pretrained(TINY_VLM, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_it_sees_what_scenes_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Far above its blind control on every type of question that its card says it can do."""
    store, drawn = str(tmp_path / "store"), tmp_path / "scenes"
    kinds = [word for kind in ("colour", "shape", "size", "count", "exists") for word in ("--kinds", kind)]
    still = ["--multi-turn-share=0", "--multi-image-share=0", "--text-only-share=0", "--video-share=0"]
    assert main(["scenes", "--out", str(drawn), "--count=500", "--seed=960000", *kinds, *still]) == 0
    ingest = ["ingest", str(drawn / "data.json"), "--out", "held", "--store", store, "--source", "s"]
    assert main([*ingest, "--licence", "CC0-1.0", "--workers", "0"]) == 0
    capsys.readouterr()
    asked = ["eval", "--model", "tiny", "--manifest", "held", "--store", store, "--json"]
    assert main([*asked, "--truth", str(drawn / "truth.jsonl"), "--control", "none"]) == 0
    told = json.loads(capsys.readouterr().out)
    shares = {name: row["value"] for name, row in told["types"].items()}
    blind = {name: row["value"] for name, row in told["controls"]["none"]["types"].items()}
    assert {name: share for name, share in shares.items() if share < FLOORS.get(name, 0)} == {}
    assert {name for name in FLOORS if shares[name] < blind[name] + 0.25} == set()
