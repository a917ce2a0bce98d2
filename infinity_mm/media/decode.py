"""Strict image decoding: pixels, or one reason from a closed set why there are none.

Nothing but MediaError is raised, for any bytes. Time is that of the decoder: entropy decoding for JPEG,
inflating for PNG. Memory is the decoded picture, at most `max_pixels`, checked against the header first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from infinity_mm.media import jpeg, pillow
from infinity_mm.media.errors import MEDIA_ERRORS, MediaError
from infinity_mm.media.orientation import upright
from infinity_mm.media.probe import Probe, probe

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "MEDIA_ERRORS",
    "Decoded",
    "MediaError",
    "check_image",
    "decode_frames",
    "decode_image",
]

DEFAULT_MAX_PIXELS = 1 << 28
_NO_FILE = {"empty": "empty", "zero": "zeroed", "html": "html"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded picture, the first frame of an animated one."""

    pixels: np.ndarray  # uint8 [height, width, channels], upright; smaller where `min_side` allowed it
    width: int  # of the whole picture as stored, before the EXIF rotation: what `probe` says
    height: int
    frames: int
    frames_checked: int  # fewer than `frames` where a cap was met
    mode: str  # as stored: L, RGB, CMYK, P, RGBA, I;16 …
    has_alpha: bool
    exif_orientation: int  # 1 to 8
    orientation_applied: bool  # False only where there was nothing to turn


def decode_image(
    data: bytes | memoryview,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    min_side: int | None = None,
    channels: Literal[1, 3, 4] = 3,
) -> Decoded:
    """Decodes strictly; raises MediaError for anything damaged, oversized, or no picture at all.

    With `min_side` the picture may come smaller by a power of two, its shorter side no shorter than that: by
    its DCT where it is a JPEG, by averages of its pixels where not. The verdict stays the same. All frames of
    an animation are decoded, up to pillow.MAX_FRAMES of them and pillow.MAX_FRAME_PIXELS pixels.

    One of `channels` is luma (ITU-R BT.601; a JPEG's own). Three are RGB, contiguous and writable. Four are
    RGBX, the last of no meaning: what decoders have without another copy, and perhaps read-only.
    """
    try:
        found, raw, width, height = _accept(data, max_pixels)
        if found.format == "jpeg":
            pixels, mode, turned = jpeg.decode(raw, min_side, channels)
            loaded = pillow.Loaded(pixels, mode, 1, 1, False, turned, False)
        else:
            loaded = pillow.load(raw, found.format, width * height, max_pixels, channels, min_side)
        assert loaded.pixels is not None
        pixels = loaded.pixels if loaded.upright else upright(loaded.pixels, loaded.orientation)
    except Exception as error:  # decoders raise at will on damaged data; every one of these is a verdict
        raise _translate(error) from None
    return Decoded(
        pixels,
        width,
        height,
        loaded.frames,
        loaded.frames_checked,
        loaded.mode,
        loaded.has_alpha,
        loaded.orientation,
        loaded.orientation != 1,
    )


def decode_frames(data: bytes | memoryview, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Iterator[np.ndarray]:
    """Every frame of a picture at its full size, upright, up to pillow.MAX_FRAMES and MAX_FRAME_PIXELS.

    They are uint8 [height, width, 3] RGB or [height, width, 4] RGBA, or [height, width, 1] of gray, which may
    be uint16. Strict as `decode_image`: raises MediaError where that does.
    """
    try:
        found, raw, width, height = _accept(data, max_pixels)
        if found.format == "jpeg":
            pixels, _, turned = jpeg.decode(raw, None, 3)
            yield upright(pixels, turned)
        else:
            yield from pillow.frames(raw, found.format, width * height, max_pixels)
    except Exception as error:  # as above
        raise _translate(error) from None


def check_image(data: bytes | memoryview, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> MediaError | None:
    """The error that `decode_image` would raise, or None; takes the shortest way to know."""
    try:
        found, raw, width, height = _accept(data, max_pixels)
        if found.format == "jpeg":
            jpeg.check(raw)
        else:
            pillow.load(raw, found.format, width * height, max_pixels, 0)
    except Exception as error:  # as above
        return _translate(error)
    return None


def _accept(data: bytes | memoryview, max_pixels: int) -> tuple[Probe, bytes, int, int]:
    """Header, bytes, width and height of what may be decoded; refuses from the header alone where it can."""
    found = probe(data)
    if found.format in _NO_FILE:
        code = _NO_FILE[found.format]
        raise MediaError(code, MEDIA_ERRORS[code])
    if found.kind != "image":
        raise MediaError("not_an_image", f"the bytes are {found.format}")
    if found.error is not None:
        code = "truncated" if found.error == "truncated header" else "corrupt"
        raise MediaError(code, f"{found.format}: {found.error}")
    if found.width is None or found.height is None:
        raise MediaError("unsupported", f"no decoder for {found.format}")
    if found.width == 0 or found.height == 0:
        raise MediaError("zero_size", f"{found.width} by {found.height} pixels")
    if found.width * found.height > max_pixels:
        raise MediaError("bomb", f"{found.width} by {found.height} pixels, more than {max_pixels}")
    return found, data if isinstance(data, bytes) else bytes(data), found.width, found.height


def _translate(error: Exception) -> MediaError:
    """The verdict behind what a decoder raised."""
    if isinstance(error, MediaError):
        return error
    message = f"{type(error).__name__}: {error}"[:300]
    lower = message.lower()
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return MediaError("bomb", message)
    if isinstance(error, MemoryError):
        return MediaError("bomb", "more memory than there is")
    if isinstance(error, EOFError) or "truncated" in lower:
        return MediaError("truncated", message)
    if isinstance(error, NotImplementedError) or "unsupported" in lower or "not supported" in lower:
        return MediaError("unsupported", message)
    return MediaError("corrupt", message)
