"""Commands that make a model that ships."""

import hashlib
import json
from pathlib import Path

import pytest

from trainers.commands import DIGESTS, Job, drawn, place, run, run_all
from trainers.monitor import RECORD


def test_options_are_worded_as_a_user_would() -> None:
    draw, ingest = drawn("easy", 40, ("colour", "shape"), {"seed": 3, "apart": True})
    assert draw.words[2:] == (
        "scenes", "--out", "scenes/easy", "--count=40", "--seed=3", "--apart",
        "--kinds", "colour", "--kinds", "shape",
    )  # fmt: skip
    assert ingest.words[2:4] == ("ingest", "scenes/easy/data.json") and ingest.product == "store/refs/easy"


def test_chains_are_run_and_what_is_there_is_not_made_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x')"
    chains = [[Job(("-c", write, name), name)] for name in ("a", "b", "c")]
    (tmp_path / "b").write_text("mine")
    run_all(chains, tmp_path)
    assert [(tmp_path / name).read_text() for name in "abc"] == ["x", "mine", "x"]
    assert capfd.readouterr().out.count("done before: python -c") == 1


def test_a_step_that_fails_stops_the_way(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit code 2 of: imm scenes --nothing"):
        run([Job(("-m", "infinity_mm.cli", "scenes", "--nothing"), "x")], tmp_path)


def test_a_model_is_placed_with_its_record_and_digests(tmp_path: Path) -> None:
    export = tmp_path / "run" / "b" / "export"
    export.mkdir(parents=True)
    (export / "model.safetensors").write_bytes(b"weights")
    for stage, steps in (("a", 3), ("b", 45)):
        (tmp_path / "run" / stage).mkdir(exist_ok=True)
        lines = [json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in range(1, steps + 1)]
        (tmp_path / "run" / stage / RECORD).write_text("".join(lines))
    (tmp_path / "placed").mkdir()
    (tmp_path / "placed" / "former").write_text("")
    place(tmp_path / "run", ("a", "b"), export, tmp_path / "placed")
    assert {file.name for file in (tmp_path / "placed").iterdir()} == {"model.safetensors", RECORD, DIGESTS}
    lines = [json.loads(line) for line in (tmp_path / "placed" / RECORD).read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("a", 1), ("a", 3), ("b", 1), ("b", 21), ("b", 41), ("b", 45)]  # fmt: skip
    digests = json.loads((tmp_path / "placed" / DIGESTS).read_text())
    assert digests["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
