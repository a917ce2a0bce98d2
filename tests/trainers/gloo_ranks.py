"""Run by torchrun, or alone: `gloo_ranks.py TASK FOLDER`, on the toy. Rank 0 saves what the test reads."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import toy_training
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.tensor import DTensor

from trainers.checkpoint import newest, restore
from trainers.config import Compute
from trainers.loop import backward, before, train
from trainers.optim import freeze
from trainers.parallel import World, distribute, inner, world


def whole(x: torch.Tensor) -> torch.Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def counting(sent: list[int], bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Send gradients as DDP does, and note how many."""
    sent.append(bucket.buffer().numel())
    return allreduce_hook(None, bucket)


def gradients(ranks: World, folder: Path) -> None:
    """The gradient of one step of six documents and the sums of losses, shared in each way."""
    for parallel in ("ddp", "fsdp"):
        for dtype in ("float32", "bfloat16"):
            torch.manual_seed(0)
            model = toy_training.Toy()
            freeze(dict(model.named_parameters()), ("*",))
            model = distribute(model, Compute(parallel=parallel, dtype=dtype), ranks)
            sent: list[int] = []
            if isinstance(model, nn.parallel.DistributedDataParallel):
                model.register_comm_hook(sent, counting)
            step = next(toy_training.work(0, 6, 6, ranks.rank, ranks.size))
            supervised, weight, _, _ = before(ranks, step, [])
            sums = backward(model, step.packs, weight, 2, ranks)
            found = {name: whole(p.grad) for name, p in inner(model).named_parameters() if p.grad is not None}
            if ranks.first:
                told = {"gradients": found, "sums": sums, "supervised": supervised, "sent": sent}
                torch.save(told, folder / f"{parallel}-{dtype}.pt")


def training(ranks: World, folder: Path, until: int, killed_at: int | None = None) -> None:
    """Steps of the toy with dropout, from the newest checkpoint on if there is one; its weights at the end.
    Rank 1 kills itself before step `killed_at`."""

    def work() -> Iterator[toy_training.ToyStep]:
        for step in toy_training.work(run.cursor, until, 6, ranks.rank, ranks.size):
            if ranks.rank == 1 and step.consumed // 6 == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield step

    compute = Compute(dtype="float32", parallel="fsdp")
    run = toy_training.start(folder, ranks, steps=12, dropout=0.2, compute=compute, every=4, keep=9)
    found, _ = newest(run.checkpoints.folder)
    if found:
        restore(found.path, run.model, run.optimizer, ranks, found.about["world"])
        run.step, run.cursor = found.about["step"], found.about["cursor"]
        run.monitor.event("resume", run.step)
    train(run, work())
    weights = {name: whole(p.detach()) for name, p in inner(run.model).named_parameters()}
    if ranks.first:
        torch.save(weights, folder / "weights.pt")
    run.monitor.close()


def undisturbed_and_killed(ranks: World, folder: Path) -> None:
    training(ranks, folder / "undisturbed", 72)
    training(ranks, folder / "killed", 72, killed_at=7)


def alone(ranks: World, folder: Path) -> None:
    """One rank goes on with the copy, for a while."""
    training(ranks, folder / "copy", 48)


def both_again(ranks: World, folder: Path) -> None:
    training(ranks, folder / "killed", 72)
    training(ranks, folder / "copy", 72)


TASKS = {task.__name__: task for task in (gradients, undisturbed_and_killed, alone, both_again)}

if __name__ == "__main__":
    with world(Compute(threads=1), "cpu") as ranks:
        TASKS[sys.argv[1]](ranks, Path(sys.argv[2]))
