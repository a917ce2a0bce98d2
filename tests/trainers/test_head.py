"""Losses of a language head in chunks, against torch's cross entropy."""

import pytest
import torch
import torch.nn.functional as F

from trainers.head import head_losses


def parts(count: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(count, 16).to(dtype).requires_grad_()
    weight = torch.randn(50, 16).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, 50, (count,))


@pytest.mark.parametrize("count, chunk", [(7, 1), (7, 3), (8, 4), (7, 100), (0, 4)])
def test_losses_and_gradients_are_those_of_all_logits_at_once(count: int, chunk: int) -> None:
    hidden, weight, targets = parts(count)
    share = torch.rand(count)  # each loss weighs differently
    losses = head_losses(hidden, weight, targets, logits=chunk * 50)
    (losses * share).sum().backward()
    other, same, _ = parts(count)
    plain = F.cross_entropy(other @ same.T, targets, reduction="none")
    (plain * share).sum().backward()
    torch.testing.assert_close(losses, plain)
    torch.testing.assert_close(hidden.grad, other.grad)
    torch.testing.assert_close(weight.grad, same.grad)


def test_bfloat16_is_summed_over_chunks_in_float32() -> None:
    hidden, weight, targets = parts(4096, torch.bfloat16)
    head_losses(hidden, weight, targets, logits=16 * 50).sum().backward()
    exact = [x.detach().float().requires_grad_() for x in (hidden, weight)]
    F.cross_entropy(exact[0] @ exact[1].T, targets, reduction="sum").backward()
    assert weight.grad is not None and weight.grad.dtype == torch.bfloat16
    assert exact[1].grad is not None
    assert (weight.grad.float() - exact[1].grad).norm() < 0.01 * exact[1].grad.norm()


def test_a_frozen_head_has_no_gradient() -> None:
    hidden, weight, targets = parts(5)
    head_losses(hidden, weight.detach(), targets).sum().backward()
    assert hidden.grad is not None and weight.grad is None
