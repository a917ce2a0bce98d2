"""Pictures and clips on the page, and the box that stands where there is none."""

import base64

from infinity_mm.report.figures import size
from infinity_mm.report.html import Html, said, tag
from infinity_mm.report.model import Fault, Medium, Thumbnail

NAME_TEXT, DETAIL_TEXT = 120, 300  # most characters of a name, and of what a decoder said


def picture(thumbnail: Thumbnail, alt: str) -> Html:
    """A picture that lies in the page itself."""
    data = base64.b64encode(thumbnail.data).decode()
    return tag(
        "img",
        src=f"data:image/{thumbnail.format};base64,{data}",
        width=thumbnail.width,
        height=thumbnail.height,
        alt=alt,
        decoding="async",
    )


def medium_box(medium: Medium) -> Html:
    """A medium, or a box that says why it is not shown."""
    noun = "clip" if medium.kind == "video" else "picture" if medium.kind == "image" else "medium"
    if medium.thumbnail is not None:
        shown = picture(medium.thumbnail, f"{noun} {(medium.name or medium.media_id)[:NAME_TEXT]}")
        seconds = f" {medium.seconds:.1f} s" if medium.seconds is not None else ""
        badge = tag("span", f"▶{seconds}", cls="badge") if medium.kind == "video" else None
        return tag("span", shown, badge, cls="medium")
    if medium.fault is not None:
        return no_picture(f"This {noun} cannot be shown", medium.fault)
    return no_picture(f"This {noun} is not drawn")


def no_picture(words: str, fault: Fault | None = None) -> Html:
    """A box in the place of a picture, with the reason."""
    reason = None
    if fault is not None:
        detail = said(fault.detail, DETAIL_TEXT, cls="detail") if fault.detail else None
        reason = [tag("b", said(fault.code, NAME_TEXT)), detail]
    return tag("span", tag("span", words), reason, cls="no-picture" if fault else "no-picture undrawn")


def medium_line(medium: Medium) -> Html:
    """Name, format, size in pixels and bytes."""
    words = [
        medium.format,
        f"{medium.width:,} × {medium.height:,}" if medium.width and medium.height else None,
        size(medium.length) if medium.length is not None else None,
    ]
    known = " · ".join(word for word in words if word)
    name = said(medium.name, NAME_TEXT) if medium.name else None
    return tag("span", name, " · " if name and known else None, said(known, NAME_TEXT), cls="medium-line")
