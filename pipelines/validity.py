"""Whether a medium decodes, strictly, and what it turns out to be: measures of a medium from one decode."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.media.decode import DEFAULT_MAX_PIXELS, MediaError, check_image
from infinity_mm.media.probe import probe
from infinity_mm.media.video import check_video
from infinity_mm.sidecars import Family, Measure


def open_validity(settings: dict[str, Any]) -> Callable[[bytes], Sequence[Any]]:
    """`settings`: max_pixels, above which a picture is a decompression bomb."""
    max_pixels = settings.get("max_pixels", DEFAULT_MAX_PIXELS)

    def validity(data: bytes) -> Sequence[Any]:
        found = probe(data)
        error: MediaError | None = None
        if found.kind == "video":
            try:
                check_video(data)
            except MediaError as raised:
                error = raised
        else:
            error = check_image(data, max_pixels=max_pixels)
        return (
            error.code if error else "none",
            error.detail if error else None,
            found.kind,
            found.format,
        )

    return validity


VALIDITY = Family(
    "validity",
    "media",
    1,
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
)
