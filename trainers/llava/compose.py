"""Composing a model: any vision tower of transformers, a projector, and any of its causal language models.

`compose` finds and checks the parts and says what the model will be, without loading a weight; `build` loads.
An exported folder is a composition too (`exported`), with all its weights: what a next run or a test of the
model starts from.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from infinity_mm.image_tokens import Geometry
from trainers.attention import NAME, register
from trainers.llava import hub_layout
from trainers.llava.model import Llava
from trainers.llava.parts import (
    Named,
    Part,
    language_part,
    load_language,
    load_tower,
    look,
    normalisation,
    tower_part,
)
from trainers.llava.projector import PROJECTORS, projector
from trainers.llava.tiles import fill_colour
from trainers.llava.tokens import Tokens, open_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """What a model is made of, before its weights are loaded."""

    tower: Part
    language: Part
    projector: str  # name in PROJECTORS
    tokens: Tokens  # tokenizer, and the ids of a picture's and a clip's token
    mean: tuple[float, ...]  # of the pixels the tower was trained on, 0 to 1
    std: tuple[float, ...]
    geometry: Geometry  # without pinpoints unless it comes from an exported folder; a stage has its own
    whole: Path | None = None  # the exported folder, which has all weights

    @property
    def side(self) -> int:
        """Pixels of a tile's side."""
        return self.geometry.side

    @property
    def patch(self) -> int:
        """Pixels of a patch's side."""
        return self.geometry.patch

    @property
    def fill(self) -> tuple[int, int, int]:
        """The colour that a picture among several is padded with."""
        return fill_colour(self.mean)

    def build(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> Llava:
        """The model, its weights loaded, those that are new drawn from the seed. Raises ValueError."""
        register()
        torch.manual_seed(seed)
        seen = look(self.tower.config)
        tower = load_tower(self.tower, dtype)
        language = load_language(self.language, dtype, NAME)
        if len(self.tokens.tokenizer) > language.config.vocab_size:
            language.resize_token_embeddings(len(self.tokens.tokenizer), pad_to_multiple_of=64)
        model = Llava(
            vision_tower=tower,
            multi_modal_projector=projector(
                self.projector, self.tower.config.hidden_size, language.config.hidden_size
            ).to(dtype),
            language_model=language,
            image_token_id=self.tokens.image,
            geometry=self.geometry,
            mean=self.mean,
            std=self.std,
            leading=seen.leading,
            idle=frozenset(f"vision_tower.{name}" for name in seen.idle),
        )
        if self.whole is not None:
            hub_layout.load(model, self.whole)
        return model


def compose(
    vision_tower: Named,
    language_model: Named,
    *,
    tokenizer: str | None = None,
    projector: str = "mlp2x_gelu",
    feature_layer: int = -2,
    template: str | None = None,
    image_token: str = "<image>",
) -> Composition:
    """What a model of these parts will be.

    `vision_tower`, `language_model`: hub id, folder, or configuration of one with random weights, whose
    vocabulary is the tokenizer's unless it says so itself. `tokenizer`: hub id, folder or `tiny`; the
    language model's where it has a folder. `feature_layer`: hidden state of the tower that is projected.
    `template`: name of a built-in chat template. Raises ValueError, in one line with the way out.
    """
    if projector not in PROJECTORS:
        raise ValueError(f"projector {projector!r}: there is none; there are {', '.join(PROJECTORS)}")
    tower = tower_part(vision_tower, feature_layer)
    if tokenizer is None and not isinstance(language_model, str):
        raise ValueError("tokenizer: random weights bring none: give a hub id, a folder or tiny")
    tokens = open_tokenizer(tokenizer or str(language_model), image_token, template)
    if not isinstance(language_model, str) and "vocab_size" not in language_model:
        ids = {name: getattr(tokens.tokenizer, name) for name in ("pad_token_id", "eos_token_id")}
        language_model = {"vocab_size": len(tokens.tokenizer), **ids, **language_model}
    mean, std = normalisation(tower)
    return Composition(
        tower=tower,
        language=language_part(language_model),
        projector=projector,
        tokens=tokens,
        mean=mean,
        std=std,
        geometry=Geometry(tower.config.image_size, tower.config.patch_size),
    )


def exported(folder: Path) -> Composition:
    """The composition of an exported model. Raises ValueError."""
    found = hub_layout.read(folder)
    return Composition(
        tower=Part(found.vision, None),
        language=Part(found.text, None),
        projector=found.projector,
        tokens=open_tokenizer(str(folder), found.image_token),
        mean=found.mean,
        std=found.std,
        geometry=found.geometry,
        whole=folder,
    )
