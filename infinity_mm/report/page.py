"""The page: one HTML text with everything in it. No script, and nothing that is fetched.

The content security policy allows pictures that lie in the page, and its own style: were some text of the
data ever to reach the page as markup, it could run nothing and ask nothing of anyone.
"""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from infinity_mm.report import comparison, sections
from infinity_mm.report.html import Html, join, tag
from infinity_mm.report.model import Comparison, Report
from infinity_mm.report.tables import Section

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(report: Report | Comparison) -> str:
    """The page of a report, or of two set side by side. The same model gives the same text."""
    if isinstance(report, Comparison):
        title = f"{report.a.name} and {report.b.name}: comparison of datasets"
        head, parts = comparison.head(report), comparison.sections(report)
    else:
        title = f"{report.name}: dataset report"
        head, parts = sections.head(report), sections.sections(report)
    return document(title, head, parts)


def document(title: str, head: Html, parts: Sequence[Section]) -> str:
    """A whole page of sections."""
    links = [tag("a", part.title, href=f"#{part.anchor}") for part in parts]
    body = [tag("section", tag("h2", part.title), part.body, id=part.anchor, cls="section") for part in parts]
    return "<!doctype html>\n" + tag(
        "html",
        tag("head", _meta(), tag("title", title), tag("style", _style())),
        tag(
            "body", head, tag("div", tag("nav", links, aria_label="Sections"), tag("main", body), cls="page")
        ),
        lang="en",
    )


def check_target(out: Path, replace: bool) -> None:
    """Raises ValueError if a page may not be written there."""
    if out.exists() and not out.is_file():
        raise ValueError(f"{out} is no file that could be replaced: name an HTML file with --out")
    if out.exists() and not replace:
        raise ValueError(f"{out} is there already: give --replace to write it anew, or another --out")


def write_page(out: Path, page: str) -> int:
    """Put a page in place whole; its size in bytes."""
    data = page.encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, out)
    return len(data)


def _meta() -> Html:
    return join(
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", charset="utf-8"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
    )


def _style() -> Html:
    return Html(files("infinity_mm.report").joinpath("style.css").read_text(encoding="utf-8"))
