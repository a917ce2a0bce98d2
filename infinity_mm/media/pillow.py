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
from PIL import Image, ImageFile

from infinity_mm.media.errors import MediaError
from infinity_mm.media.orientation import orientation
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
    """The first frame, RGB uint8 [height, width, 3] (None where a check needs none), and its facts."""

    pixels: np.ndarray | None
    mode: str
    frames: int
    frames_checked: int
    has_alpha: bool
    orientation: int
    upright: bool  # the decoder has applied the orientation itself


def load(
    raw: bytes, form: str, pixels: int, max_pixels: int, want_pixels: bool, min_side: int | None = None
) -> Loaded:
    """Decodes all frames up to the caps; raises MediaError, or what Pillow raises.

    `pixels` is how many the header announces, at most `max_pixels`. With `min_side` the first frame may come
    smaller by a power of two, its shorter side no shorter than that.
    """
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
        mode = image.mode
        image.load()
        _check_size(image, max_pixels)  # a GIF's canvas grows with its first frame
        alpha = image.has_transparency_data
        factor = halvings(image.width, image.height, min_side)
        first = to_rgb(image, factor) if want_pixels or image.mode in _MAY_NOT_CONVERT else None
        turned = orientation(whole.exif or image.info.get("exif") or b"")
        frames = int(whole.frames or getattr(image, "n_frames", 1) or 1)
        checked = _check_frames(image, frames, max_pixels)
    return Loaded(first, mode, frames, checked, alpha, turned, form == "tiff")


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise MediaError("bomb", f"{width} by {height} pixels, more than {max_pixels}")


def _check_frames(image: Image.Image, frames: int, max_pixels: int) -> int:
    """Loads the frames after the first; how many have been loaded altogether."""
    done, spent = 1, 0
    while done < min(frames, MAX_FRAMES):
        spent += image.width * image.height
        if spent > MAX_FRAME_PIXELS:
            break
        image.seek(done)
        _check_size(image, max_pixels)
        image.load()
        done += 1
    return done


def to_rgb(image: Image.Image, factor: int = 1) -> np.ndarray:
    """uint8 [height, width, 3], C-contiguous and writable: alpha over white, 16 bits to 8 by v / 257.

    Each pixel is the mean of `factor` by `factor` of the image, fewer at its right and bottom edge.
    """
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        image = Image.fromarray(_sixteen_bits(image))
    if image.mode == "F":
        raise MediaError("unsupported", "floating-point samples have no agreed white")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = rgba.getchannel("A")
        if np.asarray(alpha).min() < 255:
            image = Image.new("RGB", rgba.size, (255, 255, 255))
            image.paste(rgba, mask=alpha)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image if factor == 1 else image.reduce(factor))


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
