"""Training a LLaVA-style model: a recipe's stages in order, each from where the last one ended.

    OUT/STAGE/checkpoints/   what a kill goes on from (`trainers.checkpoint`)
    OUT/STAGE/record.jsonl   one line a step (`trainers.monitor`), tensorboard/ its view
    OUT/STAGE/export/        the model at the stage's end, as transformers and vLLM load it

Run it again and it goes on: a stage that ended is not run again, one that was interrupted continues at its
newest sound checkpoint. On a CPU the weights are then, bit for bit, those of a run that nothing disturbed, at
the same number of ranks; at another the same samples are taken. On a GPU kernels that add in no fixed order
leave rounding. Under torchrun every rank runs this.
"""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from infinity_mm.manifest import software
from infinity_mm.progress import Progress
from infinity_mm.store import Store
from trainers.checkpoint import Checkpoints, Found, restore
from trainers.flops import peak
from trainers.llava.card import card
from trainers.llava.compose import Composition
from trainers.llava.config import Recipe, Stage
from trainers.llava.cost import pack_cost
from trainers.llava.data import Data
from trainers.llava.export import export
from trainers.llava.model import Llava
from trainers.llava.prepare import Prepared, composition_of, prepare, sketch
from trainers.llava.resume import Start, begin, ended, found_in, settings
from trainers.loop import Run, train
from trainers.monitor import Monitor
from trainers.optim import adamw, freeze
from trainers.parallel import World, distribute, inner, world
from trainers.seen import CHECKPOINTS

EXPORT = "export"


class Options(NamedTuple):
    """What one command asks of a recipe."""

    stage: str | None = None  # this one only; None: all in order
    resume: Path | None = None  # checkpoint to go on from; None: the newest sound one
    changed: bool = False  # whether data and settings may differ from the checkpoint's
    device: str | None = None


def run(recipe: Recipe, options: Options, progress: Progress) -> dict[str, Any]:
    """Run a recipe's stages; what each came to, and `stopped`, the signal that ended it early, if one did.

    Raises ValueError for what recipe, data or checkpoint do not allow, and as `trainers.loop.train` does.
    """
    stages = recipe.stages if options.stage is None else (recipe.stage(options.stage),)
    results: list[dict[str, Any]] = []
    with world(recipe.compute, options.device) as ranks:
        composition = composition_of(recipe.model)
        for stage in stages:
            sketch(composition, stage)  # a pattern of a late stage that matches nothing is told now
        for stage in stages:
            results.append(run_stage(recipe, stage, composition, options, ranks, progress))
            if results[-1]["stopped"]:
                break
    return {"out": recipe.out, "stages": results, "stopped": results[-1]["stopped"]}


def run_stage(
    recipe: Recipe, stage: Stage, composition: Composition, options: Options, ranks: World, progress: Progress
) -> dict[str, Any]:
    """Run one stage to its end, or to a signal."""
    folder = Path(recipe.out) / stage.name
    found = found_in(folder / CHECKPOINTS, options.resume, ranks)
    prepared = prepare(recipe, stage, composition, ranks, progress)
    start = begin(recipe, prepared, found, _before(recipe, stage, ranks), options.changed)
    if found and start.step == start.steps and (folder / EXPORT).is_dir():
        return _told(folder, found.about, None, skipped=True)
    llava = compose_stage(recipe, prepared, composition, ranks)
    cost = pack_cost(llava)
    model = distribute(llava, recipe.compute, ranks)
    optimizer = adamw(inner(model), stage.optimizer)
    torch.manual_seed(recipe.seed * 1_000_003 + ranks.rank)
    if start.weights:
        restore(start.weights, model, optimizer if start.whole else None, ranks, start.ranks)
    job = Run(
        model=model,
        optimizer=optimizer,
        world=ranks,
        checkpoints=Checkpoints(folder / CHECKPOINTS, recipe.saving.keep, ranks),
        monitor=Monitor(
            folder,
            ranks,
            steps=start.steps,
            step=start.step,
            sources=prepared.mixture.sources,
            cost=cost,
            peak=peak(ranks.device, recipe.compute.peak_tflops),
            label=f"stage {stage.name}",
            progress=progress if ranks.first else Progress(quiet=True),
        ),
        about=_about(recipe, stage, start, ranks),
        settings=stage.optimizer,
        schedule=stage.schedule,
        saving=recipe.saving,
        steps=start.steps,
        step=start.step,
        cursor=start.cursor,
    )
    _record_start(job, start, ranks)
    data = Data(
        prepared.plan,
        prepared.encoding,
        workers=recipe.workers,
        fill=composition.fill,
        pin=ranks.device.type == "cuda",
    )
    with contextlib.closing(job.monitor):
        work: Any = data.steps(job.cursor, ranks.rank, ranks.size)
        with contextlib.closing(work):  # its workers end with it
            stopped = train(job, work)
        about = {**job.about, "step": job.step, "steps": job.steps, "cursor": job.cursor}
        if not stopped:
            export_stage(recipe, stage, composition, model, ranks, about)
            job.monitor.event("export", job.step, folder=str(folder / EXPORT))
    return _told(folder, about, stopped, skipped=False)


def compose_stage(recipe: Recipe, prepared: Prepared, composition: Composition, ranks: World) -> Llava:
    """The model of a stage on this rank's device, in training, what is not trained frozen."""
    stage = prepared.stage
    model = composition.build(torch.float32, recipe.seed)
    model.geometry = prepared.encoding.geometry
    freeze(model.trainable(), stage.train)
    if recipe.compute.recompute:
        model.recompute()
    return model.to(ranks.device).train()


def export_stage(
    recipe: Recipe,
    stage: Stage,
    composition: Composition,
    model: nn.Module,
    ranks: World,
    about: Mapping[str, Any],
) -> None:
    """Write the model as a folder that others load. All ranks take part where it is sharded."""
    state = {}
    for name, value in inner(model).state_dict().items():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        if ranks.first:
            state[name] = whole.cpu()
    if ranks.first:
        folder = Path(recipe.out) / stage.name / EXPORT
        dtype = getattr(torch, recipe.export_dtype)
        bare, out = inner_llava(model), Path(recipe.out)
        text = card(out.resolve().name, out, about, Store.open(recipe.store), bare, composition)
        export(bare, composition, folder, card=text, state=state, dtype=dtype, replace=True)
    ranks.wait()


def inner_llava(model: nn.Module) -> Llava:
    """The model itself, whatever is put around it."""
    bare = inner(model)
    assert isinstance(bare, Llava)
    return bare


def _before(recipe: Recipe, stage: Stage, ranks: World) -> Found | None:
    """The checkpoint that the stage before ended with; None for the first stage."""
    number = recipe.stages.index(stage)
    return ended(Path(recipe.out), recipe.stages[number - 1], ranks) if number else None


def _about(recipe: Recipe, stage: Stage, start: Start, ranks: World) -> dict[str, Any]:
    """What every checkpoint of a stage says of it."""
    return {
        "stage": stage.name,
        "world": ranks.size,
        "settings": settings(recipe, stage),
        "segments": start.segments,
        "software": {**software(), "torch": torch.__version__},
    }


def _record_start(job: Run, start: Start, ranks: World) -> None:
    """What the record says of how this process began."""
    told = {"ranks": ranks.size, "device": str(ranks.device), "segment": start.segments[-1]}
    name = "resume" if start.whole else "start"
    if start.changes:
        told["changes"] = start.changes
        if ranks.first:
            print(f"a new segment begins: {'; '.join(start.changes)}", file=sys.stderr)
    job.monitor.event(name, start.step, **told)


def _told(folder: Path, about: Mapping[str, Any], stopped: str | None, skipped: bool) -> dict[str, Any]:
    """What a command tells of a stage."""
    return {
        "stage": about["stage"],
        "step": about["step"],
        "steps": about["steps"],
        "samples": about["cursor"],
        "skipped": skipped,
        "stopped": stopped,
        "export": None if stopped else str(folder / EXPORT),
    }
