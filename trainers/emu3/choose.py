"""Choosing the next token: guidance, temperature, top-k, top-p, and a stream of chance for each row.

Everything is of order rows * tokens that may come, a sort of them only for top-p over all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are chosen."""

    guidance: float = 1.0  # 1 is without; the published pictures are drawn with 3 to 5.5
    temperature: float = 1.0  # 0 takes the likeliest
    top_k: int = 0  # draws among so many; 0 among all
    top_p: float = 1.0  # draws among the likeliest that have this much probability together

    def __post_init__(self) -> None:
        if self.guidance < 0:
            raise ValueError(f"guidance {self.guidance}: give 0 or more; 1 is without")
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature}: give 0 for the likeliest, or more")
        if self.top_k < 0:
            raise ValueError(f"top_k {self.top_k}: give 0 for all tokens, or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: give more than 0, at most 1")


def guided(logits_RV: torch.Tensor, guidance: float) -> torch.Tensor:
    """Scores [B, V] of rows with a condition and then, where guidance is not 1, as many without.

    Classifier-free guidance between log-probabilities: without + guidance * (with - without), as Emu3 does
    (arXiv 2409.18869, appendix B). Leaving tokens out of V changes all scores of a row by one number only.
    """
    if guidance == 1:
        return logits_RV
    with_BV, without_BV = logits_RV.log_softmax(dim=-1).chunk(2)
    return without_BV + guidance * (with_BV - without_BV)


def chances(seeds: Sequence[int], number: int) -> torch.Tensor:
    """Numbers in [0, 1), float64 [B, number]: a row depends on its own seed only, on every device."""
    rows = [
        torch.rand(number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.stack(rows)


def choose(scores_BV: torch.Tensor, chance_B: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """A place in V for each row, int64 [B]: where the running sum of probabilities passes its chance.

    Temperature comes first, then top-k, then top-p of what is left.
    """
    if sampling.temperature == 0:
        return scores_BV.argmax(dim=-1)
    kept = min(sampling.top_k or scores_BV.shape[-1], scores_BV.shape[-1])
    place_BK = None
    if kept < scores_BV.shape[-1] or sampling.top_p < 1:
        scores_BV, place_BK = scores_BV.topk(kept, dim=-1)
    probability_BK = scores_BV.float().div(sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        before_BK = probability_BK.cumsum(dim=-1) - probability_BK
        probability_BK = probability_BK.masked_fill(before_BK >= sampling.top_p, 0)
    sum_BK = probability_BK.double().cumsum(dim=-1)
    wanted_B1 = chance_B[:, None] * sum_BK[:, -1:]
    at_B1 = torch.searchsorted(sum_BK, wanted_B1, right=True)
    return (at_B1 if place_BK is None else place_BK.gather(1, at_B1))[:, 0]
