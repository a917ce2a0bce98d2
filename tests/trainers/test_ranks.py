"""Kills under torchrun: the same bits at the same number of ranks, the same samples at any."""

import shutil
from pathlib import Path

import torch
from ranks import SCRIPT, on_ranks

from trainers.checkpoint import newest
from trainers.monitor import read_record

TAKEN = ("step", "cursor", "documents", "tokens", "tiles", "supervised", "supervised_by_source")


def taken(folder: Path) -> list[tuple[object, ...]]:
    return [tuple(line[name] for name in TAKEN) for line in read_record(folder / "record.jsonl")]


def test_two_ranks_killed_and_two_one_two(tmp_path: Path) -> None:
    """Weights, moments and gradients are sharded (FSDP); dropout draws from each rank's generator."""
    undisturbed, killed, copy = (tmp_path / name for name in ("undisturbed", "killed", "copy"))
    done = on_ranks(2, SCRIPT, "undisturbed_and_killed", tmp_path)
    assert done.returncode != 0 and "Signal 9 (SIGKILL)" in done.stderr
    found, refused = newest(killed / "checkpoints")
    assert found is not None and found.about["step"] == 4 and not refused
    assert not (killed / "weights.pt").exists()
    shutil.copytree(killed, copy)

    alone = on_ranks(1, SCRIPT, "alone", tmp_path)
    assert alone.returncode == 0, alone.stderr
    again = on_ranks(2, SCRIPT, "both_again", tmp_path)
    assert again.returncode == 0, again.stderr

    want = torch.load(undisturbed / "weights.pt")
    same = torch.load(killed / "weights.pt")
    assert all(torch.equal(same[name], value) for name, value in want.items())
    assert taken(killed) == taken(undisturbed) == taken(copy)
    events = [line for line in (copy / "record.jsonl").read_text().splitlines() if "resume" in line]
    assert len(events) == 2
