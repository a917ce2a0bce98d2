"""What a dedup says of itself in its manifest: methods, distances, and what was nearly dropped."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.dedup.choosing import Choice
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.methods import Method
from pipelines.dedup.population import Population

MOST_MISSES = 24
_BINS = 30
_FROM = 0.2  # below a similarity's threshold


def told(
    config: DedupConfig,
    population: Population,
    methods: Sequence[Method],
    choice: Choice,
    alone: Sequence[Choice],
    keep: np.ndarray,
) -> dict[str, Any]:
    """`methods`: of each its threshold, how many it dropped and would drop alone, the pairs it found, the
    histogram of distances (of what it dropped to the witness; `beyond`: of pairs of a sample beyond the
    threshold), the recall that can be claimed, and the nearest misses."""
    own = slice(0, population.size)
    return {
        "methods": [
            {
                "name": method.name,
                "unit": method.unit,
                "threshold": method.threshold,
                "near_is": method.near_is,
                "meaning": method.meaning,
                "dropped": int((choice.method[own] == number).sum()),
                "alone": int((single.witness[own] >= 0).sum()),
                "pairs": len(method.classes.pairs),
                "recall": method.recall,
                "histogram": _histogram(method, single.distance[own][single.witness[own] >= 0]),
                "misses": _misses(population, method, keep),
            }
            for number, (method, single) in enumerate(zip(methods, alone, strict=True))
        ],
        "keep": config.keep,
    }


def _histogram(method: Method, distance: np.ndarray) -> dict[str, list[float]]:
    show = np.vectorize(method.show, otypes=[float])
    within = show(distance.astype(np.float64)) if len(distance) else np.empty(0)
    beyond = show(method.beyond.distance.astype(np.float64)) if len(method.beyond.distance) else np.empty(0)
    if method.near_is == "low":
        last = int(max(method.threshold, beyond.max(initial=0)))
        edges = np.arange(last + 2) - 0.5
    else:
        edges = np.linspace(max(0.0, method.threshold - _FROM), 1.0, _BINS + 1)
        within, beyond = np.minimum(within, 1.0), np.clip(beyond, edges[0], 1.0)
    return {
        "edges": edges.tolist(),
        "counts": np.histogram(within, edges)[0].tolist(),
        "beyond": np.histogram(beyond, edges)[0].tolist(),
    }


def _misses(population: Population, method: Method, keep: np.ndarray) -> list[dict[str, Any]]:
    """The nearest pairs beyond the threshold of which both are kept, each sample once."""
    of, pairs, distance = method.beyond
    stands = keep | population.settled
    order = np.argsort(distance, kind="stable")
    if not len(order):
        return []
    wanted = np.unique(pairs)
    standing = np.flatnonzero(stands & np.isin(of, wanted))
    first: dict[int, int] = {}
    for sample in standing.tolist():
        first.setdefault(int(of[sample]), sample)
    seen: set[int] = set()
    found: list[dict[str, Any]] = []
    for k in order.tolist():
        a, b = (first.get(int(unit), -1) for unit in pairs[k])
        if a < 0 or b < 0 or a in seen or b in seen or min(a, b) >= population.size:
            continue
        seen |= {a, b}
        ids = [population.ids[i].tobytes().hex() for i in (a, b)]
        found.append({"a": ids[0], "b": ids[1], "distance": round(method.show(float(distance[k])), 6)})
        if len(found) == MOST_MISSES:
            break
    return found
