"""Pictures spoiled in a known way.

A defect takes the picture, its bytes, their format ("png" or "jpg") and random numbers, and returns the
spoiled bytes, the ending of the file's name, and what was done as JSON.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
from numpy.random import Generator
from PIL import Image, ImageFilter

from .draw import decode, encode
from .randomness import chance, pick

Spoiled = tuple[bytes, str, dict[str, Any]]
PictureDefect = Callable[[Image.Image, bytes, str, Generator], Spoiled]


def _decodes(data: bytes) -> bool:
    """Whether Pillow decodes the bytes to the last row."""
    try:
        decode(data)
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def _decodes_strictly(data: bytes) -> bool:
    """Whether libjpeg-turbo decodes the JPEG without a warning."""
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return False
    return True


def corrupt_bytes(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """Random bytes over the header, or over a tenth of the file, such that no decoder reads it."""
    while True:
        spoiled = np.frombuffer(data, np.uint8).copy()
        where = pick(rng, ("header", "scattered"))
        at = np.arange(24) if where == "header" else rng.permutation(len(data))[: max(8, len(data) // 10)]
        spoiled[at] = rng.integers(0, 256, len(at), dtype=np.uint8)
        if not _decodes(spoiled.tobytes()):
            return spoiled.tobytes(), form, {"sub_kind": where}


def truncated(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """Only the first 40 to 85 percent of the bytes."""
    while True:
        kept = int(len(data) * rng.uniform(0.4, 0.85))
        if not _decodes(data[:kept]):
            return data[:kept], form, {"sub_kind": form, "kept_bytes": kept, "of_bytes": len(data)}


def bit_flipped(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """A JPEG with one to three flipped bits in its entropy data: Pillow reads it, a strict decode raises."""
    jpeg = data if form == "jpg" else encode(image, "jpg")
    scan = jpeg.rindex(b"\xff\xda")
    start = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
    while True:
        spoiled = bytearray(jpeg)
        bits = sorted({int(b) for b in rng.integers(start * 8, (len(jpeg) - 2) * 8, int(rng.integers(1, 4)))})
        for bit in bits:
            spoiled[bit // 8] ^= 1 << bit % 8
        if not _decodes_strictly(bytes(spoiled)) and _decodes(bytes(spoiled)):
            return bytes(spoiled), "jpg", {"bits": bits}


def html_as_jpg(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """The web page a server sent in place of a picture."""
    code, why = pick(rng, (("404", "Not Found"), ("403", "Forbidden"), ("503", "Service Unavailable")))
    page = (
        f"<!DOCTYPE html>\n<html><head><title>{code} {why}</title></head>\n"
        f"<body><h1>{code} {why}</h1><p>Request {int(rng.integers(1 << 40)):010x}</p></body></html>\n"
    )
    return page.encode(), "jpg", {"sub_kind": code}


def zero_bytes(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """An empty file, or one of the right length that holds only zeros."""
    if chance(rng, 0.5):
        return b"", form, {"sub_kind": "empty"}
    return bytes(len(data)), form, {"sub_kind": "zeros"}


def wrong_extension(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """A good picture under the other format's name."""
    return data, "jpg" if form == "png" else "png", {"sub_kind": f"{form}_bytes"}


def tiny(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """The picture shrunk to 1 to 4 pixels a side."""
    width, height = (int(n) for n in rng.integers(1, 5, 2))
    small = image.resize((width, height), Image.Resampling.BOX)
    return encode(small, form), form, {"width": width, "height": height}


def huge(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """A flat one-bit grey PNG of at most 35 kB: more than 100 million pixels, or more than 30,000 wide."""
    shape = pick(rng, ("area", "wide"))
    width, height = (12_000, 9_000) if shape == "area" else (30_000, 300)
    width += 8 * int(rng.integers(1, 120))
    row = b"\0" + bytes([pick(rng, (0, 255))]) * (width // 8)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * height, 6)),
        (b"IEND", b""),
    )
    packed = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + packed, "png", {"sub_kind": shape, "width": width, "height": height}


def blank(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """One colour and nothing else."""
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return encode(Image.new("RGB", image.size, (red, green, blue)), form), form, {"rgb": [red, green, blue]}


def blurred(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """A Gaussian blur of 6 to 10 percent of the side."""
    radius = round(float(rng.uniform(0.06, 0.1)) * image.width, 2)
    return encode(image.filter(ImageFilter.GaussianBlur(radius)), form), form, {"radius": radius}


def over_exposed(image: Image.Image, data: bytes, form: str, rng: Generator) -> Spoiled:
    """Brightened until at least 70 percent of the pixels are white."""
    pixels_HWC = np.asarray(image, np.float64)
    gain = 255.5 / max(1.0, float(np.percentile(pixels_HWC.min(axis=2), 25)))
    bright = np.minimum(pixels_HWC * gain, 255).astype(np.uint8)
    return encode(Image.fromarray(bright), form), form, {"gain": round(gain, 3)}


PICTURE_DEFECTS: dict[str, PictureDefect] = {
    "corrupt_bytes": corrupt_bytes,
    "truncated": truncated,
    "bit_flipped": bit_flipped,
    "html_as_jpg": html_as_jpg,
    "zero_bytes": zero_bytes,
    "wrong_extension": wrong_extension,
    "tiny": tiny,
    "huge": huge,
    "blank": blank,
    "blurred": blurred,
    "over_exposed": over_exposed,
}
