"""The table of types of question: what each was learnt from, and the picture tags that go with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from infinity_mm.report.html import Html, join, said, tag
from infinity_mm.report.tables import Section, empty, table

LABEL = 60  # most characters of a type or a tag


def types_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """A section of a page. Each row: `group` and `name` of a type, `seeds` (its questions), `drawn` (how
    often it was drawn, or None), and `tags`, pairs of tag and weight, the best first."""
    if not rows:
        return Section("types", "Types of question", empty("No question was labelled."))
    drawn = any(row.get("drawn") is not None for row in rows)
    heads = ["group", "type", "seeds", *(["drawn"] if drawn else []), "tags that go with it"]
    lines = [
        [
            said(row["group"], LABEL),
            said(row["name"], LABEL),
            f"{row['seeds']:,}",
            *([f"{row.get('drawn') or 0:,}"] if drawn else []),
            join(*map(_weighted, row["tags"])) if row["tags"] else "none",
        ]
        for row in rows
    ]
    note = "The weight of a tag is its TF-IDF among all types; a picture with such tags suits the type."
    last = len(heads) - 1
    body = join(tag("p", note, cls="quiet"), table(heads, lines, numbers=range(2, last), wide=[last]))
    return Section("types", "Types of question", body)


def _weighted(pair: tuple[str, float]) -> Html:
    word, weight = pair
    return tag("span", said(word, LABEL), " ", tag("small", f"{weight:.2f}"), " ")
