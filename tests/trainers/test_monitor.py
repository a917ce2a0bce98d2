"""The record: what a line tells, what a reader takes of it, and what TensorBoard is given."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toy_training import ALONE, document, pack

from infinity_mm.progress import Progress
from trainers import monitor
from trainers.monitor import Cost, Monitor, Numbers, read_record

SUMS = torch.tensor([[6.0, 3, 3], [0, 0, 0], [2, 1, 1]], dtype=torch.float64)


def watch(folder: Path, stream: io.StringIO, step: int = 0) -> Monitor:
    return Monitor(
        folder,
        ALONE,
        steps=3,
        step=step,
        sources=("a", "b", "c"),
        cost=lambda p: Cost(1000, 400),
        peak=1e9,
        label="stage",
        progress=Progress(stream=stream),
    )


def test_a_line_tells_the_step(tmp_path: Path) -> None:
    stream = io.StringIO()
    seen = watch(tmp_path, stream)
    packs = [pack([document(1), document(2)]), pack([])]
    for one in seen.timed(iter([packs])):
        numbers = Numbers.of(SUMS, torch.tensor(0.5), {"*": 1e-3}, 4, 0)
        seen.step(1, 2, one, [], numbers)
    seen.close()
    (line,) = read_record(tmp_path / "record.jsonl")
    assert line["loss"] == 2.0
    assert line["loss_by_source"] == {"a": 2.0, "c": 2.0}  # b has no token: no mean, and none invented
    assert line["supervised_by_source"] == {"a": 3, "b": 0, "c": 1}
    assert (line["tokens"], line["documents"], line["tiles"]) == (len(packs[0].tokens_T), 2, 2)
    assert line["mfu"] == pytest.approx(2000 / (1e9 * line["seconds"]))
    assert line["mfu_without_vision"] == pytest.approx(0.6 * line["mfu"])
    assert 0 <= line["data_wait"] <= 1
    assert "loss 2.0000" in stream.getvalue() and "1/3 steps" in stream.getvalue()


def test_numbers_that_are_none_are_told() -> None:
    def numbers(loss: float, norm: float) -> Numbers:
        return Numbers.of(torch.tensor([[loss, 1.0, 1.0]], dtype=torch.float64), torch.tensor(norm), {}, 1, 0)

    assert numbers(1.0, 2.0).finite
    assert not numbers(torch.nan, 2.0).finite
    assert not numbers(1.0, torch.inf).finite


def test_a_reader_takes_what_led_to_where_the_run_is(tmp_path: Path) -> None:
    lines = [
        *({"step": s, "try": 1} for s in (1, 2, 3, 4)),
        {"event": "checkpoint", "step": 2},
        {"event": "resume", "step": 2},
        {"step": 3, "try": 2},
    ]
    path = tmp_path / "record.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "tr')
    assert read_record(path) == [{"step": 1, "try": 1}, {"step": 2, "try": 1}, {"step": 3, "try": 2}]


def test_tensorboard_is_a_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None:
            assert purge_step == 8  # what an earlier run showed after the step gone on from is hidden

        def add_scalar(self, name: str, value: float, step: int) -> None:
            shown.append((name, value, step))

        def close(self) -> None:
            shown.append(("closed", 0, 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    seen = watch(tmp_path, io.StringIO(), step=7)
    seen.step(8, 2, [pack([document(1)])], [], Numbers.of(SUMS, torch.tensor(0.5), {"*": 1e-3}, 4, 0))
    seen.close()
    assert ("loss_by_source/a", 2.0, 8) in shown and ("lr/*", 1e-3, 8) in shown
    assert shown[-1][0] == "closed"


def test_without_tensorboard_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert monitor._board(tmp_path, 0) is None
