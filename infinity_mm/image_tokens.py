"""How many image tokens a picture or clip has, from its width and height alone.

The arithmetic is that of LlavaOnevision in transformers, whose processor and model agree with each other. A
picture alone in its sample is seen twice: squashed to one *base tile*, and cut into a grid of tiles, the one
of `pinpoints` that keeps most of its pixels. What the grid's padding added is cut off its features again,
they are shrunk to about `limit` tiles' worth where there are many more, and each row ends in a newline
feature. One of several pictures is its base tile and a newline; a clip is a tile a frame, halved in height
and width, and one newline at its end.

All is integers but for one step: how far features are shrunk is a square root that transformers takes in
doubles, and so it is here. (135 rows of 9 × 27² features shrink to 80 there, not to 81.) Division and root
are correctly rounded everywhere, so the same sizes give the same counts on every machine.
"""

import math
from typing import Literal, NamedTuple

SHRINK = 1.1  # features are left as they are up to this ratio of their side to what `limit` allows


class Visual(NamedTuple):
    """A picture or clip as a model takes it: the only picture of its sample, one of several, or a clip."""

    kind: Literal["single", "several", "clip"]
    width: int  # pixels, upright
    height: int
    frames: int = 1


class Cut(NamedTuple):
    """What becomes of the features of a grid of tiles, as rows and columns of features."""

    rows: int  # tiles
    columns: int
    top: int  # features cut off at the top, and as many at the bottom
    left: int  # and at either side
    height: int  # features left, before they are shrunk
    width: int
    to_height: int  # features shrunk to; the same where they are not
    to_width: int

    @property
    def tokens(self) -> int:
        """Features with a newline at the end of each row."""
        return self.to_height * (self.to_width + 1)


class Geometry(NamedTuple):
    """How a vision tower of square tiles sees pictures of any size.

    `pinpoints` are the grids a picture may be cut in, as (height, width) in pixels, multiples of `side`. With
    none, a picture alone in its sample is its base tile and a newline: one tile, as LLaVA is pre-trained.
    With ((side, side),) it is two, its base tile and a grid of one; transformers knows no less.
    """

    side: int  # pixels of a tile
    patch: int  # pixels of a patch, which becomes one feature
    pinpoints: tuple[tuple[int, int], ...] = ()
    limit: int = 9  # N of "anyres_max_N"

    @property
    def grid(self) -> int:
        """Features along a tile's side."""
        return self.side // self.patch

    def best(self, width: int, height: int) -> tuple[int, int]:
        """The pinpoint, (height, width), that keeps most pixels of a picture and, of those, wastes least."""
        best, most, least = self.pinpoints[0], 0, math.inf
        for point_height, point_width in self.pinpoints:
            if point_width * height < point_height * width:
                scaled = point_width * (height * point_width // width)
            else:
                scaled = width * point_height // height * point_height
            kept = min(scaled, width * height)
            waste = point_height * point_width - kept
            if kept > most or (kept == most and waste < least):
                best, most, least = (point_height, point_width), kept, waste
        return best

    def cut(self, width: int, height: int) -> Cut:
        """How the features of a picture's grid are cut and shrunk."""
        best_height, best_width = self.best(width, height)
        rows, columns = best_height // self.side, best_width // self.side
        full_height, full_width = rows * self.grid, columns * self.grid
        top = left = 0
        if width * full_height > full_width * height:
            top = (full_height - height * full_width // width) // 2
        else:
            left = (full_width - width * full_height // height) // 2
        kept_height, kept_width = full_height - 2 * top, full_width - 2 * left
        to_height, to_width = kept_height, kept_width
        ratio = math.sqrt(kept_height * kept_width / (self.limit * self.grid**2))
        if ratio > SHRINK:
            to_height, to_width = int(kept_height // ratio), int(kept_width // ratio)
        return Cut(rows, columns, top, left, kept_height, kept_width, to_height, to_width)

    def tokens(self, visual: Visual) -> int:
        """Image tokens of a picture or clip. Raises ValueError where it has no pixel or frame."""
        if min(visual.width, visual.height, visual.frames) < 1:
            raise ValueError(f"{visual}: width, height and frames are 1 or more")
        base = self.grid**2
        if visual.kind == "clip":
            return visual.frames * ((self.grid + 1) // 2) ** 2 + 1
        if visual.kind == "several" or not self.pinpoints:
            return base + 1
        return base + self.cut(visual.width, visual.height).tokens

    def tiles(self, visual: Visual) -> int:
        """Tiles of a picture or clip: what the vision tower sees."""
        if visual.kind == "clip":
            return visual.frames
        if visual.kind == "several" or not self.pinpoints:
            return 1
        height, width = self.best(visual.width, visual.height)
        return 1 + (height // self.side) * (width // self.side)
