"""How much of a picture looks like lines of text, and how much like a chart, a diagram or a screenshot.

Luma is looked at in cells of eight by eight pixels, of which every second row is read. What is drawn or
printed has few tones, each of them flat; what is photographed is shaded. So a cell is one of three:

- *plain*: its values span 16 levels or fewer;
- *drawn*: they span 24 or more and are of two tones. No distribution on [low, high] with a given mean has a
  variance above (high - mean) (mean - low), and only one of two values attains that (Bhatia and Davis, "A
  better bound on the variance", 2000); a cell has two tones where its variance is 0.45 of the bound or more.
  A straight ramp has a third of it, a photograph's texture about a quarter, strokes and edges half and more;
- *shaded*: all others.

*Drawnness* is the share of the drawn among the cells that are not plain. It tells a diagram on white from a
photograph of a thing on white, and is 0 for a blank picture. Counts are of integers: no rounding anywhere.
"""

from typing import NamedTuple

import numpy as np

_CELL = 8  # pixels
_SAMPLES = _CELL * _CELL // 2
_PLAIN_SPAN = 16  # gray levels: above the noise of a JPEG of quality 75
_DRAWN_SPAN = 24
_STEP = 32  # gray levels between neighbours in a row: the side of a stroke
_STROKES = 6  # such steps among the 32 samples of a cell of text; an upright edge has four


class DocumentLike(NamedTuple):
    """Two shares of the picture's area, each times its drawnness; their sum is at most 1.

    Of a page of text the margins count as chart: the sum tells documents, the two what kind of document.
    """

    text_like: float  # drawn cells full of strokes
    chart_like: float  # all other drawn cells, and the plain ones


def document_like(luma: np.ndarray) -> DocumentLike:
    """Looks at luma uint8 [height, width], each side at least 1.

    Up to seven pixels at the right and at the bottom belong to no cell.
    """
    if min(luma.shape) < _CELL:
        luma = np.pad(luma, [(0, max(0, _CELL - side)) for side in luma.shape], mode="edge")
    down, across = luma.shape[0] // _CELL, luma.shape[1] // _CELL
    rows = np.ascontiguousarray(luma[: down * _CELL : 2, : across * _CELL])

    extremes = np.empty((2, *rows.shape), np.uint8)  # of the values and of what they lack of 255: two maxima
    extremes[0] = rows
    np.invert(rows, out=extremes[1])
    extremes = np.maximum.reduce(extremes.reshape(2, down, 4, -1), axis=2)
    for _ in range(3):
        extremes = np.maximum(extremes[..., ::2], extremes[..., 1::2])
    high, low = extremes[0].astype(np.int32), 255 - extremes[1].astype(np.int32)

    sums = np.zeros((3, *rows.shape), np.uint16)  # of the values, of their squares, of strokes
    sums[0] = rows
    np.multiply(sums[0], sums[0], out=sums[1])
    beside = np.maximum(rows[:, 1:], rows[:, :-1])
    beside -= np.minimum(rows[:, 1:], rows[:, :-1])
    np.greater_equal(beside, _STEP, out=sums[2, :, :-1], casting="unsafe")
    columns = np.add.reduce(sums.reshape(3, down, 4, -1), axis=2, dtype=np.int32)
    total, squares, strokes = np.einsum("abcd->abc", columns.reshape(3, down, across, _CELL))

    span = high - low
    variance = _SAMPLES * squares - total * total
    bound = (_SAMPLES * high - total) * (total - _SAMPLES * low)
    drawn = (span >= _DRAWN_SPAN) & (20 * variance >= 9 * bound)
    plain = int(np.count_nonzero(span <= _PLAIN_SPAN))
    found = int(np.count_nonzero(drawn))
    text = int(np.count_nonzero(drawn & (strokes >= _STROKES)))
    drawnness = found / max(1, span.size - plain)
    return DocumentLike(drawnness * text / span.size, drawnness * (found - text + plain) / span.size)
