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
    samples, across = _cells(luma)
    steps = np.empty((_CELL // 2, _CELL, samples.shape[1]), bool)  # to the right
    columns = samples.reshape(steps.shape)
    steps[:, :-1] = _differ(columns[:, 1:], columns[:, :-1])
    steps[:, -1, :-1] = _differ(columns[:, 0, 1:], columns[:, -1, :-1])  # to the cell beside
    steps[:, -1, across - 1 :: across] = False
    strokes = np.add.reduce(steps.reshape(samples.shape).view(np.uint8), axis=0, dtype=np.uint8)

    drawn, plain = _kinds(samples)
    found = int(np.count_nonzero(drawn))
    text = int(np.count_nonzero(drawn & (strokes >= _STROKES)))
    drawnness = found / max(1, drawn.size - plain)
    return DocumentLike(drawnness * text / drawn.size, drawnness * (found - text + plain) / drawn.size)


def drawn_like(luma: np.ndarray) -> float:
    """The sum of the two shares of `document_like`, at half its time: strokes are not looked for."""
    drawn, plain = _kinds(_cells(luma)[0])
    found = int(np.count_nonzero(drawn))
    return found / max(1, drawn.size - plain) * (found + plain) / drawn.size


def _cells(luma: np.ndarray) -> tuple[np.ndarray, int]:
    """uint8 [32, cells], row by row of a cell, for each cell; and how many cells are side by side."""
    if min(luma.shape) < _CELL:
        luma = np.pad(luma, [(0, max(0, _CELL - side)) for side in luma.shape], mode="edge")
    down, across = luma.shape[0] // _CELL, luma.shape[1] // _CELL
    cells = luma[: down * _CELL : 2, : across * _CELL].reshape(down, _CELL // 2, across, _CELL)
    return cells.transpose(1, 3, 0, 2).reshape(_SAMPLES, -1), across


def _kinds(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Whether each cell is drawn, bool [cells], and how many are plain."""
    low, high = (each.reduce(samples, axis=0).astype(np.int32) for each in (np.minimum, np.maximum))
    total = np.add.reduce(samples, axis=0, dtype=np.uint16).astype(np.int32)
    squared = samples.astype(np.uint16)
    squared *= squared
    squares = np.add.reduce(squared, axis=0, dtype=np.int32)
    span = high - low
    variance = _SAMPLES * squares - total * total
    bound = (_SAMPLES * high - total) * (total - _SAMPLES * low)
    drawn = (span >= _DRAWN_SPAN) & (20 * variance >= 9 * bound)
    return drawn, int(np.count_nonzero(span <= _PLAIN_SPAN))


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where uint8 values lie a stroke's step apart or more."""
    apart = np.maximum(one, other)
    apart -= np.minimum(one, other)
    return np.greater_equal(apart, _STEP)
