"""Commands built from config models: each option is a field of one validated pydantic object.

Typer only splits the command line; every value reaches the model as the text the user typed, so the command
line and a YAML recipe are judged by the same validation, and `model_fields_set` tells what was given.
"""

import json
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from infinity_mm.cli import FAILED, WrongUsage
from infinity_mm.cli.summary import format_summary
from infinity_mm.progress import Progress

Config = TypeVar("Config", bound=BaseModel)
Run = Callable[[Config, Progress], Mapping[str, Any]]
Show = Callable[[Mapping[str, Any]], str]

LISTS = (list, tuple, set, frozenset, Sequence)
METAVARS = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH", bool: "BOOL"}
# keeps a field apart from the common options and from Python's keywords
PREFIX = "field_"
LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def stage_command(
    config_model: type[Config], run: Run[Config], *, name: str, help: str, show: Show = format_summary
) -> typer.Typer:
    """A command `name` that validates its options as `config_model` and calls `run(config, progress)`.

    Fields become options, or arguments where marked `json_schema_extra={"positional": True}`; a field marked
    `{"recipe_only": True}` is left to recipes. `run` returns a mapping that is ready for JSON; where its `ok`
    is False the exit code is 1. `show` turns it into the text that is printed without `--json`.
    """
    app = command_group(help)
    add_stage(app, config_model, run, name=name, help=help, show=show)
    return app


def command_group(help: str) -> typer.Typer:
    """An empty group, for a command such as `imm manifest` that has commands of its own."""
    return typer.Typer(help=help, add_completion=False, rich_markup_mode=None)


def add_stage(
    app: typer.Typer,
    config_model: type[Config],
    run: Run[Config],
    *,
    name: str,
    help: str,
    show: Show = format_summary,
) -> None:
    """Add to `app` the command that `stage_command` describes."""
    keys = {key: field for key, field in _fields(config_model).items() if not _extra(field, "recipe_only")}
    names = {key: _typed_name(key, field) for key, field in keys.items()}

    def command(context: typer.Context, **given: Any) -> None:
        as_json = given.pop("as_json")
        values = {key: given[PREFIX + key] for key in keys if given[PREFIX + key] is not None}
        progress = Progress()
        try:
            config = _validate(config_model, values, names)
            # whatever the stage prints must not mix with the one JSON object
            with redirect_stdout(sys.stderr):
                result = run(config, progress)
        except WrongUsage as problem:
            problem.program = context.command_path
            raise
        except BrokenPipeError as problem:
            # not the reader of stdout, who may leave without a word
            raise OSError(f"a process of this stage went away ({problem})") from problem
        finally:
            progress.done()
        print(json.dumps(result, ensure_ascii=False, default=str) if as_json else show(result))
        if result.get("ok") is False:
            raise typer.Exit(FAILED)

    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += [_parameter(key, field) for key, field in keys.items()]
    json_option = typer.Option("--json", help="Print the result as one JSON object on stdout.")
    parameters.append(
        Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, json_option])
    )
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {}
    app.command(name, help=help)(command)


def usage_problems(error: ValidationError, names: Mapping[str, str]) -> list[str]:
    """One line a problem: the field by its name in `names`, the value, and what to give instead."""
    found: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        where, kind, value = problem["loc"], problem["type"], problem["input"]
        text = _advice(kind, problem.get("ctx", {}), problem["msg"])
        if not where:
            found[text] = []
            continue
        name = names.get(str(where[0])) or ".".join(map(str, where))
        if kind == "missing":
            found[f"{name} is missing"] = []
        else:
            shown = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
            found.setdefault(f"{name}: {shown}", []).append(text)
    # a union reports every branch that it tried for one value
    return [
        f"{what}: {' or '.join([*texts[:1], *(text.removeprefix('give ') for text in texts[1:])])}"
        if texts
        else what
        for what, texts in found.items()
    ]


def _advice(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in ("int_parsing", "int_type", "int_from_float"):
        return "give a whole number"
    if kind in ("float_parsing", "float_type"):
        return "give a number"
    if kind == "literal_error":
        return f"give one of {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    for limit, words in LIMITS.items():
        if limit in context:
            bound = context[limit]
            # pydantic turns the bound of a number field into a float
            whole = isinstance(bound, float) and bound.is_integer()
            return f"give {words} {int(bound) if whole else bound}"
    return message


def _validate(config_model: type[Config], values: Mapping[str, Any], names: Mapping[str, str]) -> Config:
    fields = _fields(config_model)
    given, problems = dict(values), []
    for key, value in values.items():
        if _shape(fields[key].annotation)[0] == "dict":
            pairs: dict[str, str] = {}
            for item in value:
                name, equals, text = item.partition("=")
                if not (name and equals):
                    problems.append(f"{names[key]}: {item!r}: give NAME=VALUE")
                elif name in pairs:
                    problems.append(f"{names[key]}: {item!r}: {name} is given twice")
                pairs[name] = text
            given[key] = pairs
    if problems:
        raise WrongUsage(*problems)
    try:
        return config_model.model_validate(given)
    except ValidationError as error:
        raise WrongUsage(*usage_problems(error, names)) from None


def _fields(config_model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the key under which the model takes them: their alias, where they have one."""
    found = {}
    for name, field in config_model.model_fields.items():
        assert not isinstance(field.validation_alias, AliasChoices), f"{name}: one alias a field"
        found[str(field.validation_alias or name)] = field
    return found


def _extra(field: FieldInfo, mark: str) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get(mark))


def _typed_name(key: str, field: FieldInfo) -> str:
    """The field as the user types it: `--keep-first`, or `MANIFEST` for an argument."""
    return key.upper() if _extra(field, "positional") else "--" + key.replace("_", "-")


def _shape(annotation: Any) -> tuple[Literal["flag", "one", "list", "dict"], Any]:
    """How the command line spells a type, and the type of one value."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        if len(rest) == 1:
            return _shape(rest[0])
    if annotation is bool:
        return "flag", bool
    origin = get_origin(annotation) or annotation
    if origin is dict or origin is Mapping:
        return "dict", str
    if origin in LISTS:
        return "list", next(iter(get_args(annotation)), str)
    return "one", annotation


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_metavar(part) for part in get_args(annotation) if part is not type(None)]
        return "|".join(dict.fromkeys(parts))
    return METAVARS.get(annotation, "TEXT")


def _help(field: FieldInfo, shape: str) -> str:
    default = field.get_default(call_default_factory=True)
    notes = [f"{LIMITS[k]} {getattr(m, k)}" for m in field.metadata for k in LIMITS if hasattr(m, k)]
    if field.is_required():
        # typer writes it for arguments itself
        notes += [] if _extra(field, "positional") else ["required"]
    elif isinstance(default, (list, tuple, set, frozenset)):
        notes += [f"default: {', '.join(map(str, default))}"] if default else []
    elif isinstance(default, dict):
        notes += [f"default: {' '.join(f'{a}={b}' for a, b in default.items())}"] if default else []
    elif default not in (None, PydanticUndefined, "") and shape != "flag":
        notes.append(f"default: {default}")
    elif shape == "flag" and default:
        notes.append("default: yes")
    text = field.description or ""
    return f"{text} [{'; '.join(notes)}]" if notes else text


def _parameter(key: str, field: FieldInfo) -> Parameter:
    shape, item = _shape(field.annotation)
    typed, text = _typed_name(key, field), _help(field, shape)
    annotation: Any = {"flag": bool, "one": str}.get(shape, list[str])
    if _extra(field, "positional"):
        default = ... if field.is_required() else None
        info: Any = typer.Argument(metavar=typed, help=text, show_default=False)
    else:
        default = None
        if shape == "flag":
            # what is off by default needs no way to say so, what may be on does
            pair = field.get_default(call_default_factory=True) is not False
            info = typer.Option(f"{typed}/--no-{typed[2:]}" if pair else typed, help=text, show_default=False)
        else:
            metavar = "NAME=VALUE" if shape == "dict" else _metavar(item)
            info = typer.Option(typed, metavar=metavar, help=text, show_default=False)
    return Parameter(
        PREFIX + key, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )
