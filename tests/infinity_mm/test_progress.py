"""Progress: plain lines where stderr is no terminal, one redrawn line where it is."""

import io

import pytest

from infinity_mm import progress as module
from infinity_mm.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


def _work(progress: Progress, clock: Clock, total: int | None, steps: int, seconds: float) -> None:
    progress.start("filter", total, "shards")
    for step in range(1, steps + 1):
        clock.now += seconds
        progress.advance(1, dropped=step * 1000)
    progress.done()


def test_plain_lines_every_ten_seconds_and_at_the_end(clock: Clock) -> None:
    out = io.StringIO()
    _work(Progress(stream=out), clock, 25, 25, 1.0)
    assert out.getvalue().splitlines() == [
        "filter:  10/25 shards, 40%  1.0/s  0:15 left  dropped 10,000",
        "filter:  20/25 shards, 80%  1.0/s  0:05 left  dropped 20,000",
        "filter:  25/25 shards, 100%  1.0/s  in 0:25  dropped 25,000",
    ]


def test_unknown_total(clock: Clock) -> None:
    out = io.StringIO()
    _work(Progress(stream=out), clock, None, 3, 5000.0)
    assert out.getvalue().splitlines()[-1] == "filter:  3 shards  0.0/s  in 4:10:00  dropped 3,000"


def test_a_terminal_gets_one_line_at_most_ten_times_a_second(clock: Clock) -> None:
    out = Terminal()
    _work(Progress(stream=out), clock, 1000, 1000, 0.001)
    text = out.getvalue()
    assert 8 <= text.count("\r") <= 12
    assert text.count("\n") == 1 and text.endswith("\n")
    assert "[##########..........]" in text and "[####################]" in text


def test_a_line_fits_the_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    out = Terminal()
    _work(Progress(stream=out), clock, 10, 10, 1.0)
    assert all(len(line.removeprefix("\x1b[2K").rstrip("\n")) < 30 for line in out.getvalue().split("\r"))


def test_quiet_writes_nothing(clock: Clock) -> None:
    out = Terminal()
    _work(Progress(quiet=True, stream=out), clock, 10, 10, 60.0)
    assert out.getvalue() == ""


def test_starting_again_ends_the_line_before(clock: Clock) -> None:
    out = io.StringIO()
    progress = Progress(stream=out)
    progress.start("measure", 0, "shards")
    progress.start("decide", None, "rows")
    progress.done()
    progress.done()
    assert [line.split(":")[0] for line in out.getvalue().splitlines()] == ["measure", "decide"]


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    _work(Progress(), clock, 1, 1, 1.0)
    out, err = capsys.readouterr()
    assert out == "" and "1/1 shards" in err
