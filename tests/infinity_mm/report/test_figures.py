import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.report.figures import compact, figure, log_ticks, share, signed, size, ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"), (0, "0"), (True, "yes"), (False, "no"), ("a", "a"), (2.0, "2"),
        (0.123456, "0.1235"), (1234.56, "1,234.6"), (98765.4, "98,765"), (-0.5, "-0.5"), (1e20, "1e+20"),
    ],
)  # fmt: skip
def test_figure(value: str | float, text: str) -> None:
    assert figure(value) == text


def test_signed() -> None:
    assert [signed(x) for x in (0, 1200, -3, 0.5)] == ["0", "+1,200", "−3", "+0.5"]


def test_share_never_rounds_something_to_nothing_or_less_than_all_to_all() -> None:
    assert [share(*x) for x in ((0, 10), (10, 10), (1, 3), (1, 10**6), (10**6 - 1, 10**6), (0, 0))] == [
        "0 %", "100 %", "33.3 %", "< 0.1 %", "> 99.9 %", ""
    ]  # fmt: skip


def test_size() -> None:
    sizes = [0, 999, 1000, 12_345, 999_499, 999_600, 98_412_331_002]
    assert [size(x) for x in sizes] == ["0 B", "999 B", "1 kB", "12.3 kB", "999 kB", "1 MB", "98.4 GB"]


def test_compact() -> None:
    assert [compact(x) for x in (0, 5, 1500, 2e6, 3e9)] == ["0", "5", "1.5k", "2M", "3G"]


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e9))
def test_ticks_are_few_rising_and_inside(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    assert len(marks) <= 6
    assert marks == sorted(marks)
    assert all(low - span * 1e-6 - 1e-9 <= mark <= low + span * (1 + 1e-6) + 1e-9 for mark in marks)


def test_ticks_of_whole_numbers_are_whole() -> None:
    assert ticks(0.5, 3.5, whole=True) == [1, 2, 3]
    assert ticks(2.5, 3.5, whole=True) == [3]
    assert ticks(5, 5) == []


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9))
def test_log_ticks_are_few_and_inside(low: float, times: float) -> None:
    marks = log_ticks(low, low * times)
    assert len(marks) <= 6
    assert all(low <= mark <= low * times for mark in marks)
