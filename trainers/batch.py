"""What a trainer's data, model and loop hand each other.

A *document* is one sample as tokens. A *pack* is documents one after another in one row, which never see each
other; it is what a model takes and a micro-batch of the loop. Loss is had at supervised positions alone: a
target is a token, and `target_at` the position before it, whose hidden state tells it.
"""

from collections.abc import Sequence
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
    weights_S: torch.Tensor  # float32: what each one's loss counts, more than 0
    sources_S: torch.Tensor  # int64: number of the source of each, or of the kind of token of one
    visuals: tuple[Visual, ...]  # in order of their tokens in the row
    tiles_N: torch.Tensor  # uint8 [N, 3, side, side]: of all visuals, in order

    def to(self, device: torch.device | str) -> "Pack":
        """The same, its tensors there."""
        there: dict[str, Any] = {
            name: x.to(device, non_blocking=True) for name, x in self._asdict().items() if torch.is_tensor(x)
        }
        return self._replace(**there)


def packed(
    tokens: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    sources: Sequence[np.ndarray],
    visuals: tuple[Visual, ...],
    tiles_N: np.ndarray,
) -> Pack:
    """Documents as a pack, in their order: of each its tokens, int32 [T], their loss weights, float32 [T], 0
    where nothing is supervised, and the number of each one's source, int [T]."""
    lengths = np.array([len(one) for one in tokens], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens_T = np.concatenate([*tokens, np.zeros(0, np.int32)]).astype(np.int64)
    weights_T = np.concatenate([*weights, np.zeros(0, np.float32)])
    at = np.flatnonzero(weights_T)
    sources_T = np.concatenate([*sources, np.zeros(0, np.int64)])
    return Pack(
        tokens_T=torch.from_numpy(tokens_T),
        positions_T=torch.from_numpy(np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)),
        starts_D=torch.from_numpy(starts.astype(np.int32)),
        targets_S=torch.from_numpy(tokens_T[at]),
        target_at_S=torch.from_numpy(at - 1),
        weights_S=torch.from_numpy(weights_T[at].astype(np.float32)),
        sources_S=torch.from_numpy(sources_T[at].astype(np.int64)),
        visuals=visuals,
        tiles_N=torch.from_numpy(tiles_N),
    )
