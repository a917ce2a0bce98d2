"""How many floating-point operations a model's step needs, and what share of the device's peak that is.

What is counted is what the mathematics needs: two for each multiply-add of a product with a weight, attention
within each document alone (causal: half the square), gradients only where they are wanted. Nothing is counted
for padding, for layers computed again in the backward pass, for norms and activations. So the share is the
model FLOPs utilisation of PaLM (arXiv 2204.02311, appendix B), with frozen parts at their true cost.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

# dense bf16 peak in TFLOP/s by the device's name, from the vendors' data sheets; the first that it contains
PEAKS = (
    ("B200", 2250.0),
    ("GH200", 989.4),
    ("H200", 989.4),
    ("H100 PCIe", 756.5),
    ("H100 NVL", 835.5),
    ("H100", 989.4),
    ("H800", 989.4),
    ("A100", 311.9),
    ("A800", 311.9),
    ("L40S", 362.1),
    ("L4", 121.0),
    ("A10", 125.0),
    ("RTX 4090", 165.2),
)


class Part(NamedTuple):
    """A part of a model that all tokens go through, as costs of one token."""

    weights: int  # elements of the matrices it is multiplied with
    attention: int = 0  # width of its heads together, times layers
    causal: bool = False


def linear_weights(module: nn.Module) -> int:
    """Elements of the matrices of linear and convolutional layers; embeddings are looked up."""
    kinds = (nn.Linear, nn.Conv2d)
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, kinds))


def attention_width(config: Any) -> int:
    """The width of all heads together, times layers."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(heads * size * config.num_hidden_layers)


def flops(part: Part, lengths: Iterable[int], *, trained: bool, through: bool) -> int:
    """Operations of one forward and backward pass over documents or tiles of these lengths.

    `trained`: its weights get gradients; `through`: it is frozen, but what comes before it gets gradients.
    With neither there is a forward pass alone. A trained part's first layer is counted as if the gradient of
    its input were wanted.
    """
    lengths = list(lengths)
    tokens, squares = sum(lengths), sum(n * n for n in lengths)
    products = 2 * part.weights * tokens
    scores = (2 if part.causal else 4) * part.attention * squares
    backward = trained or through
    return products * (1 + backward + trained) + scores * (3 if backward else 1)


def peak(device: torch.device, stated_tflops: float | None = None) -> float | None:
    """Operations a second of a device at most in dense bf16; None where it is neither stated nor listed."""
    if stated_tflops is not None:
        return stated_tflops * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((tflops * 1e12 for part, tflops in PEAKS if part in name), None)
