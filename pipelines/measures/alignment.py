"""How well picture and text belong together, by a model that embeds both.

`clip_score` is the cosine between a sample's text and its picture (Hessel et al., "CLIPScore", 2021, without
their factor 2.5 and without cutting off below 0). The text is what the assistant says: the texts of all its
turns, each without the white space around it, joined by a space, and cut to the model's context by the
model's tokenizer. With several media, wherever in the turns they stand, it is the mean of their cosines; a
clip counts as its middle frame. It does not apply to a sample without media, nor to one whose assistant says
nothing. A medium that can't be embedded fails the sample with the medium's error.

Pictures are embedded once, in sidecars of their own (`pipelines.embed`), and looked up here: what is left is
the text side of the model, in batches. A score means something only beside scores of the same model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infinity_mm.executor import Report
from infinity_mm.manifest import Manifest
from infinity_mm.media.index import Library, Unavailable
from infinity_mm.models.embedder import WITH_TEXTS, Embedder, Vectors, find_embedder
from infinity_mm.sidecars import Family, Measure
from infinity_mm.store import Store
from pipelines.embed import DECODERS, Embeddings, OneThread, embed
from pipelines.measures.sample_look import SampleLook

MODEL = "model"  # what a look of such a family costs: it is measured only where it is asked for
Answer = Sequence[Any] | Exception


def alignment_settings(spec: str, max_pixels: int) -> dict[str, Any]:
    """The settings of the family for an embedder. Raises ValueError for one that can't be had, or that has
    no text side."""
    found = find_embedder(spec)
    if not found.has_texts:
        raise ValueError(
            f"embedder {spec} embeds pictures only: clip_score needs one with texts, {WITH_TEXTS}"
        )
    return {"embedder": found.key(), "max_pixels": max_pixels, "_spec": spec}


def with_embeddings(
    store: Store, manifest: Manifest, settings: dict[str, Any], workers: int, report: Report | None
) -> dict[str, Any]:
    """The settings, and where the vectors of a manifest's media lie, which are made first where missing."""
    files = embed(
        store, manifest, settings["_spec"],
        workers=workers, report=report, max_pixels=settings["max_pixels"],
    )  # fmt: skip
    return settings | {"_store": store.url, "_manifest": manifest.file, "_files": files}


def open_alignment(settings: dict[str, Any]) -> Callable[[Sequence[SampleLook]], list[Answer]]:
    """A function from samples to their values, or why one has none. `settings`: of `with_embeddings`."""
    store = Store.open(settings["_store"])
    library = Manifest.open(store, settings["_manifest"], check=False).library()
    embeddings = Embeddings(store, settings["_files"])
    found = find_embedder(settings["_spec"])
    if found.key() != settings["embedder"]:
        raise ValueError(f"embedder {settings['_spec']} has changed since the command began; run it again")
    with OneThread(found):
        embedder = found.load(threads=1 if found.device == "cpu" else None)

    def alignment(looks: Sequence[SampleLook]) -> list[Answer]:
        applies = [look for look in looks if look.sample.media and look.answers]
        with OneThread(found):
            said = texts(embedder, [" ".join(look.answers) for look in applies])
        shown = pictures(library, embeddings, [look.sample.media for look in applies])
        scored = iter([_score(text, media) for text, media in zip(said, shown, strict=True)])
        return [next(scored) if look.sample.media and look.answers else (None,) for look in looks]

    return alignment


def _score(text: np.ndarray | Exception, media: Vectors | Exception) -> Answer:
    for one in (media, text):
        if isinstance(one, Exception):
            return one
    assert not isinstance(text, Exception) and not isinstance(media, Exception)
    cosines = np.einsum("md,d->m", media, text, dtype=np.float64)
    return (float(np.clip(cosines.mean(), -1, 1)),)


def texts(embedder: Embedder, given: Sequence[str]) -> list[np.ndarray | Exception]:
    """The vector of each text, float32 [dim], or why it has none: one that can't be embedded costs itself."""
    try:
        return list(embedder.texts(given))
    except (ValueError, RuntimeError) as error:
        if len(given) == 1:
            return [ValueError(f"{type(error).__name__}: {error}")]
        return [one for text in given for one in texts(embedder, [text])]


def pictures(
    library: Library, embeddings: Embeddings, media: Sequence[Sequence[bytes]]
) -> list[Vectors | Exception]:
    """The vectors of each sample's media, float32 [media, dim] of unit length, or why one has none."""
    shards = list(library.shards())
    ids = np.frombuffer(b"".join(one for each in media for one in each), np.uint8).reshape(-1, 16)
    where, rows = library.find_many(ids)
    found: list[Vectors | Exception] = []
    at = 0
    for each in media:
        places = zip(where[at : at + len(each)], rows[at : at + len(each)], each, strict=True)
        at += len(each)
        try:
            found.append(np.stack([_vector(embeddings, shards, *place) for place in places]))
        except Unavailable as error:
            found.append(error)
    return found


def _vector(embeddings: Embeddings, shards: Sequence[str], where: int, row: int, medium: bytes) -> Vectors:
    """A medium's vector, float32 [dim]; as float16 it was a little off unit length. Raises Unavailable."""
    if where < 0:
        raise Unavailable("missing_media", f"medium {medium.hex()} is in no media index of this manifest")
    error = embeddings.error(shards[where], int(row))
    if error is not None:
        reason, _, detail = error.partition(": ")
        raise Unavailable(reason, detail)
    vector: Vectors = embeddings.vectors(shards[where])[row].astype(np.float32)
    return vector / np.float32(np.sqrt(np.dot(vector, vector)))


ALIGNMENT = Family(
    "alignment",
    "samples",
    1,
    {
        "clip_score": Measure(
            pa.float32(), "-1 to 1", "cosine of picture and what the assistant says, by --embedder",
            "Hessel et al. 2021",
        )
    },
    open_alignment,
    DECODERS,
    MODEL,
)  # fmt: skip
