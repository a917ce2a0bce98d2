"""The recipe of a trainer: a model, and the stages it is trained in, as data.

What every trainer's recipes have; a trainer adds its model's parts and its stages' own settings. `recipe`
makes one of plain values, `read` of a file, and both say every error by field, value and way out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from infinity_mm.store import NAME
from infinity_mm.yaml_file import load
from trainers.config import Compute, Optimizer, Saving, Schedule, build, not_negative, positive, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage: data, what is trained, and how fast."""

    name: str
    data: dict[str, float]  # manifest: its weight in the mixture; 1 takes each sample once an epoch
    train: tuple[str, ...]  # patterns of the parameters that are trained; all others are frozen
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=Schedule)
    batch: int = setting(limit=positive)  # samples a step
    epochs: int = setting(1, limit=positive)
    length: int = setting(limit=positive)  # tokens a pack holds at most
    group: int = setting(1, limit=positive)  # steps whose samples are packed together
    overlong: Literal["refuse", "skip"] = "refuse"  # what is done with samples longer than a pack

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name: {self.name!r}: give letters, digits, '.', '_' and '-' only")
        if not self.data:
            raise ValueError("data: {}: name at least one manifest and its weight")
        if not self.train:
            raise ValueError("train: []: name what is trained, such as '*'")
        for name, weight in self.data.items():
            if weight <= 0:
                raise ValueError(f"data.{name}: {weight!r}: give more than 0, or leave the manifest out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A model, its stages in order, and how they are run."""

    model: Any
    stages: tuple[Any, ...]
    store: str = "store"
    out: str = "runs"  # a folder a stage is made in it
    seed: int = setting(0, limit=not_negative)  # of new weights and of the order of samples
    compute: Compute = field(default_factory=Compute)
    saving: Saving = field(default_factory=Saving)
    workers: int = setting(2, limit=not_negative)  # processes that read samples, a rank
    export_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"  # of the weights as exported
    tokens_per_second: float | None = setting(None, limit=positive)  # stated rate, for the plan's hours

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names:
            raise ValueError("stages: []: give at least one stage")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"stages: {name!r} is the name of two stages: name them apart")

    def stage(self, name: str) -> Any:
        """The stage of that name. Raises ValueError naming those there are."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"stage {name!r}: there is none; there are {', '.join(s.name for s in self.stages)}")


Kind = TypeVar("Kind", bound=Recipe)


def recipe(kind: type[Kind], values: Any) -> Kind:
    """A recipe from plain values, `each` merged into every stage. Raises ValueError."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{values!r:.80}: a recipe is a mapping with model, store, out and stages")
    given = dict(values)
    each, stages = given.pop("each", {}), given.get("stages")
    if not isinstance(each, Mapping):
        raise ValueError(f"each: {each!r}: give a mapping of settings of stages")
    if isinstance(stages, list) and all(isinstance(stage, Mapping) for stage in stages):
        given["stages"] = [_merged(each, stage) for stage in stages]
    return build(kind, given)


def read(kind: type[Kind], path: Path, shipped_in: Path) -> Kind:
    """The recipe in a file, or the one of that name that is shipped in a folder. Raises ValueError."""
    shipped = shipped_in / f"{path.name.removesuffix('.yaml')}.yaml"
    file = path if path.exists() or path.parent != Path() or not shipped.exists() else shipped
    if not file.is_file():
        names = ", ".join(sorted(one.stem for one in shipped_in.glob("*.yaml")))
        raise ValueError(f"recipe {path}: there is no such file; {names} are shipped")
    try:
        return recipe(kind, load(file))
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
