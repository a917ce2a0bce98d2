import dataclasses
from typing import Any

import pytest

from infinity_mm.report.distributions import Bar, Categories, Histogram, Limit, Measured, Sizes
from infinity_mm.report.model import Account, Comparison, Report, Thumbnail


def _histogram(**changes: Any) -> Histogram:
    fields: dict[str, Any] = {"measured": Measured(name="m", n=3), "edges": [1.0, 2.0, 3.0], "counts": [1, 2]}
    return Histogram(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edges": [1.0, 2.0]}, "2 edges for 2 counts"),
        ({"edges": [1.0, 1.0, 2.0]}, "must rise"),
        ({"edges": [1.0, 2.0, float("inf")]}, "must rise and be finite"),
        ({"edges": [0.0, 1.0, 2.0], "log": True}, "begins above 0"),
        ({"limits": [Limit(at=float("nan"))]}, "limit that is not finite"),
        ({"dropped": [1]}, "1 dropped for 2 counts"),
        ({"dropped": [2, 0]}, "more dropped than counted"),
        ({"above": 1}, "do not sum to n = 3"),
    ],
)
def test_a_histogram_that_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _histogram(**changes)


def test_an_empty_histogram_has_no_edges() -> None:
    assert not _histogram(measured=Measured(name="m", n=0), edges=[], counts=[]).counts


def test_bars_that_do_not_sum_to_n_are_refused() -> None:
    with pytest.raises(ValueError, match="do not sum to n = 4"):
        Categories(measured=Measured(name="m", n=4), bars=[Bar(label="a", count=1)], others=1, others_count=2)


@pytest.mark.parametrize(
    ("widths", "counts", "said"),
    [([1.0], [[]], "two edges"), ([0.0, 1.0], [[1]], "above 0"), ([1.0, 2.0], [[1], [2]], "one row")],
)
def test_sizes_that_do_not_fit_are_refused(widths: list[float], counts: list[list[int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sizes(width_edges=widths, height_edges=[1.0, 2.0], counts=counts)


def test_an_account_must_close() -> None:
    with pytest.raises(ValueError, match=r"in = kept \+ dropped \+ failed does not hold"):
        Account(came=3, kept=1, dropped=1, failed=0)


def test_a_thumbnail_has_a_format_browsers_show() -> None:
    with pytest.raises(ValueError, match="svg"):
        Thumbnail(data=b"", format="svg+xml", width=1, height=1)


def test_overlaid_histograms_need_equal_edges(report: Report, comparison: Comparison) -> None:
    other = dataclasses.replace(report, turns=_histogram(measured=Measured(name="turns", n=3)))
    with pytest.raises(ValueError, match="turns: two histograms"):
        dataclasses.replace(comparison, b=other)
