"""Strict decoding with Pillow, for every format but JPEG, whatever switches of Pillow others have set.

The plugin of the true format is called directly: `Image.open` would refuse or warn by a limit that belongs to
the process, and try every format. EPS, WMF and the like, which run or call other programs, are never tried.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFile

from infinity_mm.media.errors import MediaError
from infinity_mm.media.orientation import orientation, upright
from infinity_mm.media.scale import halvings
from infinity_mm.media.structure import CHECKS, Whole

MAX_FRAMES = 1000  # frames of one animation that are checked …
MAX_FRAME_PIXELS = 1 << 28  # … and pixels of them altogether, but always the first
_PLUGINS = {
    "png": ("PngImagePlugin", "PngImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
    "tiff": ("TiffImagePlugin", "TiffImageFile"),
    "ppm": ("PpmImagePlugin", "PpmImageFile"),
    "ico": ("IcoImagePlugin", "IcoImageFile"),
    "jp2": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "avif": ("AvifImagePlugin", "AvifImageFile"),
}
_MAY_NOT_CONVERT = ("F", "I", "LAB")  # even a check has to try
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The first frame, uint8 [height, width, 1, 3 or 4] (None where a check needs none), and its facts."""

    pixels: np.ndarray | None
    mode: str
    frames: int
    frames_checked: int
    has_alpha: bool
    orientation: int
    upright: bool  # the decoder has applied the orientation itself


def load(
    raw: bytes, form: str, pixels: int, max_pixels: int, channels: int, min_side: int | None = None
) -> Loaded:
    """Decodes all frames up to the caps; raises MediaError, or what Pillow raises.

    `pixels` is how many the header announces, at most `max_pixels`. `channels` is 1 for luma, 3 for RGB, 4
    for RGBX, 0 where none are wanted. With `min_side` the first frame may come smaller by a power of two, its
    shorter side no shorter than that.
    """
    with _opened(raw, form, pixels, max_pixels) as (image, whole):
        mode = image.mode
        image.load()
        _check_size(image, max_pixels)  # a GIF's canvas grows with its first frame
        alpha = image.has_transparency_data
        factor = halvings(image.width, image.height, min_side)
        flat = _opaque(image, factor) if channels or image.mode in _MAY_NOT_CONVERT else image
        first = None
        if channels == 1:
            first = np.array(flat.convert("L"))[:, :, None]
        elif channels == 3:
            first = np.array(flat.convert("RGB") if flat.mode == "RGBX" else flat)
        elif channels == 4:
            first = shared(flat)
        turned = orientation(whole.exif or image.info.get("exif") or b"")
        frames = _frames_of(image, whole)
        if frames > 1 and channels == 4:
            first = np.array(first)  # the next frame may be decoded in its place
        checked = 1 + sum(1 for _ in _next_frames(image, frames, max_pixels))
    return Loaded(first, mode, frames, checked, alpha, turned, form == "tiff")


def frames(raw: bytes, form: str, pixels: int, max_pixels: int) -> Iterator[np.ndarray]:
    """Every frame up to the caps, upright: uint8 or uint16 [height, width, 1], uint8 [height, width, 3 or 4].

    Channels are gray, RGB or RGBA. Raises as `load` does.
    """
    with _opened(raw, form, pixels, max_pixels) as (image, whole):
        image.load()
        _check_size(image, max_pixels)
        turned = 1 if form == "tiff" else orientation(whole.exif or image.info.get("exif") or b"")
        yield upright(_with_alpha(image), turned)
        for _ in _next_frames(image, _frames_of(image, whole), max_pixels):
            yield upright(_with_alpha(image), turned)


@contextmanager
def _opened(raw: bytes, form: str, pixels: int, max_pixels: int) -> Iterator[tuple[Image.Image, Whole]]:
    """The image, not loaded yet, of the plugin of the true format, under the switches that make it strict."""
    if form not in _PLUGINS:
        raise MediaError("unsupported", f"no decoder for {form}")
    whole = CHECKS[form](raw) if form in CHECKS else Whole(raw)
    module, name = _PLUGINS[form]
    try:
        plugin = getattr(import_module(f"PIL.{module}"), name)
    except ImportError:
        raise MediaError("unsupported", f"this Pillow has no decoder for {form}") from None
    with _strict(pixels), plugin(io.BytesIO(whole.raw)) as image:
        _check_size(image, max_pixels)
        yield image, whole


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise MediaError("bomb", f"{width} by {height} pixels, more than {max_pixels}")


def _frames_of(image: Image.Image, whole: Whole) -> int:
    return int(whole.frames or getattr(image, "n_frames", 1) or 1)


def _next_frames(image: Image.Image, frames: int, max_pixels: int) -> Iterator[None]:
    """Loads the frames after the first, up to the caps, one each time."""
    done, spent = 1, 0
    while done < min(frames, MAX_FRAMES):
        spent += image.width * image.height
        if spent > MAX_FRAME_PIXELS:
            break
        image.seek(done)
        _check_size(image, max_pixels)
        image.load()
        yield
        done += 1


def shared(image: Image.Image) -> np.ndarray:
    """uint8 [height, width] of an image in L, [height, width, 4] of one in RGB, RGBX or RGBA; read-only.

    It is Pillow's own memory, in which those three have four bytes a pixel, and nothing is copied; but for
    large images, which Pillow keeps in several blocks.
    """
    try:
        column = pa.array(image)
    except ValueError:
        return np.asarray(image.convert("RGBX") if image.mode == "RGB" else image)
    if image.mode == "L":
        return np.asarray(column).reshape(image.height, image.width)
    return np.asarray(column.values).reshape(image.height, image.width, 4)


def from_rgbx(pixels: np.ndarray) -> Image.Image:
    """The image of contiguous pixels uint8 [height, width, 4], whose memory it shares."""
    height, width, _ = pixels.shape
    return Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)


def _with_alpha(image: Image.Image) -> np.ndarray:
    """As `frames` gives them; raises MediaError for floating-point and 32-bit samples."""
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        _sixteen_bits(image)  # raises for what is no 16 bits
        if "transparency" not in image.info:
            return np.asarray(image).astype(np.uint16)[:, :, None]
        image = Image.fromarray(_sixteen_bits(image))
    if image.mode == "F":
        raise MediaError("unsupported", "floating-point samples have no agreed white")
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image)[:, :, None] if image.mode == "L" else np.asarray(image.convert("RGB"))


def _opaque(image: Image.Image, factor: int) -> Image.Image:
    """The image in RGB or RGBX: alpha over white, 16 bits to 8 by v / 257.

    Each pixel is the mean of `factor` by `factor` of the image, fewer at its right and bottom edge.
    """
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        image = Image.fromarray(_sixteen_bits(image))
    if image.mode == "F":
        raise MediaError("unsupported", "floating-point samples have no agreed white")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        pixels = shared(rgba)
        if np.bitwise_and.reduce(pixels.view(np.uint32), axis=None).tobytes()[3] == 255:
            image = from_rgbx(pixels)
        else:
            image = Image.new("RGB", rgba.size, (255, 255, 255))
            image.paste(rgba, mask=rgba.getchannel("A"))
    if image.mode not in ("L", "RGB", "RGBX"):
        image = image.convert("RGB")
    if factor > 1:
        image = image.reduce(factor)
    return image.convert("RGB") if image.mode == "L" else image


def _sixteen_bits(image: Image.Image) -> np.ndarray:
    samples = np.asarray(image)
    if samples.size and (samples.min() < 0 or samples.max() > 65535):
        raise MediaError("unsupported", "32-bit samples have no agreed white")
    grey = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[samples == clear] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


_lock = threading.Lock()
_inside = 0
_lenient = False
_limit: int | None = None  # Pillow's own, while it is raised


@contextmanager
def _strict(pixels: int) -> Iterator[None]:
    """Holds two switches of Pillow while any thread decodes here, then puts them back.

    Pillow reads them from its modules, and there is no argument for either: the one that lets truncated files
    pass goes off, and where a picture is above Pillow's limit on pixels, having met ours, that is raised to
    its size. Where neither is in the way, which is nearly always, nothing is touched.
    """
    global _inside, _lenient, _limit
    with _lock:
        if _inside == 0:
            _lenient, _limit = ImageFile.LOAD_TRUNCATED_IMAGES, None
            if _lenient:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
        _inside += 1
        if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
            _limit = _limit or Image.MAX_IMAGE_PIXELS
            Image.MAX_IMAGE_PIXELS = pixels
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _lenient:
                ImageFile.LOAD_TRUNCATED_IMAGES = True
            if _inside == 0 and _limit is not None:
                Image.MAX_IMAGE_PIXELS = _limit
