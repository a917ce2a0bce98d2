"""The training loop: one page, whatever the model and however many ranks.

The loss of a step is the weighted sum of its supervised tokens' losses over the sum of their weights, both
over all micro-batches and ranks: how a step is cut into packs, and who takes them, changes nothing but
rounding.
"""

import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn

from trainers.batch import Pack
from trainers.checkpoint import Checkpoints
from trainers.config import Optimizer, Saving, Schedule
from trainers.monitor import Monitor, Numbers
from trainers.optim import clip, rate_share, set_rates
from trainers.parallel import World, gathering


class Step(Protocol):
    """One step's work for this rank."""

    @property
    def packs(self) -> Sequence[Pack]: ...  # as many on every rank

    @property
    def consumed(self) -> int: ...  # samples consumed when it is done: the cursor

    @property
    def sample_ids(self) -> Sequence[bytes]: ...  # of the whole step, on every rank

    @property
    def skipped(self) -> Sequence[dict[str, Any]]: ...  # ledger rows of what this rank could not read


class NotFinite(RuntimeError):
    """The loss or the gradient is not a number."""


@dataclass(kw_only=True, slots=True)
class Run:
    """What a loop works on, and where it is: `step` and `cursor` move on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    world: World
    checkpoints: Checkpoints
    monitor: Monitor
    about: dict[str, Any]  # what every checkpoint says beside step and cursor; its last segment is open
    settings: Optimizer
    schedule: Schedule
    saving: Saving
    steps: int  # of the whole stage
    step: int = 0
    cursor: int = 0


def train(run: Run, work: Iterator[Step]) -> str | None:
    """Take every step of `work`, from `run.step` on; the name of the signal that ended it early, or None.

    A signal lets the step end and a checkpoint be written. Raises NotFinite before a weight is changed by
    what is not a number, and CheckpointError.
    """
    trained = [p for p in run.model.parameters() if p.requires_grad]
    with interrupts() as told:
        for step in run.monitor.timed(work):
            supervised, weight, skipped, stop = before(run.world, step, told)
            rates = set_rates(run.optimizer, rate_share(run.schedule, run.step, run.steps))
            sums = backward(run.model, step.packs, weight, len(run.monitor.sources), run.world)
            norm = clip(trained, run.settings.clip)
            numbers = Numbers.of(sums, norm, rates, supervised, skipped)
            if not numbers.finite:
                raise NotFinite(explain(run, step, numbers))
            if supervised:  # else nothing is learned, and momentum must not move the weights either
                run.optimizer.step()
            run.optimizer.zero_grad()
            run.step, run.cursor = run.step + 1, step.consumed
            run.monitor.step(run.step, run.cursor, step.packs, step.skipped, numbers)
            if stop or run.step % run.saving.every == 0 or run.step == run.steps:
                save(run)
            run.checkpoints.poll()
            if stop:
                run.checkpoints.wait()
                return signal.Signals(stop).name
    run.checkpoints.wait()
    return None


def before(world: World, step: Step, told: Sequence[int]) -> tuple[int, float, int, int]:
    """What ranks must agree on before a step: supervised tokens, their weights, and samples left out, summed,
    and the signal that any was told."""
    supervised = sum(len(p.targets_S) for p in step.packs)
    weight = sum(float(p.weights_S.double().sum()) for p in step.packs)
    mine = [supervised, weight, len(step.skipped), *(told.count(number) for number in SIGNALS)]
    summed = world.sum(torch.tensor(mine, dtype=torch.float64)).tolist()
    signals = zip(SIGNALS, summed[3:], strict=True)
    return int(summed[0]), summed[1], int(summed[2]), next((s for s, count in signals if count), 0)


def backward(
    model: nn.Module, packs: Sequence[Pack], weight: float, sources: int, world: World
) -> torch.Tensor:
    """Add a step's gradients, pack by pack; float64 [sources, 3], the weighted sum of losses, the weights and
    the number of tokens of each source, over all ranks. `weight`: of the step's supervised tokens."""
    sums = torch.zeros(sources, 3, dtype=torch.float64, device=world.device)
    # DDP and FSDP take the mean over ranks, where the sum is wanted
    scale = world.size / (weight or 1.0)
    for number, pack in enumerate(packs, 1):
        pack = pack.to(world.device)
        with gathering(model, last=number == len(packs)):
            losses_S = model(pack) * pack.weights_S
            (losses_S.sum() * scale).backward()
        weights_S = pack.weights_S.double()
        told = torch.stack([losses_S.detach().double(), weights_S, torch.ones_like(weights_S)], 1)
        sums.index_add_(0, pack.sources_S, told)
    return world.sum(sums)


def save(run: Run) -> None:
    """Begin to write a checkpoint of where the run is."""
    *former, last = run.about["segments"]
    state = {
        **run.about,
        "step": run.step,
        "steps": run.steps,
        "cursor": run.cursor,
        "finished": run.step >= run.steps,
        "segments": [*former, {**last, "to": run.cursor}],
    }
    run.checkpoints.save(run.model, run.optimizer, state)
    run.monitor.event("checkpoint", run.step)


def explain(run: Run, step: Step, numbers: Numbers) -> str:
    """What is not a number, in which samples, and what to do; the ids go into the record."""
    bad = [name for name, loss in run.monitor.named(numbers.by_source).items() if not math.isfinite(loss)]
    run.monitor.event("not_finite", run.step + 1, sample_ids=[identity.hex() for identity in step.sample_ids])
    what = f"the loss of {', '.join(bad)}" if bad else f"the gradient (norm {numbers.norm})"
    return (
        f"{what} is not a number at step {run.step + 1} (samples {run.cursor:,} to {step.consumed:,}, ids in "
        f"{run.monitor.record}); no weight was changed. Look at those samples, or go on from the last "
        "checkpoint with a lower optimizer.lr or optimizer.clip"
    )


SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """The signals that came. Each is taken as a wish to end after the step; a second ends the process."""
    told: list[int] = []
    former = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)
        signal.signal(number, former[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield told
    finally:
        for number in SIGNALS:
            signal.signal(number, former[number])
