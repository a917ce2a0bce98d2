"""Attention among packed documents that never see each other, for any language model of transformers.

A row of a pack is documents one after another; a token attends to its own document's tokens up to itself. On
a GPU in half precision it is one kernel over all documents, torch's variable-length flash attention;
elsewhere each document is attended on its own, which is exact and costs no T×T mask. `NAME` is the
implementation to ask transformers for (`attn_implementation`); a model then takes `documents=` in its forward
and makes no mask.
"""

from collections.abc import Callable
from inspect import signature
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

NAME = "packed_documents"
HALF = (torch.float16, torch.bfloat16)


def _find_varlen() -> Callable[..., Any] | None:
    """Torch's kernel for documents of any lengths; None where it has none yet (before 2.11)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in signature(varlen_attn).parameters else None


VARLEN = _find_varlen()


class Documents(NamedTuple):
    """Where documents lie in a row."""

    starts_D: torch.Tensor  # int32 [D + 1], on the row's device
    starts: tuple[int, ...] | None  # the same; None on a GPU, where reading them waits for it
    row: int  # tokens of the row


def documents(starts_D: torch.Tensor, row: int) -> Documents:
    """Documents of a row of `row` tokens, from where each starts: int32 [D + 1], its last the row's end."""
    on_host = starts_D.device.type == "cpu"
    return Documents(starts_D, tuple(starts_D.tolist()) if on_host else None, row)


def register() -> None:
    """Make `NAME` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    documents: Documents,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: query [1, H, T, E], key and value [1, K, T, E] -> [1, T, H, E].

    Raises ValueError for a model whose attention is more than softmax over keys (soft caps, sinks).
    """
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if other.get(name) is not None]
    if unknown:
        raise ValueError(f"packed documents have no attention with {', '.join(unknown)}")
    if VARLEN and query.device.type == "cuda" and query.dtype in HALF and not dropout:
        return _at_once(VARLEN, query, key, value, documents, scaling, sliding_window), None
    starts = documents.starts or tuple(documents.starts_D.tolist())
    attended = []
    for start, end in pairwise(starts):
        own = slice(start, end)
        attended.append(
            _causal(query[:, :, own], key[:, :, own], value[:, :, own], scaling, dropout, sliding_window)
        )
    return torch.cat(attended, dim=2).transpose(1, 2), None


def _causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    """One document, [1, H, T, E]."""
    length = query.shape[2]
    mask_TT = None
    if window is not None and length > window:
        mask_TT = torch.ones(length, length, dtype=torch.bool, device=query.device)
        mask_TT = mask_TT.tril().triu(1 - window)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask_TT,
        dropout_p=dropout,
        is_causal=mask_TT is None,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )


def _at_once(
    varlen_attn: Callable[..., Any],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """All documents at once, [1, T, H, E]. The row's length stands in for the longest document's, which only
    the GPU knows: it bounds the work that is looked at, not the work that is done."""
    repeat = query.shape[1] // key.shape[1]
    attended_THE: torch.Tensor = varlen_attn(
        query[0].transpose(0, 1),
        key[0].repeat_interleave(repeat, dim=0).transpose(0, 1),
        value[0].repeat_interleave(repeat, dim=0).transpose(0, 1),
        documents.starts_D,
        documents.starts_D,
        documents.row,
        documents.row,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
    )
    return attended_THE[None]
