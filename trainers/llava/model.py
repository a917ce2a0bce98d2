"""The model: a vision tower, a projector and a language model, over packs of documents.

Its arithmetic is that of transformers' LlavaOnevisionForConditionalGeneration, tested to be; what differs is
the batch, a row of packed documents instead of padded ones, and that the language head sees supervised
positions alone. It computes in the dtype of its parameters, with no autocast: float32 or bfloat16 as it was
built, or the compute dtype of FSDP2's mixed precision, which keeps float32 parameters and hands the forward
pass their bfloat16 copies, on one rank as on many. Pixels are normalised and losses taken in float32 always.

To shard it: `fully_shard` each layer of the tower and of the language model, then the whole; the language
head and the embeddings are used from the whole's forward and belong to its group.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from infinity_mm.image_tokens import Geometry, Visual
from trainers.attention import documents
from trainers.batch import Pack
from trainers.head import LOGITS, head_losses
from trainers.llava.features import arrange


class Llava(nn.Module):
    """A LLaVA-style model. `geometry` says how pictures are tiled and may change between stages."""

    def __init__(
        self,
        *,
        vision_tower: Any,
        multi_modal_projector: nn.Module,
        language_model: Any,
        image_token_id: int,
        geometry: Geometry,
        mean: Sequence[float],
        std: Sequence[float],
        leading: int = 0,
        idle: frozenset[str] = frozenset(),
    ) -> None:
        """`leading`: tokens of the tower before its patches', such as a class token. `idle`: names of
        parameters that no feature depends on; they are frozen, and left out of `trainable`."""
        super().__init__()
        self.vision_tower = vision_tower
        self.multi_modal_projector = multi_modal_projector
        self.language_model = language_model
        width = language_model.config.hidden_size
        dtype = next(language_model.parameters()).dtype
        self.image_newline = nn.Parameter(torch.randn(width, dtype=dtype) * width**-0.5)
        self.image_token_id = image_token_id
        self.geometry = geometry
        self.leading = leading
        self.idle = idle
        self.logits_at_once = LOGITS
        self.mean_C: torch.Tensor
        self.std_C: torch.Tensor
        self.register_buffer("mean_C", torch.tensor(mean, dtype=torch.float32) * 255, persistent=False)
        self.register_buffer("std_C", torch.tensor(std, dtype=torch.float32) * 255, persistent=False)
        for name, parameter in self.named_parameters():
            if name in idle:
                parameter.requires_grad_(False)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that an output depends on, by name: those that may be trained or frozen."""
        return {name: p for name, p in self.named_parameters() if name not in self.idle}

    def recompute(self) -> None:
        """Keep no activations of layers in training, but compute them again in the backward pass."""
        for part in (self.vision_tower, self.language_model):
            part.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def forward(self, pack: Pack) -> torch.Tensor:
        """The loss of each supervised token, -log p, float32 [S], unreduced.

        It depends on every trainable parameter, of a pack without pictures or without tokens too: its
        gradient is zero there, and ranks that wait for each other's gradients go on.
        """
        pack = pack if len(pack.tokens_T) else _one_token(pack)
        hidden_TD = self.hidden(pack)
        weight_VD = self.language_model.lm_head.weight
        return head_losses(hidden_TD[pack.target_at_S], weight_VD, pack.targets_S, self.logits_at_once)

    def logits(self, pack: Pack) -> torch.Tensor:
        """What each token says of the next: float32 [T, V]. For tests: training never has them all."""
        logits_TV: torch.Tensor = self.language_model.lm_head(self.hidden(pack)).float()
        return logits_TV

    def hidden(self, pack: Pack) -> torch.Tensor:
        """The language model's last hidden states, [T, D]."""
        found = self.language_model.model(
            inputs_embeds=self.embed(pack)[None],
            position_ids=pack.positions_T[None],
            use_cache=False,
            documents=documents(pack.starts_D, len(pack.tokens_T)),
        )
        hidden_TD: torch.Tensor = found.last_hidden_state[0]
        return hidden_TD

    def embed(self, pack: Pack) -> torch.Tensor:
        """Embeddings of a row, [T, D], those of image tokens being features, in order.

        Raises RuntimeError where a row has not as many image tokens as its visuals have features.
        """
        at_image_T = pack.tokens_T == self.image_token_id
        embedded_TD: torch.Tensor = self.language_model.model.embed_tokens(pack.tokens_T)
        if not pack.visuals and not self.training:
            return embedded_TD
        features_FD = self.features(pack.tiles_N, pack.visuals)
        if not pack.visuals:
            return embedded_TD + 0 * features_FD.sum()
        wrong = "a row has not as many image tokens as its pictures have features"
        torch._assert_async(at_image_T.sum() == len(features_FD), wrong)
        which_T = (at_image_T.cumsum(0) - 1).clamp_(0, len(features_FD) - 1)
        return torch.where(at_image_T[:, None], features_FD[which_T], embedded_TD)

    def features(self, tiles_N: torch.Tensor, visuals: Sequence[Visual]) -> torch.Tensor:
        """Features of visuals, [their tokens, D], from their tiles, uint8 [N, 3, side, side].

        Without visuals it is those of one black tile, whatever they are good for.
        """
        if not visuals:
            side = self.geometry.side
            tiles_N = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.image_newline.device)
        pixels_NCHW = (tiles_N.float() - self.mean_C[:, None, None]) / self.std_C[:, None, None]
        pixels_NCHW = pixels_NCHW.to(self.image_newline.dtype)
        seen = self.vision_tower(pixel_values=pixels_NCHW, output_hidden_states=True)
        tiles_NGC = self.multi_modal_projector(seen.hidden_states[-1][:, self.leading :])
        shown = visuals or (Visual("several", self.geometry.side, self.geometry.side),)
        return arrange(tiles_NGC, shown, self.geometry, self.image_newline)


def _one_token(pack: Pack) -> Pack:
    """An empty pack with a token that no loss looks at, for layers that take no empty row."""
    tokens = pack.tokens_T
    return pack._replace(
        tokens_T=tokens.new_zeros(1),
        positions_T=tokens.new_zeros(1),
        starts_D=torch.tensor([0, 1], dtype=torch.int32, device=tokens.device),
    )
