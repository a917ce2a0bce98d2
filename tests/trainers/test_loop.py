"""The loop: what it learns, and that being interrupted anywhere changes nothing."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import ALONE, Toy, ToyStep, start, work

from trainers.checkpoint import newest, restore, weights
from trainers.config import Optimizer, Schedule
from trainers.loop import NotFinite, Run, train
from trainers.monitor import read_record
from trainers.optim import adamw, rate_share, set_rates

STEPS, BATCH = 12, 6


def everything(cursor: int = 0, until: int = STEPS) -> Iterator[ToyStep]:
    return work(cursor, until * BATCH, BATCH)


def resumed(folder: Path, **more: Any) -> Run:
    """A run of a new process, from the newest checkpoint on."""
    run = start(folder, ALONE, steps=STEPS, dropout=0.2, **more)
    found, refused = newest(run.checkpoints.folder)
    assert found is not None and not refused
    torch.manual_seed(99)  # the state that a new process has
    restore(found.path, run.model, run.optimizer, ALONE, 1)
    run.step, run.cursor = found.about["step"], found.about["cursor"]
    run.monitor.event("resume", run.step)
    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = start(tmp_path_factory.mktemp("undisturbed"), ALONE, steps=STEPS, dropout=0.2)
    train(run, everything())
    return weights(run.model)


def assert_equal(run: Run, want: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(value, want[name]) for name, value in weights(run.model).items())


def test_it_is_the_plain_loop(tmp_path: Path) -> None:
    """Against one written down: all of a step's documents at once, the mean of supervised tokens."""
    run = start(tmp_path, ALONE, steps=STEPS)
    train(run, everything())
    torch.manual_seed(0)
    model = Toy()
    optimizer = adamw(model, run.settings)
    for number, step in enumerate(everything()):
        set_rates(optimizer, rate_share(run.schedule, number, STEPS))
        losses = torch.cat([model(pack) for pack in step.packs])
        optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    for name, value in weights(run.model).items():
        torch.testing.assert_close(value, weights(model)[name], rtol=1e-4, atol=1e-6)
    lines = read_record(tmp_path / "record.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["loss"] == pytest.approx(float(losses.detach().mean()), rel=1e-4)


def test_resuming_gives_the_same_bits(tmp_path: Path, undisturbed: dict[str, torch.Tensor]) -> None:
    first = start(tmp_path, ALONE, steps=STEPS, dropout=0.2)
    train(first, everything(until=6))  # ends between checkpoints
    second = resumed(tmp_path)
    assert (second.step, second.cursor) == (4, 24)
    train(second, everything(second.cursor))
    assert_equal(second, undisturbed)
    assert [line["step"] for line in read_record(tmp_path / "record.jsonl")] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_after_the_step_and_saves(
    number: signal.Signals, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    def told() -> Iterator[ToyStep]:
        for place, step in enumerate(everything(), 1):
            if place == 7:
                os.kill(os.getpid(), number)
            yield step

    former = signal.getsignal(number)
    first = start(tmp_path, ALONE, steps=STEPS, dropout=0.2)
    assert train(first, told()) == number.name
    assert signal.getsignal(number) == former
    second = resumed(tmp_path)
    assert second.step == 7
    train(second, everything(second.cursor))
    assert_equal(second, undisturbed)


def test_what_is_not_a_number_changes_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path, ALONE, steps=STEPS)
    train(run, everything(until=5))
    before = {name: value.clone() for name, value in weights(run.model).items()}
    forward = Toy.forward
    monkeypatch.setattr(
        Toy, "forward", lambda self, p: torch.where(p.sources_S == 1, torch.nan, forward(self, p))
    )
    with pytest.raises(NotFinite, match=r"the loss of odd is not a number at step 6 \(samples 30 to 36"):
        train(run, everything(30))
    assert_equal(run, before)
    event = json.loads((tmp_path / "record.jsonl").read_text().splitlines()[-1])
    assert event["event"] == "not_finite" and len(event["sample_ids"]) == BATCH


def test_a_step_without_a_supervised_token_moves_nothing(tmp_path: Path) -> None:
    run = start(tmp_path, ALONE, steps=STEPS)
    train(run, everything(until=2))
    before = {name: value.clone() for name, value in weights(run.model).items()}
    step = next(everything(12))
    none = [
        p._replace(
            **{name: getattr(p, name)[:0] for name in ("targets_S", "target_at_S", "weights_S", "sources_S")}
        )
        for p in step.packs
    ]
    train(run, iter([step._replace(packs=none)]))
    assert_equal(run, before)
    line = read_record(tmp_path / "record.jsonl")[-1]
    assert (line["step"], line["loss"], line["supervised"]) == (3, 0.0, 0)


def test_frozen_parts_stay(tmp_path: Path) -> None:
    settings = Optimizer(lr={"*": 1e-2})
    run = start(tmp_path, ALONE, steps=STEPS, train=("tower", "head"), settings=settings)
    before = {name: value.clone() for name, value in weights(run.model).items()}
    train(run, everything())
    moved = {n.split(".")[0] for n, value in weights(run.model).items() if not torch.equal(value, before[n])}
    assert moved == {"tower", "head"}


def test_samples_left_out_are_reported(tmp_path: Path) -> None:
    run = start(tmp_path, ALONE, steps=STEPS)
    step = next(everything())
    train(run, iter([step._replace(skipped=[{"sample_id": "ab", "reason": "undecodable"}])]))
    assert json.loads((tmp_path / "skipped.rank0.jsonl").read_text()) == {
        "step": 1,
        "sample_id": "ab",
        "reason": "undecodable",
    }
    assert read_record(tmp_path / "record.jsonl")[-1]["skipped"] == 1


def test_settings_reach_the_steps(tmp_path: Path) -> None:
    run = start(tmp_path, ALONE, steps=STEPS)
    train(run, everything())
    lines = read_record(tmp_path / "record.jsonl")
    for number, line in enumerate(lines):
        share = rate_share(Schedule(warmup=0.1), number, STEPS)
        assert line["lr"] == {"*": 1e-2 * share, "tower": 5e-3 * share}
