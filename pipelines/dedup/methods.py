"""The methods of dedup. Each says which samples are the same, which are near, and how far apart.

A new one is a function here and a line in METHODS: it makes classes of samples from a relation of media and
one of conversations (`pipelines.dedup.relations`).
"""

from collections.abc import Callable
from typing import NamedTuple

from pipelines.dedup.classes import Classes, joint
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.relations import Relation, Relations, split, within

Show = Callable[[float], float]


class Method(NamedTuple):
    """What a method found. `classes`: with the pairs within the threshold; `beyond`: those of a sample beyond
    it. `show` turns a distance into what is reported, in `unit`s, `near_is` low or high; `threshold` is so
    too. `others`: what else must hold, in words."""

    name: str
    classes: Classes
    beyond: Classes
    recall: str
    unit: str
    near_is: str
    threshold: float
    meaning: str
    show: Show


def _exact(config: DedupConfig, relations: Relations) -> Method:
    name, words = {
        "bytes": ("bytes", "the same files"),
        "pixels": ("pixels", "the same pixels"),
        "phash": ("hashes", "the same perceptual hashes"),
    }[config.exact_key]
    media: Relation = getattr(relations, name)  # each is made when it is first asked for
    # to the letter: what only reads the same is for the other methods
    texts = relations.turns if config.texts == "same" else None
    return _method("exact", config, relations, media, texts, words, "", "low", 0.0)


def _perceptual(config: DedupConfig, relations: Relations) -> Method:
    turned = ", mirrored and turned ones too" if config.flips else ""
    words = f"perceptual hashes within {config.radius} bits{turned}"
    return _method(
        "perceptual",
        config,
        relations,
        relations.perceptual,
        None,
        words,
        "bits",
        "low",
        float(config.radius),
    )


def _semantic(config: DedupConfig, relations: Relations) -> Method:
    words = f"embeddings ({config.embedder}) with a cosine of {config.cosine:g} or more"
    return _method(
        "semantic",
        config,
        relations,
        relations.semantic,
        None,
        words,
        "cosine",
        "high",
        config.cosine,
        _similarity,
    )


def _text(config: DedupConfig, relations: Relations) -> Method:
    near = relations.near_field(config.field)
    joined = near.classes
    if config.media != "any":
        media = relations.bytes if config.media == "same" else relations.perceptual
        joined = _joint(near, media, near=config.media == "near")
    said = {"conversation": "conversations", "questions": "questions", "answers": "answers"}[config.field]
    words = f"{said} with {config.jaccard:g} or more of their shingles of {config.shingle} tokens in common"
    words += {"same": ", the media the same", "near": ", the media near", "any": ", whatever the media"}[
        config.media
    ]
    within, beyond = split(joined, near.limit)
    return Method("text", within, beyond, near.recall, "jaccard", "high", config.jaccard, words, _similarity)


METHODS: dict[str, Callable[[DedupConfig, Relations], Method]] = {
    "exact": _exact,
    "perceptual": _perceptual,
    "text": _text,
    "semantic": _semantic,
}


def _method(
    name: str,
    config: DedupConfig,
    relations: Relations,
    media: Relation,
    texts: Relation | None,
    words: str,
    unit: str,
    near_is: str,
    threshold: float,
    show: Show = float,
) -> Method:
    """A method that compares media, with the conversations as `--texts` says."""
    if config.texts == "any":
        joined, words = media.classes, f"{words}, whatever the conversations"
    elif config.texts == "near":
        joined = _joint(media, relations.near_texts, near=True)
        words = f"{words}, the conversations near ({config.jaccard:g} of their shingles in common)"
    else:
        joined = _joint(media, texts or relations.same_texts, near=False)
        words = f"{words}, the conversations the same{'' if texts is None else ' to the letter'}"
    within, beyond = split(joined, media.limit)
    return Method(name, within, beyond, media.recall, unit, near_is, threshold, words, show)


def _joint(first: Relation, second: Relation, *, near: bool) -> Classes:
    return joint(first.classes, within(second), near=near)


def _similarity(distance: float) -> float:
    return 1 - distance
