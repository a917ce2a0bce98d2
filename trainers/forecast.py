"""What a recipe will take, told before anything runs: steps, tokens, packs, memory, disk, hours.

Hours come from a rate that the recipe states or that the stage's own record has measured; without either
there are none, for a guess would pass for a number.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from infinity_mm.progress import Progress
from trainers.memory import there_is
from trainers.monitor import RECORD, read_record
from trainers.optim import counts
from trainers.parallel import World, world
from trainers.recipe import Recipe, Stage
from trainers.stages import Trainer

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
LAST = 100  # steps of a record that tell its rate


def forecast(
    recipe: Recipe,
    trainer_of: Callable[[Any], Trainer],
    only: str | None,
    device: str | None,
    progress: Progress,
) -> dict[str, Any]:
    """What each stage, or one, will take: a mapping ready for JSON, its stages under `forecast`.

    Raises ValueError as training itself would: an unknown manifest, a pattern that matches nothing, a sample
    longer than a pack.
    """
    stages = recipe.stages if only is None else (recipe.stage(only),)
    with world(recipe.compute, device) as ranks:
        trainer = trainer_of(recipe)
        told = [_stage(recipe, stage, trainer, ranks, progress) for stage in stages]
        return {"out": recipe.out, "ranks": ranks.size, "device": str(ranks.device), "forecast": told}


def _stage(
    recipe: Recipe, stage: Stage, trainer: Trainer, ranks: World, progress: Progress
) -> dict[str, Any]:
    model = trainer.sketch(stage)
    prepared = trainer.prepare(stage, ranks, progress)
    figures = prepared.plan.figures()
    memory = trainer.memory(model, figures, ranks)
    rate = recipe.tokens_per_second or _measured(Path(recipe.out) / stage.name / RECORD)
    return {
        "stage": stage.name,
        "data": dict(stage.data),
        "digest": prepared.mixture.digest,
        **counts(model),
        "steps": figures.steps,
        "samples": figures.samples,
        "tokens": figures.tokens,
        "supervised": figures.supervised,
        "tiles": figures.tiles,
        "packs": figures.packs,
        "fill": figures.fill,
        "tile_fill": figures.tile_fill,
        "largest_pack": figures.largest,
        "longest": figures.longest,
        "left_out": dict(figures.left_out),
        "sources": {name: {"samples": n, "supervised": s} for name, (n, s) in figures.sources.items()},
        "memory": [memory.least, memory.most],
        "memory_there": there_is(ranks.device),
        "checkpoint_bytes": memory.checkpoint,
        "disk": memory.checkpoint * (recipe.saving.keep + 1),  # one more while it is written
        "tokens_per_second": rate,
        "hours": figures.tokens / rate / 3600 if rate else None,
    }


def _measured(record: Path) -> float | None:
    """The tokens a second of the last steps of a record; None where there is none."""
    if not record.is_file():
        return None
    rates = [line["tokens_per_second"] for line in read_record(record)[-LAST:]]
    return median(rates) if rates else None


def table(result: Mapping[str, Any]) -> str:
    """A forecast as text: a block a stage."""
    blocks = ["\n".join(_block(stage)) for stage in result["forecast"]]
    hours = [stage["hours"] for stage in result["forecast"]]
    whole = f"{sum(hours):,.1f} hours" if all(hours) else "for hours, state tokens_per_second in the recipe"
    where = f"planned on {result['ranks']} × {result['device']}; nothing was run"
    return "\n\n".join([*blocks, f"{whole}; {where}"])


def _block(stage: Mapping[str, Any]) -> Sequence[str]:
    longest = ", ".join(f"{one['sample_id'][:12]}… {one['tokens']:,}" for one in stage["longest"][:3])
    there, rate = stage["memory_there"], stage["tokens_per_second"]
    rows = {
        "data": ", ".join(f"{name} × {weight:g}" for name, weight in stage["data"].items()),
        "parameters": f"{stage['parameters']:,}, {stage['trained']:,} trained",
        "steps": f"{stage['steps']:,} of {stage['samples']:,} samples",
        "tokens": f"{stage['tokens']:,}, {stage['supervised']:,} supervised"
        + (f", {stage['tiles']:,} tiles" if stage["tiles"] else ""),
        "packs": f"{stage['packs']:,}, {stage['fill']:.1%} full of tokens"
        + (f", {stage['tile_fill']:.1%} of tiles" if stage["tiles"] else ""),
        "longest": longest,
        "left out": ", ".join(f"{n:,} {reason}" for reason, n in stage["left_out"].items()) or "none",
        "memory": f"{_size(stage['memory'][0])} to {_size(stage['memory'][1])} a rank"
        + (f" of {_size(there)}" if there else ""),
        "checkpoint": f"{_size(stage['checkpoint_bytes'])}, {_size(stage['disk'])} of disk at most",
        "hours": f"{stage['hours']:,.2f} at {rate:,.0f} tokens/s" if rate else "not known: no rate",
    }
    return [f"stage {stage['stage']}", *(f"  {name:<12}{value}" for name, value in rows.items())]


def _size(count: int) -> str:
    unit, name = next(u for u in UNITS if count >= u[0] or u == UNITS[-1])
    return f"{count / unit:,.1f} {name}"
