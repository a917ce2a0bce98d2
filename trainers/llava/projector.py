"""What joins a vision tower's features to a language model's embeddings.

A projector's parameters are named as in transformers' LlavaOnevision, which knows two linear layers and an
activation between them; one that has less tells how it is written as such (`hub_weights`).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn


class Mlp(nn.Module):
    """Two linear layers with an activation: [..., vision] -> [..., text]."""

    def __init__(self, vision: int, text: int, activation: str) -> None:
        super().__init__()
        self.activation = activation  # its name in transformers
        self.linear_1 = nn.Linear(vision, text)
        self.act = ACTIVATIONS[activation]()
        self.linear_2 = nn.Linear(text, text)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.linear_2(self.act(self.linear_1(features)))
        return projected

    def hub_weights(self) -> dict[str, torch.Tensor]:
        """Its weights under the hub's names."""
        return dict(self.state_dict())


class Linear(nn.Module):
    """One linear layer: [..., vision] -> [..., text]. In the hub's layout an identity follows it."""

    activation = "linear"

    def __init__(self, vision: int, text: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(vision, text)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.linear_1(features)
        return projected

    def hub_weights(self) -> dict[str, torch.Tensor]:
        """Its weights under the hub's names, with an identity as the second layer."""
        weight = self.linear_1.weight
        identity = torch.eye(len(weight), dtype=weight.dtype)
        zero = torch.zeros(len(weight), dtype=weight.dtype)
        return {**self.state_dict(), "linear_2.weight": identity, "linear_2.bias": zero}


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
PROJECTORS: dict[str, Callable[[int, int], nn.Module]] = {
    "mlp2x_gelu": partial(Mlp, activation="gelu"),
    "mlp2x_relu": partial(Mlp, activation="relu"),
    "mlp2x_silu": partial(Mlp, activation="silu"),
    "linear": Linear,
}


def projector(name: str, vision: int, text: int) -> nn.Module:
    """The projector of that name, its weights random. Raises ValueError naming those there are."""
    if name not in PROJECTORS:
        raise ValueError(f"projector {name!r}: there is none; there are {', '.join(PROJECTORS)}")
    return PROJECTORS[name](vision, text)
