"""`imm doctor` tells the truth about this machine and fails where the core cannot be used."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from infinity_mm.cli import doctor, main


def test_json_on_a_sound_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "not" / "yet"
    assert main(["doctor", "--store", str(store), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    assert result["libraries"]["core"]["polars"] == metadata.version("polars")
    assert set(result["libraries"]) == {"core", "models", "vllm", "ray"}
    assert result["can"]["jpeg_strict"] and "h264" in result["can"]["video_codecs"]
    assert result["machine"]["cpus"] >= 1 and result["machine"]["memory"] > 0
    assert result["store"]["writable"] and not store.parent.exists()
    assert isinstance(result["store"]["flock"], bool) and isinstance(result["store"]["sparse_files"], bool)
    assert list(tmp_path.iterdir()) == []


def test_text_names_every_library_and_how_to_get_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "ray" else installed(name))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in doctor.requirements()["core"])
    assert "the optional `ray` part lacks ray" in out and "-m pip install 'ray[default]>=" in out


def test_a_missing_core_library_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "simplejpeg" else installed(name))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "the core lacks simplejpeg" in out and "pip install 'simplejpeg>=" in out


def test_a_library_that_does_not_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.MODULES, "av", "no_such_module")
    result = doctor.examine()
    assert not result["ok"]
    assert "av does not import: ModuleNotFoundError" in result["problems"][0]["what"]
    assert "--force-reinstall 'av>=" in result["problems"][0]["do"]


def test_a_store_that_cannot_be_written_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write anywhere but in /proc
    result = doctor.examine("/proc/store")
    assert not result["ok"] and not result["store"]["writable"]
    assert result["store"]["error"]


def test_remote_stores() -> None:
    assert doctor.check_store("memory://store")["writable"]
    wrong = doctor.check_store("nosuch://store")
    assert wrong["remote"] and not wrong["writable"] and "nosuch" in wrong["error"]


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("d / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n", "nfs4"),
        ("d / ext4 rw 0 0\nserver:/x /dat nfs4 rw 0 0\n", "ext4"),
        ("d / ext4 rw 0 0\nd /data/my\\040store xfs rw 0 0\n", "xfs"),
    ],
)
def test_file_system_is_that_of_the_longest_mount(mounts: str, kind: str) -> None:
    assert doctor.filesystem_of(Path("/data/my store/a"), mounts) == kind


def test_requirements_come_from_the_package_itself() -> None:
    groups = doctor.requirements()
    assert groups["core"]["av"].startswith("av>=")
    assert groups["ray"] == {"ray": "ray[default]>=2.9"}
