"""What a trainer's data, model and loop hand each other.

A *document* is one sample as tokens. A *pack* is documents one after another in one row, which never see each
other; it is what a model takes and a micro-batch of the loop. Loss is had at supervised positions alone: a
target is a token, and `target_at` the position before it, whose hidden state tells it.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from infinity_mm.image_tokens import Visual


class Document(NamedTuple):
    """One sample. Tokens of a picture or clip are the image token, as often as it has features."""

    sample_id: bytes
    source: int  # number of its source
    tokens: np.ndarray  # int32 [T]
    supervised: np.ndarray  # bool [T]: whether this token carries loss; never an image token, never the first
    visuals: tuple[Visual, ...]  # in order of their tokens
    tiles: np.ndarray  # uint8 [N, 3, side, side]: of all visuals, in order


class Pack(NamedTuple):
    """Documents in one row. A pack may be empty: T = 0, of a rank that has fewer."""

    tokens_T: torch.Tensor  # int64
    positions_T: torch.Tensor  # int64, from 0 in each document
    starts_D: torch.Tensor  # int32 [D + 1]: where each document starts, and T
    targets_S: torch.Tensor  # int64: supervised tokens
    target_at_S: torch.Tensor  # int64: the place in the row that predicts each
    sources_S: torch.Tensor  # int64: number of the source of each
    visuals: tuple[Visual, ...]  # in order of their tokens in the row
    tiles_N: torch.Tensor  # uint8 [N, 3, side, side]: of all visuals, in order

    def to(self, device: torch.device | str) -> "Pack":
        """The same, its tensors there."""
        there: dict[str, Any] = {
            name: x.to(device, non_blocking=True) for name, x in self._asdict().items() if torch.is_tensor(x)
        }
        return self._replace(**there)
