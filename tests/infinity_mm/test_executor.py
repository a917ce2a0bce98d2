"""The local executor: order of results, errors, workers that die."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from infinity_mm.executor import Guard, Step, Work, WorkerDied, run


def open_square(config: Any) -> Work:
    return lambda unit, guard: unit * unit


def open_failing(config: Any) -> Work:
    def work(unit: int, guard: Guard) -> int:
        if unit == 3:
            raise ValueError("unit 3 is bad")
        return unit

    return work


def open_dying_on_an_item(folder: str) -> Work:
    """Items are 0..4; item 2 of unit 1 kills the worker every time."""

    def work(unit: int, guard: Guard) -> list[Any]:
        out: list[Any] = []
        for item in range(5):
            if not guard(item):
                out.append("skipped")
                continue
            if unit == 1 and item == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            out.append(item)
        return out

    return work


def open_dying_once(folder: str) -> Work:
    def work(unit: int, guard: Guard) -> int:
        guard(0)
        mark = Path(folder, str(unit))
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return unit

    return work


def open_dying_always(config: Any) -> Work:
    def work(unit: int, guard: Guard) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return work


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_unit_order(workers: int) -> None:
    assert run(Step(name="t", open=open_square, config=None), range(9), workers=workers) == [
        i * i for i in range(9)
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_work_is_raised_with_its_type(workers: int) -> None:
    with pytest.raises(ValueError, match="unit 3 is bad"):
        run(Step(name="t", open=open_failing, config=None), range(5), workers=workers)


def test_a_worker_that_dies_loses_nothing(tmp_path: Path) -> None:
    step = Step(name="t", open=open_dying_once, config=str(tmp_path))
    assert run(step, range(4), workers=2) == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 4


def test_an_item_that_always_kills_is_skipped_and_only_it() -> None:
    step = Step(name="t", open=open_dying_on_an_item, config="")
    results = run(step, range(3), workers=2)
    assert results[1] == [0, 1, "skipped", 3, 4]
    assert results[0] == results[2] == [0, 1, 2, 3, 4]


def test_a_unit_that_always_kills_ends_the_run_saying_so() -> None:
    with pytest.raises(WorkerDied, match="died 3 times on unit 0"):
        run(Step(name="t", open=open_dying_always, config=None), [1], workers=1)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_are_handed_over_as_they_arrive_and_not_kept(workers: int) -> None:
    found: dict[int, int] = {}
    step = Step(name="square", open=open_square, config=None)
    kept = run(step, range(20), workers=workers, each=lambda number, result: found.update({number: result}))
    assert kept == [None] * 20
    assert found == {n: n * n for n in range(20)}
