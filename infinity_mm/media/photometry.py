"""Photometric measures of one picture, all of them from one small decode.

Every measure is taken on the *working picture*: the picture halved, by averages of two by two pixels, until
its shorter side is below 256 and its longer one at most 4096. The shorter side then lies in [128, 256) unless
the picture is smaller or very long, so the measures mean the same for every format and size: those of a
picture and of its double are equal from 128 pixels on. `decode_image(data, min_side=MIN_SIDE)` gives such
halves to begin with, a JPEG's by its DCT for next to nothing; measures of those and of a full decode differ
by a few hundredths.

Tones and colours are those of a sample of it, 4096 pixels or more, spread over all rows and columns; edges,
cells and waves are looked at whole. Time grows with the working picture, from 0.1 ms on; memory is some forty
bytes for each of its pixels.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from infinity_mm.media.document_like import document_like
from infinity_mm.media.pillow import from_rgbx, shared

MIN_SIDE = 128  # pixels: decodes no smaller than this give the measures that a full decode gives
_MAX_SIDE = 4096  # pixels: bounds what an endlessly long picture costs
_POWERS = np.arange(256) ** np.arange(3)[:, None]  # of the levels
_ENOUGH = 4096  # pixels for tones and colours: shares are right to 0.8 per cent, near 0 and 1 to 0.1
_STEPS = (101, 71, 47, 31, 23, 17, 13, 11, 7, 5, 3)  # primes, the largest that leaves enough is taken
_WINDOW = 8  # levels of a channel
_OPPONENTS = np.array([[1, 1], [-1, 1], [0, -2], [0, 0]], np.float64)  # of R, G, B and 1
_LEAST_VARIANCE = 1.0  # gray levels squared


class Photometry(NamedTuple):
    """The measures of one picture, all finite. Luma is that of ITU-R BT.601, as Pillow's mode L has it.

    None where a measure is not applicable.
    """

    brightness: float  # mean luma, 0 (black) to 1 (white); as the next four, blind to hue
    brightness_p5: float  # luma, 0 to 1, that a twentieth of the pixels do not exceed: overexposed above 0.95
    brightness_p99: float  # luma, 0 to 1, that all but a hundredth do not exceed: underexposed below 0.32
    contrast: float  # root mean square: the standard deviation of luma, 0 to 0.5
    entropy: float  # of the histogram of luma, 0 to 8 bits: little to see below 1.4 (cleanvision's 3)
    uniformity: float  # share of pixels within 8 levels, the least of R, G and B: 1 for a blank picture
    sharpness: float  # mean square of the Laplacian of luma, gray levels squared, 0 or more
    acuity: float | None  # sharpness over the variance of luma, 0 or more; None where that is below 1
    colourfulness: float  # M3 of Hasler and Suesstrunk, 0 (gray) to about 200
    text_like: float  # share of the area, 0 to 1: see document_like
    chart_like: float  # the same


class Working(NamedTuple):
    """A decode, its working picture and the luma of that, which other measures of looks share."""

    pixels: np.ndarray  # uint8 [height, width, 3 or 4]
    picture: Image.Image  # RGB or RGBX
    luma: np.ndarray  # uint8 [height, width], read-only


def working(pixels: np.ndarray) -> Working:
    """What is measured of pixels uint8 [height, width, 3 or 4], RGB or RGBX and upright, each side 1 or more.

    Four channels, as `decode_image` gives them on demand, save a copy.
    """
    pixels = np.ascontiguousarray(pixels)
    picture = working_picture(pixels)
    return Working(pixels, picture, shared(picture.convert("L")))


def photometry(pixels: np.ndarray) -> Photometry:
    """Measures pixels as `working` takes them."""
    return measured(working(pixels))


def measured(seen: Working) -> Photometry:
    """The measures of a working picture."""
    pixels, picture, luma = seen
    whole = pixels.shape[2] == 4 and pixels.shape[:2] == luma.shape
    sample = _sample(pixels if whole else shared(picture), luma)
    counts = np.fromiter(from_rgbx(sample[None]).histogram(), np.int64, 4 * 256).reshape(4, 256)
    tones, uniformity = _tones(counts)
    sharpness, variance = _sharpness(luma), (255 * tones[3]) ** 2
    return Photometry(
        *tones,
        uniformity,
        sharpness,
        sharpness / variance if variance >= _LEAST_VARIANCE else None,
        _colourfulness(sample),
        *document_like(luma),
    )


def working_picture(pixels: np.ndarray) -> Image.Image:
    """The picture that is measured, in RGB or RGBX, from a full or a scaled decode."""
    return _halved(from_rgbx(pixels) if pixels.shape[2] == 4 else Image.fromarray(pixels))


def working_luma(luma: np.ndarray) -> np.ndarray:
    """uint8 [height, width]: what is measured of luma uint8 [height, width], a full or a scaled decode's."""
    return np.asarray(_halved(Image.fromarray(luma)))


def _halved(image: Image.Image) -> Image.Image:
    factor, shorter, longer = 1, min(image.size), max(image.size)
    while shorter >= 2 * MIN_SIDE * factor or longer > _MAX_SIDE * factor:
        factor *= 2
    return image if factor == 1 else image.reduce(factor)


def _sample(pixels: np.ndarray, luma: np.ndarray) -> np.ndarray:
    """R, G, B and luma, uint8 [n, 4], of every so many of the pixels uint8 [height, width, 4], row by row.

    The step is no divisor of the width, so that each row and each column has its share and no line is missed.
    It is 1 for less than three times 4096 pixels, and always leaves 4096.
    """
    step = next((s for s in _STEPS if luma.shape[1] % s and luma.size >= s * _ENOUGH), 1)
    sample = pixels.view(np.uint32).reshape(-1)[::step].copy().view(np.uint8).reshape(-1, 4)
    sample[:, 3] = luma.reshape(-1)[::step]
    return sample


def _tones(counts: np.ndarray) -> tuple[tuple[float, float, float, float, float], float]:
    """The first five measures and uniformity, from histograms of R, G, B and luma, int64 [4, 256].

    The percentiles are there for decisions as cleanvision makes them: "dark" by the 99th, "light" by the 5th.
    Uniformity is that of whichever of R, G and B has the smallest: luma would call a red shape on an equally
    light green ground blank.
    """
    size, total, squares = (_POWERS @ counts[3]).tolist()
    mean, variance = total / size, (size * squares - total * total) / size**2
    sums = counts.cumsum(axis=1)
    p5, p99 = sums[3].searchsorted((0.05 * size, 0.99 * size)).tolist()
    present = counts[3][counts[3] > 0] / size
    entropy = max(0.0, -float(present @ np.log2(present)))
    return (mean / 255, p5 / 255, p99 / 255, variance**0.5 / 255, entropy), least_uniformity(sums[:3])


def least_uniformity(sums: np.ndarray) -> float:
    """The largest share of pixels within 8 neighbouring levels, the least of several histograms of as many
    pixels, int64 [n, 256], summed up to each level."""
    within = sums.copy()
    within[:, _WINDOW:] -= sums[:, :-_WINDOW]
    return int(within.max(axis=1).min()) / int(sums[0, -1])


def _sharpness(luma: np.ndarray) -> float:
    """Mean square of the Laplacian of luma uint8 [height, width], as `cv2.Laplacian(luma, CV_64F)` has it.

    That is its variance, since its mean is next to 0. It is taken in every second row, from the second on.
    The outermost pixels, which have no four neighbours, are left out; with fewer than three rows or columns
    the border is repeated instead. The value depends on scale and on contrast: blur of a pixel or two in a
    large picture is gone from the working picture, thresholds for full-size pictures (100 is common) are low
    here, and a picture with next to no contrast has next to no edges.

    Acuity is this over the variance of luma, so that contrast cancels: 0.13 to 2.2 of photographs (nine in
    ten), a hundredth of that when they are blurred by a hundredth of their side, 20 of white noise. Where
    luma varies by less than a gray level there is nothing to be sharp, and it is not applicable.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000; dividing is ours.
    """
    if min(luma.shape) < 3:
        luma = np.pad(luma, 1, mode="edge")
    width = luma.shape[1]
    centre, beside = luma[1:-1:2].astype(np.int16).reshape(-1), luma[::2].astype(np.int16).reshape(-1)
    edges = beside[: centre.size] + beside[width : width + centre.size]
    edges[1:] += centre[:-1]  # over the ends of rows, which are left out below
    edges[:-1] += centre[1:]
    centre <<= 2
    edges -= centre
    inner = edges.reshape(-1, width)[:, 1:-1].astype(np.float32).reshape(-1)
    return float(np.einsum("i,i->", inner, inner)) / inner.size


def _colourfulness(sample: np.ndarray) -> float:
    """M3 of RGB in uint8 [n, 4]: 0 for gray, about 45 for moderately, above 109 for extremely colourful.

    Its means and variances are of red less green, and of red and green less twice blue. They come from sums
    of products of two channels, which are integers and exact in float64, in whatever order they are added.

    Source: Hasler and Suesstrunk, "Measuring colourfulness in natural images", 2003.
    """
    channels = sample.astype(np.float64)
    channels[:, 3] = 1
    products = channels.T @ channels
    size, totals = len(sample), products[3] @ _OPPONENTS
    variances = (size * ((products @ _OPPONENTS) * _OPPONENTS).sum(axis=0) - totals**2) / size**2
    (red_green, yellow_blue), (reds, yellows) = (totals / size).tolist(), variances.tolist()
    return math.sqrt(reds + yellows / 4) + 0.3 * math.hypot(red_green, yellow_blue / 2)
