"""The way that makes the tiny VLM, and where it is found."""

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from infinity_mm.cli import main
from infinity_mm.models.shipped import TINY_VLM, VLMS, vlm_folder
from trainers.llava.config import read
from trainers.monitor import RECORD
from trainers.tiny_vlm import DIGESTS, HELD, RECIPE, SCENES, Job, place, run, scenes


def test_a_name_is_a_folder_where_it_ships() -> None:
    assert VLMS["tiny"] == TINY_VLM
    assert vlm_folder("runs/tiny") == Path("runs/tiny")


def test_a_model_that_is_not_there_is_told_with_the_way_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VLMS, "tiny", tmp_path / "tiny_vlm")
    with pytest.raises(ValueError, match=r"python -m trainers\.tiny_vlm --out FOLDER --place"):
        vlm_folder("tiny")


def test_a_shipped_card_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(VLMS, "tiny", tmp_path)
    asked = ["eval", "--model", "tiny", "--manifest", "none", "--card", "--store", str(tmp_path)]
    assert main(asked) == 1
    assert "--card: tiny ships" in capsys.readouterr().err


def test_what_is_asked_was_not_trained_on() -> None:
    """Every set of scenes has a seed of its own, and the one that is asked is in no stage."""
    drawn = [chain[0] for chain in scenes(5)]
    seeds = [word for job in drawn for word in job.words if word.startswith("--seed=")]
    assert len(set(seeds)) == len(SCENES)
    trained = {name for stage in read(Path(RECIPE)).stages for name in stage.data}
    assert trained == set(SCENES) - {HELD}


def test_its_scenes_can_be_drawn_and_ingested(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [job for chain in scenes(5, scale=0.001) for job in chain]
    run(jobs, tmp_path)
    refs = {file.name for file in (tmp_path / "store" / "refs").iterdir()}
    assert refs == set(SCENES)
    capfd.readouterr()
    run(jobs, tmp_path)
    assert capfd.readouterr().out.count("done before: imm") == 2 * len(SCENES)


def test_a_step_that_fails_stops_the_way(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit code 2 of: imm scenes --nothing"):
        run([Job(("-m", "infinity_mm.cli", "scenes", "--nothing"), "x")], tmp_path)


def test_a_model_is_placed_with_its_record_and_digests(tmp_path: Path) -> None:
    export = tmp_path / "run" / "b" / "export"
    export.mkdir(parents=True)
    (export / "model.safetensors").write_bytes(b"weights")
    for stage, steps in (("a", 3), ("b", 45)):
        (tmp_path / "run" / stage).mkdir(exist_ok=True)
        lines = [json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in range(1, steps + 1)]
        (tmp_path / "run" / stage / RECORD).write_text("".join(lines))
    (tmp_path / "placed").mkdir()
    (tmp_path / "placed" / "former").write_text("")
    place(tmp_path / "run", ("a", "b"), export, tmp_path / "placed")
    assert {file.name for file in (tmp_path / "placed").iterdir()} == {"model.safetensors", RECORD, DIGESTS}
    lines = [json.loads(line) for line in (tmp_path / "placed" / RECORD).read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("a", 1), ("a", 3), ("b", 1), ("b", 21), ("b", 41), ("b", 45)]  # fmt: skip
    digests = json.loads((tmp_path / "placed" / DIGESTS).read_text())
    assert digests["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
