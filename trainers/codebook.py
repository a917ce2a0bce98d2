"""Codebooks that learn: as moving averages of what they stand for, or by the gradient.

Nearest neighbours are by squared distance, as `Emu3VQVAE` takes them. A code that nothing is near to any more
is dead: it takes the place of a latent drawn from the batch, so that the whole codebook stays in use.
Time: latents x codes x dimensions a step.
"""

from typing import NamedTuple

import torch
from torch import nn

SMOOTHING = 1e-5


class Quantised(NamedTuple):
    """`vectors`: the codes' vectors, [..., D], through which gradients reach the latents as they are
    (straight-through, arXiv 1711.00937); `nearest`: the vectors without that; `codes`: int64 [...]."""

    vectors: torch.Tensor
    nearest: torch.Tensor
    codes: torch.Tensor


def nearest(latents: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The code nearest to each latent, [N, D] and [K, D] to int64 [N]."""
    return (table.square().sum(1) - 2 * latents @ table.T).argmin(1)


def quantise(latents: torch.Tensor, table: torch.Tensor) -> Quantised:
    """Latents [..., D] by a table [K, D]."""
    codes = nearest(latents.detach().flatten(0, -2), table.detach())
    vectors = table[codes].view_as(latents)
    return Quantised(latents + (vectors - latents).detach(), vectors, codes.view(latents.shape[:-1]))


class Codebook(nn.Module):
    """What a codebook remembers between steps beside its vectors: `uses`, a moving average of how many
    latents of a step each code stood for, and `sums`, of their sum (van den Oord et al., appendix A.1)."""

    uses: torch.Tensor
    sums: torch.Tensor

    def __init__(self, codes: int, width: int, *, decay: float, least: float) -> None:
        """`least`: the share of an even use below which a code is dead."""
        super().__init__()
        self.decay, self.least = decay, least
        self.register_buffer("uses", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))

    @torch.no_grad()
    def begin(self, table: torch.Tensor, latents: torch.Tensor) -> None:
        """Make the codes latents of the first step, [N, D]."""
        table.copy_(self._drawn(latents, len(table)))
        self.uses.fill_(len(latents) / len(table))
        self.sums.copy_(table * self.uses[:, None])

    @torch.no_grad()
    def update(self, table: torch.Tensor, latents: torch.Tensor, codes: torch.Tensor, *, move: bool) -> int:
        """Count a step's latents [N, D] and their codes [N], `move` the vectors to the averages, and revive
        the dead; how many were."""
        counts = torch.bincount(codes, minlength=len(table)).to(self.uses.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, latents.to(self.sums.dtype))
        self.uses.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        if move:
            total = self.uses.sum()
            smooth = (self.uses + SMOOTHING) / (total + len(table) * SMOOTHING) * total
            table.copy_(self.sums / smooth[:, None])
        dead = self.uses < self.least * len(latents) / len(table)
        found = int(dead.sum())
        if found:
            table[dead] = self._drawn(latents, found).to(table.dtype)
            self.uses[dead] = len(latents) / len(table)
            self.sums[dead] = table[dead].to(self.sums.dtype) * self.uses[dead, None]
        return found

    def _drawn(self, latents: torch.Tensor, number: int) -> torch.Tensor:
        """Some of the latents, each apart from the others by a little noise."""
        drawn = latents[torch.randint(len(latents), (number,), device=latents.device)]
        spread = latents.std(0, correction=0)
        return drawn + 0.01 * spread * torch.randn_like(drawn)


class Usage:
    """How often each code was used, by modality, since it was last told."""

    def __init__(self, codes: int) -> None:
        self.codes = codes
        self.counts: dict[str, torch.Tensor] = {}

    def add(self, modality: str, codes: torch.Tensor) -> None:
        counts = torch.bincount(codes.flatten().cpu(), minlength=self.codes)
        self.counts[modality] = self.counts.get(modality, torch.zeros_like(counts)) + counts

    def told(self) -> dict[str, dict[str, float]]:
        """Of each modality the share of the codes in use, and their perplexity: of how many used evenly it
        would be the entropy. Counting begins anew."""
        found = {}
        for modality, counts in self.counts.items():
            share = counts[counts > 0] / counts.sum()
            perplexity = float(torch.exp(-(share * share.log()).sum()))
            found[modality] = {"used": len(share) / self.codes, "perplexity": perplexity}
        self.counts = {}
        return found
