"""Which samples are kept: one pass in the order of preference, so that every drop has a kept witness.

A sample is dropped if, and only if, a sample kept before it is the same as it or near it by some method: then
that sample is its witness. Nothing is dropped because of what was itself dropped, so no chain of drops leaves
a sample without a witness, and no two kept samples are near by any pair that was found. (SemDeDup and NeMo
Curator test against all earlier samples, dropped ones too.) Time: one look at each sample and each pair of
its class; memory: 16 bytes a pair and 8 bytes a class and method.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from infinity_mm.executor import Report, Silent
from pipelines.dedup.classes import Classes

_TOLD = 4096  # samples between two words on progress


class Choice(NamedTuple):
    """Of each sample: its `witness` (a sample that is kept), -1 if it is kept itself; the first `method` that
    names one; the `distance` to the nearest it names, of which the witness is the most preferred; `others`
    (bits): the other methods that would drop it."""

    witness: np.ndarray  # int64 [N]
    method: np.ndarray  # int8 [N], -1 for what is kept
    distance: np.ndarray  # float32 [N]
    others: np.ndarray  # uint8 [N]


class _Graph(NamedTuple):
    unit: np.ndarray
    starts: np.ndarray
    others: np.ndarray
    distance: np.ndarray
    kept: np.ndarray


def choose(
    methods: Sequence[Classes],
    order: np.ndarray,
    settled: np.ndarray | None = None,
    report: Report | None = None,
) -> Choice:
    """Go through `order` (int64, the most preferred sample first) and keep what no kept sample stands for.

    With `settled` (bool [N]) those samples are kept whatever they are near, and the others are compared with
    them alone, not with each other.
    """
    count = len(order)
    choice = Choice(
        np.full(count, -1, np.int64),
        np.full(count, -1, np.int8),
        np.zeros(count, np.float32),
        np.zeros(count, np.uint8),
    )
    graphs = [_graph(classes) for classes in methods]
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    involved = np.zeros(count, bool)
    for classes, graph in zip(methods, graphs, strict=True):
        applies = np.flatnonzero(classes.of >= 0)
        unit = classes.of[applies]
        busy = (np.bincount(unit, minlength=len(graph.kept)) > 1) | (np.diff(graph.starts) > 0)
        involved[applies[busy[unit]]] = True
    if settled is not None:
        for i in order[settled[order] & involved[order]].tolist():
            _keep(graphs, i)
        order = order[~settled[order]]
    order = order[involved[order]]
    report = report or Silent()
    report.start("choose", len(order), "samples")
    for k, i in enumerate(order.tolist()):
        if k % _TOLD == 0:
            report.advance(min(_TOLD, len(order) - k))
        found = -1
        for number, graph in enumerate(graphs):
            witness, distance = _witness(graph, int(graph.unit[i]), rank)
            if witness < 0:
                continue
            if found < 0:
                found = number
                choice.witness[i], choice.method[i], choice.distance[i] = witness, number, distance
            else:
                choice.others[i] |= 1 << number
        if found < 0 and settled is None:
            _keep(graphs, i)
    report.done()
    return choice


def _graph(classes: Classes) -> _Graph:
    """The neighbours of each class, the nearest first."""
    units = int(classes.of.max(initial=-1)) + 1
    here = np.concatenate([classes.pairs[:, 0], classes.pairs[:, 1]])
    there = np.concatenate([classes.pairs[:, 1], classes.pairs[:, 0]])
    distance = np.concatenate([classes.distance, classes.distance])
    order = np.lexsort((there, distance, here))
    starts = np.searchsorted(here[order], np.arange(units + 1))
    return _Graph(
        classes.of,
        starts,
        there[order],
        distance[order],
        np.full(units, -1, np.int64),
    )


def _keep(graphs: Sequence[_Graph], i: int) -> None:
    for graph in graphs:
        unit = int(graph.unit[i])
        if unit >= 0 and graph.kept[unit] < 0:
            graph.kept[unit] = i


def _witness(graph: _Graph, unit: int, rank: np.ndarray) -> tuple[int, float]:
    """The kept sample of a class or of the nearest of its neighbours that has one, and the distance; -1 if
    none. Of equally near ones the most preferred, so that it does not depend on how classes are numbered."""
    if unit < 0:
        return -1, 0.0
    own = int(graph.kept[unit])
    if own >= 0:
        return own, 0.0
    start, end = graph.starts[unit], graph.starts[unit + 1]
    if start == end:
        return -1, 0.0
    kept = graph.kept[graph.others[start:end]]
    there = np.flatnonzero(kept >= 0)
    if not len(there):
        return -1, 0.0
    distance = graph.distance[start + there[0]]
    nearest = kept[there[graph.distance[start + there] == distance]]
    return int(nearest[np.argmin(rank[nearest])]), float(distance)
