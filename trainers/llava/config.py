"""The recipe of a LLaVA-style model: what it is composed of, and the stages it is trained in, as data.

    model: {vision_tower: google/siglip-so400m-patch14-384, language_model: Qwen/Qwen2.5-1.5B-Instruct}
    store: store
    out: runs/mine
    each: {batch: 512}                       # of every stage that does not say otherwise
    stages:
      - {name: align, data: {captions: 1}, train: [multi_modal_projector], optimizer: {lr: {"*": 1e-3}}, …}

`read` makes a `Recipe` of such a file and says every error by field, value and way out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from infinity_mm.image_tokens import Geometry
from infinity_mm.store import NAME
from infinity_mm.yaml_file import load
from trainers.config import Compute, Optimizer, Saving, Schedule, build, not_negative, positive, setting

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
class Stage:
    """One stage: data, what is trained, how fast, and how pictures are cut."""

    name: str
    data: dict[str, float]  # manifest: its weight in the mixture; 1 takes each sample once an epoch
    train: tuple[str, ...]  # patterns of the parameters that are trained; all others are frozen
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=Schedule)
    grid: int = setting(
        1, limit=positive
    )  # a picture is cut in up to grid×grid tiles beside its base tile; 1: in none
    most_tiles: int = setting(9, limit=positive)  # tiles a picture's features are shrunk to: anyres_max_N
    frames: int = setting(32, limit=positive)  # of a clip at most
    batch: int = setting(limit=positive)  # samples a step
    epochs: int = setting(1, limit=positive)
    length: int = setting(limit=positive)  # tokens a pack holds at most
    tiles: int = setting(limit=positive)  # tiles a pack holds at most
    group: int = setting(1, limit=positive)  # steps whose samples are packed together
    overlong: Literal["refuse", "skip"] = "refuse"  # what is done with samples longer than a pack

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name: {self.name!r}: give letters, digits, '.', '_' and '-' only")
        if not self.data:
            raise ValueError("data: {}: name at least one manifest and its weight")
        if not self.train:
            raise ValueError("train: []: name what is trained, such as multi_modal_projector")
        for name, weight in self.data.items():
            if weight <= 0:
                raise ValueError(f"data.{name}: {weight!r}: give more than 0, or leave the manifest out")

    def geometry(self, side: int, patch: int) -> Geometry:
        """How a tower of `side` pixels cuts pictures here: in grids of up to `grid` rows and columns."""
        sizes = range(side, side * self.grid + 1, side) if self.grid > 1 else ()
        pinpoints = tuple((height, width) for height in sizes for width in sizes)
        return Geometry(side, patch, pinpoints, self.most_tiles)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A model, its stages in order, and how they are run."""

    model: Parts
    stages: tuple[Stage, ...]
    store: str = "store"
    out: str = "runs/llava"  # a folder a stage is made in it
    seed: int = setting(0, limit=not_negative)  # of new weights and of the order of samples
    compute: Compute = field(default_factory=Compute)
    saving: Saving = field(default_factory=Saving)
    workers: int = setting(2, limit=not_negative)  # processes that decode, a rank
    export_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"  # of the weights as exported
    tokens_per_second: float | None = setting(None, limit=positive)  # stated rate, for the plan's hours

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names:
            raise ValueError("stages: []: give at least one stage")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"stages: {name!r} is the name of two stages: name them apart")

    def stage(self, name: str) -> Stage:
        """The stage of that name. Raises ValueError naming those there are."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"stage {name!r}: there is none; there are {', '.join(s.name for s in self.stages)}")


def recipe(values: Any) -> Recipe:
    """A recipe from plain values, `each` merged into every stage. Raises ValueError."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{values!r:.80}: a recipe is a mapping with model, store, out and stages")
    given = dict(values)
    each, stages = given.pop("each", {}), given.get("stages")
    if not isinstance(each, Mapping):
        raise ValueError(f"each: {each!r}: give a mapping of settings of stages")
    if isinstance(stages, list) and all(isinstance(stage, Mapping) for stage in stages):
        given["stages"] = [_merged(each, stage) for stage in stages]
    return build(Recipe, given)


def read(path: Path) -> Recipe:
    """The recipe in a file, or the shipped one of that name. Raises ValueError."""
    shipped = SHIPPED / f"{path.name.removesuffix('.yaml')}.yaml"
    file = path if path.exists() or path.parent != Path() or not shipped.exists() else shipped
    if not file.is_file():
        names = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.yaml")))
        raise ValueError(f"recipe {path}: there is no such file; {names} are shipped")
    try:
        return recipe(load(file))
    except ValueError as error:
        raise ValueError(f"recipe {file}: {error}") from None


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`under` with what `over` says otherwise, mappings merged one level down."""
    both = {
        name: {**under[name], **over[name]}
        for name in under.keys() & over.keys()
        if isinstance(under[name], Mapping) and isinstance(over[name], Mapping) and name != "data"
    }
    return {**under, **over, **both}
