"""Attention among packed documents, against one mask for the whole row."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from trainers.attention import attend, documents

STARTS = torch.tensor([0, 5, 6, 13], dtype=torch.int32)


def packed(**more: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    query = torch.randn(1, 4, 13, 8)
    key, value = torch.randn(2, 1, 2, 13, 8)
    found, _ = attend(torch.nn.Identity(), query, key, value, None, documents=documents(STARTS, 13), **more)
    return found, [query, key, value]


@pytest.mark.parametrize("window", [None, 3, 50])
def test_packed_attention_is_that_of_a_block_diagonal_mask(window: int | None) -> None:
    found, (query, key, value) = packed(sliding_window=window, scaling=0.3)
    at = torch.arange(13)
    of = torch.bucketize(at, STARTS[1:], right=True)
    mask = (of[:, None] == of) & (at[:, None] >= at) & (at[:, None] - at < (window or 99))
    want = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(found, want.transpose(1, 2))


def test_attention_that_is_more_than_a_softmax_is_refused() -> None:
    with pytest.raises(ValueError, match="softcap"):
        packed(softcap=50.0)
