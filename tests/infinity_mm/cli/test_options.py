"""A toy model's fields become options and arguments, and every wrong value one plain line."""

import json
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from infinity_mm import cli
from infinity_mm.cli.options import add_stage, command_group, stage_command, usage_problems
from infinity_mm.progress import Progress


class Toy(BaseModel):
    manifest: str = Field(description="The manifest read.", json_schema_extra={"positional": True})
    files: list[Path] = Field(default=[], description="Files.", json_schema_extra={"positional": True})
    store: Path = Field(default=Path("store"), description="The store.")
    out: str = Field(default="toy", description="Name of the manifest made.")
    workers: int = Field(default=2, ge=1, le=64, description="Worker processes.")
    max_size: float | None = Field(default=None, gt=0, description="Largest size.")
    mode: Literal["exact", "near"] = Field(default="exact", description="How to compare.")
    tag: list[str] = Field(default_factory=list, description="Tags.")
    weight: dict[str, float] = Field(default={}, description="Weights.")
    parts: int | Literal["auto"] = Field(default="auto", description="Parts.")
    replace: bool = Field(default=False, description="Replace the manifest.")
    media: bool = Field(default=True, description="Read media.")
    strict: bool | None = Field(default=None, description="Strict.")
    from_: str | None = Field(default=None, alias="from", description="A name Python keeps for itself.")
    deep: dict[str, list[int]] = Field(default={}, json_schema_extra={"recipe_only": True})

    @model_validator(mode="after")
    def _near_needs_a_size(self) -> "Toy":
        if self.mode == "near" and self.max_size is None:
            raise ValueError("mode near needs max-size")
        return self


Behaviour = Callable[[Toy, Progress], Mapping[str, Any]]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `imm toy ARGS` in this process; `seen` collects the configs that reached the stage."""

    def run(*args: str, does: Behaviour | None = None, seen: list[Toy] | None = None) -> int:
        def stage(config: Toy, progress: Progress) -> Mapping[str, Any]:
            if seen is not None:
                seen.append(config)
            return does(config, progress) if does else {"in": 3, "kept": 2, "dropped": 1, "failed": 0}

        module = types.ModuleType("toy_command")
        module.app = stage_command(Toy, stage, name="toy", help="A toy stage.")  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "toy_command", module)
        monkeypatch.setitem(cli.COMMANDS, "toy", ("toy_command", "A toy stage."))
        return cli.main(["toy", *args])

    return run


def _config(toy: Callable[..., int], *args: str) -> Toy:
    seen: list[Toy] = []
    assert toy(*args, seen=seen) == 0
    return seen[0]


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        ([], "files", []),
        (["a.json", "b.json"], "files", [Path("a.json"), Path("b.json")]),
        (["--store", "s"], "store", Path("s")),
        (["--workers", "64"], "workers", 64),
        ([], "max_size", None),
        (["--max-size", "0.5"], "max_size", 0.5),
        (["--tag", "a", "--tag", "b c"], "tag", ["a", "b c"]),
        (["--weight", "a=2", "--weight", "b=0.5"], "weight", {"a": 2.0, "b": 0.5}),
        ([], "parts", "auto"),
        (["--parts", "4"], "parts", 4),
        (["--replace"], "replace", True),
        ([], "media", True),
        (["--no-media"], "media", False),
        ([], "strict", None),
        (["--strict"], "strict", True),
        (["--no-strict"], "strict", False),
        (["--from", "x"], "from_", "x"),
        (["--mode", "near", "--max-size", "1"], "mode", "near"),
    ],
)
def test_each_type(toy: Callable[..., int], args: list[str], field: str, value: object) -> None:
    assert getattr(_config(toy, "name", *args), field) == value


def test_only_what_was_typed_counts_as_set(toy: Callable[..., int]) -> None:
    assert _config(toy, "name", "--workers", "2").model_fields_set == {"manifest", "workers"}


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["--workers", "0"], ["error: --workers: '0': give at least 1"]),
        (["--workers", "65"], ["error: --workers: '65': give at most 64"]),
        (["--workers", "two"], ["error: --workers: 'two': give a whole number"]),
        (["--max-size", "big"], ["error: --max-size: 'big': give a number"]),
        (["--max-size", "0"], ["error: --max-size: '0': give more than 0"]),
        (["--mode", "fast"], ["error: --mode: 'fast': give one of 'exact' or 'near'"]),
        (["--parts", "q"], ["error: --parts: 'q': give a whole number or one of 'auto'"]),
        (["--weight", "a"], ["error: --weight: 'a': give NAME=VALUE"]),
        (["--weight", "a=x"], ["error: --weight: 'x': give a number"]),
        (["--weight", "a=1", "--weight", "a=2"], ["error: --weight: 'a=2': a is given twice"]),
        (["--mode", "near"], ["error: mode near needs max-size"]),
        (["--workers", "0", "--mode", "fast"], [
            "error: --workers: '0': give at least 1",
            "error: --mode: 'fast': give one of 'exact' or 'near'",
        ]),
        (["--replac"], ["error: No such option: --replac (Possible options: --replace)"]),
    ],
)  # fmt: skip
def test_wrong_values(
    toy: Callable[..., int], args: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Toy] = []
    assert toy("name", *args, seen=seen) == 2
    out, err = capsys.readouterr()
    assert (seen, out) == ([], "")
    said = err.splitlines()
    assert said[-1] == "try `imm toy --help`"
    assert said[:-1] == lines


def test_a_recipe_only_field_is_no_option(
    toy: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("name", "--deep", "x") == 2
    assert capsys.readouterr().err.startswith("error: No such option: --deep")


def test_missing_argument(toy: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert toy() == 2
    assert "MANIFEST" in capsys.readouterr().err


def test_problems_name_fields_as_a_recipe_does() -> None:
    with pytest.raises(ValidationError) as caught:
        Toy.model_validate({"workers": 0, "deep": {"a": ["x"]}})
    assert usage_problems(caught.value, {}) == [
        "manifest is missing",
        "workers: 0: give at least 1",
        "deep.a.0: 'x': give a whole number",
    ]


def test_help_shows_defaults_limits_and_choices(
    toy: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert toy("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "--workers INT Worker processes. [at least 1; at most 64; default: 2]",
        "--mode exact|near How to compare. [default: exact]",
        "--store PATH The store. [default: store]",
        "--max-size NUMBER Largest size. [more than 0]",
        "--media / --no-media Read media. [default: yes]",
        "--replace Replace the manifest.",
        "--json",
        "MANIFEST",
    ):
        assert part in text
    assert "--no-replace" not in text and "deep" not in text


def test_json_is_all_that_reaches_stdout(toy: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(config: Toy, progress: Progress) -> Mapping[str, Any]:
        print("a library talks")
        progress.start("toy", 1, "shards")
        progress.advance()
        return {"manifest": "名", "in": 1, "path": config.store}

    assert toy("name", "--json", does=noisy) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert json.loads(out) == {"manifest": "名", "in": 1, "path": "store"}
    assert "a library talks" in err and "1/1 shards" in err


def test_without_json_a_summary(toy: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("name") == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["in", "3"]


def test_a_command_may_show_its_result_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("shown_command")
    module.app = stage_command(  # type: ignore[attr-defined]
        Toy, lambda config, progress: {"in": 1}, show=lambda r: f"saw {r['in']}", name="shown", help="Shown."
    )
    monkeypatch.setitem(sys.modules, "shown_command", module)
    monkeypatch.setitem(cli.COMMANDS, "shown", ("shown_command", "Shown."))
    assert cli.main(["shown", "name"]) == 0
    assert capsys.readouterr().out == "saw 1\n"


def test_commands_of_a_group(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = types.ModuleType("group_command")
    module.app = command_group("A group.")  # type: ignore[attr-defined]
    for name in ("one", "two"):
        add_stage(module.app, Toy, lambda config, progress: {"in": config.workers}, name=name, help=name)
    monkeypatch.setitem(sys.modules, "group_command", module)
    monkeypatch.setitem(cli.COMMANDS, "group", ("group_command", "A group."))
    assert cli.main(["group", "two", "name", "--workers", "5"]) == 0
    assert capsys.readouterr().out.split() == ["in", "5"]
    assert cli.main(["group", "two", "name", "--workers", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "try `imm group two --help`"
    assert cli.main(["group", "twoo"]) == 2
    assert "Did you mean 'two'?" in capsys.readouterr().err
    assert cli.main(["group"]) == 2
    assert capsys.readouterr().err.splitlines() == ["error: Missing command.", "try `imm group --help`"]


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_a_result_that_is_not_ok_is_printed_and_fails(
    toy: Callable[..., int], ok: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("name", "--json", does=lambda config, progress: {"ok": ok}) == code
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"ok": ok}, "")


def _fails(problem: BaseException) -> Behaviour:
    def behaviour(config: Toy, progress: Progress) -> Mapping[str, Any]:
        raise problem

    return behaviour


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (ValueError("shard 3:\n  row 5 is cut"), 1, "error: shard 3: row 5 is cut"),
        (FileNotFoundError(2, "No such file", "a.json"), 1, "error: [Errno 2] No such file: 'a.json'"),
        (
            BrokenPipeError(32, "Broken pipe"),
            1,
            "error: a process of this stage went away ([Errno 32] Broken pipe)",
        ),
        (KeyError("x"), 1, "error: KeyError: 'x' (a defect in infinity-mm: IMM_DEBUG=1 shows where)"),
        (KeyboardInterrupt(), 130, "interrupted: run it again to go on"),
        (cli.WrongUsage("no manifest `a`"), 2, "error: no manifest `a`\ntry `imm toy --help`"),
    ],
)
def test_exit_codes(
    toy: Callable[..., int],
    problem: BaseException,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("IMM_DEBUG", raising=False)
    assert toy("name", "--json", does=_fails(problem)) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", said + "\n")


def test_debug_shows_the_traceback(toy: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMM_DEBUG", "1")
    with pytest.raises(ValueError, match="bad"):
        toy("name", does=_fails(ValueError("bad")))
