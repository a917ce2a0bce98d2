"""The 64-bit perceptual hash of a picture, bit for bit in the manner of imagehash.phash.

The picture is resampled to 32 by 32 luma with the Lanczos window of Pillow, its two-dimensional DCT-II is
taken, and the 8 by 8 lowest frequencies are compared with their median. All but the comparison is linear: a
product of an 8 by height matrix, the luma, and a width by 8 matrix. The matrices are cached by size.

A picture that is mirrored or turned has the same coefficients, some with another sign, perhaps transposed:
the hashes of all eight come from one transform.

Source: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010; bit order and
resampling as ImageHash 4.3, so that hashes of the two can be compared.
"""

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

# What may be done to a picture, numbered from 1: bit 0 mirrors it, bit 1 turns it upside down, and bit 2 then
# transposes it. Turns are clockwise.
SYMMETRIES = (
    *("mirrored", "upside_down", "turned_180", "transposed"),
    *("turned_270", "turned_90", "transversed"),
)

_SIDE = 32  # the picture is resampled to this before the transform
_LOW = 8  # frequencies kept along each side
_STEP = 1e-3  # gray levels: coefficients closer than this are equal, so that rounding decides no bit
_AT_ONCE = 1 << 15  # pixels multiplied at once: with more BLAS starts threads, which cost more than they do


class PHash(NamedTuple):
    """A hash, and how far its bits are from flipping."""

    bits: int  # 0 to 2**64 - 1; the most significant bit is the mean, then along the first row of frequencies
    margin: float  # gray levels, 0 or more: the median distance of a coefficient from the threshold


def phash(luma: np.ndarray) -> PHash:
    """Hashes luma [height, width] of any real dtype, values 0 to 255, each side at least 1.

    A coefficient of 1 is a wave with a root mean square of 1 gray level. A margin near 0 says that the hash
    means nothing: a picture of one colour has no frequency but its mean, and all such pictures hash alike.
    """
    steps = _coefficients(luma).reshape(-1)
    distance = 2 * steps - _twice_median(steps)
    bits = int.from_bytes(np.packbits(distance > 0).tobytes(), "big")
    return PHash(bits, _twice_median(np.abs(distance)) * _STEP / 4)


def symmetric_bits(luma: np.ndarray) -> list[int]:
    """The bits of the picture as each of SYMMETRIES makes it, from luma as `phash` takes it.

    They are those of the picture that is really mirrored or turned, but for bits that rounding decides.
    """
    steps = _coefficients(luma)
    flips = np.stack([steps * _signs(number) for number in range(4)])
    all_steps = np.concatenate([flips[1:], flips.transpose(0, 2, 1)]).reshape(len(SYMMETRIES), -1)
    ordered = np.sort(all_steps, axis=1)
    above = 2 * all_steps > (ordered[:, 31] + ordered[:, 32])[:, None]
    return np.packbits(above, axis=1).view(">u8")[:, 0].tolist()


def turned(pictures: np.ndarray, symmetry: int) -> np.ndarray:
    """What a symmetry of SYMMETRIES, by its number (0 none), makes of the last two axes; a view."""
    if symmetry & 1:
        pictures = pictures[..., ::-1]
    if symmetry & 2:
        pictures = pictures[..., ::-1, :]
    return pictures.swapaxes(-1, -2) if symmetry & 4 else pictures


def _coefficients(luma: np.ndarray) -> np.ndarray:
    """int64 [8, 8], in steps of _STEP gray levels: the lowest frequencies, down and across."""
    height, width = luma.shape
    down, across, gray = _lowest(height), _lowest(width).T, luma.astype(np.float32)
    columns = max(1, _AT_ONCE // height)
    parts = [down @ gray[:, left : left + columns] for left in range(0, width, columns)]
    waves = (np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]) @ across
    return np.rint(waves / _STEP).astype(np.int64)


@cache
def _signs(flip: int) -> np.ndarray:
    """int64 [8, 8]: flipping an axis changes the sign of its odd frequencies."""
    odd = np.where(np.arange(_LOW) % 2, -1, 1)
    return np.outer(odd if flip & 2 else np.ones_like(odd), odd if flip & 1 else np.ones_like(odd))


def _twice_median(values: np.ndarray) -> int:
    """Of 64 integers, so an integer too; `np.median` takes five times as long."""
    ordered = values.copy()
    ordered.sort()
    return int(ordered[31] + ordered[32])


@lru_cache(maxsize=512)
def _lowest(size: int) -> np.ndarray:
    """float32 [8, size]: resampling to 32, then the first eight rows of the DCT-II, of unit mean square."""
    at = (np.arange(_SIDE) + 0.5) * np.pi / _SIDE
    waves = np.cos(np.arange(_LOW)[:, None] * at) * np.sqrt(2.0) / _SIDE
    waves[0] /= np.sqrt(2.0)
    return (waves @ _lanczos(size)).astype(np.float32)


def _lanczos(size: int) -> np.ndarray:
    """float64 [32, size]: the weights with which Pillow resamples `size` pixels to 32."""
    scale = size / _SIDE
    support = max(scale, 1.0)
    centres = (np.arange(_SIDE) + 0.5) * scale
    distance = (np.arange(size) + 0.5 - centres[:, None]) / support
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)
