"""Strips of examples: what a rule dropped or nearly dropped, and what failed."""

from collections.abc import Iterable

from infinity_mm.report.figures import figure
from infinity_mm.report.html import Html, said, tag
from infinity_mm.report.media import DETAIL_TEXT, NAME_TEXT, medium_box, medium_line
from infinity_mm.report.model import Example

TEXT, TEXT_BY_PICTURE = 180, 80  # most characters of a question or an answer


def strip(examples: Iterable[Example], label: str, cls: str) -> Html:
    """Examples in a row that scrolls in its own box. `cls` colours the value: dropped, nearly or failed."""
    rows = [_example(example) for example in examples]
    return tag("div", rows, cls=f"strip {cls}", role="group", tabindex=0, aria_label=label)


def _example(example: Example) -> Html:
    medium = example.medium
    shown = [medium_box(medium), medium_line(medium)] if medium else None
    words = ((example.question, "q"), (example.answer, "a"))
    most = TEXT_BY_PICTURE if medium else TEXT
    talk = [tag("p", said(text, most), cls=cls) for text, cls in words if text]
    known = medium.fault.detail if medium and medium.fault else None
    detail = example.detail if example.detail != known else ""
    others = ["also broke ", said(", ".join(example.others), TEXT)] if example.others else None
    return tag(
        "article",
        shown,
        _value(example),
        tag("div", talk, cls="talk") if talk else None,
        tag("p", said(detail, DETAIL_TEXT), cls="detail") if detail else None,
        tag("p", others, cls="quiet") if others else None,
        tag("p", said(example.source, NAME_TEXT), " · ", said(example.origin, NAME_TEXT), cls="where"),
        cls="example" if medium else "example words-only",
    )


def _value(example: Example) -> Html | None:
    if example.value is None and example.limit is None:
        return None
    value = None if example.value is None else tag("b", said(figure(example.value), NAME_TEXT))
    limit = None
    if example.limit is not None:
        limit = tag("small", "limit ", said(figure(example.limit), NAME_TEXT))
    return tag("p", value, " ", limit, cls="value")
