"""Size and shape of a medium as its header tells them: known since ingest, nothing is read for them."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.media.decode import MediaError
from infinity_mm.sidecars import Family, Measure
from pipelines.measures.medium_look import MediumLook


def header(look: MediumLook) -> Sequence[Any]:
    """The measures of HEADER. Raises MediaError where the header does not tell a size."""
    info = look.info
    width, height, frames, fps = (info[name] for name in ("width", "height", "frames", "fps"))
    if not width or not height:
        code = "zero_size" if 0 in (width, height) else "unsupported"
        raise MediaError(code, f"the header tells no size (the bytes are {info['format']})")
    pixels = width * height
    return (
        info["length"],
        width,
        height,
        min(width, height),
        max(width, height),
        pixels,
        width / height,
        8 * info["length"] / (pixels * frames) if frames else None,
        frames,
        not look.is_video and frames > 1 if frames is not None else None,
        fps if look.is_video else None,
        frames / fps if look.is_video and frames and fps else None,
    )


def open_header(settings: dict[str, Any]) -> Callable[[MediumLook], Sequence[Any]]:
    return header


HEADER = Family(
    "header",
    "media",
    1,
    {
        "bytes": Measure(pa.int64(), "bytes", "length of the file"),
        "width": Measure(pa.int64(), "pixels", "width as stored, before any EXIF rotation"),
        "height": Measure(pa.int64(), "pixels", "height as stored, before any EXIF rotation"),
        "short_side": Measure(pa.int64(), "pixels", "the smaller of width and height"),
        "long_side": Measure(pa.int64(), "pixels", "the larger of width and height"),
        "pixels": Measure(pa.int64(), "pixels", "width times height"),
        "aspect": Measure(pa.float32(), "", "width divided by height, as stored"),
        "bits_per_pixel": Measure(
            pa.float32(),
            "bits",
            "bits of the file a pixel and frame; not applicable where frames are unknown",
        ),
        "frames": Measure(
            pa.int64(), "frames", "1 for a still; not applicable where the header has no count"
        ),
        "animated": Measure(pa.bool_(), "", "a picture of several frames; false for clips"),
        "fps": Measure(pa.float32(), "1/s", "frames a second; clips only"),
        "duration": Measure(pa.float32(), "s", "length in time; clips only"),
    },
    open_header,
    (),
    "header",
)
