"""Attention among packed documents, against one mask for the whole row."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from trainers.attention import VARLEN, _at_once, attend, documents

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


@pytest.mark.parametrize("window", [None, 3])
def test_all_documents_at_once_are_those_one_by_one(window: int | None) -> None:
    """The kernel runs on a GPU alone: here one of its arguments and shapes stands in for it."""

    def kernel(query: Any, key: Any, value: Any, *given: Any, scale: float, window_size: Any) -> torch.Tensor:
        starts, same, longest, as_long = given
        assert starts is same and longest == as_long == 13 and query.shape == key.shape == (13, 4, 8)
        left, right = window_size
        assert right == 0
        rows = (x.transpose(0, 1)[None] for x in (query, key, value))
        said: dict[str, Any] = {"scaling": scale, "sliding_window": None if left < 0 else left + 1}
        found, _ = attend(torch.nn.Identity(), *rows, None, documents=documents(starts, 13), **said)
        return found[0]

    found, rows = packed(sliding_window=window, scaling=0.3)
    at_once = _at_once(kernel, *rows, documents(STARTS, 13), 0.3, window)
    torch.testing.assert_close(at_once, found)


def test_the_kernel_is_known_where_torch_has_it() -> None:
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    assert (VARLEN is not None) == (version >= (2, 11))


@pytest.mark.skipif(not (VARLEN and torch.cuda.is_available()), reason="needs a GPU")
def test_the_kernel_attends_as_one_by_one() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 13, 64, device="cuda") for heads in (4, 2, 2))
    given: dict[str, Any] = {"documents": documents(STARTS.cuda(), 13), "scaling": 0.125}
    exact, _ = attend(torch.nn.Identity(), query, key, value, None, **given)
    half, _ = attend(torch.nn.Identity(), *(x.bfloat16() for x in (query, key, value)), None, **given)
    torch.testing.assert_close(half.float(), exact, rtol=0.02, atol=0.02)


def test_attention_that_is_more_than_a_softmax_is_refused() -> None:
    with pytest.raises(ValueError, match="softcap"):
        packed(softcap=50.0)
