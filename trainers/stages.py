"""Training a model in stages: a recipe's in order, each from where the last one ended.

    OUT/STAGE/checkpoints/   what a kill goes on from (`trainers.checkpoint`)
    OUT/STAGE/record.jsonl   one line a step (`trainers.monitor`), tensorboard/ its view
    OUT/STAGE/export/        the model at the stage's end, as transformers loads it

Run it again and it goes on: a stage that ended is not run again, one that was interrupted continues at its
newest sound checkpoint. On a CPU the weights are then, bit for bit, those of a run that nothing disturbed, at
the same number of ranks; at another the same samples are taken. On a GPU kernels that add in no fixed order
leave rounding. Under torchrun every rank runs this.

What is particular to a kind of model, a `Trainer` says: how samples are laid out, the model and what it
costs, and the folder it is exported to.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from infinity_mm.executor import Report
from infinity_mm.manifest import software
from infinity_mm.progress import Progress
from trainers.batch import Pack
from trainers.checkpoint import Checkpoints, Found, restore
from trainers.data import Data
from trainers.flops import peak
from trainers.loop import Run, train
from trainers.memory import Memory
from trainers.monitor import Cost, Monitor
from trainers.optim import adamw
from trainers.parallel import World, distribute, inner, world
from trainers.plan import Figures
from trainers.prepared import Prepared
from trainers.recipe import Recipe, Stage
from trainers.resume import Start, begin, ended, found_in, settings
from trainers.seen import CHECKPOINTS

EXPORT = "export"


class Options(NamedTuple):
    """What one command asks of a recipe."""

    stage: str | None = None  # this one only; None: all in order
    resume: Path | None = None  # checkpoint to go on from; None: the newest sound one
    changed: bool = False  # whether data and settings may differ from the checkpoint's
    device: str | None = None


class Trainer(Protocol):
    """What a kind of model adds to a recipe's stages. Each may raise ValueError, in one line with the way
    out."""

    def sketch(self, stage: Any) -> nn.Module:
        """The model of a stage without numbers: its parameters' shapes, and which of them are trained."""

    def prepare(self, stage: Any, ranks: World, report: Report | None) -> Prepared:
        """A stage's data mixed, measured and planned."""

    def build(self, prepared: Prepared, ranks: World) -> nn.Module:
        """The model of a stage on this rank's device, in training, what is not trained frozen; its forward
        is Pack -> losses of supervised tokens, float32 [S]."""

    def groups(self, prepared: Prepared) -> Sequence[str]:
        """What the losses of a pack are told by: names of the numbers in its `sources_S`."""

    def cost(self, model: Any) -> Callable[[Pack], Cost]:
        """A function that tells a pack's cost, which keeps nothing of the model but numbers."""

    def memory(self, model: Any, figures: Figures, ranks: World) -> Memory: ...

    def data(self, prepared: Prepared, ranks: World) -> Data: ...

    def export(
        self, model: Any, state: Mapping[str, torch.Tensor], folder: Path, about: Mapping[str, Any]
    ) -> bool:
        """Write the model, its whole `state_dict` given, as a folder that others load; False, told on stderr,
        where none can."""


def run(
    recipe: Recipe, trainer_of: Callable[[Any], Trainer], options: Options, progress: Progress
) -> dict[str, Any]:
    """Run a recipe's stages; what each came to, and `stopped`, the signal that ended it early, if one did.

    Raises ValueError for what recipe, data or checkpoint do not allow, and as `trainers.loop.train` does.
    """
    stages = recipe.stages if options.stage is None else (recipe.stage(options.stage),)
    results: list[dict[str, Any]] = []
    with world(recipe.compute, options.device) as ranks:
        trainer = trainer_of(recipe)
        for stage in stages:
            trainer.sketch(stage)  # a pattern of a late stage that matches nothing is told now
        for stage in stages:
            results.append(run_stage(recipe, stage, trainer, options, ranks, progress))
            if results[-1]["stopped"]:
                break
    return {"out": recipe.out, "stages": results, "stopped": results[-1]["stopped"]}


def run_stage(
    recipe: Recipe, stage: Stage, trainer: Trainer, options: Options, ranks: World, progress: Progress
) -> dict[str, Any]:
    """Run one stage to its end, or to a signal."""
    folder = Path(recipe.out) / stage.name
    found = found_in(folder / CHECKPOINTS, options.resume, ranks)
    prepared = trainer.prepare(stage, ranks, progress)
    start = begin(recipe, prepared, found, _before(recipe, stage, ranks), options.changed)
    if found and start.step == start.steps and (folder / EXPORT).is_dir():
        return _told(folder, found.about, None, skipped=True)
    bare = trainer.build(prepared, ranks)
    cost = trainer.cost(bare)
    model = distribute(bare, recipe.compute, ranks)
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
            sources=trainer.groups(prepared),
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
    data = trainer.data(prepared, ranks)
    with contextlib.closing(job.monitor):
        work: Any = data.steps(job.cursor, ranks.rank, ranks.size)
        with contextlib.closing(work):  # its workers end with it
            stopped = train(job, work)
        about = {**job.about, "step": job.step, "steps": job.steps, "cursor": job.cursor}
        if not stopped:
            state = whole_state(model, ranks)
            if ranks.first and trainer.export(inner(model), state, folder / EXPORT, about):
                job.monitor.event("export", job.step, folder=str(folder / EXPORT))
            ranks.wait()
    return _told(folder, about, stopped, skipped=False)


def whole_state(model: nn.Module, ranks: World) -> dict[str, torch.Tensor]:
    """A model's `state_dict` on the first rank's CPU; empty on the others, which take part where it is
    sharded."""
    state = {}
    for name, value in inner(model).state_dict().items():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        if ranks.first:
            state[name] = whole.cpu()
    return state


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
        "export": None if stopped or not (folder / EXPORT).is_dir() else str(folder / EXPORT),
    }
