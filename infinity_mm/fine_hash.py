"""A finer hash of a picture: 2,048 bits that tell pages, tables and charts apart, and show none of them.

It is for the pictures of which a perceptual hash says too little, where their thumbnails
(infinity_mm/media/thumbnail.py) can't be given away. The thumbnail is cut into 8 by 8 blocks. Of a block's
cells, each measured against the range of tones around it (rescaling and recompression err in proportion to
that), random sums are taken, with a sign a cell, and cut into steps of one width: a bit is whether a sum,
with a random shift, lies in an even step or an odd one. Two blocks differ in few of their 32 bits where their
cells are near, and in half of them from about a stroke's difference on; how far apart they are beyond that,
and so what either looks like, the bits do not tell.

Hashes are as far apart as the four blocks that differ most, so that one other word on a page counts. Sums are
of whole numbers, so bits are the same on every machine. Time: 1.5 ms a thumbnail; memory: 200 KB each.

Source: Boufounos and Rane, "Secure binary embeddings for privacy preserving nearest neighbors", 2011; signs
in place of normal numbers, blocks and ranges are ours.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from infinity_mm.media.thumbnail import COLOUR_SIDE, SIDE, SIZE
from infinity_mm.order import mix

BLOCKS = 8  # along a side
BITS = 32  # of a block
BYTES = BLOCKS * BLOCKS * BITS // 8
# How far apart hashes of one picture may be, alone and where other evidence agrees.
NEAR, LIKE = 26, 40  # bits: benchmarks/decontaminate.py --only fine
_WORST = 4  # blocks
_SIDE = SIDE // 2  # cells of luma along a side
_UNIT = 64  # of a cell's value, for whole sums
_STEP = 4 * _UNIT
_AT_ONCE = 256  # thumbnails

Fine = npt.NDArray[np.uint8]


def fine_hashes(thumbnails: npt.NDArray[np.uint8]) -> Fine:
    """uint8 [N, BYTES] of thumbnails uint8 [N, thumbnail.SIZE]. Raises ValueError for another shape."""
    if thumbnails.dtype != np.uint8 or thumbnails.shape[1:] != (SIZE,):
        raise ValueError(
            f"thumbnails are {thumbnails.dtype} of shape {thumbnails.shape}: uint8 of [N, {SIZE}] is wanted"
        )
    out = np.empty((len(thumbnails), BYTES), np.uint8)
    for start in range(0, len(thumbnails), _AT_ONCE):
        cells = np.rint(_cells(thumbnails[start : start + _AT_ONCE]) * _UNIT).astype(np.float32)
        signs, shifts = _drawn(cells.shape[2])
        # sums are below 2**24, which float32 adds exactly, in whatever order
        sums = np.matmul(cells.transpose(1, 0, 2), signs).astype(np.int64) + shifts
        odd = (sums // _STEP & 1).astype(np.uint8).transpose(1, 0, 2)
        out[start : start + _AT_ONCE] = np.packbits(odd.reshape(len(odd), -1), axis=1)
    return out


def apart(one: Fine, other: Fine) -> npt.NDArray[np.int64]:
    """How far hashes are apart, row by row: the bits of the four blocks that differ most, int64 [N]."""
    differ = np.unpackbits(one ^ other, axis=1).reshape(len(one), BLOCKS * BLOCKS, BITS)
    blocks = differ.sum(axis=2, dtype=np.int64)
    return np.partition(blocks, -_WORST, axis=1)[:, -_WORST:].sum(axis=1)


def _cells(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """float64 [N, BLOCKS * BLOCKS, cells]: what a block's cells are, each less its surroundings and as these,
    and the colours around, in units of what rescaling and recompression may change."""
    count, pixels = len(thumbnails), SIDE * SIDE
    halves = thumbnails[:, :pixels].reshape(count, _SIDE, 2, _SIDE, 2)
    luma = (halves.sum(axis=(2, 4), dtype=np.int64) + 2) // 4
    rest = thumbnails[:, pixels : pixels + 2 * COLOUR_SIDE**2].astype(np.int64)
    colours = rest.reshape(count, 2, COLOUR_SIDE, COLOUR_SIDE)
    mean = _around(luma, np.add) / 9
    ranges = _ranges(luma)
    level = np.rint(luma.sum(axis=(1, 2)) / _SIDE**2)[:, None, None]
    planes = [
        (luma - mean) / (10 + 0.4 * ranges),
        0.6 * (mean - level) / (10 + 0.2 * ranges),
        *((_around(colours, np.add) / 9 - 128) / 32).swapaxes(0, 1),
    ]
    return np.concatenate([_blocks(plane) for plane in planes], axis=2)


def _ranges(planes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The mean range of the three by three surroundings of each cell and its neighbours."""
    return _around(_around(planes, np.maximum) - _around(planes, np.minimum), np.add) / 9


def _around(planes: npt.NDArray[np.int64], join: Callable[..., np.ndarray]) -> npt.NDArray[np.int64]:
    """Each cell joined with its eight neighbours; what lies at a border is repeated beyond it."""
    side = planes.shape[-1]
    padded = np.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    rows = join(join(padded[..., :-2, :], padded[..., 1:-1, :]), padded[..., 2:, :])
    return join(join(rows[..., :side], rows[..., 1 : side + 1]), rows[..., 2:])


def _blocks(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[N, BLOCKS * BLOCKS, cells] of planes [N, side, side]."""
    count, side = planes.shape[0], planes.shape[-1] // BLOCKS
    cut = planes.reshape(count, BLOCKS, side, BLOCKS, side).transpose(0, 1, 3, 2, 4)
    return cut.reshape(count, BLOCKS * BLOCKS, side * side)


@cache
def _drawn(cells: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The signs, float32 [blocks, cells, BITS], and the shifts, int64 [blocks, 1, BITS]: always the same."""
    blocks = BLOCKS * BLOCKS
    words = mix(np.arange(blocks * cells * BITS // 64, dtype=np.uint64), 1)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8))
    signs = bits.reshape(blocks, cells, BITS).astype(np.float32) * 2 - 1
    shifts = mix(np.arange(blocks * BITS, dtype=np.uint64), 2) % np.uint64(2 * _STEP)
    return signs, shifts.astype(np.int64).reshape(blocks, 1, BITS)
