"""Composing a model: a language model of Emu3's kind, a text tokenizer and the vision tokenizer of its data.

`compose` finds and checks the parts and says what the model will be, without loading a weight of the language
model; `build` loads, or draws random ones. A language model is the fields of a new one's `Emu3TextConfig`, or
a folder or hub id: one that was exported here, or that transformers wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infinity_mm.models.emu3_vq import Found, find_tokenizer
from infinity_mm.models.tokenizer import FILE
from trainers.attention import NAME, register
from trainers.emu3 import hub_layout
from trainers.emu3.model import Emu3
from trainers.emu3.vocabulary import NAMES, Vocabulary, scaled, visual_name, vocabulary_from
from trainers.hub_parts import folder_of, transformers

TINY = "tiny"
GIVEN = ("rope_theta",)  # fields that transformers 5 knows under another name


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """What a model is made of, before its weights are loaded."""

    config: Any  # Emu3TextConfig
    folder: Path | None  # of its weights; None, and they are random
    tokenizer: str  # tokenizer.json
    vocabulary: Vocabulary
    vision: Found
    qk_norm: bool = False
    z_loss: float = 0.0
    named: str = ""  # the language model as it was asked for, where it is not a configuration

    def build(self, seed: int = 0) -> Emu3:
        """The model in float32, its weights loaded or drawn from the seed. Raises ValueError."""
        from transformers import Emu3ForCausalLM

        register()
        torch.manual_seed(seed)
        language = Emu3ForCausalLM._from_config(self.config, attn_implementation=NAME, dtype=torch.float32)
        model = Emu3(language, qk_norm=self.qk_norm, z_loss=self.z_loss)
        if self.folder is not None:
            hub_layout.load(model, self.folder)
        return model


def compose(
    language_model: str | Mapping[str, Any],
    tokenizer: str,
    vision_tokenizer: str,
    *,
    qk_norm: bool = False,
    z_loss: float = 0.0,
) -> Composition:
    """What a model of these parts will be. Raises ValueError, in one line with the way out."""
    transformers()
    vision = find_tokenizer(vision_tokenizer)
    file = tokenizer_file(tokenizer)
    vocabulary = vocabulary_of(file, vision.facts.codebook)
    config, folder = _config(language_model, vocabulary)
    if config.vocab_size != vocabulary.size:
        raise ValueError(
            f"language model {language_model!r:.80}: its vocabulary of {config.vocab_size:,} is not the "
            f"{vocabulary.size:,} of the tokenizers: {vocabulary.text:,} of text, marks, and "
            f"{vocabulary.codes:,} codes"
        )
    if qk_norm and folder is not None:
        raise ValueError("model.qk_norm: weights of transformers' Emu3 have none: give a configuration")
    return Composition(
        config=config,
        folder=folder,
        tokenizer=str(file),
        vocabulary=vocabulary,
        vision=vision,
        qk_norm=qk_norm,
        z_loss=z_loss,
        named=language_model if isinstance(language_model, str) else "",
    )


def exported(folder: Path) -> Composition:
    """The composition of an exported model. Raises ValueError."""
    return compose(str(folder), str(folder), str(folder))


def tokenizer_file(named: str) -> Path:
    """The tokenizer.json of a folder, of a hub id, or of the shared small tokenizer. Raises ValueError."""
    if named == TINY:
        return FILE
    file = folder_of("tokenizer", named, weights=False) / "tokenizer.json"
    if not file.is_file():
        raise ValueError(f"tokenizer {named}: there is no {file.name} in {file.parent}")
    return file


def vocabulary_of(file: Path, codes: int) -> Vocabulary:
    """The vocabulary of a tokenizer: as its marks say where it has Emu3's, else they are put behind its own
    ids. Raises ValueError."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    names = {*NAMES.values(), visual_name(0)}
    ids = {name: number for name in names if (number := tokenizer.token_to_id(name)) is not None}
    if NAMES["eol"] not in ids:
        return scaled(tokenizer, codes)
    if NAMES["image"] not in ids and (extra := tokenizer.token_to_id("<|extra_0|>")) is not None:
        ids[NAMES["image"]] = extra
    ids.setdefault(visual_name(0), ids.get(NAMES["eoi"], 0) + 1)  # codes need no names of their own
    return vocabulary_from(ids, codes, ids[visual_name(0)] + codes)


def _config(named: str | Mapping[str, Any], vocabulary: Vocabulary) -> tuple[Any, Path | None]:
    """The configuration of a language model, and the folder of its weights if it has one."""
    from transformers import Emu3TextConfig

    if isinstance(named, str):
        folder = folder_of("language model", named)
        return hub_layout.text_config(folder), folder
    known = {*Emu3TextConfig().to_dict(), *GIVEN}
    unknown = next((name for name in named if name not in known), None)
    if unknown is not None:
        raise ValueError(f"model.language_model.{unknown}: Emu3TextConfig has no such field")
    given = dict(named)
    theta = given.pop("rope_theta", None)
    if theta is not None:
        given["rope_parameters"] = {"rope_type": "default", "rope_theta": float(theta)}
    marks = {
        "pad_token_id": vocabulary.pad,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
    }
    try:
        return Emu3TextConfig(**{"vocab_size": vocabulary.size, **marks, **given}), None
    except (TypeError, ValueError) as error:
        raise ValueError(f"model.language_model: {' '.join(str(error).split())[:200]}") from None
