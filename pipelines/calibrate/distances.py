"""How far the pictures of a calibration are apart, by each method. A new one is a function and a line."""

from collections.abc import Callable, Sequence

import numpy as np

from infinity_mm.executor import Report
from infinity_mm.manifest import Manifest
from infinity_mm.near_pictures import near_pictures
from pipelines.config import MeasuringConfig
from pipelines.dedup.looking import CLIPS, LOOKS, TURNED, looks_of
from pipelines.dedup.population import Population
from pipelines.embed import Embeddings, embed
from pipelines.measure import measure, settings_of

WIDEST = 24  # bits
LEAST_COSINE = 0.5


class Distances:
    """Distances of media by a method, infinite beyond the widest of its `grid`; the smaller the nearer.

    `media`: the ids of what `table` (float32 [n, n]) is of; `show` turns a distance into what `option` takes,
    in `unit`s.
    """

    def __init__(
        self,
        name: str,
        option: str,
        unit: str,
        grid: np.ndarray,
        show: Callable[[float], float],
        media: Sequence[bytes],
        table: np.ndarray,
    ) -> None:
        self.name, self.option, self.unit, self.grid, self.show = name, option, unit, grid, show
        self._number, self._table = {medium: i for i, medium in enumerate(media)}, table

    def numbers(self, media: Sequence[bytes]) -> np.ndarray:
        """int64 [n]: the numbers of some media."""
        return np.array([self._number[medium] for medium in media], np.int64)

    def pairs(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """float32 [n] for two int64 [n], numbers of media."""
        return self._table[left, right]

    def between(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """float32 [n, m] for int64 [n] and [m]."""
        return self._table[np.ix_(left, right)]


def _perceptual(
    config: MeasuringConfig, manifest: Manifest, report: Report, *, flips: bool = False
) -> Distances:
    names = [*LOOKS, *CLIPS, *(TURNED if flips else ())]
    files, _ = measure(
        manifest.store, manifest, settings_of(config, names), workers=config.workers, report=report
    )
    population = Population(manifest)
    count = len(population.media_ids)
    table = np.full((count, count), np.inf, np.float32)
    with looks_of(population, [files], np.arange(count), flips=flips) as looked:
        found = near_pictures(looked.looks, WIDEST)
        medium, group = looked.media, found.same
    distance = np.full((len(medium), len(medium)), np.inf, np.float32)
    distance[found.pairs[:, 0], found.pairs[:, 1]] = found.bits
    distance = np.minimum(distance, distance.T)
    np.fill_diagonal(distance, 0)
    table[np.ix_(medium, medium)] = distance[np.ix_(group, group)]
    ids = [population.media_ids[i].tobytes() for i in range(count)]
    return Distances(
        f"perceptual{' with flips' if flips else ''}",
        f"--radius{' with --flips' if flips else ''}",
        "bits",
        np.arange(0, 17),
        float,
        ids,
        table,
    )


def _semantic(config: MeasuringConfig, manifest: Manifest, report: Report) -> Distances:
    files = embed(
        manifest.store,
        manifest,
        config.embedder,
        workers=config.workers,
        report=report,
        max_pixels=config.max_pixels,
    )
    embeddings = Embeddings(manifest.store, files)
    population = Population(manifest)
    _, where, row = population.homes
    shards = list(manifest.library().shards())
    vectors = np.stack(
        [embeddings.vectors(shards[s])[r].astype(np.float32) for s, r in zip(where, row, strict=True)]
    )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    table = 1 - vectors @ vectors.T
    table[(length == 0)[:, 0]] = np.inf
    table[:, (length == 0)[:, 0]] = np.inf
    ids = [population.media_ids[i].tobytes() for i in range(len(vectors))]
    grid = np.round(np.arange(0, 1 - LEAST_COSINE + 0.005, 0.01), 2)
    return Distances("semantic", "--cosine", "cosine", grid, _cosine, ids, np.maximum(table, 0))


def _cosine(distance: float) -> float:
    return round(1 - distance, 6)


def _flips(config: MeasuringConfig, manifest: Manifest, report: Report) -> Distances:
    return _perceptual(config, manifest, report, flips=True)


METHODS: dict[str, Callable[[MeasuringConfig, Manifest, Report], Distances]] = {
    "perceptual": _perceptual,
    "perceptual with flips": _flips,
    "semantic": _semantic,
}
