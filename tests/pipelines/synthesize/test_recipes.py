"""The recipes of synthesis that ship, run whole with an engine of the tests."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talking import Scripted

from infinity_mm.cli import main
from infinity_mm.engines.base import ENGINES
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from pipelines.recipe import RecipeConfig, configs, load
from pipelines.recipe import run as run_recipe
from pipelines.synthesize.config import SynthesizeConfig

RECIPES = Path(__file__).resolve().parents[3] / "pipelines/recipes"
STAGES = {
    "synthesize": ["ingest", "tag", "synthesize"],
    "recaption": ["ingest", "synthesize"],
}


@pytest.fixture
def engine() -> Iterator[Scripted]:
    engine = Scripted()
    ENGINES["scripted"] = lambda rest, device, options: engine
    yield engine
    ENGINES.pop("scripted", None)


def copy_of(name: str, folder: Path) -> Path:
    """The recipe as it ships, but for its engine and its scorer."""
    common, stages = load(RECIPES / f"{name}.yaml")
    for stage, options in stages:
        if stage == "synthesize":
            options |= {"engine": "scripted", "loss": None}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**common, "workers": 0, "stages": [{s: o} for s, o in stages]}))
    return path


@pytest.mark.parametrize("name", STAGES)
def test_a_recipe_that_ships_is_valid(name: str) -> None:
    found = configs(RecipeConfig(recipe=RECIPES / f"{name}.yaml"))
    assert [stage for stage, _ in found] == STAGES[name]


@pytest.mark.parametrize("name", STAGES)
def test_a_recipe_that_ships_runs_and_then_skips(
    name: str, engine: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scenes", "--out", "scenes", "--count", "12", "--seed", "1"]) == 0
    path = copy_of(name, tmp_path)
    result = run_recipe(RecipeConfig(recipe=path))
    made: dict[str, Any] = result["stages"][-1]
    assert made["made"] > 5
    config = configs(RecipeConfig(recipe=path))[-1][1]
    assert isinstance(config, SynthesizeConfig)
    types = set(made["accepted"])
    assert types == {"caption"} if name == "recaption" else len(types) > 3
    manifest = Manifest.open(Store.open("store"), config.out)
    assert manifest.document["sources"][config.source]["licence"] == "Apache-2.0"
    asked = len(engine.asked)
    again = run_recipe(RecipeConfig(recipe=path))
    assert again["stages"][-1]["skipped"] and len(engine.asked) == asked
