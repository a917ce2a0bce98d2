"""The way that makes the tiny VLM, and where it is found."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from infinity_mm.cli import main
from infinity_mm.models.shipped import SHIPPED, TINY_VLM, shipped_folder
from trainers.commands import run
from trainers.llava.config import read
from trainers.tiny_vlm import HELD, RECIPE, SCENES, scenes


def test_a_name_is_a_folder_where_it_ships() -> None:
    assert SHIPPED["tiny"] == TINY_VLM
    assert shipped_folder("runs/tiny") == Path("runs/tiny")


def test_a_model_that_is_not_there_is_told_with_the_way_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHIPPED, "tiny", tmp_path / "tiny_vlm")
    with pytest.raises(ValueError, match=r"python -m trainers\.tiny_vlm --out FOLDER --place"):
        shipped_folder("tiny")


def test_a_shipped_card_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SHIPPED, "tiny", tmp_path)
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
