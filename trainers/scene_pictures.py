"""Pictures and clips of scenes, with what stands before their background told apart, for a vision tokenizer.

A batch is drawn from the seed and its step alone. Drawing takes about 2 ms a frame.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from infinity_mm.scenes.draw import picture
from infinity_mm.scenes.randomness import pick_weighted
from infinity_mm.scenes.world import Scene, at_frame, draw_chart, draw_clip, draw_shapes, draw_text
from trainers.drawn_ahead import drawn_ahead

SIDE = 64
KINDS = {"shapes": 0.8, "text": 0.08, "chart": 0.12}
MOST = 5  # objects
BEFORE = 8  # least difference of a channel from the bare background that counts as before it

Frames = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.float32]


class Drawn(NamedTuple):
    """Pictures uint8 [B, SIDE, SIDE, 3] and chunks of clips uint8 [N, chunk, SIDE, SIDE, 3], and how much
    each of their pixels counts, float32 of the same shapes without channels."""

    pictures: Frames
    clips: Frames
    picture_weights: Weights
    clip_weights: Weights


class Wanted(NamedTuple):
    """What a batch is of: pictures, chunks of clips and frames of a chunk; `foreground`: how much a pixel of
    an object counts, where one of the background counts 1."""

    pictures: int
    clips: int
    chunk: int
    foreground: float


def frame(scene: Scene, foreground: float) -> tuple[Frames, Weights]:
    """A scene's picture, and how much each pixel counts."""
    shown = np.asarray(picture(scene))
    bare = np.asarray(picture(replace(scene, things=(), lettering=None, bars=())))
    before = np.abs(shown.astype(np.int16) - bare).max(axis=2) >= BEFORE
    return shown, np.where(before, foreground, 1.0).astype(np.float32)


def draw_still(rng: Generator) -> Scene:
    """A scene of one of KINDS."""
    kind = pick_weighted(rng, KINDS)
    if kind == "shapes":
        return draw_shapes(rng, SIDE, int(rng.integers(1, MOST + 1)), repeated=bool(rng.random() < 0.3))
    return (draw_text if kind == "text" else draw_chart)(rng, SIDE)


def draw_chunk(rng: Generator, chunk: int) -> list[Scene]:
    """Neighbouring frames of a clip, from a multiple of their number on."""
    scene = draw_clip(rng, SIDE)
    assert scene.motion is not None
    first = int(rng.integers(scene.motion.frames // chunk)) * chunk
    return [at_frame(scene, first + k) for k in range(chunk)]


def draw_batch(wanted: Wanted, seed: tuple[int, ...]) -> Drawn:
    """A batch, the same for the same seed."""
    rng = np.random.default_rng(seed)
    stills = [frame(draw_still(rng), wanted.foreground) for _ in range(wanted.pictures)]
    moving = [
        frame(scene, wanted.foreground)
        for _ in range(wanted.clips)
        for scene in draw_chunk(rng, wanted.chunk)
    ]
    clips = (wanted.clips, wanted.chunk, SIDE, SIDE)
    return Drawn(
        np.array([pixels for pixels, _ in stills], np.uint8).reshape(-1, SIDE, SIDE, 3),
        np.array([pixels for pixels, _ in moving], np.uint8).reshape(*clips, 3),
        np.array([weights for _, weights in stills], np.float32).reshape(-1, SIDE, SIDE),
        np.array([weights for _, weights in moving], np.float32).reshape(clips),
    )


def batches(wanted: Wanted, seed: int, first: int, steps: int) -> Iterator[Drawn]:
    """The batches from a step on, drawn ahead by a process of their own."""
    return drawn_ahead(draw_batch, ((wanted, (seed, step)) for step in range(first, steps)))
