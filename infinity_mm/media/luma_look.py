"""The perceptual hash of a picture, and what says whether it is to be trusted: all from luma, as it sees.

Luma is that of a gray decode, which for a JPEG is its first channel: a third less time than with colours, and
a fifth of what all photometric measures take. Colours tell no two hashes apart.
"""

from typing import NamedTuple

import numpy as np

from infinity_mm.media.document_like import drawn_like
from infinity_mm.media.phash import phash
from infinity_mm.media.photometry import least_uniformity, working_luma

_ENOUGH = 4096  # pixels for uniformity, as photometry has it
_STEP = 3


class LumaLook(NamedTuple):
    """`working` is the luma that the others are of."""

    working: np.ndarray  # uint8 [height, width]: see infinity_mm.media.photometry
    phash: int  # 0 to 2**64 - 1: see infinity_mm.media.phash
    phash_margin: float  # gray levels, 0 or more: near 0 where the hash means nothing
    luma_uniformity: float  # share of pixels within 8 neighbouring levels, 0 to 1 for a blank picture
    luma_drawn: float  # share of the area, 0 to 1: see infinity_mm.media.document_like


def luma_look(luma: np.ndarray) -> LumaLook:
    """Looks at luma uint8 [height, width], each side at least 1, of a decode no smaller than MIN_SIDE."""
    working = working_luma(luma)
    return LumaLook(working, *phash(working), _uniformity(working), drawn_like(working))


def _uniformity(luma: np.ndarray) -> float:
    step = _STEP if luma.size >= _STEP * _ENOUGH and luma.shape[1] % _STEP else 1
    return least_uniformity(np.bincount(luma.reshape(-1)[::step], minlength=256).cumsum()[None])
