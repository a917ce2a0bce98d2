"""Photometric measures of one picture, all of them from one small decode.

Every measure is taken on the *working picture*: the picture halved, by averages of two by two pixels, until
its shorter side is below 256 and its longer one at most 4096. The shorter side then lies in [128, 256) unless
the picture is smaller or very long, so the measures mean the same for every format and size: those of a
picture and of its double are equal from 128 pixels on. `decode_image(data, min_side=MIN_SIDE)` gives such
halves to begin with, a JPEG's by its DCT for next to nothing; measures of those and of a full decode differ
by a few hundredths.

Time grows with the working picture; memory is some forty bytes for each of its pixels.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from infinity_mm.media.document_like import document_like
from infinity_mm.media.phash import phash

MIN_SIDE = 128  # pixels: decodes no smaller than this give the measures that a full decode gives
_MAX_SIDE = 4096  # pixels: bounds what an endlessly long picture costs
_LEVELS = np.arange(256)
_WINDOW = 8  # gray levels


class Photometry(NamedTuple):
    """The measures of one picture, all finite. Luma is that of ITU-R BT.601, as Pillow's mode L has it."""

    brightness: float  # mean luma, 0 (black) to 1 (white)
    brightness_p5: float  # luma, 0 to 1, that a twentieth of the pixels do not exceed: overexposed above 0.95
    brightness_p99: float  # luma, 0 to 1, that all but a hundredth do not exceed: underexposed below 0.32
    contrast: float  # root mean square: the standard deviation of luma, 0 to 0.5
    entropy: float  # of the histogram of luma, 0 to 8 bits: little to see below 1.4 (cleanvision's 3)
    uniformity: float  # largest share of pixels within 8 neighbouring levels of luma: 1 for a blank picture
    sharpness: float  # variance of the Laplacian, gray levels squared, 0 or more
    colourfulness: float  # M3 of Hasler and Suesstrunk, 0 (gray) to about 200
    text_like: float  # share of the area, 0 to 1: see document_like
    chart_like: float  # the same
    phash: int  # 0 to 2**64 - 1: see phash
    phash_margin: float  # gray levels: near 0 where the hash means nothing


def photometry(pixels: np.ndarray) -> Photometry:
    """Measures pixels uint8 [height, width, 3], RGB and upright, each side at least 1."""
    picture = working_picture(pixels)
    image = Image.fromarray(picture).convert("L")
    luma = np.asarray(image)
    tones = _tones(np.array(image.histogram()))
    return Photometry(*tones, _sharpness(luma), _colourfulness(picture), *document_like(luma), *phash(luma))


def working_picture(pixels: np.ndarray) -> np.ndarray:
    """The picture that is measured, uint8 [height, width, 3], from a full or a scaled decode."""
    height, width, _ = pixels.shape
    factor = 1
    while min(height, width) >= 2 * MIN_SIDE * factor or max(height, width) > _MAX_SIDE * factor:
        factor *= 2
    return pixels if factor == 1 else np.asarray(Image.fromarray(pixels).reduce(factor))


def _tones(counts: np.ndarray) -> tuple[float, float, float, float, float, float]:
    """The first six measures, from the histogram of luma, int64 [256].

    The percentiles are there for decisions as cleanvision makes them: "dark" by the 99th, "light" by the 5th.
    """
    size = int(counts.sum())
    total, squares = int(counts @ _LEVELS), int(counts @ _LEVELS**2)
    mean, variance = total / size, (size * squares - total * total) / size**2
    sums = counts.cumsum()
    p5, p99 = np.searchsorted(sums, (0.05 * size, 0.99 * size))
    present = counts[counts > 0] / size
    entropy = max(0.0, -float(present @ np.log2(present)))
    within = sums.copy()
    within[_WINDOW:] -= sums[:-_WINDOW]
    return mean / 255, int(p5) / 255, int(p99) / 255, variance**0.5 / 255, entropy, int(within.max()) / size


def _sharpness(luma: np.ndarray) -> float:
    """Variance of the Laplacian of luma uint8 [height, width], as `cv2.Laplacian(luma, CV_64F)` has it.

    The outermost pixels, which have no four neighbours, are left out; with fewer than three rows or columns
    the border is repeated instead. The value depends on scale and on contrast: blur of a pixel or two in a
    large picture is gone from the working picture, thresholds for full-size pictures (100 is common) are low
    here, and a picture with next to no contrast has next to no edges.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000.
    """
    gray = luma.astype(np.int16)
    if min(gray.shape) < 3:
        gray = np.pad(gray, 1, mode="edge")
    edges = gray[1:-1, :-2] + gray[1:-1, 2:]
    edges += gray[:-2, 1:-1]
    edges += gray[2:, 1:-1]
    edges -= gray[1:-1, 1:-1] << 2
    return _moments(edges.astype(np.float32))[1]


def _colourfulness(picture: np.ndarray) -> float:
    """M3 of RGB uint8 [height, width, 3]; of every second pixel in every fourth row from 128 pixels on.

    Gray pictures have 0, moderately colourful ones about 45, extremely colourful ones above 109.

    Source: Hasler and Suesstrunk, "Measuring colourfulness in natural images", 2003.
    """
    if min(picture.shape[:2]) >= MIN_SIDE:
        picture = picture[::4, ::2]
    red, green, blue = (picture[:, :, channel].astype(np.float32) for channel in range(3))
    red_green, red_spread = _moments(red - green)
    yellow_blue, yellow_spread = _moments((red + green) / 2 - blue)
    return (red_spread + yellow_spread) ** 0.5 + 0.3 * (red_green**2 + yellow_blue**2) ** 0.5


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and variance of float32 values, which are overwritten; on one thread, so always the same."""
    flat = values.reshape(-1)
    mean = float(np.add.reduce(flat)) / flat.size
    flat -= np.float32(mean)
    return mean, float(np.einsum("i,i->", flat, flat)) / flat.size
