"""Bars made of HTML, so that their labels wrap and their counts can be read and copied."""

from collections.abc import Iterable

from infinity_mm.report.distributions import Bar, Categories
from infinity_mm.report.figures import plural, share
from infinity_mm.report.html import Html, join, said, tag

LABEL = 120  # most characters of a category's label


def category_bars(one: Categories) -> Html:
    """A bar a category, and one line for all further ones."""
    if not one.bars:
        return tag("p", "No values to draw.", cls="empty")
    further = f"and {plural(one.others, 'other')}: {one.others_count:,}" if one.others else None
    return join(bars(one.bars, one.measured.n), tag("p", further, cls="quiet") if further else None)


def bars(rows: Iterable[Bar], whole: int) -> Html:
    """Bars as long as their share of the largest; beside each the count and its share of `whole`."""
    rows = list(rows)
    most = max((row.count for row in rows), default=0) or 1
    return tag("ul", [_row(row, most, whole) for row in rows], cls="bars")


def _row(row: Bar, most: int, whole: int) -> Html:
    lost = row.dropped or 0
    number = [f"{row.count:,} ", tag("small", share(row.count, whole))]
    return tag(
        "li",
        tag("span", said(row.label or "(empty)", LABEL), cls="label"),
        tag("span", number, tag("small", f"{lost:,} dropped", cls="lost") if lost else None, cls="number"),
        stack([("kept", row.count - lost), ("dropped", lost)], most),
    )


def stack(parts: Iterable[tuple[str, int]], whole: int) -> Html:
    """A bar in parts, each (class, count) as wide as its share of `whole`; what is there can be seen."""
    pieces = [
        tag("i", cls=cls, style=f"width:{100 * count / max(1, whole):.3f}%") for cls, count in parts if count
    ]
    return tag("span", pieces, cls="stack", aria_hidden="true")
