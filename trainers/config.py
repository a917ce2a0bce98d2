"""Configurations of trainers: frozen dataclasses built from plain values, as YAML has them.

`build` makes one, nested ones too, and judges every value by its field's type and `limits`; what is wrong is
one ValueError that names the field, the value and the way out. A field that no dataclass has is an error,
for a setting that is ignored is worse than none.
"""

import contextlib
import dataclasses
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")
Limit = tuple[Callable[[Any], bool], str]

positive: Limit = (lambda value: value > 0, "more than 0")
not_negative: Limit = (lambda value: value >= 0, "0 or more")
share: Limit = (lambda value: 0 <= value <= 1, "from 0 to 1")
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def setting(default: Any = dataclasses.MISSING, *, limit: Limit | None = None) -> Any:
    """A field with a limit."""
    return field(default=default, metadata={"limit": limit})


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """AdamW, with one learning rate for each pattern of parameter names (see `trainers.optim`)."""

    lr: dict[
        str, float
    ]  # pattern: learning rate at its highest; the last pattern that matches a name decides
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = setting(1e-8, limit=positive)
    decay: float = setting(0.0, limit=not_negative)
    decay_vectors: bool = False  # decay norms, biases and other vectors too
    clip: float = setting(1.0, limit=not_negative)  # highest norm of a step's gradient; 0 does not clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The share of the learning rate at each step: a linear rise, then `shape` down to `floor`."""

    shape: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = setting(0.03, limit=share)  # share of the steps
    floor: float = setting(0.0, limit=share)  # share of the learning rate at the last step


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """When checkpoints are written and how many stay."""

    every: int = setting(1000, limit=positive)  # steps
    keep: int = setting(2, limit=positive)  # newest ones that stay


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """How the work is done. Nothing here changes what is learned but by rounding."""

    parallel: Literal["ddp", "fsdp"] = "ddp"  # what torchrun's ranks share; alone it says nothing
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of the matrix products; weights stay float32
    recompute: bool = True  # gradient checkpointing: keep a layer's input alone, and compute it again
    compile: bool = False  # torch.compile of each layer
    threads: int = setting(0, limit=not_negative)  # of a CPU rank; 0 leaves them to torch
    peak_tflops: float | None = setting(None, limit=positive)  # dense bf16 peak of an unlisted device


def build(kind: type[Config], values: Any, where: str = "") -> Config:
    """A configuration from a mapping. `where` begins the names of fields in errors. Raises ValueError."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or kind.__name__}: {values!r}: give a mapping of settings")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = get_close_matches(str(name), fields, n=1)
            raise ValueError(
                f"{_path(where, name)}: no such setting"
                + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(fields)}")
            )
    hints = get_type_hints(kind)
    given = {}
    for name, one in fields.items():
        path = _path(where, name)
        if name in values:
            given[name] = _value(hints[name], values[name], path)
            limit = one.metadata.get("limit")
            if limit and given[name] is not None and not limit[0](given[name]):
                raise ValueError(f"{path}: {values[name]!r}: give {limit[1]}")
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise ValueError(f"{path} is missing: give {_words(hints[name])}")
    try:
        return kind(**given)
    except ValueError as error:  # what the dataclass itself refuses names its field
        raise ValueError(_path(where, str(error))) from None


def plain(config: Any) -> Any:
    """A configuration as JSON has it: mappings, lists, numbers and texts."""
    if dataclasses.is_dataclass(config):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    return config


def differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """`field: before, now after`, for each leaf that two plain configurations do not share."""
    found = []
    for name in [*before, *(n for n in now if n not in before)]:
        path, old, new = _path(where, name), before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, path)
        elif old != new:
            found.append(f"{path}: {old!r}, now {new!r}")
    return found


def _path(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)


def _value(hint: Any, value: Any, path: str) -> Any:
    """`value` as a field's type has it. Raises ValueError."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [a for a in args if a is not type(None)]
        if value is None and len(kinds) < len(args):
            return None
        if len(kinds) == 1:
            return _value(kinds[0], value, path)
        for kind in kinds:
            with contextlib.suppress(ValueError):
                return _value(kind, value, path)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, path)  # type: ignore[arg-type]
    if origin is Literal and value in args:
        return value
    if origin is dict and isinstance(value, Mapping):
        return {_value(args[0], k, path): _value(args[1], v, _path(path, k)) for k, v in value.items()}
    if origin is tuple and isinstance(value, (list, tuple)):
        each = [args[0]] * len(value) if args[1:] == (...,) else list(args)
        if len(each) == len(value):
            return tuple(
                _value(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(each, value, strict=True))
            )
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML 1.1 reads 1e-3, without a point, as a text
    if hint is Any or (hint in WORDS and type(value) is hint):
        return value
    raise ValueError(f"{path}: {value!r}: give {_words(hint)}")


def _words(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if a is type(None) else _words(a) for a in args)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin is dict or dataclasses.is_dataclass(hint):
        return "a mapping"
    if origin is tuple:
        return "a list" if args[1:] == (...,) else f"a list of {len(args)}"
    return WORDS.get(hint, "a value")
