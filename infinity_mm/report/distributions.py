"""Distributions of measures, counted already: histograms, categories, and widths by heights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a distribution is of.

    `of`: samples or media; `n`: how many have a value, beside `not_applicable` and `failed`; `source`: where
    the measure's method comes from.
    """

    name: str
    n: int
    not_applicable: int = 0
    failed: int = 0
    of: str = "samples"
    unit: str = ""
    meaning: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A threshold at `at` on a histogram's axis; `label`: whose it is (a source, a rule), or empty."""

    at: float
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between rising `edges` (one more than `counts`); edges of whole numbers lie at the halves.

    `dropped`: how many of each count are dropped, or empty; `below` and `above`: values outside the edges;
    `log`: the axis is logarithmic (edges above 0). `n` is the sum of counts, below and above. Raises
    ValueError where this does not hold.
    """

    measured: Measured
    edges: Sequence[float]
    counts: Sequence[int]
    dropped: Sequence[int] = ()
    below: int = 0
    above: int = 0
    log: bool = False
    minimum: float | None = None
    median: float | None = None
    maximum: float | None = None
    limits: Sequence[Limit] = ()

    def __post_init__(self) -> None:
        name = self.measured.name
        if len(self.edges) != (len(self.counts) + 1 if self.counts else 0):
            raise ValueError(f"{name}: {len(self.edges)} edges for {len(self.counts)} counts: give one more")
        if list(self.edges) != sorted(set(self.edges)) or not all(map(math.isfinite, self.edges)):
            raise ValueError(f"{name}: the edges must rise and be finite")
        if self.log and self.edges and self.edges[0] <= 0:
            raise ValueError(f"{name}: a logarithmic axis begins above 0, not at {self.edges[0]}")
        if not all(math.isfinite(limit.at) for limit in self.limits):
            raise ValueError(f"{name}: a limit that is not finite cannot be drawn")
        if self.dropped and len(self.dropped) != len(self.counts):
            raise ValueError(f"{name}: {len(self.dropped)} dropped for {len(self.counts)} counts")
        if any(d > c for d, c in zip(self.dropped, self.counts, strict=False)):
            raise ValueError(f"{name}: more dropped than counted")
        if sum(self.counts) + self.below + self.above != self.measured.n:
            raise ValueError(f"{name}: the counts do not sum to n = {self.measured.n}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """How far samples are apart: between rising `edges`, the `counts` of what is dropped by its distance to
    what is kept for it, and `beyond` the threshold pairs of a sample of the samples. Raises ValueError where
    the two do not fit the edges.
    """

    unit: str
    edges: Sequence[float]
    counts: Sequence[int]
    beyond: Sequence[int]
    threshold: float

    def __post_init__(self) -> None:
        if not len(self.edges) - 1 == len(self.counts) == len(self.beyond) > 0:
            raise ValueError(
                f"distances: {len(self.counts)} counts and {len(self.beyond)} beyond for "
                f"{len(self.edges)} edges: give one edge more than counts, and as many beyond"
            )
        if list(self.edges) != sorted(set(self.edges)) or not all(map(math.isfinite, self.edges)):
            raise ValueError("distances: the edges must rise and be finite")
        if not math.isfinite(self.threshold):
            raise ValueError("distances: a threshold that is not finite cannot be drawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A category and its count, of which `dropped` are dropped (None: not asked)."""

    label: str
    count: int
    dropped: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Categories:
    """Counts of the values of a measure that is no number, the largest first; the rest in two numbers.

    `others`: how many further values there are; `others_count`: how often they occur together. `n` is the sum
    of all. Raises ValueError where it is not.
    """

    measured: Measured
    bars: Sequence[Bar]
    others: int = 0
    others_count: int = 0

    def __post_init__(self) -> None:
        if sum(bar.count for bar in self.bars) + self.others_count != self.measured.n:
            raise ValueError(f"{self.measured.name}: the bars do not sum to n = {self.measured.n}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Widths by heights of pictures, in pixels: `counts[row][column]`, rows by height, the lowest first.

    `width_edges` and `height_edges` rise, begin above 0 and are drawn logarithmically. Raises ValueError
    if they do not, or if the counts do not fit them.
    """

    width_edges: Sequence[float]
    height_edges: Sequence[float]
    counts: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        for edges in (self.width_edges, self.height_edges):
            if len(edges) < 2 or list(edges) != sorted(set(edges)) or edges[0] <= 0:
                raise ValueError("sizes: give two edges or more that rise and begin above 0")
        columns = len(self.width_edges) - 1
        if len(self.counts) != len(self.height_edges) - 1 or any(len(r) != columns for r in self.counts):
            raise ValueError("sizes: counts must have one row between two heights, one column between widths")


Distribution = Histogram | Categories
