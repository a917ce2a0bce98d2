"""The recipe of a LLaVA-style model: what it is composed of, and the stages it is trained in, as data.

    model: {vision_tower: google/siglip-so400m-patch14-384, language_model: Qwen/Qwen2.5-1.5B-Instruct}
    store: store
    out: runs/mine
    each: {batch: 512}                       # of every stage that does not say otherwise
    stages:
      - {name: align, data: {captions: 1}, train: [multi_modal_projector], optimizer: {lr: {"*": 1e-3}}, …}

`read` makes a `Recipe` of such a file and says every error by field, value and way out.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from infinity_mm.image_tokens import Geometry
from trainers import recipe as recipes
from trainers.config import positive, setting

SHIPPED = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What the model is composed of. A tower or a language model is a hub id, a local path, or a mapping:
    the configuration of one with random weights. `checkpoint` instead of all others is a whole model to go
    on with, in the layout of LlavaOnevision: hub id, path, or `tiny`."""

    vision_tower: str | dict[str, Any] | None = None
    language_model: str | dict[str, Any] | None = None
    checkpoint: str | None = None
    tokenizer: str | None = None  # hub id or path; else the language model's; `tiny` is the shared small one
    projector: str = "mlp2x_gelu"
    feature_layer: int = -2  # hidden state of the tower that is projected; -1 is the last layer's
    template: str | None = None  # built-in chat template, for a tokenizer that brings none
    image_token: str = "<image>"

    def __post_init__(self) -> None:
        for one in fields(self):
            if self.checkpoint is None:
                if one.name in ("vision_tower", "language_model") and getattr(self, one.name) is None:
                    raise ValueError(f"{one.name} is missing: give a text or a mapping; or a checkpoint")
            elif one.name != "checkpoint" and getattr(self, one.name) != one.default:
                raise ValueError(f"{one.name}: a checkpoint brings its own: leave it out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage(recipes.Stage):
    """One stage: data, what is trained, how fast, and how pictures are cut."""

    grid: int = setting(
        1, limit=positive
    )  # a picture is cut in up to grid×grid tiles beside its base tile; 1: in none
    most_tiles: int = setting(9, limit=positive)  # tiles a picture's features are shrunk to: anyres_max_N
    frames: int = setting(32, limit=positive)  # of a clip at most
    tiles: int = setting(limit=positive)  # tiles a pack holds at most

    def geometry(self, side: int, patch: int) -> Geometry:
        """How a tower of `side` pixels cuts pictures here: in grids of up to `grid` rows and columns."""
        sizes = range(side, side * self.grid + 1, side) if self.grid > 1 else ()
        pinpoints = tuple((height, width) for height in sizes for width in sizes)
        return Geometry(side, patch, pinpoints, self.most_tiles)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(recipes.Recipe):
    """A model, its stages in order, and how they are run."""

    model: Parts
    stages: tuple[Stage, ...]
    out: str = "runs/llava"  # a folder a stage is made in it


def recipe(values: Any) -> Recipe:
    """A recipe from plain values, `each` merged into every stage. Raises ValueError."""
    return recipes.recipe(Recipe, values)


def read(path: Path) -> Recipe:
    """The recipe in a file, or the shipped one of that name. Raises ValueError."""
    return recipes.read(Recipe, path, SHIPPED)
