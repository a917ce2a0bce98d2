"""Checkpoints: whole or not at all, refused where damaged, and no room for a silent failure."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy_training import ALONE, Toy, start, work

from trainers.checkpoint import COMPLETE, STATE, CheckpointError, check, newest, paths, restore, weights
from trainers.loop import train


def steps_of(folder: Path) -> list[int]:
    return [int(p.name.removeprefix("step-")) for p in paths(folder)]


def trained(folder: Path, steps: int = 12, **more: Any) -> Path:
    """The checkpoints of a run that took so many steps."""
    run = start(folder, ALONE, steps=steps, **more)
    assert train(run, work(0, 6 * steps, 6)) is None
    run.monitor.close()
    return folder / "checkpoints"


def test_the_newest_stay_and_leftovers_of_a_kill_go(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (folder / ".writing-step-00000003").mkdir(parents=True)
    trained(tmp_path, keep=2, every=4)
    assert steps_of(folder) == [8, 12]
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
    about = check(paths(folder)[-1])
    assert (about["step"], about["cursor"], about["finished"]) == (12, 72, True)


def test_what_is_saved_is_the_state_when_it_was_saved(tmp_path: Path) -> None:
    run = start(tmp_path, ALONE, steps=12)
    before = {name: value.clone() for name, value in weights(run.model).items()}
    run.checkpoints.save(run.model, run.optimizer, {"step": 0})
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.zero_()
    run.checkpoints.wait()
    restore(run.checkpoints.folder / "step-00000000", run.model, None, ALONE, 1)
    assert all(torch.equal(before[name], value) for name, value in weights(run.model).items())


def cut(path: Path) -> None:
    file = next(path.glob("*.distcp"))
    os.truncate(file, file.stat().st_size - 1)


def flip(path: Path) -> None:
    file = next(path.glob("*.distcp"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def lie(path: Path) -> None:
    about = json.loads((path / STATE).read_text())
    (path / STATE).write_text(json.dumps({**about, "cursor": 0}, indent=1))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut, "bytes instead of"),
        (flip, "was changed: its sha256 is not the recorded one"),
        (lie, "state.json"),
        (lambda path: (path / ".metadata").unlink(), ".metadata is missing"),
        (lambda path: (path / COMPLETE).unlink(), "complete.json is missing"),
        (lambda path: (path / COMPLETE).write_text("{"), "is damaged"),
        (
            lambda path: (path / COMPLETE).write_text('{"format": "imm-checkpoint", "version": 9}'),
            "version 9",
        ),
    ],
)
def test_a_damaged_one_is_refused_and_the_one_before_used(
    tmp_path: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    folder = trained(tmp_path, steps=4, every=2)
    spoil(folder / "step-00000004")
    found, refused = newest(folder)
    assert found is not None and found.about["step"] == 2
    assert list(refused) == [folder / "step-00000004"]
    assert reason in refused[folder / "step-00000004"]


def test_a_full_disk_stops_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path, ALONE, steps=12, every=4)
    train(run, work(0, 24, 6))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        CheckpointError, match=r"step 8 was not written .*: the disk is full .*No space left.* make room"
    ):
        train(run, work(24, 48, 6))
    assert steps_of(tmp_path / "checkpoints") == [4]
    assert not list((tmp_path / "checkpoints").glob(".writing*"))


def test_one_of_another_model_is_refused(tmp_path: Path) -> None:
    path = paths(trained(tmp_path, steps=2))[-1]
    other = Toy()
    other.layers.append(nn.Sequential(nn.Linear(8, 8)))
    with pytest.raises(CheckpointError, match=r"is of another model.* model.layers.2.0.weight; "):
        restore(path, other, None, ALONE, 1)
    wide = Toy()
    wide.head = nn.Linear(8, 99, bias=False)
    with pytest.raises(CheckpointError, match="is of another model"):
        restore(path, wide, None, ALONE, 1)


def test_tied_weights_are_saved_once() -> None:
    model = Toy()
    model.head.weight = model.embed.weight
    assert "head.weight" not in weights(model) and "embed.weight" in weights(model)
