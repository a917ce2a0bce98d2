"""Copies of an earlier record's picture, changed the ways the web changes pictures.

A copy takes the original's bytes, their format and random numbers. It returns its own bytes, their format,
what was done as JSON, and where things are now, for `world.placed`: scale x, shift x, scale y, shift y, side.
"""

from collections.abc import Callable
from typing import Any

from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont, ImageOps, ImageStat

from .draw import decode, encode
from .randomness import pick

Placing = tuple[float, float, float, float, int]
Copied = tuple[bytes, str, dict[str, Any], Placing]
Copy = Callable[[bytes, str, Generator], Copied]


def _in_place(side: int) -> Placing:
    return 1.0, 0.0, 1.0, 0.0, side


def exact_copy(data: bytes, form: str, rng: Generator) -> Copied:
    """The same bytes."""
    return data, form, {}, _in_place(decode(data).width)


def rescaled(data: bytes, form: str, rng: Generator) -> Copied:
    """Half to twice as large."""
    image, scale = decode(data), pick(rng, (0.5, 0.75, 1.25, 1.5, 2.0))
    side = round(image.width * scale)
    resized = image.resize((side, side), Image.Resampling.BICUBIC)
    return encode(resized, form), form, {"scale": scale}, (scale, 0.0, scale, 0.0, side)


def recompressed(data: bytes, form: str, rng: Generator) -> Copied:
    """A JPEG of quality 40 to 70."""
    image, quality = decode(data), int(rng.integers(40, 71))
    return encode(image, "jpg", quality), "jpg", {"quality": quality}, _in_place(image.width)


def cropped(data: bytes, form: str, rng: Generator) -> Copied:
    """Without 5 to 9 percent of its width and height, cut from the borders: every object's middle stays."""
    image = decode(data)
    side = image.width - max(2, round(image.width * float(rng.uniform(0.05, 0.09))))
    left, top = (int(n) for n in rng.integers(0, image.width - side + 1, 2))
    cut = image.crop((left, top, left + side, top + side))
    box = {"left": left, "top": top, "side": side}
    return encode(cut, form), form, box, (1.0, -left, 1.0, -top, side)


def watermarked(data: bytes, form: str, rng: Generator) -> Copied:
    """A half transparent name across the picture."""
    image = decode(data)
    text = pick(rng, ("STOCK", "(c) IMAGES", "PREVIEW"))
    layer = Image.new("L", image.size, 0)
    pen = ImageDraw.Draw(layer)
    ink = "black" if ImageStat.Stat(image.convert("L")).mean[0] > 128 else "white"
    middle = (image.width / 2, image.height * float(rng.uniform(0.3, 0.7)))
    font = ImageFont.load_default(round(image.width / 6))
    pen.text(middle, text, font=font, fill=120, anchor="mm")
    marked = Image.composite(Image.new("RGB", image.size, ink), image, layer)
    return encode(marked, form), form, {"text": text}, _in_place(image.width)


def flipped(data: bytes, form: str, rng: Generator) -> Copied:
    """Mirrored left to right, as PNG: exactly the original's pixels."""
    image = decode(data)
    return encode(ImageOps.mirror(image), "png"), "png", {}, (-1.0, image.width, 1.0, 0.0, image.width)


COPIES: dict[str, Copy] = {
    "exact_copy": exact_copy,
    "rescaled": rescaled,
    "recompressed": recompressed,
    "cropped": cropped,
    "watermarked": watermarked,
    "flipped": flipped,
}
