"""Whether two thumbnails are of one picture in two tones: brighter, darker, of another contrast, or gray.

The second test (infinity_mm/media/thumbnail.py) knows no change of tone. Here the flatter of the two is made
what the other should be. A gain and an offset are fitted to luma, away from what is blown; all channels get
them and are clipped; and what comes of it must agree with the other in every cell, colours too, as far as the
second test lets copies be off. What was blown has lost its contrast: the range near by is that before
clipping. Where one of the two is gray all over, and all 64 by 64 cells are compared, both are taken for gray.

A gain and an offset that are free would clip two pages to white, and white pages agree: the gain lies between
0.9 and 2, and some level between black and white stays within 24 levels of itself. Noise is like noise of any
offset: luma of the two must be correlated. Pictures of less than 64 pixels are left out. Another curve, as of
gamma, is taken for a line, which finds half the copies. Other saturation is another picture, and so is what
is cropped or written over.

Where it may be asked at all is `tonal`. Time: some 200 microseconds a pair.
"""

import numpy as np
import numpy.typing as npt

from infinity_mm.media.thumbnail import (
    CELLS,
    COLOUR_LEVELS,
    COLOUR_SHARE,
    COLOUR_SIDE,
    LEVELS,
    MARGIN,
    SHARES,
    SIDE,
    UNIFORMITY,
    WIDER,
    joined,
    kinds,
    planes,
    span,
)

# Limits: benchmarks/near_pictures.py --only tones
DRAWN = 0.7  # of the area looks drawn or printed: from there on a change of tone is not looked for
_PALE = 204  # luma that a picture a quarter brighter blows

_LEAST_SIDE = 32  # cells along a side
_BLACK, _BLOWN = 4, 250  # luma up to which, and a channel from which on, contrast may be lost
_GRAY = 3  # levels that the colours of gray are off
_GAINS, _SHIFT = (0.9, 2.0), 24
_CORRELATED = 0.9
_FLAT = 1e-3  # levels of spread, up to which there is no line
_ENOUGH = 0.05  # of the cells lie away from blown ones, or those beside them count too
_FAR = 2  # levels, and root mean squares, from which on a cell is left out of the fit
_AT_ONCE = 1 << 5  # pairs, of some 400 KB each


def tonal(drawn: npt.ArrayLike, margin: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether near hashes are a sign of copies in another tone, by what looks drawn and by phash_margin.

    Pages of one layout are near one another by the thousand, and in another tone they may be alike too.
    """
    return np.asarray((np.asarray(drawn) < DRAWN) & (np.asarray(margin) >= MARGIN))


def is_pale(luma: np.ndarray) -> bool:
    """Whether a copy of luma uint8 that is a quarter brighter may be of low information, being blown."""
    return float((luma >= _PALE).mean()) >= UNIFORMITY * WIDER


def toned_alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool [P]: whether thumbnails uint8 [P, SIZE] agree in every cell after a change of tone of either."""
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(one), _AT_ONCE)]
    return np.concatenate([np.empty(0, bool), *(_toned_alike(one[part], other[part]) for part in parts)])


def _toned_alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    (luma, colours, shorter), (other_luma, other_colours, other_shorter) = planes(one), planes(other)
    kind = kinds(shorter, other_shorter)
    found = np.zeros(len(one), bool)
    for number in np.unique(kind).tolist():
        side = CELLS[number]
        if side < _LEAST_SIDE:
            continue
        rows = np.flatnonzero(kind == number)
        pair = [joined(part[rows], side * COLOUR_SIDE // SIDE) for part in (colours, other_colours)]
        if side == SIDE:
            gray = [(np.abs(part - np.float32(128)) <= _GRAY).all(axis=(1, 2, 3)) for part in pair]
            pair = [np.where((gray[0] != gray[1])[:, None, None, None], 128, part) for part in pair]
        light = joined(luma[rows], side), joined(other_luma[rows], side)
        found[rows] = _agree(_channels(light[0], pair[0]), _channels(light[1], pair[1]), SHARES[number])
    return found


def _agree(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """bool [P]: whether a change of tone makes channels [P, 3, side, side] of the one those of the other."""
    luma, other_luma = _luma(one), _luma(other)
    blown, other_blown = one.max(axis=1) >= _BLOWN, other.max(axis=1) >= _BLOWN
    inside = ~blown & ~other_blown & (luma > _BLACK) & (other_luma > _BLACK)
    away = _eroded(inside)
    inside = np.where((away.mean(axis=(1, 2)) >= _ENOUGH)[:, None, None], away, inside)

    _, _, spread, other_spread, _ = _moments(luma, other_luma, inside)
    swap = spread > other_spread  # the flatter one has lost nothing that the steeper one has
    one, other = _chosen(swap, other, one), _chosen(swap, one, other)
    luma, other_luma = _chosen(swap, other_luma, luma), _chosen(swap, luma, other_luma)

    gain, offset, correlation = _fitted(luma, other_luma, inside)
    beyond = 255 * (1 - gain)
    found = (correlation >= _CORRELATED) & (gain >= _GAINS[0]) & (gain <= _GAINS[1])
    found &= (offset >= np.minimum(beyond, 0) - _SHIFT) & (offset <= np.maximum(beyond, 0) + _SHIFT)
    rows = np.flatnonzero(found)
    found[rows] = _becomes(one[rows], other[rows], gain[rows], offset[rows], share)
    return found


def _becomes(
    one: np.ndarray, other: np.ndarray, gain: np.ndarray, offset: np.ndarray, share: float
) -> np.ndarray:
    """bool [P]: whether one with this gain and offset [P], clipped, agrees with the other in every cell."""
    wider = np.maximum(gain, 1)[:, None, None]
    unclipped = one * gain[:, None, None, None] + offset[:, None, None, None]
    made = np.clip(unclipped, 0, 255)
    luma, other_luma = _luma(made), _luma(other)
    near_by = np.maximum(span(_luma(unclipped)), span(other_luma))
    found = (np.abs(luma - other_luma) <= LEVELS * wider + share * near_by).all(axis=(1, 2))
    colours, other_colours = _colours(made, luma), _colours(other, other_luma)
    near_by = np.maximum(span(colours), span(other_colours))
    limit = COLOUR_LEVELS * wider[:, None] + COLOUR_SHARE * near_by
    return np.asarray(found & (np.abs(colours - other_colours) <= limit).all(axis=(1, 2, 3)))


def _fitted(
    one: np.ndarray, other: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gain and the offset that make one [P, side, side] the other in cells inside, and the correlation.

    Twice: what is far from the first line is left out of the second.
    """
    gain, offset, _ = _line(one, other, inside)
    apart = np.abs(one * gain[:, None, None] + offset[:, None, None] - other)
    squares = np.einsum("pyx,pyx->p", apart * apart, inside.astype(np.float32))
    far = _FAR * np.maximum(np.sqrt(squares / np.maximum(inside.sum(axis=(1, 2)), 1)), 1)
    return _line(one, other, inside & (apart <= far[:, None, None]))


def _line(
    one: np.ndarray, other: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_fitted`; the gain is the ratio of the spreads, which noise hardly moves."""
    mean, other_mean, spread, other_spread, together = _moments(one, other, inside)
    both = spread * other_spread
    gain = other_spread / np.maximum(spread, _FLAT)
    correlation = np.where((spread > _FLAT) & (other_spread > _FLAT), together / np.maximum(both, _FLAT), 0)
    return gain, other_mean - gain * mean, correlation


def _moments(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means, standard deviations and the covariance, float32 [P] each, of cells inside."""
    shape = len(one), -1
    inside = inside.reshape(shape).astype(np.float32)
    one, other = (plane.reshape(shape) - np.float32(128) for plane in (one, other))
    count = np.maximum(inside.sum(axis=1), 1)
    seen, other_seen = one * inside, other * inside
    mean, other_mean = seen.sum(axis=1) / count, other_seen.sum(axis=1) / count
    square, other_square, product = (
        np.einsum("pi,pi->p", a, b) / count for a, b in ((seen, one), (other_seen, other), (seen, other))
    )
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    other_spread = np.sqrt(np.maximum(other_square - other_mean * other_mean, 0))
    return mean + 128, other_mean + 128, spread, other_spread, product - mean * other_mean


def _chosen(swap: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[P, ...]: one where swap [P], else the other."""
    return np.where(swap.reshape(-1, *(1,) * (one.ndim - 1)), one, other)


def _eroded(inside: np.ndarray) -> np.ndarray:
    """bool [P, side, side]: cells whose three by three surroundings are all inside."""
    padded = np.pad(inside, [(0, 0), (1, 1), (1, 1)], mode="edge")
    rows = padded[:, :-2] & padded[:, 1:-1] & padded[:, 2:]
    return rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:]


def _channels(luma: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """R, G and B, float32 [P, 3, side, side], of luma [P, side, side] and of colours, fewer; not clipped."""
    times = luma.shape[-1] // colours.shape[-1]
    seen = (colours.astype(np.float32) - 128).repeat(times, axis=-1).repeat(times, axis=-2)
    light, blue, red = luma.astype(np.float32), seen[:, 0], seen[:, 1]
    green = light - 0.344136 * blue - 0.714136 * red
    return np.stack([light + 1.402 * red, green, light + 1.772 * blue], axis=1)


def _luma(channels: np.ndarray) -> np.ndarray:
    """float32 [P, side, side] of R, G and B [P, 3, side, side]."""
    return 0.299 * channels[:, 0] + 0.587 * channels[:, 1] + 0.114 * channels[:, 2]


def _colours(channels: np.ndarray, luma: np.ndarray) -> np.ndarray:
    """Blue and red less luma, float32 [P, 2, side / 4, side / 4], as a thumbnail has them."""
    block = SIDE // COLOUR_SIDE
    side = luma.shape[-1] // block
    apart = np.stack([(channels[:, 2] - luma) / 1.772, (channels[:, 0] - luma) / 1.402], axis=1)
    return np.asarray(apart.reshape(len(luma), 2, side, block, side, block).mean(axis=(3, 5)))
