"""A small Emu3 with random weights, and pictures for it to draw."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_vq import write_vq

from infinity_mm.models.tokenizer import tokenizer
from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.emu3.choose import Sampling
from trainers.emu3.compose import compose
from trainers.emu3.draw import Grid, Wanted
from trainers.emu3.drawing_defaults import Defaults, write_defaults
from trainers.emu3.export import export
from trainers.emu3.layouts import Layouts, Visual
from trainers.emu3.vocabulary import Vocabulary, scaled

VOCABULARY = scaled(tokenizer(), codes=48)
LAYOUTS = Layouts.of(tokenizer(), VOCABULARY)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CAPTIONS = ("", "A red star.", "There is a large purple cross in the upper left.", "一个绿色的圆。")


def language(vocabulary: Vocabulary = VOCABULARY, **changes: Any) -> Any:
    """Emu3ForCausalLM with weights large enough that what comes before matters."""
    torch.set_num_threads(1)
    import_torchvision()
    from transformers import Emu3ForCausalLM, Emu3TextConfig

    given = {
        "vocab_size": vocabulary.size,
        **SMALL,
        "max_position_embeddings": 256,
        "pad_token_id": vocabulary.pad,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
    }
    torch.manual_seed(1)
    model = Emu3ForCausalLM(Emu3TextConfig(**(given | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def wanted(caption: str, grid: Grid, seed: int = 0) -> Wanted:
    """A picture, or a clip of 8 frames a second."""
    fps = None if grid.frames == 1 else 8.0
    prompt, bare = (
        LAYOUTS.image(text, shown(grid, fps)).ids[: -grid.tokens].tolist() for text in (caption, "")
    )
    return Wanted(prompt, bare, grid, seed)


def shown(grid: Grid, fps: float | None) -> Any:
    return Visual(np.zeros(grid, np.int32), fps)


def exported(folder: Path) -> Path:
    """An exported Emu3 with random weights: 64 codes, draws 32 x 16 pixels unless told."""
    vision = write_vq(folder / "vision")
    made = compose(SMALL | {"max_position_embeddings": 256}, "tiny", str(vision))
    model = made.build(seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    export(model, made, folder / "export", card="", areas=(256, 1024))
    own = Defaults(sampling=Sampling(guidance=2.0, top_k=50), height=16, width=32)
    write_defaults(folder / "export", own)
    return folder / "export"
