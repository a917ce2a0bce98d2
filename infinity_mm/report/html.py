"""HTML as text, escaped in one place: whatever is not `Html` already becomes text, in attributes too.

`tag` makes elements; names of elements and attributes come from code, everything else may come from data.
"""

from collections.abc import Iterable
from typing import TypeAlias

VOID = frozenset({"img", "meta"})
# What would act on the page or hide in it is shown by name: control characters, marks that turn the
# direction of writing, line separators, and halves of surrogate pairs, which UTF-8 cannot write.
_SHOWN: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
_SHOWN[0x7F] = "\u2421"
_TURNING = (0x61C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_SHOWN |= {code: f"\u2039U+{code:04X}\u203a" for code in (*_TURNING, *range(0x80, 0xA0))}
_SHOWN |= {code: "\ufffd" for code in range(0xD800, 0xE000)}
_SHOWN |= {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;", ord("'"): "&#39;"}


class Html(str):
    """Text that is HTML already. Only `tag`, `join` and the page's own parts make it."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def escape(text: str) -> str:
    """Text as it may stand in an element or between double quotes, control characters made visible."""
    return text.translate(_SHOWN)


def join(*children: Child) -> Html:
    """Children one after another: Html as it is, other text escaped, None left out, iterables in order."""
    out: list[str] = []
    for child in children:
        if isinstance(child, Html):
            out.append(child)
        elif isinstance(child, str):
            out.append(escape(child))
        elif child is not None:
            out.append(join(*child))
    return Html("".join(out))


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """An element. `cls` is its class, an underscore in an attribute's name a hyphen; None leaves one out."""
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            key = "class" if key == "cls" else key.replace("_", "-")
            words.append(f'{key}="{escape(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Html(start if name in VOID else f"{start}{join(*children)}</{name}>")


def said(text: str, most: int, cls: str | None = None) -> Html:
    """Words from data, apart from the direction and the width of what surrounds them, cut after `most`."""
    more = len(text) - most
    shown = tag("bdi", text[:most] if more > 0 else text, cls=cls)
    if more <= 0:
        return shown
    noun = "character" if more == 1 else "characters"
    return join(shown, " ", tag("span", f"… {more:,} {noun} more", cls="more"))


def folded(summary: Child, *children: Child, cls: str | None = None) -> Html:
    """What opens when asked."""
    return tag("details", tag("summary", summary), *children, cls=cls)
