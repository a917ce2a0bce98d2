"""A small Emu3 with random weights, and pictures for it to draw."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_vq import NETWORK, random_vq
from tokenizers import Tokenizer

from infinity_mm.models.tokenizer import FILE, tokenizer
from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.emu3.choose import Sampling
from trainers.emu3.draw import Grid, Wanted
from trainers.emu3.drawing_defaults import Defaults, write_defaults
from trainers.emu3.layouts import Layouts, Visual
from trainers.emu3.vocabulary import NAMES, Vocabulary, scaled, visual_name

VOCABULARY = scaled(tokenizer(), codes=48)
LAYOUTS = Layouts.of(tokenizer(), VOCABULARY)
CAPTIONS = ("", "A red star.", "There is a large purple cross in the upper left.", "一个绿色的圆。")


def language(vocabulary: Vocabulary = VOCABULARY, **changes: Any) -> Any:
    """Emu3ForCausalLM with weights large enough that what comes before matters."""
    torch.set_num_threads(1)
    import_torchvision()
    from transformers import Emu3ForCausalLM, Emu3TextConfig

    given = {
        "vocab_size": vocabulary.size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
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


def exported(folder: Path, seed: int = 0) -> Path:
    """A whole Emu3 with random weights as transformers saves it: 64 codes, 32 x 16 pixels by default."""
    import_torchvision()
    from transformers import Emu3Config, Emu3ForConditionalGeneration

    words = Tokenizer.from_file(str(FILE))
    names = [*NAMES.values(), *(visual_name(code) for code in range(NETWORK["codebook_size"]))]
    words.add_special_tokens(names[: len(NAMES)])
    vocabulary = scaled(tokenizer(), NETWORK["codebook_size"])
    text = language(vocabulary).config.to_dict()
    known = {name: vocabulary.text + number for number, name in enumerate(names)}
    torch.manual_seed(seed)
    config = Emu3Config(text_config=text, vq_config=NETWORK, vocabulary_map=known)
    model = Emu3ForConditionalGeneration(config)
    model.model.vqmodel.load_state_dict(random_vq().state_dict())
    with torch.no_grad():
        for parameter in [*model.model.text_model.parameters(), *model.lm_head.parameters()]:
            parameter.mul_(3)
    model.save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    sizes = {"min_pixels": 256, "max_pixels": 1024}
    (folder / "preprocessor_config.json").write_text(json.dumps(sizes))
    write_defaults(folder, Defaults(sampling=Sampling(guidance=2.0, top_k=50), height=16, width=32))
    return folder
