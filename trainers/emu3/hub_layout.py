"""A model in the layout of the hub's Emu3 folders, which transformers from 4.48 on loads.

Weights are named `text_model.model.*`, `text_model.lm_head.weight` and `vqmodel.*`, as every version writes
them. The configuration says rotary angles in both forms, and its `vocabulary_map` has what transformers asks
of it: the codes' names, EOL's and the image placeholder's. Folders with version 5's names in memory
(`model.text_model.*`), and those of `Emu3ForCausalLM` alone, can be read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers.emu3.model import Emu3
from trainers.emu3.vocabulary import NAMES, Vocabulary, visual_name
from trainers.hub_parts import portable, transformers

ARCHITECTURE = "Emu3ForConditionalGeneration"
PREFIXES = (  # of names in a folder, and what the language model calls them
    ("text_model.model.", "model."),
    ("model.text_model.", "model."),
    ("text_model.lm_head.", "lm_head."),
)
VISION = ("vqmodel.", "model.vqmodel.")


def weights(state: Mapping[str, torch.Tensor], vision: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A model's `state_dict` and its vision tokenizer's weights under the hub's names."""
    language = {f"text_model.{name.removeprefix('language_model.')}": value for name, value in state.items()}
    return language | {f"vqmodel.{name}": value for name, value in vision.items()}


def configuration(
    model: Emu3, vocabulary: Vocabulary, vision: Mapping[str, Any], dtype: torch.dtype
) -> dict[str, Any]:
    """What config.json says; `vision`: fields of the vision tokenizer's Emu3VQVAEConfig."""
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "emu3",
        "image_token_id": vocabulary.image,
        "tie_word_embeddings": bool(model.config.tie_word_embeddings),
        **dict.fromkeys(("torch_dtype", "dtype"), str(dtype).removeprefix("torch.")),
        "text_config": {"rope_scaling": None, **portable(model.config.to_dict())},
        "vq_config": {"model_type": "emu3_vqgan", **vision},
        "vocabulary_map": {
            NAMES["image"]: vocabulary.image,
            NAMES["eol"]: vocabulary.eol,
            **{visual_name(code): vocabulary.visual + code for code in range(vocabulary.codes)},
        },
    }


def text_config(folder: Path) -> Any:
    """The Emu3TextConfig of a folder. Raises ValueError."""
    transformers()
    from transformers import Emu3TextConfig

    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no exported model: {error}") from None
    said = said.get("text_config", said)
    if said.get("model_type") != "emu3_text_model":
        raise ValueError(f"{folder} is a {said.get('model_type')}; only an Emu3 can be loaded here")
    return Emu3TextConfig(**{name: value for name, value in said.items() if name != "model_type"})


def load(model: Emu3, folder: Path) -> None:
    """Load a folder's language model. Raises ValueError where weights are missing or do not fit."""
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(file).items():
            if not name.startswith(VISION):
                found[_inside(name)] = value
    wanted = model.language_model.state_dict()
    if model.config.tie_word_embeddings and "model.embed_tokens.weight" in found:
        found.setdefault("lm_head.weight", found["model.embed_tokens.weight"])
    missing, unknown = set(wanted) - set(found), set(found) - set(wanted)
    if missing or unknown:
        wrong = f"lacks {min(missing)}" if missing else f"has {min(unknown)}, which the model has not"
        raise ValueError(f"{folder}: {wrong} ({len(missing)} missing, {len(unknown)} unknown weights)")
    try:
        model.language_model.load_state_dict(found)
    except RuntimeError as error:
        raise ValueError(f"{folder}: its weights do not fit: {' '.join(str(error).split())[:300]}") from None


def _inside(name: str) -> str:
    for prefix, inside in PREFIXES:
        if name.startswith(prefix):
            return inside + name.removeprefix(prefix)
    return name
