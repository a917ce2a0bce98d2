"""The small world: what a scene holds, how one is drawn by lot, and its truth as JSON.

Lengths are pixels of the finished picture (side x side, 64 unless configured), x to the right, y downwards.
Objects sit on a 4 x 4 grid (16 px cells at 64 px), at most 1.5 px off a cell's middle, and never touch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.random import Generator

from .randomness import chance, pick, shuffled

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (216, 32, 36),
    "green": (38, 156, 46),
    "blue": (38, 76, 222),
    "yellow": (244, 222, 30),
    "orange": (252, 134, 14),
    "purple": (134, 44, 178),
    "pink": (255, 142, 204),
    "cyan": (26, 206, 218),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = {"small": 4.5 / 64, "large": 7.0 / 64}  # radius as a share of the side
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
GRID = 4
JITTER = 1.5 / 64
LETTERS = "ABCDEFGHJKLMNPRTUVWXY2346789"  # without the pairs that look alike: 0 O Q, 1 I, 5 S, Z
DARK_INKS = ("red", "green", "blue", "purple")


@dataclass(frozen=True, slots=True)
class Thing:
    """One coloured shape; x, y its middle and radius half its extent, in pixels."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Background:
    """Two grey tones (RGB), by style: plain, gradient (downwards), side (to the right), split."""

    style: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Lettering:
    """A short text drawn around (x, y), at most `height` pixels high."""

    text: str
    colour: str
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: its letter, its value (1 to 9, written above it), its colour."""

    label: str
    value: int
    colour: str


@dataclass(frozen=True, slots=True)
class Motion:
    """Which thing of a clip moves, where to, and by how many pixels a frame."""

    thing: int
    direction: str
    step: float
    frames: int
    fps: int


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a picture (or the first frame of a clip) shows; kind is shapes, text, chart or clip."""

    kind: str
    side: int
    background: Background
    things: tuple[Thing, ...] = ()
    lettering: Lettering | None = None
    bars: tuple[Bar, ...] = ()
    motion: Motion | None = None


def draw_background(rng: Generator, low: int = 35, high: int = 210) -> Background:
    """A grey background with a slight tint, both tones between low and high."""
    base = int(rng.integers(low, high + 1))
    other = min(max(base + int(rng.integers(-28, 29)), low), high)
    tint = rng.integers(-7, 8, size=3)
    first, second = (tuple(int(v) for v in tint + tone) for tone in (base, other))
    return Background(pick(rng, ("plain", "gradient", "side", "split")), first, second)  # type: ignore[arg-type]


def place(rng: Generator, side: int, specs: Sequence[tuple[str, str, str]]) -> tuple[Thing, ...]:
    """Put objects of the given (colour, shape, size) into cells of the grid so that none touch."""
    while True:
        things: list[Thing] = []
        cells = rng.permutation(GRID * GRID)[: len(specs)]
        for (colour, shape, size), cell in zip(specs, cells, strict=True):
            dx, dy = rng.uniform(-JITTER, JITTER, 2) * side
            x = round((int(cell) % GRID + 0.5) * side / GRID + float(dx), 2)
            y = round((int(cell) // GRID + 0.5) * side / GRID + float(dy), 2)
            things.append(Thing(colour, shape, size, x, y, round(SIZES[size] * side, 3)))
        gap = 0.5 / 64 * side
        if all(
            max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius + gap
            for i, a in enumerate(things)
            for b in things[:i]
        ):
            return tuple(things)


def draw_shapes(rng: Generator, side: int, number: int, repeated: bool = False) -> Scene:
    """A scene of `number` objects: all of different colour and shape, or some of them alike."""
    pairs = shuffled(rng, [(c, s) for c in COLOURS for s in SHAPES])[:number]
    specs = [(c, s, pick(rng, tuple(SIZES))) for c, s in pairs]
    if repeated and number > 1:
        alike = int(rng.integers(2, number + 1))
        specs = [specs[0]] * alike + specs[alike:]
    return Scene("shapes", side, draw_background(rng), place(rng, side, specs))


def draw_text(rng: Generator, side: int) -> Scene:
    """A scene with one to four letters or digits, bright on dark or dark on bright."""
    text = "".join(pick(rng, LETTERS) for _ in range(int(rng.integers(1, 5))))
    bright = chance(rng, 0.5)
    background = draw_background(rng, 190, 225) if bright else draw_background(rng, 20, 55)
    colour = pick(rng, DARK_INKS if bright else tuple(c for c in COLOURS if c not in ("blue", "purple")))
    x, y = (float(round(v, 2)) for v in rng.uniform(0.46, 0.54, 2) * side)
    height = round(float(rng.uniform(0.36, 0.5)) * side, 2)
    return Scene("text", side, background, lettering=Lettering(text, colour, x, y, height))


def draw_chart(rng: Generator, side: int) -> Scene:
    """A bar chart of two to four bars with different values from 1 to 9."""
    number = int(rng.integers(2, 5))
    values = rng.permutation(9)[:number] + 1
    start = int(rng.integers(0, len("ABCDEFGH") - number + 1))
    colours = shuffled(rng, tuple(COLOURS))
    bars = tuple(Bar("ABCDEFGH"[start + i], int(values[i]), colours[i]) for i in range(number))
    return Scene("chart", side, draw_background(rng, 225, 240), bars=bars)


def draw_clip(rng: Generator, side: int) -> Scene:
    """A clip of 8 to 16 frames in which one object moves straight and a second, if any, stays."""
    direction = pick(rng, tuple(DIRECTIONS))
    along_x, along_y = DIRECTIONS[direction]
    lane = int(rng.integers(GRID))
    mover, stander = shuffled(rng, [(c, s) for c in COLOURS for s in SHAPES])[:2]
    size = pick(rng, tuple(SIZES))
    radius = SIZES[size] * side
    travel = float(rng.uniform(0.45, 0.7)) * side
    frames = int(rng.integers(8, 17))
    margin = radius + side / 64
    start = float(rng.uniform(margin, side - margin - travel))
    if along_x + along_y < 0:
        start = side - start
    across = (lane + 0.5) * side / GRID
    x, y = (start, across) if along_x else (across, start)
    things = [Thing(*mover, size, round(x, 2), round(y, 2), round(radius, 3))]
    if chance(rng, 0.5):
        far = pick(rng, [i for i in range(GRID) if abs(i - lane) >= 2])
        place_along, place_across = (int(rng.integers(GRID)) + 0.5) * side / GRID, (far + 0.5) * side / GRID
        x, y = (place_along, place_across) if along_x else (place_across, place_along)
        other = pick(rng, tuple(SIZES))
        things.append(Thing(*stander, other, x, y, round(SIZES[other] * side, 3)))
    motion = Motion(0, direction, round(travel / (frames - 1), 3), frames, 8)
    return Scene("clip", side, draw_background(rng), tuple(things), motion=motion)


def at_frame(scene: Scene, frame: int) -> Scene:
    """The clip's scene as it stands in the given frame."""
    if scene.motion is None:
        raise ValueError("this scene does not move; only scenes of kind 'clip' have frames")
    thing = scene.things[scene.motion.thing]
    dx, dy = DIRECTIONS[scene.motion.direction]
    way = scene.motion.step * frame
    moved = replace(thing, x=thing.x + dx * way, y=thing.y + dy * way)
    things = tuple(moved if i == scene.motion.thing else t for i, t in enumerate(scene.things))
    return replace(scene, things=things)


def between(scene: Scene, a: int, b: int) -> tuple[str, ...]:
    """Where object a is, seen from b: left, right, above, below; an axis counts from half a cell on."""
    least = scene.side / GRID / 2
    dx, dy = scene.things[a].x - scene.things[b].x, scene.things[a].y - scene.things[b].y
    across = () if abs(dx) < least else ("left",) if dx < 0 else ("right",)
    upright = () if abs(dy) < least else ("above",) if dy < 0 else ("below",)
    return across + upright


def placed(scene: Scene, scale_x: float, shift_x: float, scale_y: float, shift_y: float, side: int) -> Scene:
    """The scene in a copy of `side` pixels, where the original's (x, y) is at (x, y) * scale + shift."""
    things = tuple(
        replace(
            t,
            x=round(t.x * scale_x + shift_x, 2),
            y=round(t.y * scale_y + shift_y, 2),
            radius=round(t.radius * abs(scale_x), 3),
        )
        for t in scene.things
    )
    letters = scene.lettering
    if letters:
        letters = replace(
            letters,
            x=round(letters.x * scale_x + shift_x, 2),
            y=round(letters.y * scale_y + shift_y, 2),
            height=round(letters.height * abs(scale_y), 2),
        )
    return replace(scene, side=side, things=things, lettering=letters)


def scene_truth(scene: Scene) -> dict[str, Any]:
    """Everything the scene shows, as JSON: objects, relations by index, text, chart, motion, background."""
    number = range(len(scene.things))
    letters, motion = scene.lettering, scene.motion
    return {
        "kind": scene.kind,
        "side": scene.side,
        "background": {
            "style": scene.background.style,
            "first": list(scene.background.first),
            "second": list(scene.background.second),
        },
        "objects": [{f: getattr(t, f) for f in Thing.__slots__} for t in scene.things],
        "count": len(scene.things),
        "relations": [[a, r, b] for a in number for b in number if a != b for r in between(scene, a, b)],
        "text": {f: getattr(letters, f) for f in Lettering.__slots__} if letters else None,
        "chart": [{f: getattr(b, f) for f in Bar.__slots__} for b in scene.bars] or None,
        "motion": {f: getattr(motion, f) for f in Motion.__slots__} if motion else None,
    }


def scene_key(scene: Scene) -> str:
    """16 hex digits, equal for scenes with the same things in the same cells, whatever the background."""
    cell = scene.side / GRID
    shown = [
        scene.kind,
        sorted((t.colour, t.shape, t.size, int(t.x // cell), int(t.y // cell)) for t in scene.things),
        scene.lettering and (scene.lettering.text, scene.lettering.colour),
        [(b.label, b.value) for b in scene.bars],
        scene.motion and scene.motion.direction,
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]
