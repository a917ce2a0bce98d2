"""Where a stage begins: at its newest sound checkpoint, at the end of the stage before, or with a new model.

A checkpoint goes on only with what it was made with: the data, the order and every setting that decides what
is learned. Where that was changed on purpose, the change begins a new segment at a boundary of steps, and is
written into every later checkpoint.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainers.checkpoint import CheckpointError, Found, check, newest, paths
from trainers.config import differences, plain
from trainers.parallel import World
from trainers.prepared import Prepared
from trainers.recipe import Recipe, Stage
from trainers.seen import CHECKPOINTS


class Start(NamedTuple):
    """Where a stage begins."""

    weights: Path | None  # checkpoint of the weights; None: as composed
    whole: bool  # whether its moments and random state are taken too
    ranks: int  # that wrote it
    step: int
    cursor: int
    steps: int  # of the whole stage, from here on as planned
    segments: list[dict[str, Any]]  # the last is open
    changes: list[str]


def settings(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """What decides what a stage learns, but for its data's content."""
    return plain({"model": recipe.model, "stage": stage, "seed": recipe.seed, "dtype": recipe.compute.dtype})


def segment(prepared: Prepared, seed: int, cursor: int) -> dict[str, Any]:
    """An open segment, as checkpoints name it: all that tells which samples it takes."""
    stage, mixture = prepared.stage, prepared.mixture
    files = [manifest.file for manifest in mixture.manifests]
    return {
        "stage": stage.name,
        "data": dict(zip(files, mixture.weights, strict=True)),
        "names": list(stage.data),
        "digest": mixture.digest,
        "seed": seed,
        "epochs": stage.epochs,
        "group": stage.batch * stage.group,
        "samples": prepared.plan.total,
        "from": cursor,
    }


def found_in(folder: Path, chosen: Path | None, world: World) -> Found | None:
    """The checkpoint to go on from: the chosen one, or the newest sound one; None where there is none.

    What is newer or damaged is set aside under another name, each with its reason on stderr. Raises
    CheckpointError for a chosen one that is damaged or of another stage.
    """
    found, error = None, None
    if world.first:
        try:
            found = _found(folder, chosen)
        except CheckpointError as problem:
            error = problem
    found, error = world.agree((found, error))
    if error is not None:
        raise error
    return found


def _found(folder: Path, chosen: Path | None) -> Found | None:
    if chosen is None:
        found, refused = newest(folder)
        for path, reason in refused.items():
            print(f"checkpoint refused: {reason}; the one before is used", file=sys.stderr)
            _aside(path, "refused")
        return found
    chosen = chosen.resolve()
    if chosen.parent != folder.resolve():
        raise CheckpointError(f"{chosen} is not a checkpoint of {folder}: give one of those")
    found = Found(chosen, check(chosen))
    for path in paths(folder):
        if path.name > chosen.name:
            print(f"set aside: {path} is newer than the checkpoint that was chosen", file=sys.stderr)
            _aside(path, "aside")
    return found


def _aside(path: Path, why: str) -> None:
    """Give a checkpoint a name that is looked for no more."""
    names = (path.with_name(f"{why}-{path.name}{more}") for more in ("", *(f".{n}" for n in range(1, 1000))))
    path.rename(next(name for name in names if not name.exists()))


def begin(
    recipe: Recipe, prepared: Prepared, found: Found | None, before: Found | None, changed: bool
) -> Start:
    """Where a stage begins, given its checkpoint and that which the stage before ended with.

    Raises CheckpointError where the data or the settings are not those of the checkpoint and `changed` does
    not say that they are meant to be.
    """
    plan = prepared.plan
    if found is None:
        former = before.about["segments"] if before else []
        weights = before.path if before else None
        opened = segment(prepared, recipe.seed, 0)
        return Start(weights, False, 0, 0, 0, plan.steps, [*former, opened], [])
    about = found.about
    step, cursor = about["step"], about["cursor"]
    *former, last = about["segments"]
    changes = _changes(about, last, settings(recipe, prepared.stage), segment(prepared, recipe.seed, cursor))
    if not changes:
        where = (found.path, True, about["world"], step, cursor, about["steps"])
        return Start(*where, [*former, last], [])
    if not changed:
        raise CheckpointError(
            f"{found.path} was made with other data or settings: {'; '.join(changes)}. Go on with them as "
            "a new segment with --changed, set them back, or give another out"
        )
    if cursor % last["group"] and cursor != last["samples"]:
        raise CheckpointError(
            f"{found.path} lies within a group of steps, after {cursor:,} samples: a change begins at a "
            f"multiple of {last['group']:,}; go on unchanged until then, or from an earlier one (--resume)"
        )
    left = plan.steps - plan.number(min(cursor, plan.total))
    segments = [*former, last, segment(prepared, recipe.seed, cursor)]
    return Start(found.path, True, about["world"], step, cursor, step + left, segments, changes)


def _changes(
    about: Mapping[str, Any], last: Mapping[str, Any], now: Mapping[str, Any], opened: Mapping[str, Any]
) -> list[str]:
    changes = differences(about["settings"], now)
    if last["digest"] != opened["digest"]:
        names = ", ".join(opened["names"])
        changes.append(f"the samples of {names}: {last['digest'][:12]}…, now {opened['digest'][:12]}…")
    return changes


def ended(out: Path, stage: Stage, world: World) -> Found:
    """The checkpoint that a stage ended with. Raises CheckpointError if it has not."""
    folder = out / stage.name / CHECKPOINTS
    found, refused = world.agree(newest(folder) if world.first else None)
    if found is None or not found.about["finished"]:
        why = next(iter(refused.values()), f"{folder} has no checkpoint of its last step")
        raise CheckpointError(f"stage {stage.name!r} must end before the next begins: {why}; run it first")
    return found
