"""`imm demo` on a few records: the whole way, the loop closed."""

import re
from pathlib import Path

import pytest

from infinity_mm.cli import main


def test_it_goes_from_raw_data_to_a_model_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--count", "60", "--written", "3"]) == 0
    said = "".join(capsys.readouterr())
    [before] = re.findall(r"^answer +(\d+) +(\d+) +[01]\.", said, re.MULTILINE)
    [after] = re.findall(r"^alike +(\d+) +(\d+) +[01]\.", said, re.MULTILINE)
    assert int(before[0]) >= int(after[0]) and int(before[1]) >= int(after[1]) and int(before[0]) > 0
    assert (out / "runs" / "more" / "export" / "model.safetensors").is_file()
    assert "<html" in (out / "made.html").read_text(encoding="utf-8")
    assert "Next:" in said


def test_what_is_no_former_demo_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("x")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "is not a former demo" in capsys.readouterr().err and (tmp_path / "mine").read_text() == "x"
