"""Emu3-style models with random weights, and packs of their sequences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_vq import write_vq

from trainers.batch import Pack
from trainers.emu3.compose import Composition, compose
from trainers.emu3.documents import Document, join, kinds_of, open_layouts
from trainers.emu3.layouts import Laid, Layouts, Visual

torch.set_num_threads(1)
LANGUAGE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1024,
    "rope_theta": 1e6,
    "attention_dropout": 0.0,
}


def composition(folder: Path, **more: Any) -> Composition:
    """One with a vision tokenizer written into a folder."""
    vq = folder / "vq"
    if not vq.exists():
        write_vq(vq)
    model = {name: more.pop(name) for name in ("qk_norm", "z_loss") if name in more}
    return compose({**LANGUAGE, **more}, "tiny", str(vq), **model)


def layouts(of: Composition) -> Layouts:
    return open_layouts(of.tokenizer, of.vocabulary)


def visual(seed: int, rows: int = 2, columns: int = 3) -> Visual:
    """A picture of random codes below 64."""
    return Visual(np.random.default_rng(seed).integers(0, 64, (1, rows, columns)))


def sequences(of: Composition) -> list[Laid]:
    """One of each layout, of their own lengths."""
    make = layouts(of)
    return [
        make.image("a red box", visual(0)),
        make.caption(visual(1, 3, 2), "two blue discs on green"),
        make.text("nothing to see"),
        make.image("", visual(2, 1, 5)),
    ]


def pack(of: Composition, laid: Sequence[Laid]) -> Pack:
    """Documents of one source in a row."""
    return join([Document(bytes(16), 0, one, kinds_of(one.ids, of.vocabulary)) for one in laid])
