"""An iterator run ahead gives the same, raises the same, and ends when it is not wanted any more."""

import threading
from collections.abc import Generator
from itertools import count

import pytest

from trainers.ahead import ahead


def numbers(n: int, made: list[int], raises: Exception | None = None) -> Generator[int]:
    try:
        for number in range(n):
            made.append(number)
            yield number
        if raises is not None:
            raise raises
    finally:
        made.append(-1)


@pytest.mark.parametrize("items", [1, 3])
def test_it_gives_the_same_in_order(items: int) -> None:
    made: list[int] = []
    assert list(ahead(numbers(20, made), items)) == list(range(20))
    assert made == [*range(20), -1]
    assert list(ahead(numbers(0, made))) == []


def test_it_runs_ahead_but_not_further() -> None:
    made: list[int] = []
    reached = threading.Event()

    def watched() -> Generator[int]:
        for number in numbers(20, made):
            if number == 4:
                reached.set()  # one taken, two made, the fourth in hand
            yield number

    steps = ahead(watched(), 2)
    next(steps)
    assert not reached.wait(0.3)
    next(steps)
    assert reached.wait(5)
    assert made == [0, 1, 2, 3, 4]


def test_what_it_raises_is_raised_in_its_turn() -> None:
    steps = ahead(numbers(3, [], OSError("gone")), 2)
    assert [next(steps) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(steps)


def test_it_ends_when_it_is_closed() -> None:
    made: list[int] = []

    def endless() -> Generator[int]:
        try:
            yield from count()
        finally:
            made.append(-1)

    steps = ahead(endless())
    assert next(steps) == 0
    before = threading.active_count()
    steps.close()  # type: ignore[attr-defined]
    assert made == [-1]
    assert threading.active_count() == before - 1
