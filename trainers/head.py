"""Cross entropy of a language head over supervised positions alone, in chunks.

Logits of 8,192 positions over 151,936 tokens are 5 GB in float32; here they are had for one chunk of
positions at a time, forward and again backward, so that memory is that of a chunk however many positions
there are. What needs float32 has it: logits, their softmax, and the sum over chunks of the head's gradient.

A z-loss, the square of log Z times a weight, keeps logits from drifting (PaLM, arXiv 2204.02311, section 5;
Chameleon, arXiv 2405.09818, section 2.2, with weight 1e-5).
"""

from typing import Any

import torch
import torch.nn.functional as F

LOGITS = 1 << 27  # of a chunk: half a gigabyte in float32


def head_losses(
    hidden_SD: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_S: torch.Tensor,
    logits: int = LOGITS,
    z_loss: float = 0.0,
) -> torch.Tensor:
    """-log p of each target, and `z_loss` times the square of its log Z, float32 [S], unreduced. `logits`
    bounds how many are in memory at once."""
    losses_S: torch.Tensor = _HeadLosses.apply(
        hidden_SD, weight_VD, targets_S, max(1, logits // len(weight_VD)), z_loss
    )
    return losses_S


class _HeadLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_SD: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_S: torch.Tensor,
        chunk: int,
        z_loss: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(hidden_SD, weight_VD, targets_S)
        ctx.chunk, ctx.z_loss = chunk, z_loss
        losses_S = hidden_SD.new_empty(len(hidden_SD), dtype=torch.float32)
        for at in range(0, len(hidden_SD), chunk):
            part = slice(at, at + chunk)
            logits_CV = (hidden_SD[part] @ weight_VD.T).float()
            losses_S[part] = F.cross_entropy(logits_CV, targets_S[part], reduction="none")
            if z_loss:
                losses_S[part] += z_loss * logits_CV.logsumexp(dim=-1).square()
        return losses_S

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (grad_S,) = grads
        hidden_SD, weight_VD, targets_S = ctx.saved_tensors
        grad_hidden_SD = torch.zeros_like(hidden_SD)
        grad_weight_VD = None
        if ctx.needs_input_grad[1]:
            grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        for at in range(0, len(hidden_SD), ctx.chunk):
            part = slice(at, at + ctx.chunk)
            logits_CV = (hidden_SD[part] @ weight_VD.T).float()
            grad_CV = logits_CV.softmax(dim=-1)
            if ctx.z_loss:
                grad_CV *= 1 + 2 * ctx.z_loss * logits_CV.logsumexp(dim=-1, keepdim=True)
            grad_CV[torch.arange(len(grad_CV), device=grad_CV.device), targets_S[part]] -= 1
            grad_CV = (grad_CV * grad_S[part, None]).to(hidden_SD.dtype)
            grad_hidden_SD[part] = grad_CV @ weight_VD
            if grad_weight_VD is not None:
                grad_weight_VD += grad_CV.T @ hidden_SD[part]
        grad_weight = None if grad_weight_VD is None else grad_weight_VD.to(weight_VD)
        return grad_hidden_SD, grad_weight, None, None, None
