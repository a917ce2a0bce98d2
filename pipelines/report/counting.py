"""Distributions of measures as a report shows them: counted here, drawn there.

For two manifests the edges are made of both, so that their histograms can be laid over each other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from infinity_mm.report.distributions import Bar, Categories, Distribution, Histogram, Limit, Measured, Sizes
from pipelines.measures.registry import FAMILIES, FAMILY_OF
from pipelines.values import Column

BINS = 40
BARS = 12
TAIL = 0.002  # of the values may lie outside a histogram at either end
EXACT = 1 << 52  # halves of whole numbers below this are exact
LOG_SPREAD = 30  # from the 5th to the 95th percentile, from which on an axis is logarithmic


def measured(name: str, column: Column) -> Measured:
    """What a distribution of a measure is of."""
    family = FAMILIES[FAMILY_OF[name]]
    about = family.measures[name]
    return Measured(
        name=name,
        n=len(column.values),
        not_applicable=column.not_applicable,
        failed=column.failed,
        of=family.of,
        unit=about.unit,
        meaning=about.meaning,
        source=about.source,
    )


def distributions(name: str, columns: Sequence[Column]) -> list[Distribution]:
    """A measure's distribution in each of one or two manifests."""
    kind = columns[0].values.dtype
    if kind.is_numeric() and any(len(c.values) for c in columns):
        edges, log = edges_of([c.values.to_numpy() for c in columns], whole=kind.is_integer())
        return [histogram(measured(name, c), c.values.to_numpy(), edges, log) for c in columns]
    return [categories(measured(name, c), c.values) for c in columns]


def edges_of(values: Sequence[np.ndarray], whole: bool, tail: float = TAIL) -> tuple[np.ndarray, bool]:
    """Edges for one or two sets of numbers, not all empty, and whether their axis is logarithmic.

    `tail`: the share of the values that may lie outside at either end of a linear axis.
    """
    every = np.concatenate(values).astype(np.float64)
    low, high = float(every.min()), float(every.max())
    if whole and high - low < BINS and max(-low, high) < EXACT:
        return np.arange(low - 0.5, high + 1), False
    p5, middle, p95 = np.quantile(every, [0.05, 0.5, 0.95])
    log = bool(low > 0 and (p95 > LOG_SPREAD * p5 or high > LOG_SPREAD * middle))
    if not log:
        low, high = (float(q) for q in np.quantile(every, [tail, 1 - tail], method="nearest"))
    if low == high:
        around = max(0.5, abs(low) * 1e-6)
        return np.array([low - around, low + around]), False
    edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    if whole:
        edges = np.unique(np.floor(edges)) - 0.5
        edges[-1] = np.floor(high) + 0.5
        edges[0] = max(edges[0], 0.5) if log else edges[0]
    else:
        edges[0], edges[-1] = low, np.nextafter(high, np.inf)
    return np.unique(edges), log


def histogram(
    about: Measured,
    values: np.ndarray,
    edges: np.ndarray,
    log: bool,
    dropped: np.ndarray | None = None,
    limits: Sequence[Limit] = (),
) -> Histogram:
    """Counts between edges. `dropped` (bool): which of the values are."""
    values = values.astype(np.float64)
    place = np.searchsorted(edges, values, side="right") - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    counts = np.bincount(place[inside], minlength=len(edges) - 1)
    lost = None if dropped is None else np.bincount(place[inside & dropped], minlength=len(edges) - 1)
    known: dict[str, Any] = {}
    if len(values):
        known = {"minimum": values.min(), "median": np.median(values), "maximum": values.max()}
    return Histogram(
        measured=about,
        edges=edges.tolist(),
        counts=counts.tolist(),
        dropped=[] if lost is None else lost.tolist(),
        below=int(np.count_nonzero(place < 0)),
        above=int(np.count_nonzero(place >= len(edges) - 1)),
        log=log,
        limits=limits,
        **{k: float(v) for k, v in known.items()},
    )


def categories(about: Measured, values: pl.Series) -> Categories:
    """Counts of the commonest values; a list counts each of its values."""
    if values.dtype.is_nested():
        values = values.explode().drop_nulls()
        about = Measured(**{f: getattr(about, f) for f in about.__dataclass_fields__} | {"n": len(values)})
    if not len(values):
        return Categories(measured=about, bars=[])
    counts = values.cast(pl.String).value_counts().sort(["count", values.name], descending=[True, False])
    labels, numbers = counts[values.name].to_list(), counts["count"].to_list()
    bars = [Bar(label=label, count=n) for label, n in zip(labels[:BARS], numbers[:BARS], strict=True)]
    return Categories(
        measured=about, bars=bars, others=len(labels) - len(bars), others_count=sum(numbers[BARS:])
    )


def sizes(width: Column, height: Column) -> Sizes | None:
    """Widths by heights, in octaves and their halves."""
    if not len(width.values):
        return None
    wide, tall = width.values.to_numpy(), height.values.to_numpy()
    edges = [2.0 ** (np.arange(*_half_octaves(side)) / 2) for side in (wide, tall)]
    counts = np.histogram2d(tall, wide, bins=[edges[1], edges[0]])[0].astype(int)
    return Sizes(width_edges=edges[0].tolist(), height_edges=edges[1].tolist(), counts=counts.tolist())


def _half_octaves(side: np.ndarray) -> tuple[int, int]:
    low, high = (int(np.floor(2 * np.log2(v))) for v in (side.min(), side.max()))
    return low, high + 2
