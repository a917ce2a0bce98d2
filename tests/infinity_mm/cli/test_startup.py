"""`imm --help` is cheap, imports nothing heavy, and the root tells wrong names from commands."""

import json
import os
import subprocess
import sys
import time

import pytest

from infinity_mm import __version__
from infinity_mm.cli import COMMANDS, main

BUDGET = 0.3
HEAVY = ("polars", "pyarrow", "numpy", "PIL", "av", "datasets", "torch", "rich", "pydantic", "typer", "click")
HELP = "import sys; from infinity_mm.cli import main; sys.exit(main(['--help']))"


def _best_of_five(code: str) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


def test_help_costs_at_most_the_budget() -> None:
    assert _best_of_five(HELP) - _best_of_five("pass") <= BUDGET


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import contextlib, io, json, sys\n"
        "from infinity_mm.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported = set(json.loads(done.stdout))
    assert imported.isdisjoint(HEAVY)
    assert {name for name in imported if name.startswith("infinity_mm")} == {"infinity_mm", "infinity_mm.cli"}


def test_help_lists_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:")[1].split("Options:")[0].strip().splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"imm {__version__}\n"


def test_no_command_prints_the_help_as_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Commands:" in err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("fliter", "error: no such command: fliter; did you mean `filter`?"),
        ("manifset", "error: no such command: manifset; did you mean `manifest`?"),
        ("zzzzzz", "error: no such command: zzzzzz"),
        ("--hlep", "error: no such option: --hlep"),
    ],
)
def test_wrong_name_suggests_the_nearest(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([typed]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == [said, "try `imm --help`"]


@pytest.mark.parametrize(
    "run",
    [
        pytest.param("main(['--help'])", id="root"),
        pytest.param("main(['doctor', '--help'])", id="command"),
        pytest.param("cli.COMMANDS.update(big=('big', '')) or main(['big'])", id="more-than-a-buffer"),
    ],
)
def test_a_reader_that_left_is_no_traceback(run: str) -> None:
    code = (
        "import sys, types\n"
        "from infinity_mm import cli\n"
        "from infinity_mm.cli import main\n"
        "big = sys.modules['big'] = types.ModuleType('big')\n"
        "import typer\n"
        "big.app = typer.Typer(add_completion=False)\n"
        "big.app.command()(lambda: print('x' * 1_000_000))\n"
        f"sys.exit({run})"
    )
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
