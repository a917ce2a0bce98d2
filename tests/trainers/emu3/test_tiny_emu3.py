"""The way that makes the tiny Emu3."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from infinity_mm.models.shipped import SHIPPED, TINY_EMU3, shipped_folder
from trainers.emu3.config import read
from trainers.tiny_emu3 import HELD, RECIPE, SCENES, codes, scenes


def test_a_model_that_is_not_there_is_told_with_the_way_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SHIPPED["tiny-emu3"] == TINY_EMU3
    monkeypatch.setitem(SHIPPED, "tiny-emu3", tmp_path / "tiny_emu3")
    with pytest.raises(ValueError, match=r"python -m trainers\.tiny_emu3 --out FOLDER --place"):
        shipped_folder("tiny-emu3")


def test_what_is_asked_was_not_trained_on() -> None:
    """Every set of scenes has a seed of its own, and the one that is asked is in no stage."""
    drawn = [chain[0] for chain in scenes(5)]
    seeds = [word for job in drawn for word in job.words if word.startswith("--seed=")]
    assert len(set(seeds)) == len(SCENES)
    recipe = read(Path(RECIPE))
    assert {name for stage in recipe.stages for name in stage.data} == set(SCENES) - {HELD}
    made = {job.product.removeprefix("store/refs/") for chain in codes() for job in chain}
    assert made == set(SCENES) - {HELD}
