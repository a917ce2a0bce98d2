"""The data path: a plan's steps as packs of tensors, read and laid out by worker processes ahead of the loop.

What a rank gets depends on the plan alone: pack after pack in order, whatever the number of workers. A sample
that can't be had any more is left out of its pack and told as a ledger row; nothing takes its place. A worker
that dies is an error.

Packs come through pipes, as arrays: torch's shared memory is 64 MB in many a container, and what lies in it
is lost with the worker that made it. A thread takes them in while the step before is trained on. Memory: two
steps' packs, and `ahead` packs a worker.
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from infinity_mm.executor import WorkerDied
from trainers.ahead import ahead
from trainers.batch import Pack
from trainers.plan import Plan, PlannedStep

Unit = tuple[tuple[int, int, int], ...]  # the turns of a pack


def failed_row(told: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """The ledger row of a sample that can't be had. `told`: its row of a sample shard; the error says
    `reason: detail`."""
    reason, _, detail = str(error).partition(": ")
    return {
        "sample_id": told["sample_id"].hex(),
        "source": told["source"],
        "origin": told["origin"],
        "outcome": "failed",
        "reason": reason,
        "detail": detail,
    }


class Step(NamedTuple):
    """One step's work for a rank."""

    packs: tuple[Pack, ...]  # as many on every rank: the last may be empty
    consumed: int  # the cursor when it is done
    sample_ids: tuple[bytes, ...]  # of all ranks' packs, as planned
    skipped: tuple[dict[str, Any], ...]  # ledger rows: what this rank could not read, and on the first, what
    # the plan left out
    supervised: int  # tokens of all ranks, as planned


class Loaded(NamedTuple):
    """What makes a pack, arrays in place of tensors, and the ledger rows of what is missing from it."""

    arrays: tuple[Any, ...]
    skipped: list[dict[str, Any]]


class Reader(Protocol):
    """What a worker reads samples with, and how documents become packs."""

    def document(self, shard: int, row: int, epoch: int) -> tuple[Any, dict[str, Any] | None]:
        """A sample as a document, None where there is none; and the ledger row that says why not."""

    def join(self, documents: Sequence[Any]) -> Pack: ...


class Reading(Protocol):
    """What a worker is started with: picklable."""

    def open(self) -> Reader: ...


class Data:
    """The steps of a plan, read. `pin`: whether packs lie in pinned memory, for a GPU; `ahead`: packs a
    worker prepares before they are asked for."""

    def __init__(
        self, plan: Plan, reading: Reading, *, workers: int = 1, pin: bool = False, ahead: int = 4
    ) -> None:
        self.plan, self.reading = plan, reading
        self.workers, self.pin, self.ahead = workers, pin, ahead

    def steps(self, cursor: int = 0, rank: int = 0, world: int = 1) -> Iterator[Step]:
        """Every step from a cursor on, for one of `world` ranks. To be closed when it is left early.

        Raises ValueError for a cursor at which no step begins, WorkerDied where a worker did.
        """
        first = self.plan.number(cursor)
        steps = self._read(first, rank, world)
        return ahead(steps) if self.workers and first < self.plan.steps else steps

    def _read(self, first: int, rank: int, world: int) -> Generator[Step]:
        planned: deque[PlannedStep] = deque()

        def units() -> Iterator[Unit]:
            for number in range(first, self.plan.steps):
                step = self.plan.step(number)
                planned.append(step)
                yield from share(step, rank, world)

        loaded = self._loaded(units())
        for first_pack in loaded:
            step = planned.popleft()
            packs = [first_pack, *islice(loaded, len(share(step, rank, world)) - 1)]
            left_out = [self.plan.why_left_out((s, r)) for s, r, _ in step.left_out.tolist()]
            yield Step(
                packs=tuple(self._pack(one.arrays) for one in packs),
                consumed=step.consumed,
                sample_ids=tuple(i for places in step.packs for i in self.plan.mixture.ids(places)),
                skipped=(*(left_out if rank == 0 else ()), *(row for one in packs for row in one.skipped)),
                supervised=step.supervised,
            )

    def _loaded(self, units: Iterator[Unit]) -> Iterator[Loaded]:
        try:
            yield from DataLoader(
                _Packs(self.reading),
                sampler=units,
                batch_size=None,
                collate_fn=_as_it_is,
                num_workers=self.workers,
                prefetch_factor=self.ahead if self.workers else None,
                multiprocessing_context="spawn" if self.workers else None,
                worker_init_fn=_apart if self.workers else None,
                generator=torch.Generator(),  # else it would draw a seed from the training's
            )
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise WorkerDied(
                f"a process that reads samples died ({error}): is there enough memory? Give fewer workers, "
                "and go on from the last checkpoint"
            ) from error

    def _pack(self, arrays: tuple[Any, ...]) -> Pack:
        fields: list[Any] = [self._tensor(x) if isinstance(x, np.ndarray) else x for x in arrays]
        return Pack(*fields)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.pin else tensor


def share(step: PlannedStep, rank: int, world: int) -> list[Unit]:
    """The packs of a rank: every `world`-th, with empty ones so that all ranks have as many."""
    count = max(1, -(-len(step.packs) // world))
    mine = [tuple(map(tuple, places.tolist())) for places in step.packs[rank::world]]
    return [*mine, *[()] * (count - len(mine))]


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _apart(worker: int) -> None:
    """A signal to the process group is for the loop, which ends its step first; not for its workers."""
    os.setsid()


class _Packs(Dataset[Loaded]):
    """Packs by the turns of their samples. A worker opens the store when it is first asked."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._open: Reader | None = None

    def __getitem__(self, unit: Any) -> Loaded:
        self._open = self._open or self.reading.open()
        documents, skipped = [], []
        for turn in unit:
            document, error = self._open.document(*turn)
            if document is not None:
                documents.append(document)
            if error is not None:
                skipped.append(error)
        pack = self._open.join(documents)
        return Loaded(tuple(x.numpy() if torch.is_tensor(x) else x for x in pack), skipped)
