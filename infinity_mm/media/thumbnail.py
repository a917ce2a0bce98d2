"""The second test of pictures that a perceptual hash says too little of: blank ones, text, charts, drawings.

A 64-bit hash has the few lowest frequencies, which such pictures share: pages of one layout lie a few bits
apart whatever is written on them, and all of one colour are equal. Their *thumbnail* has 64 by 64 cells of
luma and 16 by 16 of colour. Luma is resampled with the Lanczos window, so that its cells hardly depend on how
many pixels the picture has; plain averages do, by half the contrast of a thin line.

Two thumbnails are alike where every cell agrees. How far a cell may be off grows with the range of its three
by three surroundings in the one picture or the other: rescaling and recompression err in proportion to the
contrast near by, while another word, digit or bar differs by most of it. Nothing is averaged over the
picture, so that a small difference counts as much as a large one. The more pixels a cell has in the smaller
picture, the less rescaling errs; cells smaller than two pixels are no evidence, and are joined.

What is too small to see in 64 by 64 cells is not seen; benchmarks/near_pictures.py says how small that is.
Memory is SIZE bytes a thumbnail, time some tens of microseconds a compared pair.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.Image import Resampling

from infinity_mm.media.phash import turned
from infinity_mm.media.photometry import Working

SIDE, COLOUR_SIDE = 64, 16  # cells along a side
_LUMA, _COLOURS = SIDE * SIDE, 2 * COLOUR_SIDE * COLOUR_SIDE
SIZE = _LUMA + _COLOURS + 2  # bytes: luma, blue less luma, red less luma, the shorter side in pixels

# Limits of `low_information`: benchmarks/near_pictures.py --only limits
UNIFORMITY, DRAWN, MARGIN = 0.4, 0.3, 0.5
WIDER = 0.65  # of a limit: whose copies may lie beyond it

# Gray levels that a cell may be off, and the share of the range near by: benchmarks/near_pictures.py
LEVELS = 10
COLOUR_LEVELS, COLOUR_SHARE = 8, 0.25
_SHORTER = np.array([0, 64, 128, 400])  # pixels of the shorter side of the smaller picture, from which on …
CELLS = (16, 32, 64, 64)  # … so many cells along a side are compared …
SHARES = (0.3, 0.3, 0.4, 0.25)  # … up to this share

# Means over 8 by 8, 4 by 4 and 2 by 2 blocks of luma and 2 by 2 of colour, and how far they may be off.
_BLOCKS, _COLOUR_BLOCKS = ((8, 16), (4, 9), (2, 7)), ((2, 9),)
TOLERANCE = np.array(
    [limit for side, limit in _BLOCKS for _ in range(side * side)]
    + [limit for side, limit in _COLOUR_BLOCKS for _ in range(2 * side * side)],
    np.uint8,
)  # [92], of the values of `coarse`
_AT_ONCE = 1 << 8  # pairs, of some 20 KB each, which stay in a core's cache


def low_information(
    uniformity: npt.ArrayLike, drawn: npt.ArrayLike, margin: npt.ArrayLike, wider: float = 1
) -> npt.NDArray[np.bool_]:
    """Whether a hash is not to be trusted, by luma_uniformity, luma_drawn and phash_margin (see LumaLook).

    `wider` below 1 moves the limits, so that more pictures count.
    """
    blank = np.asarray(uniformity) >= UNIFORMITY * wider
    return np.asarray(blank | (np.asarray(drawn) >= DRAWN * wider) | (np.multiply(margin, wider) < MARGIN))


def thumbnail(seen: Working, shorter: int) -> bytes:
    """SIZE bytes; `shorter`: the pixels of the shorter side of the picture, at its full size."""
    luma = Image.fromarray(seen.luma).resize((SIDE, SIDE), Resampling.LANCZOS)
    colours = seen.picture.resize((COLOUR_SIDE, COLOUR_SIDE), Resampling.BOX).convert("YCbCr").split()[1:]
    planes = (plane.tobytes() for plane in (luma, *colours))
    return b"".join((*planes, min(shorter, 0xFFFF).to_bytes(2, "little")))


def symmetric(thumbnails: np.ndarray, symmetry: int) -> np.ndarray:
    """Thumbnails uint8 [K, SIZE] of the pictures as a symmetry of phash.SYMMETRIES makes them."""
    luma, colours, _ = planes(thumbnails)
    parts = *(turned(planes, symmetry) for planes in (luma, colours)), thumbnails[:, -2:]
    return np.concatenate([part.reshape(len(thumbnails), -1) for part in parts], axis=1)


def coarse(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 [K, 92] of thumbnails uint8 [K, SIZE]: means that alike ones have within TOLERANCE."""
    luma, colours, _ = planes(thumbnails)
    means = [joined(luma, side) for side, _ in _BLOCKS] + [
        joined(colours, side) for side, _ in _COLOUR_BLOCKS
    ]
    return np.concatenate([mean.reshape(len(mean), -1) for mean in means], axis=1)


def luma_cells(thumbnails: np.ndarray, side: int) -> np.ndarray:
    """uint8 [K, side * side]: luma in fewer cells, a divisor of 64 along a side."""
    return joined(planes(thumbnails)[0], side).reshape(len(thumbnails), -1)


def coarsely_alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool [P], of values of `coarse`, uint8 [P, 92]."""
    within = _apart(one, other) <= TOLERANCE
    return np.asarray(within.all(axis=1))


def alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool [P]: whether thumbnails uint8 [P, SIZE] that are coarsely alike agree in every cell."""
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(one), _AT_ONCE)]
    return np.concatenate([np.empty(0, bool), *(_alike(one[part], other[part]) for part in parts)])


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    (luma, colours, shorter), (other_luma, other_colours, other_shorter) = planes(one), planes(other)
    kind = kinds(shorter, other_shorter)
    found = np.ones(len(one), bool)
    for number in np.unique(kind).tolist():
        cells, share = CELLS[number], SHARES[number]
        rows = np.flatnonzero(kind == number)
        of_colour = cells * COLOUR_SIDE // SIDE
        colour = joined(colours[rows], of_colour), joined(other_colours[rows], of_colour)
        found[rows] = _agree(*colour, COLOUR_LEVELS, COLOUR_SHARE).all(axis=1)
        rows = rows[found[rows]]
        found[rows] = _agree(joined(luma[rows], cells), joined(other_luma[rows], cells), LEVELS, share)
    return found


def _agree(one: np.ndarray, other: np.ndarray, levels: int, share: float) -> np.ndarray:
    """bool [...]: whether planes uint8 [..., side, side] agree in every cell."""
    apart = _apart(one, other)
    most = apart.max(axis=(-2, -1))
    found = most <= levels
    unsure = ~found & (most <= levels + int(share * 255))
    near_by = np.maximum(span(one[unsure]), span(other[unsure]))
    limit = np.uint8(levels) + (share * np.arange(256)).astype(np.uint8)
    found[unsure] = (apart[unsure] <= limit[near_by]).all(axis=(-2, -1))
    return found


def kinds(shorter: np.ndarray, other: np.ndarray) -> np.ndarray:
    """int64 [P]: which of CELLS and SHARES are for pictures of such shorter sides."""
    return np.searchsorted(_SHORTER, np.minimum(shorter, other), side="right") - 1


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The absolute difference of uint8 values."""
    return np.maximum(one, other) - np.minimum(one, other)


def planes(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luma uint8 [K, 64, 64], colours uint8 [K, 2, 16, 16], the shorter side uint16 [K]."""
    luma = thumbnails[:, :_LUMA].reshape(-1, SIDE, SIDE)
    colours = thumbnails[:, _LUMA : _LUMA + _COLOURS].reshape(-1, 2, COLOUR_SIDE, COLOUR_SIDE)
    return luma, colours, np.ascontiguousarray(thumbnails[:, -2:]).view("<u2")[:, 0]


def joined(cells: np.ndarray, side: int) -> np.ndarray:
    """uint8 [..., side, side]: means of blocks of the last two axes, rounded."""
    block = cells.shape[-1] // side
    if block == 1:
        return cells
    blocks = cells.reshape(*cells.shape[:-2], side, block, side, block)
    sums = blocks.sum(axis=-1, dtype=np.uint32).sum(axis=-2)
    return ((sums + block * block // 2) // (block * block)).astype(np.uint8)


def span(cells: np.ndarray) -> np.ndarray:
    """The greatest less the least value of each cell's three by three surroundings, of the last two axes."""
    padded = np.pad(cells, [(0, 0)] * (cells.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    high = np.maximum(np.maximum(padded[..., :-2, :], padded[..., 1:-1, :]), padded[..., 2:, :])
    low = np.minimum(np.minimum(padded[..., :-2, :], padded[..., 1:-1, :]), padded[..., 2:, :])
    high = np.maximum(np.maximum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    low = np.minimum(np.minimum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    return high - low
