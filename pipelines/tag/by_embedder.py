"""Tags by an embedder that has texts, such as CLIP: the words that lie nearest to a picture.

The score of a tag is the cosine of the picture's vector and the tag's: the mean of the vectors of PHRASES
with the tag in them, as unit length (the prompt ensemble of Radford et al., "Learning Transferable Visual
Models From Natural Language Supervision", 2021, section 3.1.4). It is no probability, no logit scale is in
it, and it means something only beside scores of the same model.

Pictures are embedded once (`pipelines.embed`; a clip counts as its middle frame), the vocabulary once a run
that has something to score. Kept are a medium's KEPT best tags, so that a threshold is decided later. Time:
media * tags * dim multiplications on one core a shard, about 0.1 ms a medium for 1,000 tags of 512
components; memory: the tags' vectors, and the cosines of BLOCK media.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.executor import Guard, Report, Step, Work, run
from infinity_mm.manifest import Manifest
from infinity_mm.media.shards import Shard
from infinity_mm.models.embedder import WITH_TEXTS, Found, Vectors, find_embedder, unit
from infinity_mm.sidecars import Family, Measure, sidecar_name, table_of, write_sidecar
from infinity_mm.store import Store
from pipelines.embed import DECODERS, Embeddings, OneThread, embed
from pipelines.measures.alignment import MODEL
from pipelines.tag.vocabulary import Vocabulary

KEPT = 32
BLOCK = 64
PHRASES = ("a photo of {}", "a picture of {}", "an image of {}")
Scored = Sequence[tuple[list[str], list[float]]]


class ScoreConfig(NamedTuple):
    """`files`: the embeddings by media shard; `vectors`: the tags', float32 [tags, dim]."""

    store: str
    settings: dict[str, Any]
    files: dict[str, str]
    tags: list[str]
    vectors: Vectors


def embedder_settings(found: Found, vocabulary: Vocabulary, max_pixels: int) -> dict[str, Any]:
    """What the scores depend on. Raises ValueError for an embedder of pictures alone."""
    if not found.has_texts:
        raise ValueError(
            f"embedder {found.spec} embeds pictures only: tags need one with texts, {WITH_TEXTS}"
        )
    return {
        "embedder": found.key(),
        "vocabulary": vocabulary.digest,
        "phrases": list(PHRASES),
        "kept": KEPT,
        "max_pixels": max_pixels,
    }


def tag_by_embedder(
    store: Store,
    manifest: Manifest,
    spec: str,
    vocabulary: Vocabulary,
    *,
    workers: int,
    max_pixels: int,
    report: Report | None = None,
) -> dict[str, str]:
    """Tag the media shards that a manifest uses, whole, where that is missing; each shard's sidecar.

    Raises ValueError for an embedder that can't be had.
    """
    found = find_embedder(spec)
    settings = embedder_settings(found, vocabulary, max_pixels)
    embeddings = embed(store, manifest, spec, workers=workers, report=report, max_pixels=max_pixels)
    files = {shard: sidecar_name(BY_EMBEDDER, settings, shard) for shard in embeddings}
    missing = [shard for shard, file in files.items() if not store.exists(file)]
    if not missing:
        return files
    vectors = tag_vectors(found, vocabulary.tags)
    config = ScoreConfig(store.url, settings, embeddings, vocabulary.tags, vectors)

    def arrived(number: int, table: pa.Table) -> None:
        shard = missing[number]
        files[shard] = write_sidecar(store, files[shard], table)

    step = Step(name="tag", open=open_step, config=config)
    run(step, missing, workers=workers, report=report, each=arrived)
    return files


def tag_vectors(found: Found, tags: Sequence[str]) -> Vectors:
    """The vector of each tag, float32 [tags, dim], of unit length."""
    with OneThread(found):
        embedder = found.load(threads=1 if found.device == "cpu" else None)
        total = np.zeros((len(tags), embedder.dim), np.float64)
        for phrase in PHRASES:
            said = [phrase.replace("{}", tag) for tag in tags]
            for start in range(0, len(said), BLOCK):
                total[start : start + BLOCK] += embedder.texts(said[start : start + BLOCK])
    return unit(total)


def open_step(config: ScoreConfig) -> Work:
    """The map step: a media shard's digest -> its sidecar's table."""
    store = Store.open(config.store)
    embeddings = Embeddings(store, config.files)
    score = open_scoring(config._asdict())

    def work(digest: str, guard: Guard) -> pa.Table:
        shard = Shard(store, digest)
        errors, vectors = embeddings.errors(digest), embeddings.vectors(digest)
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(errors), BLOCK):
            best = score(vectors[start : start + BLOCK].astype(np.float32))
            for row, (tags, scores) in enumerate(best, start):
                known = errors[row] is None
                found = (tags, scores, None) if known else (None, None, errors[row])
                rows.append((shard.media_id(row), *found))
        shard.close()
        return table_of(BY_EMBEDDER, rows)

    return work


def open_scoring(config: dict[str, Any]) -> Callable[[Vectors], Scored]:
    """A function from pictures' vectors, float [n, dim], to the KEPT best tags of each and their cosines, the
    best first, of equals the first in the vocabulary."""
    tags, words = config["tags"], config["vectors"]

    def score(pictures: Vectors) -> Scored:
        vectors = np.nan_to_num(unit(pictures))
        # A matrix product may sum in another order with more threads; this sums the same way always.
        cosines = np.einsum("nd,vd->nv", vectors, words)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, : config["settings"]["kept"]]
        scores = np.clip(np.take_along_axis(cosines, best, axis=1), -1, 1)
        return [([tags[i] for i in row], told.tolist()) for row, told in zip(best, scores, strict=True)]

    return score


BY_EMBEDDER = Family(
    "tags_by_embedder",
    "media",
    1,
    {
        "tags": Measure(pa.list_(pa.string()), "", f"the {KEPT} tags nearest to the picture, best first"),
        "scores": Measure(pa.list_(pa.float32()), "-1 to 1", "their cosines", "Radford et al. 2021"),
    },
    open_scoring,
    DECODERS,
    MODEL,
)
