"""Scenes with captions that are true and false of them, in pairs that differ in one thing.

A pair is worded by one template, drawn once, so that nothing but the picture tells which caption is true.
KINDS says what may differ. Between them they cover what the defect `false_caption` of `imm scenes` plants
(`planted`), and what it does not: sizes, places, and colours that changed owners. A false caption is true of
another scene: a pair holds both and what of their facts (trainers/scene_facts.py) it tells. Drawing takes
about 1 ms.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.random import PCG64, Generator
from PIL import Image

from infinity_mm.scenes.captions import caption, corner, groups, spoiled, things_phrase
from infinity_mm.scenes.draw import picture
from infinity_mm.scenes.language import LANGUAGES, say, some, word
from infinity_mm.scenes.questions import ASKABLE, ask, words_of
from infinity_mm.scenes.randomness import chance, pick
from infinity_mm.scenes.world import (
    COLOURS,
    SHAPES,
    Scene,
    Thing,
    at_frame,
    between,
    draw_chart,
    draw_clip,
    draw_shapes,
    draw_text,
)  # fmt: skip

SIDE = 64
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
QUARTERS = ("upper left", "upper right", "lower left", "lower right")
CHINESE_SHARE = 0.3  # as in `imm scenes`
OBJECTS = ("colour with shape", "size", "number")  # groups of facts that a list of things tells


class Pair(NamedTuple):
    """Two captions in the same words but for one thing, the scenes of which they are true, if made, and the
    groups of these scenes' facts that they tell."""

    true: str
    false: str
    scenes: tuple[Scene, Scene] | None = None
    tells: tuple[str, ...] = ()


Maker = Callable[[Scene, str, Generator], Pair | None]


def alike(things: Sequence[Thing], at: int) -> list[int]:
    """The places of the things that read like the one at a place."""
    wanted = things[at].colour, things[at].shape, things[at].size
    return [i for i, t in enumerate(things) if (t.colour, t.shape, t.size) == wanted]


def worded(scene: Scene, other: Scene, lang: str, rng: Generator) -> Pair:
    """A caption of each scene, by the same draws."""
    seed = int(rng.integers(1 << 62))
    true, false = (caption(s, lang, Generator(PCG64(seed))) for s in (scene, other))
    return Pair(true, false, (scene, other), OBJECTS if scene.things else (scene.kind,))


def _attribute(name: str, choices: Sequence[str]) -> Maker:
    """A pair in which the things that read like one have another colour, shape or size."""

    def make(scene: Scene, lang: str, rng: Generator) -> Pair | None:
        if not scene.things:
            return None
        at = int(rng.integers(len(scene.things)))
        present = {getattr(t, name) for t in scene.things} if name != "size" else set()
        own = getattr(scene.things[at], name)
        new = pick(rng, [c for c in choices if c not in present and c != own])
        mine = alike(scene.things, at)
        change: dict[str, Any] = {name: new}
        changed = [replace(t, **change) if i in mine else t for i, t in enumerate(scene.things)]
        return worded(scene, replace(scene, things=tuple(changed)), lang, rng)

    return make


def _count(scene: Scene, lang: str, rng: Generator) -> Pair | None:
    """One thing more, or one fewer where it has another like it."""
    if scene.kind != "shapes":
        return None
    at = int(rng.integers(len(scene.things)))
    mine = alike(scene.things, at)
    fewer = len(mine) > 1 and (len(scene.things) > 3 or chance(rng, 0.5))
    if fewer:
        things = tuple(t for i, t in enumerate(scene.things) if i != mine[-1])
    else:
        things = (*scene.things, scene.things[at])
    seed, scenes = int(rng.integers(1 << 62)), (scene, replace(scene, things=things))
    true, false = (
        say(lang, "caption.a", Generator(PCG64(seed)), things=things_phrase(lang, s.things),
            be="is" if groups(s.things)[0][0] == 1 else "are")
        for s in scenes
    )  # fmt: skip
    return Pair(true, false, scenes, OBJECTS)


def _owners(scene: Scene, lang: str, rng: Generator) -> Pair | None:
    """The colours of two things, the other way round."""
    if scene.kind != "shapes" or len(scene.things) < 2:
        return None
    a, b = (int(i) for i in rng.permutation(len(scene.things))[:2])
    one, two = scene.things[a], scene.things[b]
    if one.colour == two.colour or one.shape == two.shape:
        return None
    colours = dict.fromkeys(alike(scene.things, a), two.colour)
    colours |= dict.fromkeys(alike(scene.things, b), one.colour)
    things = tuple(replace(t, colour=colours.get(i, t.colour)) for i, t in enumerate(scene.things))
    said = {(t.colour, t.shape, t.size) for t in things}
    if said == {(t.colour, t.shape, t.size) for t in scene.things}:
        return None
    return worded(scene, replace(scene, things=things), lang, rng)


def _relation(scene: Scene, lang: str, rng: Generator) -> Pair | None:
    """Where one thing is as seen from another, and the opposite."""
    if scene.kind != "shapes" or len(scene.things) != 2 or not (holds := between(scene, 0, 1)):
        return None
    if len(alike(scene.things, 0)) > 1:
        return None
    first, second = (some(lang, words_of(lang, t)) for t in scene.things)
    where, seed = pick(rng, holds), int(rng.integers(1 << 62))
    true, false = (
        say(lang, "caption.related", Generator(PCG64(seed)), a_it=first, a_other=second, where=word(lang, w))
        for w in (where, OPPOSITE[where])
    )
    a, b = scene.things
    upright = where in ("above", "below")
    swapped = (replace(a, y=b.y), replace(b, y=a.y)) if upright else (replace(a, x=b.x), replace(b, x=a.x))
    tells = ("colour with shape", "upright" if upright else "across")
    return Pair(true, false, (scene, replace(scene, things=swapped)), tells)


def _corner(scene: Scene, lang: str, rng: Generator) -> Pair | None:
    """The quarter of the picture where everything is, and another."""
    if scene.kind != "shapes" or (place := corner(scene)) is None:
        return None
    be, phrase = "is" if len(scene.things) == 1 else "are", things_phrase(lang, scene.things)
    seed, other = int(rng.integers(1 << 62)), pick(rng, [q for q in QUARTERS if q != place])
    true, false = (
        say(lang, "caption.placed", Generator(PCG64(seed)), things=phrase, be=be,
            corner=LANGUAGES[lang].CORNERS[q])
        for q in (place, other)
    )  # fmt: skip
    dx, dy = (half * scene.side / 2 for half in _way(place, other))
    moved = tuple(replace(t, x=t.x + dx, y=t.y + dy) for t in scene.things)
    return Pair(true, false, (scene, replace(scene, things=moved)), (*OBJECTS, "half"))


def _way(one: str, other: str) -> tuple[int, int]:
    """From one quarter to another, in halves of the side."""
    return ("right" in other) - ("right" in one), ("lower" in other) - ("lower" in one)


def _spoiled(kind: str) -> Maker:
    """What `false_caption` does to a text or a chart."""

    def make(scene: Scene, lang: str, rng: Generator) -> Pair | None:
        return worded(scene, spoiled(scene, rng)[0], lang, rng) if scene.kind == kind else None

    return make


def _text_colour(scene: Scene, lang: str, rng: Generator) -> Pair | None:
    """The text in another colour."""
    letters = scene.lettering
    if letters is None:
        return None
    new = pick(rng, [c for c in COLOURS if c != letters.colour])
    return worded(scene, replace(scene, lettering=replace(letters, colour=new)), lang, rng)


def _answer(scene: Scene, lang: str, rng: Generator) -> Pair | None:
    """An answer in a full sentence to some question about the picture, right and wrong."""
    kind = pick(rng, [k for k in ASKABLE[scene.kind] if k != "motion"])
    made = ask(scene, kind, lang, rng)
    if made is None or not made.others:
        return None
    return Pair(made.full(made.value), made.full(pick(rng, made.others)))


# What differs, and of which kinds of scene it is drawn.
KINDS: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "colour": (_attribute("colour", tuple(COLOURS)), ("shapes", "clip")),
    "shape": (_attribute("shape", SHAPES), ("shapes", "clip")),
    "size": (_attribute("size", ("small", "large")), ("shapes",)),
    "count": (_count, ("shapes",)),
    "owners": (_owners, ("shapes",)),
    "relation": (_relation, ("shapes",)),
    "corner": (_corner, ("shapes",)),
    "text": (_spoiled("text"), ("text",)),
    "text colour": (_text_colour, ("text",)),
    "chart": (_spoiled("chart"), ("chart",)),
    "answer": (_answer, ("shapes", "text", "chart")),
}


def draw_scene(kind: str, rng: Generator) -> Scene:
    """A scene of that kind, clips as their middle frame shows them; "two" is of two different things."""
    if kind == "text":
        return draw_text(rng, SIDE)
    if kind == "chart":
        return draw_chart(rng, SIDE)
    if kind == "clip":
        scene = draw_clip(rng, SIDE)
        assert scene.motion is not None
        return at_frame(scene, scene.motion.frames // 2)
    if kind == "two":
        return draw_shapes(rng, SIDE, 2)
    number = int(rng.integers(1, 5)) if chance(rng, 0.6) else int(rng.integers(1, 3))
    return draw_shapes(rng, SIDE, number, repeated=chance(rng, 0.4))


def draw_pair(kind: str, rng: Generator, lang: str) -> tuple[Scene, Pair]:
    """A scene and a pair of captions that differ in `kind`."""
    maker, of = KINDS[kind]
    while True:
        scene = draw_scene(pick(rng, of) if len(of) == 1 or chance(rng, 0.1) else of[0], rng)
        made = maker(scene, lang, rng)
        if made is not None:
            return scene, made


def planted(scene_kind: str, rng: Generator, lang: str) -> tuple[Scene, Pair, str]:
    """A scene, a caption of it and one as the defect `false_caption` plants it, and what differs."""
    scene = draw_scene(scene_kind, rng)
    other, detail = spoiled(scene, rng)
    return scene, Pair(caption(scene, lang, rng), caption(other, lang, rng)), str(detail["sub_kind"])


def pixels(scene: Scene, rng: Generator) -> np.ndarray:
    """The picture, uint8 [SIDE, SIDE, 3], half of the time through JPEG."""
    image = picture(scene)
    if chance(rng, 0.5):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(80, 93)), subsampling=0)
        image = Image.open(buffer)
    return np.asarray(image.convert("RGB"))


def draw_lang(rng: Generator) -> str:
    return "zh" if chance(rng, CHINESE_SHARE) else "en"
