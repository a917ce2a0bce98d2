"""Batches of scenes with their facts and pairs of captions, as a stage of a training wants them, drawn ahead.

A batch is drawn from the seed, its stage and its step alone: the same whichever process draws it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from infinity_mm.models.tokenizer import PAD, encode_padded
from infinity_mm.scenes.randomness import pick_weighted
from infinity_mm.scenes.world import Scene
from trainers.drawn_ahead import drawn_ahead
from trainers.scene_facts import groups_of, targets
from trainers.scene_pairs import KINDS, Pair, draw_lang, draw_scene, pixels

BATCH = 64
CONTEXT = 64


class Stage(NamedTuple):
    """What is learned in a number of steps: facts by pictures, facts by `pairs` of captions a scene, and all
    losses where there are both. `scenes` and `paired` are how often kinds of scenes and of pairs are drawn;
    `untold` are groups of facts that captions tell and need not."""

    name: str
    steps: int
    rate: float
    pictures: bool
    pairs: int
    scenes: Mapping[str, float]
    paired: Mapping[str, float]
    untold: tuple[str, ...] = ()


class Batch(NamedTuple):
    """`images`: uint8 [B, SIDE, SIDE, 3], and `shown`: int8 [B, FACTS], their facts; `tokens`: int64
    [B * pairs * 2, L], of a true and a false caption in turn, and `told`: int8 [B * pairs * 2, FACTS]."""

    images: np.ndarray
    shown: np.ndarray
    tokens: np.ndarray
    told: np.ndarray


def draw_batch(stage: Stage, seed: Sequence[int]) -> Batch:
    """A batch of a stage, the same for the same seed."""
    rng = np.random.default_rng(seed)
    images: list[np.ndarray] = []
    shown: list[np.ndarray] = []
    texts: list[str] = []
    told: list[np.ndarray] = []
    for _ in range(BATCH):
        scene = draw_scene(pick_weighted(rng, stage.scenes), rng)
        for pair in _pairs(stage, scene, rng):
            texts += [pair.true, pair.false]
            told += [targets(s, set(pair.tells) - set(stage.untold)) for s in pair.scenes or (scene, scene)]
        if stage.pictures:
            images.append(pixels(scene, rng))
            shown.append(targets(scene, groups_of(scene)))
    tokens = encode_padded(texts, CONTEXT)
    longest = int((tokens != PAD).sum(axis=1).max(initial=0))
    return Batch(np.array(images), np.array(shown), tokens[:, :longest], np.array(told))


def _pairs(stage: Stage, scene: Scene, rng: np.random.Generator) -> list[Pair]:
    """Pairs of the kinds that the stage draws and the scene allows."""
    odds = {kind: weight for kind, weight in stage.paired.items() if scene.kind in KINDS[kind][1]}
    pairs: list[Pair] = []
    while len(pairs) < stage.pairs:
        made = KINDS[pick_weighted(rng, odds)][0](scene, draw_lang(rng), rng)
        if made is not None and made.true != made.false:
            pairs.append(made)
    return pairs


def batches(stages: Sequence[Stage], seed: int) -> Iterator[Batch]:
    """All batches of all stages in order, drawn ahead by a process of their own."""
    given = ((stage, (seed, n, step)) for n, stage in enumerate(stages) for step in range(stage.steps))
    return drawn_ahead(draw_batch, given)
