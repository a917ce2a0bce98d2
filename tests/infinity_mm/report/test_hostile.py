"""Whatever the data says, the page has the elements and attributes of its template, and no others."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinity_mm.report.model import Comparison, Report
from infinity_mm.report.page import render

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "</style></title></svg></pre><script>",
    "]]><!-- --><![CDATA[",
    "javascript:alert(1)",
    "&lt;script&gt; &#x3c;b> &amp",
    "{{x}} ${x} %s {0}",
    "\u202egnp.exe\u2066\u200f\u2069",
    "\x00\x01\x1b[31m\x7f\x9b\r\n\t",
    "\ud800 half a pair",
    "`-->\u2028\u2029\ufeff",
    "url(http://127.0.0.1/x)",
]
TEXTS = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_categories=()) | st.sampled_from("<>\"'&/=-!`;:\x00\u202e"), max_size=40
)
RUNNING = {"script", "iframe", "object", "embed", "link", "base", "form", "image", "use", "foreignobject"}
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class _Parsed(HTMLParser):
    """The elements of a page in order with their attributes' names; texts and values by the side."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, ...]] = []
        self.addresses: list[str] = []
        self.styles: list[str] = []
        self.texts: list[str] = []
        self.other: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(key for key, _ in attrs)))
        for key, value in attrs:
            if key in ("href", "src"):
                self.addresses.append(value or "")
            elif key == "style":
                self.styles.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_hostile_texts_make_no_element_and_no_attribute(
    saying: Callable[[str], list[Report | Comparison]], text: str
) -> None:
    for hostile, plain in zip(saying(text), saying("plain"), strict=True):
        page = render(hostile)
        page.encode()
        assert not FORBIDDEN.search(page)
        found = _Parsed(page)
        assert found.elements == _Parsed(render(plain)).elements
        assert found.other == []
        assert not {name for name, *_ in found.elements} & RUNNING
        assert not [key for _, *keys in found.elements for key in keys if key.startswith("on")]
        assert all(re.fullmatch(r"#[a-z0-9-]+|data:image/jpeg;base64,[\w+/=]+", a) for a in found.addresses)
        assert all(re.fullmatch(r"width:\d+\.\d{3}%", style) for style in found.styles)


def test_hostile_texts_are_shown_not_lost(saying: Callable[[str], list[Report | Comparison]]) -> None:
    for hostile in saying("<script>alert(1)</script>"):
        assert sum("<script>alert(1)</script>" in text for text in _Parsed(render(hostile)).texts) > 50
