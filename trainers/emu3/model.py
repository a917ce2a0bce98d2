"""The model: transformers' Emu3 language model over packs of documents.

Its arithmetic is that of `Emu3ForCausalLM`, tested to be; what differs is the batch, a row of packed
documents instead of padded ones, and that the language head sees supervised positions alone. Dropout is where
transformers has it: on attention, and behind each layer's attention and MLP (`attention_dropout` is the rate
of all three). It computes in the dtype of its parameters, with no autocast (`trainers.parallel`); losses are
float32 always.

With `qk_norm` each head's queries and keys go through an RMSNorm of their own before they are turned, as in
Emu3.5 and Chameleon (arXiv 2510.26583, 2405.09818). transformers' Emu3 has no such layer.
"""

from typing import Any

import torch
from torch import nn

from trainers.attention import documents
from trainers.batch import Pack
from trainers.head import LOGITS, head_losses


class Emu3(nn.Module):
    """An Emu3 language model. `language_model`: an `Emu3ForCausalLM` with packed attention."""

    def __init__(self, language_model: Any, *, qk_norm: bool = False, z_loss: float = 0.0) -> None:
        super().__init__()
        self.language_model = language_model
        self.z_loss = z_loss
        self.qk_norm = qk_norm
        self.logits_at_once = LOGITS
        if qk_norm:
            for layer in language_model.model.layers:
                _normalise(layer.self_attn, language_model.config.rms_norm_eps)

    @property
    def config(self) -> Any:
        """The language model's."""
        return self.language_model.config

    def recompute(self) -> None:
        """Keep no activations of layers in training, but compute them again in the backward pass."""
        self.language_model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )

    def forward(self, pack: Pack) -> torch.Tensor:
        """The loss of each supervised token, -log p with the z-loss, float32 [S], unreduced and unweighted.

        It depends on every parameter, of a pack without tokens too, whose gradient is zero: ranks that wait
        for each other's gradients go on.
        """
        pack = pack if len(pack.tokens_T) else _one_token(pack)
        hidden_SD = self.hidden(pack)[pack.target_at_S]
        weight_VD = self.language_model.lm_head.weight
        return head_losses(hidden_SD, weight_VD, pack.targets_S, self.logits_at_once, self.z_loss)

    def logits(self, pack: Pack) -> torch.Tensor:
        """What each token says of the next: float32 [T, V]. For tests: training never has them all."""
        logits_TV: torch.Tensor = self.language_model.lm_head(self.hidden(pack)).float()
        return logits_TV

    def hidden(self, pack: Pack) -> torch.Tensor:
        """The language model's last hidden states, [T, D]."""
        found = self.language_model.model(
            input_ids=pack.tokens_T[None],
            position_ids=pack.positions_T[None],
            use_cache=False,
            documents=documents(pack.starts_D, len(pack.tokens_T)),
        )
        hidden_TD: torch.Tensor = found.last_hidden_state[0]
        return hidden_TD


class NormedHeads(nn.Module):
    """A projection to heads, each of which is normalised."""

    def __init__(self, linear: nn.Linear, size: int, eps: float) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.RMSNorm(size, eps, device=linear.weight.device, dtype=linear.weight.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., heads x size]."""
        heads = self.linear(x).unflatten(-1, (-1, self.norm.normalized_shape[0]))
        normed: torch.Tensor = self.norm(heads).flatten(-2)
        return normed


def _normalise(attention: Any, eps: float) -> None:
    for name in ("q_proj", "k_proj"):
        setattr(attention, name, NormedHeads(getattr(attention, name), attention.head_dim, eps))


def _one_token(pack: Pack) -> Pack:
    """An empty pack with a token that no loss looks at, for layers that take no empty row."""
    tokens = pack.tokens_T
    return pack._replace(
        tokens_T=tokens.new_zeros(1),
        positions_T=tokens.new_zeros(1),
        starts_D=torch.tensor([0, 1], dtype=torch.int32, device=tokens.device),
    )
