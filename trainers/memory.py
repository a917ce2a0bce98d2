"""How much memory a stage takes on each rank, told before it runs: a range, for what fragments is not known.

Counted are the weights, their gradients and moments in float32, the copies that are computed with, and what
the forward pass keeps of the largest pack: with recomputation the input of each layer and all of one layer,
else all of every layer. A layer keeps about what its matrices put out, the inside of its MLP once more for
the activation, and eight times its width for norms, sums and attention, which keeps no scores. (Measured on a
small model: within a tenth.) To the range's upper end come a fourth for fragments, and what libraries take.
"""

from typing import Any, NamedTuple

import torch
from torch import nn

from trainers.config import Compute
from trainers.head import LOGITS
from trainers.parallel import blocks

FRAGMENTS = 1.25
LIBRARIES = {"cpu": 400 << 20, "cuda": 1200 << 20}  # torch with its kernels, measured


class Memory(NamedTuple):
    """Bytes a rank takes, at least and at most, and those of a checkpoint on disk."""

    least: int
    most: int
    state: int  # of weights, gradients and moments: part of `least`
    checkpoint: int


def estimate(model: nn.Module, compute: Compute, ranks: int, device: str, kept: int) -> Memory:
    """The memory of a model, frozen or not already, whose forward pass keeps so many bytes of the largest
    pack."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    every, trained = sum(n for n, _ in sizes), sum(n for n, wanted in sizes if wanted)
    slices = ranks if compute.parallel == "fsdp" else 1
    state = (4 * every + 12 * trained) // slices  # gradient and two moments of what is trained
    width = width_of(compute)
    copies = 0
    if slices > 1:  # gathered: what is in no layer, and two layers, one ahead of the other
        layers = sorted((sum(p.numel() for p in block.parameters()) for block in blocks(model)), reverse=True)
        copies = width * (every - sum(layers) + sum(layers[:2]))
    elif width == 2:
        copies = width * every
    least = state + copies + kept
    return Memory(least, int(FRAGMENTS * least) + LIBRARIES[device], state, 4 * every + 8 * trained)


def width_of(compute: Compute) -> int:
    """Bytes of a number that is computed with."""
    return 2 if compute.dtype == "bfloat16" else 4


def kept_logits(tokens: int, vocabulary: int) -> int:
    """Bytes of a chunk's logits in float32, their softmax and its gradient."""
    return 3 * 4 * min(LOGITS, tokens * vocabulary)


def kept_layers(tower: nn.Module, recompute: bool) -> int:
    """Elements that the layers of a tower keep of each token."""
    config: Any = tower.config
    layers, hidden = config.num_hidden_layers, config.hidden_size
    one = max((_layer(block, hidden) for block in blocks(tower)), default=0)
    return layers * hidden + one if recompute else layers * one


def _layer(block: nn.Module, hidden: int) -> int:
    linear = [m for m in block.modules() if isinstance(m, nn.Linear)]
    put_out = sum(m.out_features for m in linear)
    return put_out + 8 * hidden + max((m.out_features for m in linear), default=0)


def there_is(device: torch.device) -> int | None:
    """Bytes of memory of a GPU; None of a CPU, which others use too."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
