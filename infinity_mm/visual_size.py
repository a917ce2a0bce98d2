"""How large a picture is before it becomes codes: an area, its own shape, sides that codes divide."""

from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


class Unfit(ValueError):
    """A picture or clip that can't be made codes: a snake_case `reason`, and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class SizeRule(NamedTuple):
    """`area`: pixels of the resized picture, its shape kept, or None to keep its own; `least` and `most`: of
    the picture that comes; `factor`: pixels of a code's side, which divides the new sides."""

    area: int | None
    least: int
    most: int
    factor: int

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The new width and height: those that are nearest to the area at the same shape. Raises Unfit
        too_small, too_large or too_narrow."""
        own = width * height
        said = f"{width} x {height} is {own:,} pixels"
        if own < self.least:
            raise Unfit("too_small", f"{said}, the smallest allowed is {self.least:,}")
        if own > self.most:
            raise Unfit("too_large", f"{said}, the largest allowed is {self.most:,}")
        scale = 1.0 if self.area is None else sqrt(self.area / own)
        across, down = (round(side * scale / self.factor) for side in (width, height))
        if not (across and down):
            raise Unfit("too_narrow", f"{width} x {height} has a side of less than half a code when resized")
        return across * self.factor, down * self.factor

    def apply(self, pixels: Pixels) -> Pixels:
        """A picture uint8 [H, W, 3] as the rule wants it, bicubic as Emu3ImageProcessor's. Raises Unfit."""
        height, width = pixels.shape[:2]
        size = self.size(width, height)
        if size == (width, height):
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
