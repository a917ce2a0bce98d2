"""Run by torchrun: `gloo_ranks.py TASK FOLDER [strategy]`, on the toy. Rank 0 saves what the test reads."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import toy_training
from torch.distributed.tensor import DTensor

from trainers.checkpoint import restore
from trainers.config import Compute
from trainers.loop import backward, before, train
from trainers.optim import freeze
from trainers.parallel import World, distribute, inner, world


def whole(x: torch.Tensor) -> torch.Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def gradients(ranks: World, folder: Path, compute: Compute) -> None:
    """The gradient of one step of six documents and the sums of losses, shared in each way."""
    for parallel in ("ddp", "fsdp"):
        for dtype in ("float32", "bfloat16"):
            torch.manual_seed(0)
            model = toy_training.Toy()
            freeze(dict(model.named_parameters()), ("*",))
            model = distribute(model, replace(compute, parallel=parallel, dtype=dtype), ranks)
            step = next(toy_training.work(0, 6, 6, ranks.rank, ranks.size))
            supervised, _, _ = before(ranks, step, [])
            sums = backward(model, step.packs, supervised, 2, ranks)
            found = {name: whole(p.grad) for name, p in inner(model).named_parameters() if p.grad is not None}
            if ranks.first:
                told = {"gradients": found, "sums": sums, "supervised": supervised}
                torch.save(told, folder / f"{parallel}-{dtype}.pt")


def training(ranks: World, folder: Path, compute: Compute) -> None:
    """Twelve steps with dropout, from the newest checkpoint on if there is one; the weights."""
    run = toy_training.start(folder, ranks, steps=12, dropout=0.2, compute=compute, every=4, keep=9)
    found, _ = run.checkpoints.newest()
    if found:
        restore(found.path, run.model, run.optimizer, ranks, found.about["world"])
        run.step, run.cursor = found.about["step"], found.about["cursor"]
    until = int(sys.argv[4]) if len(sys.argv) > 4 else 72
    train(run, toy_training.work(run.cursor, until, 6, ranks.rank, ranks.size))
    weights = {name: whole(p.detach()) for name, p in inner(run.model).named_parameters()}
    if ranks.first:
        torch.save(weights, folder / "weights.pt")
        (folder / "cursor.json").write_text(json.dumps([run.step, run.cursor]))
    run.monitor.close()


if __name__ == "__main__":
    strategy = sys.argv[3] if len(sys.argv) > 3 else "ddp"
    compute = Compute(parallel=strategy, dtype="float32", threads=1)  # type: ignore[arg-type]
    with world(compute, "cpu") as ranks:
        {"gradients": gradients, "training": training}[sys.argv[1]](ranks, Path(sys.argv[2]), compute)
