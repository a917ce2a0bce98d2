"""What a picture of one object shows, from its pixels alone: the judge of drawn scenes.

No trained part. Backgrounds are grey, objects are not, so a pixel's distance from grey in the direction of a
palette colour is the share of it that the object covers, whatever the grey. The colour is the palette's
nearest to the object's middle; the shape is the one of `draw`'s outlines that covers the pixels best, over
sizes, places between pixels and degrees of blur. About 3 ms a picture after a second for the outlines.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from .draw import picture
from .world import COLOURS, SHAPES, SIZES, Background, Scene, Thing

SIDE = 64  # pictures are judged at this side
STEP = 4  # places of an outline between two pixels, each way
RADII = tuple(round(radius * scale * SIDE, 2) for radius in SIZES.values() for scale in (0.88, 0.94, 1, 1.06))
BLURS = (0.0, 0.6, 1.0)  # standard deviations, pixels
WINDOW = 22  # pixels around the object's middle that are compared
LEAST = 16.0  # pixels that an object covers; the smallest drawn, a small cross, covers 37
FIT = 0.9  # of an outline to what is seen: 2 a.b / (a.a + b.b)
FAR = 80.0  # of a colour from the palette, RGB
GREY = 40.0  # distance from grey that is no colour yet
STRAY = 0.12  # colour elsewhere, as a share of the object's


class Seen(NamedTuple):
    """What a picture shows; None where it shows no one object, or none of the palette or of the shapes."""

    colour: str | None
    shape: str | None
    fit: float  # of the best outline, 0 to 1


NOTHING = Seen(None, None, 0.0)


def recognise(pixels_HWC: np.ndarray) -> Seen:
    """The one object of a picture, RGB uint8 of any size."""
    if pixels_HWC.shape[:2] != (SIDE, SIDE):
        resized = Image.fromarray(pixels_HWC).resize((SIDE, SIDE), Image.Resampling.BOX)
        pixels_HWC = np.asarray(resized)
    rgb_HWC = pixels_HWC.astype(np.float32)
    chroma_HWC = _chroma(rgb_HWC)
    strength_HW = np.linalg.norm(chroma_HWC, axis=-1)
    # the strongest pixel may be an outlier of a decoder's
    strongest = np.sort(strength_HW, axis=None)[-9]
    if strongest < GREY:
        return NOTHING
    middle_HW = strength_HW > 0.8 * strongest
    colour = _colour(np.median(rgb_HWC[middle_HW], axis=0))
    own_C = np.median(chroma_HWC[middle_HW], axis=0)
    weight = float(own_C @ own_C)
    if colour is None:
        return NOTHING
    cover_HW = (chroma_HWC @ own_C / weight).clip(0, 1)
    window_HW, fraction = _window(cover_HW, strength_HW / weight**0.5)
    if window_HW is None:
        return NOTHING._replace(colour=colour)
    shape, fit = _shape(window_HW, fraction)
    return Seen(colour, shape if fit >= FIT else None, fit)


def _chroma(rgb_HWC: np.ndarray) -> np.ndarray:
    """Each pixel's distance from grey, less the background's tint."""
    chroma_HWC = rgb_HWC - rgb_HWC.mean(axis=-1, keepdims=True)
    return np.asarray(chroma_HWC - np.median(chroma_HWC, axis=(0, 1)))


def _colour(rgb: np.ndarray) -> str | None:
    """The palette's nearest, if it is near."""
    far = {name: float(np.linalg.norm(rgb - of)) for name, of in COLOURS.items()}
    nearest = min(far, key=far.__getitem__)
    return nearest if far[nearest] < FAR else None


def _window(cover_HW: np.ndarray, any_HW: np.ndarray) -> tuple[np.ndarray | None, tuple[float, float]]:
    """The object with its centre of mass (between 0 and 1 from the middle) in a window; None if the picture
    has no object, or colour elsewhere too."""
    wide = np.pad(cover_HW, WINDOW)
    found = wide > 0.3
    if wide[found].sum() < LEAST:
        return None, (0.0, 0.0)
    ys, xs = np.nonzero(found)
    # a median is not led astray by a speck
    y, x = float(np.median(ys)), float(np.median(xs))
    half = WINDOW // 2
    for _ in range(2):
        top, left = int(y) - half, int(x) - half
        window_HW = wide[top : top + WINDOW, left : left + WINDOW]
        mass = np.where(window_HW > 0.15, window_HW, 0)
        places = np.arange(WINDOW)
        y, x = (
            offset + float((mass.sum(axis=axis) @ places) / max(float(mass.sum()), 1.0))
            for offset, axis in ((top, 1), (left, 0))
        )
    top, left = int(y) - half, int(x) - half
    window_HW = wide[top : top + WINDOW, left : left + WINDOW]
    smooth_HW = sum(np.roll(any_HW, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)) / 9
    stray = np.pad(smooth_HW, WINDOW)
    stray[top : top + WINDOW, left : left + WINDOW] = 0
    if stray[stray > 0.25].sum() > STRAY * window_HW.sum():
        return None, (0.0, 0.0)
    return window_HW, (y - int(y), x - int(x))


def _shape(window_HW: np.ndarray, fraction: tuple[float, float]) -> tuple[str, float]:
    """The shape whose outline fits best, and how well."""
    outlines_YXNP, norms_YXN = _outlines()
    seen_P = np.where(window_HW > 0.15, window_HW, 0).ravel()
    down, right = ([step for step in range(STEP + 1) if abs(step / STEP - part) <= 0.3] for part in fraction)
    best = (0.0, 0)
    for y in down:
        for x in right:
            fits_N = 2 * (outlines_YXNP[y, x] @ seen_P) / (norms_YXN[y, x] + seen_P @ seen_P)
            best = max(best, (float(fits_N.max()), int(fits_N.argmax())))
    fit, number = best
    return SHAPES[number * len(SHAPES) // outlines_YXNP.shape[2]], fit


@lru_cache(maxsize=1)
def _outlines() -> tuple[np.ndarray, np.ndarray]:
    """Outlines, float32 [y, x, N, window pixels], and their squared norms.

    y and x are the centre of mass in steps from the window's middle to the next pixel, N counts shapes, radii
    and blurs.
    """
    outlines = []
    steps = np.arange(STEP + 1) / STEP
    for dy in steps:
        for dx in steps:
            for shape in SHAPES:
                for radius in RADII:
                    # the middle of its extent is the centre of mass of all but triangles
                    sink = 0.7 / 3 * radius if shape == "triangle" else 0.0
                    cover = _cover(shape, radius, dx, dy - sink)
                    outlines += [_blurred(cover, blur).ravel() for blur in BLURS]
    found_YXNP = np.stack(outlines).reshape(STEP + 1, STEP + 1, -1, WINDOW**2)
    return found_YXNP, (found_YXNP**2).sum(axis=-1)


def _cover(shape: str, radius: float, dx: float, dy: float) -> np.ndarray:
    """How much of each pixel of a window an object in it covers, float32 [WINDOW, WINDOW]."""
    middle = WINDOW // 2 + 0.5  # pixels' middles are what places are counted from
    thing = Thing("red", shape, "large", middle + dx, middle + dy, radius)
    grey = Background("plain", (128, 128, 128), (128, 128, 128))
    drawn = _chroma(np.asarray(picture(Scene("shapes", WINDOW, grey, (thing,))), np.float32))
    full = np.array(COLOURS["red"], np.float32)
    full -= full.mean()
    return np.asarray((drawn @ full / (full @ full)).clip(0, 1), np.float32)


def _blurred(cover_HW: np.ndarray, blur: float) -> np.ndarray:
    if not blur:
        return cover_HW
    levels = Image.fromarray((cover_HW * 255).round().astype(np.uint8))
    return np.asarray(levels.filter(ImageFilter.GaussianBlur(blur)), np.float32) / 255
