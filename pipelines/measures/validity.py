"""Whether a medium decodes, strictly, and what it turns out to be."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.media.decode import MediaError
from infinity_mm.media.probe import probe
from infinity_mm.sidecars import Family, Measure
from pipelines.measures.medium_look import MediumLook


def validity(look: MediumLook) -> Sequence[Any]:
    """The measures of VALIDITY. Raises Unavailable."""
    found = probe(look.data())
    error: MediaError | None = None
    try:
        if found.kind == "video":
            look.clip()
        else:
            look.picture()
    except MediaError as raised:
        error = raised
    return (error.code if error else "none", error.detail if error else None, found.kind, found.format)


def open_validity(settings: dict[str, Any]) -> Callable[[MediumLook], Sequence[Any]]:
    return validity


VALIDITY = Family(
    "validity",
    "media",
    2,
    {
        "media_error": Measure(
            pa.string(), "", "why strict decoding refuses it (truncated, corrupt …), or none"
        ),
        "media_error_detail": Measure(pa.string(), "", "what the decoder said"),
        "media_kind": Measure(pa.string(), "", "image, video or unknown, from the first bytes"),
        "media_format": Measure(pa.string(), "", "true format, from the first bytes"),
    },
    open_validity,
    ("pillow", "simplejpeg", "av"),
    "decode",
)
