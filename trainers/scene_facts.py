"""Facts of scenes, by which each tower of the tiny CLIP learns apart what its vectors have to hold.

A fact names its group and two things at a time: a colour with a shape, a colour with a side, a shape with a
side. A text tower learns those where it does not learn colour, shape and side in one. A row of targets says
of every fact whether it holds (1, 0), or UNSAID where its group is not told.
"""

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from infinity_mm.scenes.world import COLOURS, LETTERS, SHAPES, SIZES, Scene, Thing, between

UNSAID = -1
MOST = 6  # things that are counted, and more
PLACES = 4  # of letters
LABELS, VALUES = "ABCDEFGH", range(1, 10)
SIDES = {
    "size": tuple(SIZES),
    "across": ("left", "right"),
    "upright": ("above", "below"),
    "half": ("left half", "right half", "upper half", "lower half"),
}  # fmt: skip
Fact = tuple[str, str | int, str | int]


def _all() -> Iterator[Fact]:
    yield from (("colour with shape", *pair) for pair in product(COLOURS, SHAPES))
    for group, sides in SIDES.items():
        yield from ((group, *pair) for pair in product((*COLOURS, *SHAPES), sides))
    yield from (("number", "things", n) for n in range(1, MOST + 1))
    yield from (("text", *pair) for pair in product(range(PLACES), LETTERS))
    yield from (("text", "colour", colour) for colour in COLOURS)
    yield from (("text", "length", n) for n in range(1, PLACES + 1))
    yield from (("chart", *pair) for pair in product(LABELS, VALUES))
    yield from (("chart", "bars", n) for n in (2, 3, 4))


FACTS = {fact: place for place, fact in enumerate(_all())}
GROUPS = tuple(dict.fromkeys(group for group, *_ in FACTS))
OF_THINGS = tuple(group for group in GROUPS if group not in ("text", "chart"))


def facts(scene: Scene) -> Iterator[Fact]:
    """All that hold of a scene; a thing has a side of another where any other is there."""
    if scene.lettering:
        letters = scene.lettering
        yield from (("text", place, letter) for place, letter in enumerate(letters.text))
        yield from (("text", "colour", letters.colour), ("text", "length", len(letters.text)))
        return
    if scene.bars:
        yield from (("chart", bar.label, bar.value) for bar in scene.bars)
        yield "chart", "bars", len(scene.bars)
        return
    yield "number", "things", min(len(scene.things), MOST)
    half = scene.side / 2
    for place, thing in enumerate(scene.things):
        yield "colour with shape", thing.colour, thing.shape
        yield from _with(thing, "size", thing.size)
        yield from _with(thing, "half", "left half" if thing.x < half else "right half")
        yield from _with(thing, "half", "upper half" if thing.y < half else "lower half")
        for other in range(len(scene.things)):
            for side in between(scene, place, other) if other != place else ():
                yield from _with(thing, "across" if side in SIDES["across"] else "upright", side)


def _with(thing: Thing, group: str, side: str) -> Iterator[Fact]:
    yield group, thing.colour, side
    yield group, thing.shape, side


def groups_of(scene: Scene) -> tuple[str, ...]:
    """The groups that a picture of the scene shows."""
    return ("text",) if scene.lettering else ("chart",) if scene.bars else OF_THINGS


def targets(scene: Scene, groups: Iterable[str]) -> np.ndarray:
    """int8 [len(FACTS)]: 1 and 0 for the facts of these groups, UNSAID for all others."""
    told = set(groups)
    row = np.array([0 if group in told else UNSAID for group in _GROUP], np.int8)
    row[[FACTS[fact] for fact in facts(scene) if fact[0] in told]] = 1
    return row


_GROUP = [group for group, *_ in FACTS]
