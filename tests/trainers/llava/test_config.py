"""Recipes: the shipped ones are what they say, and a wrong one is refused by name and way out."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainers.llava.config import SHIPPED, Stage, read, recipe

MINIMAL: dict[str, Any] = {
    "model": {"vision_tower": "tower", "language_model": {"model_type": "qwen2"}},
    "each": {
        "batch": 8,
        "length": 256,
        "tiles": 4,
        "train": ["*"],
        "optimizer": {"lr": {"*": 1e-3}, "clip": 2},
    },
    "stages": [
        {"name": "a", "data": {"one": 1}},
        {"name": "b", "data": {"two": 0.5}, "batch": 4, "optimizer": {"lr": {"*": 1e-4}}},
    ],
}


def test_the_published_stages() -> None:
    """Table 3 of arXiv 2410.18558."""
    found = read(Path("aquila_vl_2b"))
    rows = [(s.name, s.grid, s.most_tiles + 1, s.batch, s.epochs, s.optimizer.lr["*"]) for s in found.stages]
    assert rows[1:] == [
        ("2a", 2, 5, 512, 1, 1e-5),
        ("2b", 3, 6, 512, 1, 1e-5),
        ("2c", 4, 7, 512, 1, 1e-5),
        ("3", 6, 10, 512, 1, 1e-5),
        ("4", 6, 10, 512, 1, 1e-5),
    ]
    first = found.stage("1")
    assert (first.grid, first.batch, first.optimizer.lr, first.train) == (
        1,
        512,
        {"*": 1e-3},
        ("multi_modal_projector",),
    )
    assert (
        first.optimizer.clip == 1.0
    )  # of `each`: a stage that names one setting of a mapping keeps the rest
    assert found.stage("2a").optimizer.lr["vision_tower"] == 2e-6


def test_grids_are_the_published_pinpoints() -> None:
    stages = read(Path("aquila_vl_2b")).stages
    assert stages[0].geometry(384, 14).pinpoints == ()
    points = stages[1].geometry(384, 14).pinpoints
    assert points == ((384, 384), (384, 768), (768, 384), (768, 768))
    assert stages[5].geometry(384, 14).pinpoints[-1] == (2304, 2304)
    assert len(stages[5].geometry(384, 14).pinpoints) == 36


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert read(path).stages


def test_stages_take_what_each_says() -> None:
    made = recipe(MINIMAL)
    assert [stage.batch for stage in made.stages] == [8, 4]
    assert [stage.optimizer.clip for stage in made.stages] == [2, 2]  # beside a rate of its own
    assert [stage.optimizer.lr["*"] for stage in made.stages] == [1e-3, 1e-4]
    assert made.stage("b").data == {"two": 0.5}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": []}, "stages: []: give at least one stage"),
        ({"stages": [{"name": "a", "data": {}}]}, "stages[0].data: {}: name at least one manifest"),
        ({"stages": [{"name": "a", "data": {"x": 0}}]}, "stages[0].data.x: 0.0: give more than 0"),
        ({"stages": [{"name": "a/b", "data": {"x": 1}}]}, "stages[0].name: 'a/b': give letters"),
        ({"stages": [{"name": "a", "data": {"x": 1}, "lr": 1}]}, "stages[0].lr: no such setting"),
        ({"stages": [{"name": "a", "data": {"x": 1}}] * 2}, "stages: 'a' is the name of two stages"),
        ({"each": []}, "each: []: give a mapping"),
        (
            {"model": {"vision_tower": 3, "language_model": "x"}},
            "model.vision_tower: 3: give a text or a mapping",
        ),
        ({"model": {"vision_tower": "x"}}, "model.language_model is missing: give a text or a mapping; or a"),
        ({"model": {"checkpoint": "tiny", "tokenizer": "x"}}, "model.tokenizer: a checkpoint brings its own"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        recipe({**MINIMAL, **change})
    assert words in str(error.value)


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "sed": 1}))
    with pytest.raises(ValueError, match=r"recipe .*mine.yaml: sed: no such setting; did you mean 'seed'\?"):
        read(path)
    with pytest.raises(ValueError, match="no such file; aquila_vl_2b, sketch, tiny, tiny_long are shipped"):
        read(tmp_path / "none.yaml")


def test_an_unknown_stage_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="stage 'c': there is none; there are a, b"):
        recipe(MINIMAL).stage("c")
    assert isinstance(recipe(MINIMAL).stage("a"), Stage)
