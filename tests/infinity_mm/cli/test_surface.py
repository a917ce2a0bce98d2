"""The command line is frozen: a change of commands, options, exit codes or JSON keys edits this."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from inputs import jpeg, record
from typer.main import get_command

from infinity_mm.cli import COMMANDS, main

SURFACE = Path(__file__).with_name("surface.json")


def options(command: Any) -> Any:
    """The option and argument names of a command, or those of a group's commands."""
    if hasattr(command, "commands") and len(command.commands) > 1:
        return {name: options(sub) for name, sub in sorted(command.commands.items())}
    only = next(iter(command.commands.values())) if hasattr(command, "commands") else command
    names = {name.removeprefix("field_") for p in only.params for name in (p.opts or [p.name])}
    return sorted(names)


def test_commands_and_options_are_frozen() -> None:
    found = {name: options(get_command(import_module(module).app)) for name, (module, _) in COMMANDS.items()}
    assert found == json.loads(SURFACE.read_text())


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    code = main([*args, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


ACCOUNT = {"in", "kept", "dropped", "failed", "made"}


def test_every_command_works_and_its_json_keys_are_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "cut.jpg").write_bytes(jpeg(2)[:-99])
    (tmp_path / "b.jpg").write_bytes(jpeg(3))
    (tmp_path / "data.json").write_text(json.dumps([record("a.jpg"), record("cut.jpg"), record("b.jpg")]))

    def keys(*args: str) -> set[str]:
        code, result = run(capsys, *args)
        assert code == 0
        return set(result)

    made = ACCOUNT | {"stage", "name", "manifest", "digest", "samples", "reasons"}
    few = ["--workers", "0"]
    assert keys("ingest", "data.json", "--out", "raw", *few) == made | {"media", "formats"}
    assert keys("filter", "raw", "--out", "sound", *few) == made | {"rules", "measured_shards", "note"}
    assert keys("measure", "raw", *few) == {
        *("stage", "manifest", "digest", "in", "media", "measures", "measured_shards", "note")
    }
    assert keys("measure", "--list") == {"measures"}
    assert keys("report", "raw", "--out", "r.html", *few) == {"stage", "out", "bytes", "manifests", "samples"}
    assert keys("filter", "raw", "--dry-run", *few) == (
        made | {"rules", "measured_shards", "note", "dry_run"}
    ) - {*("name", "manifest", "digest")}
    dedup = made | {"methods", "merged", "note"}
    assert keys("dedup", "sound", "--out", "distinct", *few) == dedup
    assert keys("fingerprint", "sound", "--out", "b.parquet", *few) == {
        *("stage", "name", "out", "sha256", "bytes", "in", "kept", "failed"),
        *("media", "unreadable", "questions", "problems", "note"),
    }
    assert keys("decontaminate", "sound", "--against", "b.parquet", "--out", "clean", *few) == (
        made | {"by", "benchmarks", "note"}
    )
    assert keys("mix", "sound=2", "--out", "mixed") == made | {"weight"}
    split = ACCOUNT | {"stage", "parts", "components", "largest", "media"}
    assert keys("split", "sound", "--out", "set", "--part", "a=0.5", "--part", "b=0.5") == split
    verified = {
        *("ok", "manifest", "digest", "samples", "samples_read", "media", "media_bytes_read"),
        *("withdrawn", "problem_count", "problems"),
    }
    assert keys("manifest", "verify", "sound", "--media", *few) == verified
    assert keys("manifest", "show") == {"names"}
    assert keys("manifest", "diff", "raw", "sound") == {
        *("a", "b", "same", "only_in_a", "only_in_b", "weight_changed", "equal")
    }
    assert keys("manifest", "copy", "sound", "--to", "other", "--out", "x") == ACCOUNT | {
        *("manifest", "digest", "samples", "files", "bytes", "to")
    }
    assert keys("manifest", "export", "sound", "--to", "out", *few) == ACCOUNT | {
        *("stage", "manifest", "digest", "format", "lines", "reasons", "sources", "to", "files", "note")
    }
    code, traced = run(capsys, "trace", "data.json:1")
    assert (code, set(traced)) == (0, {"id", "samples", "rejected_records"})
    assert keys("forget", traced["samples"][0]["sample_id"]) == {"kind", "values", "samples"}
    assert keys("gc", "--dry-run") == {
        *("dry_run", "files_deleted", "pieces_deleted", "bytes_freed"),
        *("media_erased", "samples_erased", "measures_erased"),
    }
    Path("r.yaml").write_text("stages: [{filter: {manifest: raw, out: again, workers: 0}}]")
    assert keys("run", "r.yaml") == {"stages", "skipped"}
    assert keys("scenes", "--out", "made", "--count", "3") == {
        *("out", "records", "files", "bytes", "kind", "medium", "language", "defect")
    }


def damaged(folder: Path) -> None:
    next((folder / "store/bytes").iterdir()).unlink()


def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "data.json").write_text(json.dumps([record("a.jpg")]))
    assert main(["ingest", "nowhere.json", "--out", "raw"]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["ingest", "data.json"]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert main(["ingest", "data.json", "--out", "raw", "--workers", "0"]) == 0
    assert main(["manifest", "verify", "raw", "--workers", "0"]) == 0
    damaged(tmp_path)
    assert main(["manifest", "verify", "raw", "--workers", "0"]) == 1
    assert "missing_media" in capsys.readouterr().out
    assert main(["filter", "nothing", "--out", "x"]) == 1
    assert "names there: raw" in capsys.readouterr().err
    assert main(["trace", "ffffffff"]) == 1


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert "Usage: " in capsys.readouterr().out
