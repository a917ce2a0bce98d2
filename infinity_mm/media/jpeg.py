"""Strict JPEG decoding with libjpeg-turbo: every warning of the decoder is damage, but for four.

What libjpeg-turbo, called strictly through simplejpeg, does with odd files (measured): bytes after the end
marker are ignored; a missing end marker is "premature end"; 12-bit and lossless files are refused;
progressive files and those of many scans are read whole. A flipped byte in entropy-coded data
often decodes to other valid codes, and no decoder can see that.
"""

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError

import numpy as np
import simplejpeg
from PIL import Image

from infinity_mm.media.errors import MediaError
from infinity_mm.media.orientation import orientation
from infinity_mm.media.scale import halvings

_SIZE = Struct(">HH").unpack_from
MAX_SCANS = 200  # encoders write about ten; each costs a pass over all coefficients, however few its bytes
_COLOURS = {1: "GRAY", 3: "RGB", 4: "RGBX"}  # by channels
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_DECODABLE = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # baseline, extended, progressive, and the arithmetic two
# Warnings about headers that no pixel depends on: what causes them is taken out, the rest decoded strictly.
_HARMLESS = (
    "Warning: unknown JFIF revision number",
    "Unknown Adobe color transform code",
    "Corrupt JPEG data: bad ICC marker",
    "Invalid SOS parameters for sequential JPEG",
)
_UNSUPPORTED = ("Unsupported JPEG", "Unsupported color", "Could not determine", "not implemented")


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the segments before the image data say."""

    frame: int  # the SOF marker's low byte
    precision: int
    height: int
    width: int
    components: int
    orientation: int
    scan: int  # where the first SOS marker lies
    segments: list[tuple[int, int, int]]  # marker, start, end


def decode(raw: bytes, min_side: int | None, channels: int) -> tuple[np.ndarray, str, int]:
    """Pixels uint8 [height, width, channels] before rotation, the source mode, and the EXIF orientation.

    One of `channels` is luma, three are RGB, four RGBX. With `min_side` the picture may come at a half, a
    quarter or an eighth of its size, its shorter side no shorter than that: the scales at which libjpeg-turbo
    gains (at 5/8 to 7/8 it is slower than at full size).
    """
    layout = _read_layout(raw)
    factor = min(8, halvings(layout.width, layout.height, min_side))
    colours = _COLOURS[channels]
    if layout.components == 4:
        # As every JPEG with four components in practice, Adobe's way: stored inverted.
        ink = Image.fromarray(np.subtract(255, _decode(raw, layout, "CMYK", factor)), "CMYK")
        pixels = np.array(ink.convert("RGB").convert("L" if channels == 1 else colours))
        pixels = pixels.reshape(*pixels.shape[:2], channels)
    else:
        pixels = _decode(raw, layout, colours, factor)
    return pixels, _MODES[layout.components], layout.orientation


def check(raw: bytes) -> None:
    """The same verdict as `decode` at the cost of entropy decoding alone: an eighth of the size, in gray."""
    layout = _read_layout(raw)
    _decode(raw, layout, "CMYK" if layout.components == 4 else "GRAY", 8)


def _decode(raw: bytes, layout: _Layout, colours: str, factor: int) -> np.ndarray:
    size = -(-layout.height // factor), -(-layout.width // factor)
    try:
        return _turbo(raw, colours, size)
    except ValueError as error:
        if not str(error).startswith(_HARMLESS):
            raise _translate(error, raw, layout) from None
    raw = _without_harmless(raw, layout)
    try:
        return _turbo(raw, colours, size)
    except ValueError as error:
        raise _translate(error, raw, layout) from None


def _turbo(raw: bytes, colours: str, size: tuple[int, int]) -> np.ndarray:
    """The decode at the smallest scale whose height and width are no less than `size`."""
    return simplejpeg.decode_jpeg(raw, colorspace=colours, min_height=size[0], min_width=size[1], strict=True)


def _read_layout(raw: bytes) -> _Layout:
    try:
        layout = _walk(raw)
    except (IndexError, StructError):
        raise MediaError("truncated", "the JPEG ends before its image data") from None
    if layout.frame not in _DECODABLE:
        raise MediaError("unsupported", f"JPEG process SOF{layout.frame - 0xC0}")
    if layout.precision != 8:
        raise MediaError("unsupported", f"JPEG with {layout.precision} bits a sample")
    if layout.components not in _MODES:
        raise MediaError("unsupported", f"JPEG with {layout.components} components")
    scans = _count_scans(raw, layout.scan)
    if scans > MAX_SCANS:
        raise MediaError("bomb", f"{scans} scans, more than {MAX_SCANS}")
    return layout


def _count_scans(raw: bytes, start: int) -> int:
    """SOS markers from `start` on, at even and at odd distances; `raw.count` takes a tenth of a decode."""
    halves = (np.frombuffer(raw, "<u2", (len(raw) - at) // 2, at) for at in (start, start + 1))
    return sum(int(np.count_nonzero(pairs == 0xDAFF)) for pairs in halves)


def _walk(raw: bytes) -> _Layout:
    frame, turned, segments, i = (0, 0, 0, 0, 0), 1, [], 2
    while True:
        if raw[i] != 0xFF:
            raise MediaError("corrupt", f"no JPEG marker at byte {i}")
        marker = raw[i + 1]
        if marker == 0xFF:
            i += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            i += 2
            continue
        if marker == 0xD9:
            raise MediaError("corrupt", "a JPEG without image data")
        start, i = i, i + 2 + (raw[i + 2] << 8 | raw[i + 3])
        segments.append((marker, start, i))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = _SIZE(raw, start + 5)
            frame = (marker, raw[start + 4], height, width, raw[start + 9])
        elif marker == 0xE1 and raw[start + 4 : start + 10] == b"Exif\0\0":
            turned = orientation(raw[start + 10 : i])
        elif marker == 0xDA:
            if not frame[0]:
                raise MediaError("corrupt", "JPEG image data before the frame header")
            return _Layout(*frame, turned, start, segments)


def _without_harmless(raw: bytes, layout: _Layout) -> bytes:
    """The same picture without what only earns a warning: application segments and odd scan parameters."""
    kept = [b"\xff\xd8"]
    for marker, start, end in layout.segments:
        segment = bytearray(raw[start:end])
        if marker == 0xE0 and segment[4:9] == b"JFIF\0":
            segment[9:11] = b"\1\1"
        elif marker == 0xEE and segment[4:9] == b"Adobe":
            segment[15:16] = bytes((segment[15] if segment[15] < 3 else 1,))
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            continue
        elif marker == 0xDA and layout.frame in (0xC0, 0xC1):
            segment[-3:] = b"\0\x3f\0"
        kept.append(bytes(segment))
    kept.append(raw[layout.segments[-1][2] :])
    return b"".join(kept)


def _translate(error: ValueError, raw: bytes, layout: _Layout) -> MediaError:
    message = str(error)
    if any(part in message for part in _UNSUPPORTED):
        return MediaError("unsupported", message)
    if raw.find(b"\xff\xd9", layout.scan) < 0:
        return MediaError("truncated", f"no end marker ({message})")
    return MediaError("corrupt", message)
