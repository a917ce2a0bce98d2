"""Tables that scroll in their own box, and the small parts that several sections share."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from infinity_mm.report.html import Child, Html, tag


class Section(NamedTuple):
    """A section of the page. `anchor`: its id, from code only."""

    anchor: str
    title: str
    body: Html


def table(
    heads: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    numbers: Iterable[int] = (),
    wide: Iterable[int] = (),
) -> Html:
    """A table. `numbers`: columns of numbers, set to the right; `wide`: columns of prose, never narrow."""
    classes = {**dict.fromkeys(numbers, "number"), **dict.fromkeys(wide, "wide")}

    def cells(name: str, row: Sequence[Child], **attributes: str) -> Html:
        return tag("tr", [tag(name, c, cls=classes.get(i), **attributes) for i, c in enumerate(row)])

    body = [cells("td", row) for row in rows]
    parts = (tag("thead", cells("th", heads, scope="col")), tag("tbody", body))
    return tag("div", tag("table", *parts), cls="scroll", role="group", tabindex=0, aria_label="Table")


def tiles(pairs: Iterable[tuple[str, str]]) -> Html:
    """Large numbers with what they count beneath."""
    return tag(
        "dl", [tag("div", tag("dd", number), tag("dt", label)) for label, number in pairs], cls="tiles"
    )


def empty(words: str) -> Html:
    """What is said where there is nothing to show."""
    return tag("p", words, cls="empty")
