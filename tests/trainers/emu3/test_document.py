"""What docs/generate.md shows is what the command prints, and its Python runs."""

import re
import shlex
from pathlib import Path

import pytest
from test_readme import ROOT, commands, matches
from tiny_painter import exported

from infinity_mm.cli import main

TEXT = ROOT / "docs/generate.md"


def test_the_document_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exported(tmp_path).rename("emu3")
    assert len(commands(TEXT)) == 5
    for command, shown in commands(TEXT):
        assert main(shlex.split(command)) == 0, command
        printed = capsys.readouterr().out.rstrip("\n").splitlines()
        assert matches(shown, printed), f"$ imm {command}\n" + "\n".join(printed)
    (python,) = re.findall(r"```python\n(.*?)```", TEXT.read_text(), re.DOTALL)
    exec(python, {})
