"""A stage made ready: its data mixed, measured and planned."""

from typing import Any, NamedTuple

from trainers.mixture import Mixture
from trainers.plan import Batching, Plan
from trainers.recipe import Recipe


class Prepared(NamedTuple):
    """A stage and its plan. `encoding`: how samples are laid out, as the trainer has it."""

    stage: Any
    mixture: Mixture
    encoding: Any
    plan: Plan


def batching(recipe: Recipe, stage: Any, tiles: int) -> Batching:
    """How a stage's samples become steps, with as many tiles a pack at most."""
    return Batching(
        batch=stage.batch,
        length=stage.length,
        tiles=tiles,
        group=stage.group,
        epochs=stage.epochs,
        seed=recipe.seed,
        overlong=stage.overlong,
    )
