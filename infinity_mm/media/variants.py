"""Known near-duplicates of a picture: the ways in which the web changes pictures, each of one fixed strength.

What they make is JPEG of quality 90, unless the change is the format or the quality itself.
"""

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps, ImageStat

_QUALITY = 90


def _half(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image) -> Image.Image:
    left, top = image.width // 20, image.height // 20
    return image.crop((left, top, max(left + 1, image.width - left), max(top + 1, image.height - top)))


def _watermarked(image: Image.Image) -> Image.Image:
    layer = Image.new("L", image.size, 0)
    font = ImageFont.load_default(max(8, round(image.width / 8)))
    ImageDraw.Draw(layer).text(
        (image.width / 2, image.height / 2), "PREVIEW", font=font, fill=120, anchor="mm"
    )
    ink = "black" if ImageStat.Stat(image.convert("L")).mean[0] > 128 else "white"
    return Image.composite(Image.new("RGB", image.size, ink), image, layer)


def _brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.3)


def _gray(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def _rotated(image: Image.Image) -> Image.Image:
    return image.rotate(5, Image.Resampling.BICUBIC)


def _as_it_is(image: Image.Image) -> Image.Image:
    return image


VARIANTS: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "rescaled": ("half as wide and high", _half),
    "recompressed": ("JPEG of quality 40", _as_it_is),
    "reformatted": ("PNG", _as_it_is),
    "cropped": ("a twentieth cut from each side", _cropped),
    "watermarked": ("a half transparent word across it", _watermarked),
    "brighter": ("30 % brighter", _brighter),
    "gray": ("without colours", _gray),
    "rotated": ("turned by 5 degrees", _rotated),
    "flipped": ("mirrored left to right", ImageOps.mirror),
}


def variant(image: Image.Image, kind: str) -> bytes:
    """The file of a variant. `image` is RGB and upright. Raises ValueError for another kind."""
    if kind not in VARIANTS:
        raise ValueError(f"no variant {kind!r}: there are {', '.join(VARIANTS)}")
    buffer = io.BytesIO()
    if kind == "reformatted":
        image.save(buffer, "PNG")
    else:
        quality = 40 if kind == "recompressed" else _QUALITY
        VARIANTS[kind][1](image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
