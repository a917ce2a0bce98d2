"""What joins a vision tower's features to a language model's embeddings.

A projector's parameters are named as in transformers' LlavaOnevision, which knows two linear layers and an
activation between them; one that has less tells how it is written as such (`hub_weights`).
"""

from collections.abc import Callable, Mapping
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

    def hub_weights(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights under the hub's names, from those of its `state_dict`."""
        return dict(state)


class Linear(nn.Module):
    """One linear layer: [..., vision] -> [..., text]. In the hub's layout an identity follows it."""

    activation = "linear"

    def __init__(self, vision: int, text: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(vision, text)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.linear_1(features)
        return projected

    def hub_weights(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights under the hub's names, from those of its `state_dict`: an identity is the second layer."""
        bias = state["linear_1.bias"]
        identity = torch.eye(len(bias), dtype=bias.dtype, device=bias.device)
        return {**state, "linear_2.weight": identity, "linear_2.bias": torch.zeros_like(bias)}


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
