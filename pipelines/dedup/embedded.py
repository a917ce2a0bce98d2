"""The embeddings of a population's media, as rows that can be searched."""

import numpy as np

from infinity_mm.executor import Report
from infinity_mm.near_vectors import Vectors
from pipelines.config import LookingConfig
from pipelines.dedup.population import Population
from pipelines.embed import Embeddings, embed


def embedded(
    config: LookingConfig,
    embedder: str,
    population: Population,
    report: Report,
    order: np.ndarray | None = None,
) -> tuple[Vectors, np.ndarray]:
    """The vectors of all media that have one, and which media (int64); where one fails, so do its samples.

    `order` (int64 [media]): those in front of it come first. Vectors are mapped; nothing is read here.
    """
    home, where, row = population.homes
    parts, media = [], [np.empty(0, np.int64)]
    for k, manifest in enumerate(population.manifests):
        files = embed(
            manifest.store,
            manifest,
            embedder,
            workers=config.workers,
            report=report,
            max_pixels=config.max_pixels,
        )
        embeddings = Embeddings(manifest.store, files)
        for number, shard in enumerate(manifest.library().shards()):
            own = np.flatnonzero((home == k) & (where == number))
            if not len(own):
                continue
            errors = embeddings.errors(shard)
            wrong = np.array([errors[r] is not None for r in row[own].tolist()])
            population.fail_media({i: str(errors[row[i]]) for i in own[wrong].tolist()})
            parts.append((embeddings.vectors(shard), row[own[~wrong]].astype(np.int64)))
            media.append(own[~wrong])
    there = np.concatenate(media)
    if order is None:
        return Vectors(parts), there
    place = np.empty(len(population.media_ids), np.int64)
    place[order] = np.arange(len(place))
    by_place = np.argsort(place[there], kind="stable")
    return Vectors(parts, by_place), there[by_place]
