"""A small model with random weights, and packs for it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from infinity_mm.image_tokens import Geometry, Visual
from trainers.batch import Pack
from trainers.llava.compose import Composition, compose

TOWER = {
    "model_type": "siglip_vision_model",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
LANGUAGE = {
    "model_type": "qwen2",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_theta": 100_000.0,
    "tie_word_embeddings": False,
}
GRIDS = Geometry(32, 8, tuple((32 * i, 32 * j) for i in range(1, 4) for j in range(1, 4)), 4)


def composition(**changes: Any) -> Composition:
    """What the small model is made of; its tower's features are those of its last layer but one."""
    torch.set_num_threads(1)
    given = {"tokenizer": "tiny", **changes}
    made = compose(given.pop("tower", TOWER), given.pop("language", LANGUAGE), **given)
    return replace(made, geometry=GRIDS)


def pixels(seed: int, visual: Visual, geometry: Geometry = GRIDS) -> np.ndarray:
    """Random tiles of a visual, uint8."""
    shape = (geometry.tiles(visual), 3, geometry.side, geometry.side)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class Piece:
    """A document of random words around visuals."""

    def __init__(self, seed: int, *visuals: Visual, words: int = 9, geometry: Geometry = GRIDS) -> None:
        rng = np.random.default_rng(seed)
        self.visuals = visuals
        self.tiles = [pixels(seed + place, visual, geometry) for place, visual in enumerate(visuals)]
        tokens = list(rng.integers(100, 4000, 3))
        for visual in visuals:
            tokens += [5] * geometry.tokens(visual) + list(rng.integers(100, 4000, 2))
        self.tokens = [int(token) for token in [*tokens, *rng.integers(100, 4000, words)]]


def pack(*pieces: Piece, supervised: Sequence[int] | None = None, side: int = 32) -> Pack:
    """Documents in a row. `supervised`: of each, how many of its last tokens carry loss; 4 by default."""
    counts = [4] * len(pieces) if supervised is None else supervised
    lengths = [len(piece.tokens) for piece in pieces]
    starts = np.cumsum([0, *lengths])
    targets_at = [
        at for end, count in zip(starts[1:], counts, strict=True) for at in range(end - count - 1, end - 1)
    ]
    tokens = torch.tensor([token for piece in pieces for token in piece.tokens], dtype=torch.int64)
    at = torch.tensor(targets_at, dtype=torch.int64)
    tiles = [tiles for piece in pieces for tiles in piece.tiles]
    return Pack(
        tokens_T=tokens,
        positions_T=torch.tensor([p for length in lengths for p in range(length)], dtype=torch.int64),
        starts_D=torch.tensor(starts, dtype=torch.int32),
        targets_S=tokens[at + 1],
        target_at_S=at,
        weights_S=torch.ones(len(at)),
        sources_S=torch.zeros(len(at), dtype=torch.int64),
        visuals=tuple(visual for piece in pieces for visual in piece.visuals),
        tiles_N=torch.from_numpy(np.concatenate(tiles) if tiles else np.empty((0, 3, side, side), np.uint8)),
    )
