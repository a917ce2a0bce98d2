"""Emu3's language model with its keys and values kept, for generation.

The weights are those of transformers' `Emu3TextModel`, the sums too; what differs is that the cache is laid
out once for the whole length, that only the last position of a call passes the last norm, and that nothing
is checked or built anew for a token. A call over `new` tokens of `rows` costs the linear layers on rows *
new and attention of rows * new * past. The cache takes 2 * layers * rows * length * key heads * head size
numbers.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from transformers import Emu3TextModel


def padded(prompts: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts in rows of one length, int64 [B, T], and the pads ahead of each, int64 [B]."""
    longest = max(map(len, prompts))
    ahead = [longest - len(prompt) for prompt in prompts]
    rows = [[pad] * gap + prompt for gap, prompt in zip(ahead, prompts, strict=True)]
    return torch.tensor(rows), torch.tensor(ahead)


class Cached:
    """Rows that grow together by `append`; `ahead_B` of each row are pads, which nothing sees and which take
    no position."""

    def __init__(self, model: "Emu3TextModel", ahead_B: torch.Tensor, length: int) -> None:
        self.model = model
        weight = model.embed_tokens.weight
        self._layers: list[Any] = list(model.layers)
        heads, size = model.config.num_key_value_heads, self._layers[0].self_attn.head_dim
        assert heads is not None
        shape = (len(ahead_B), heads, length, size)
        self._keys_BHTD = [weight.new_empty(shape) for _ in self._layers]
        self._values_BHTD = [weight.new_empty(shape) for _ in self._layers]
        self._ahead_B = ahead_B.to(weight.device)
        self._padded = bool(ahead_B.any())
        self._past = 0
        # both [1, T, D]
        self._cos_1TD, self._sin_1TD = model.rotary_emb(
            weight, torch.arange(length, device=weight.device)[None]
        )

    def append(self, tokens_BN: torch.Tensor) -> torch.Tensor:
        """What the model makes of the last of N more tokens of each row, [B, width]."""
        start, end = self._past, self._past + tokens_BN.shape[1]
        self._past = end
        columns_N = torch.arange(start, end, device=tokens_BN.device)
        positions_BN = (columns_N[None] - self._ahead_B[:, None]).clamp(min=0)
        cos_B1ND, sin_B1ND = self._cos_1TD[0][positions_BN][:, None], self._sin_1TD[0][positions_BN][:, None]
        mask = self._mask(columns_N, end)
        hidden_BNW = self.model.embed_tokens(tokens_BN)
        for number, layer in enumerate(self._layers):
            attention = layer.self_attn
            normed_BNW = layer.input_layernorm(hidden_BNW)
            query, key, value = (
                project(normed_BNW).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            keys, values = self._keys_BHTD[number], self._values_BHTD[number]
            keys[:, :, start:end] = _rotated(key, cos_B1ND, sin_B1ND)
            values[:, :, start:end] = value
            seen_BHND = scaled_dot_product_attention(
                _rotated(query, cos_B1ND, sin_B1ND),
                keys[:, :, :end],
                values[:, :, :end],
                attn_mask=mask,
                scale=attention.scaling,
                enable_gqa=attention.num_key_value_groups > 1,
            )
            hidden_BNW = hidden_BNW + attention.o_proj(seen_BHND.transpose(1, 2).flatten(2))
            hidden_BNW = hidden_BNW + layer.mlp(layer.post_attention_layernorm(hidden_BNW))
        normed_BW: torch.Tensor = self.model.norm(hidden_BNW[:, -1])
        return normed_BW

    def _mask(self, columns_N: torch.Tensor, end: int) -> torch.Tensor | None:
        """What each new token sees, bool [B or 1, 1, N, end]; None where it is all there is."""
        if len(columns_N) == 1 and not self._padded:
            return None
        there_T = torch.arange(end, device=columns_N.device)
        mask_BNT = (there_T <= columns_N[:, None])[None]
        if self._padded:
            # a pad sees itself: a row of attention with nothing in it is not a number
            real_BNT = (there_T >= self._ahead_B[:, None])[:, None] | (there_T == columns_N[:, None])
            mask_BNT = mask_BNT & real_BNT
        return mask_BNT[:, None]


def _rotated(x_BHND: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al., RoFormer, arXiv 2104.09864), the halves of a head as pairs."""
    first, second = x_BHND.chunk(2, dim=-1)
    return x_BHND * cos + torch.cat((-second, first), dim=-1) * sin
