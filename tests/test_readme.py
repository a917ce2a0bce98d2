"""The README and the documents show what the commands print."""

import os
import re
import shlex
from pathlib import Path

import pytest

from infinity_mm.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ("rules", "dedup", "decontamination", "train_llava", "synthesize")
TEXTS = [README, *(ROOT / f"docs/{name}.md" for name in DOCS)]


def commands(text: Path) -> list[tuple[str, list[str]]]:
    """Each command of a text's console blocks, with the output shown under it."""
    found: list[tuple[str, list[str]]] = []
    blocks = re.findall(r"```console\n(.*?)```", text.read_text(), re.DOTALL)
    for line in "".join(blocks).splitlines():
        if line.startswith("$ imm "):
            found.append((line[6:], []))
        else:
            found[-1][1].append(line)
    return found


def line_matches(shown: str, printed: str) -> bool:
    """`…` within a line stands for any characters."""
    return re.fullmatch(re.escape(shown).replace("…", ".+?"), printed) is not None


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether output is what is shown; a line of `…` alone stands for any lines."""
    if not shown:
        return not printed
    if shown[0] == "…":
        return any(matches(shown[1:], printed[i:]) for i in range(len(printed) + 1))
    return bool(printed) and line_matches(shown[0], printed[0]) and matches(shown[1:], printed[1:])


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_console_blocks_are_true(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(commands(text)) >= 7
    for command, shown in commands(text):
        assert main(shlex.split(command)) == 0, command
        printed = capsys.readouterr().out.rstrip("\n").splitlines()
        assert matches(shown, printed), f"$ imm {command}\n" + "\n".join(printed)


def test_other_blocks_name_real_commands_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    for block in re.findall(r"```\n(.*?)```", README.read_text(), re.DOTALL):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["imm"]:
                assert words[1] in COMMANDS
                assert main([words[1], "--help"]) == 0
                text = capsys.readouterr().out
                for option in re.findall(r"--[a-z-]+", line):
                    assert option in text, line
            elif words[:1] == ["make"]:
                assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()


def test_the_recipes_that_ship_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scenes", "--out", "scenes", "--count", "60", "--defects", "0.2"]) == 0
    for name in ("sound", "published"):
        assert main(["run", os.fspath(ROOT / f"pipelines/recipes/{name}.yaml"), "--workers", "0"]) == 0
    assert list(tmp_path.glob("tars/*.tar"))
    assert main(["manifest", "verify", "published", "--media"]) == 0
