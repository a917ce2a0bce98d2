"""One process or many: the ranks of `torchrun`, what they share, and sums over them.

Without torchrun a `World` has one rank and nothing is sent. With it, ranks on GPUs speak NCCL and ranks on
CPUs gloo. `ddp` keeps a whole model a rank and sends gradients; `fsdp` keeps a slice a rank of every weight,
gradient and moment, layer by layer (FSDP2, `fully_shard`). In float32 `ddp` is DistributedDataParallel. In
bfloat16 all is FSDP2, for its mixed precision: float32 weights, gradients and sums, and bfloat16 copies of
the weights to compute with; `ddp`, and one rank alone, are then groups of which each slice is the whole.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn

from trainers.config import Compute


class World(NamedTuple):
    """This process among the ranks."""

    rank: int
    size: int
    device: torch.device
    quiet: Any = None  # a gloo group of its own for checkpoints, which are written while training sends

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, in place; a device tensor or a CPU one."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            dist.barrier(group=self.quiet)

    def agree(self, value: Any) -> Any:
        """The first rank's value, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.quiet)
        return box[0]


@contextlib.contextmanager
def world(compute: Compute, device: str | None = None) -> Iterator[World]:
    """The ranks that torchrun started, or this process alone, left again at the end.

    `device` is `cpu` or `cuda`; by default a GPU where there is one. Raises ValueError for fewer GPUs than
    ranks of this machine.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size, rank, local = (
        int(os.environ.get(k, d)) for k, d in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    if kind == "cpu" and compute.threads:
        torch.set_num_threads(compute.threads)
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"rank {rank} has no GPU: {torch.cuda.device_count()} are here; "
                "lower torchrun's --nproc-per-node"
            )
        torch.cuda.set_device(local)
        # products of float32 on tensor cores in 19 bits; what must be exact is not a matrix product
        torch.set_float32_matmul_precision("high")
    place = torch.device(kind, local) if kind == "cuda" else torch.device("cpu")
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield World(rank, size, place, dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()


def blocks(model: nn.Module) -> list[nn.Module]:
    """The layers of its towers: the members of every list of modules."""
    return [block for m in model.modules() if isinstance(m, nn.ModuleList) for block in m]


def distribute(model: nn.Module, compute: Compute, world: World) -> nn.Module:
    """The model, its parameters already frozen or not, compiled where asked and spread over the ranks."""
    if compute.compile:
        for block in blocks(model):
            block.compile(dynamic=True)
    if compute.dtype == "float32" and world.size == 1:
        return model
    if compute.dtype == "float32" and compute.parallel == "ddp":
        ids = [world.device.index] if world.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    sliced = compute.parallel == "fsdp" and world.size > 1
    shape = (world.size,) if sliced else (world.size, 1)  # two axes: copies, and slices of each
    low = torch.bfloat16 if compute.dtype == "bfloat16" else None
    shared: dict[str, Any] = {
        "mesh": init_device_mesh(
            world.device.type, shape, mesh_dim_names=("copies", "slices")[-len(shape) :]
        ),
        "mp_policy": MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32),
        "reshard_after_forward": sliced,  # what nobody else has is gathered at no cost, but copied
    }
    for block in blocks(model):
        fully_shard(block, **shared)
    fully_shard(model, **shared)
    return model


def gathering(model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """What a micro-batch's backward runs in: DDP sends gradients with the step's last one alone. FSDP2 sends
    with each, for what it has not sent it keeps whole, beside the slices."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def inner(model: nn.Module) -> nn.Module:
    """The model itself, without what DDP puts around it."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
