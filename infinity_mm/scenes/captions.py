"""Captions: one sentence or list that says what a scene shows, and the same said wrongly on purpose."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.random import Generator

from .language import LANGUAGES, listing, noun, number_word, say, some, word
from .questions import words_of
from .randomness import chance, pick
from .world import COLOURS, LETTERS, SHAPES, Scene, Thing, between


def groups(things: Sequence[Thing]) -> list[tuple[int, Thing]]:
    """Objects that read alike, with their number, in order of first appearance."""
    alike: dict[tuple[str, str, str], list[Thing]] = {}
    for thing in things:
        alike.setdefault((thing.size, thing.colour, thing.shape), []).append(thing)
    return [(len(g), g[0]) for g in alike.values()]


def things_phrase(lang: str, things: Sequence[Thing]) -> str:
    """The objects as one list: "two small red circles and a large blue star"."""
    return listing(lang, [some(lang, noun(lang, t.size, t.colour, t.shape, n), n) for n, t in groups(things)])


def corner(scene: Scene) -> str | None:
    """The quarter of the picture that holds all objects, if one does."""
    half = scene.side / 2
    quarters = {
        ("upper " if t.y < half else "lower ") + ("left" if t.x < half else "right") for t in scene.things
    }
    return quarters.pop() if len(quarters) == 1 else None


def caption_value(scene: Scene) -> dict[str, Any]:
    """What a right caption says, as JSON."""
    if scene.lettering:
        return {"text": scene.lettering.text, "colour": scene.lettering.colour}
    if scene.bars:
        return {"bars": {b.label: b.value for b in scene.bars}}
    value: dict[str, Any] = {
        "objects": [
            {"number": n, "size": t.size, "colour": t.colour, "shape": t.shape}
            for n, t in groups(scene.things)
        ]
    }
    if scene.motion:
        value |= {"moves": scene.motion.thing, "direction": scene.motion.direction}
    return value


def caption(scene: Scene, lang: str, rng: Generator) -> str:
    """A caption true of the scene."""
    if scene.lettering:
        colour = word(lang, scene.lettering.colour)
        return say(lang, "caption.text", rng, value=scene.lettering.text, colour=colour)
    if scene.bars:
        bars = [say(lang, "caption.bar", rng, label=b.label, value=b.value) for b in scene.bars]
        return say(lang, "caption.chart", rng, n=number_word(lang, len(bars)), bars=listing(lang, bars))
    if scene.motion:
        names = [some(lang, words_of(lang, t)) for t in scene.things]
        way = LANGUAGES[lang].MOVES[scene.motion.direction]
        if len(names) == 1:
            return say(lang, "clip_caption.a", rng, a_it=names[0], way=way)
        return say(lang, "clip_caption.two", rng, a_it=names[0], a_other=names[1], way=way)
    place = corner(scene)
    phrase = things_phrase(lang, scene.things)
    be = "is" if groups(scene.things)[0][0] == 1 else "are"
    if (
        len(scene.things) == 2
        and len(groups(scene.things)) == 2
        and between(scene, 0, 1)
        and chance(rng, 0.35)
    ):
        first, second = (some(lang, words_of(lang, t)) for t in scene.things)
        where = word(lang, pick(rng, between(scene, 0, 1)))
        return say(lang, "caption.related", rng, a_it=first, a_other=second, where=where)
    if place and chance(rng, 0.4):
        return say(lang, "caption.placed", rng, things=phrase, corner=LANGUAGES[lang].CORNERS[place], be=be)
    return say(lang, "caption.a", rng, things=phrase, be=be)


def spoiled(scene: Scene, rng: Generator) -> tuple[Scene, dict[str, Any]]:
    """A still scene that differs in one stated way, so that any caption of it is false of the original.

    The way is a character of the text, a bar's value, one object's colour or shape, or one object more.
    """
    if scene.lettering:
        text = scene.lettering.text
        at = int(rng.integers(len(text)))
        said = text[:at] + pick(rng, [c for c in LETTERS if c != text[at]]) + text[at + 1 :]
        detail = {"sub_kind": "text", "true": text, "said": said}
        return replace(scene, lettering=replace(scene.lettering, text=said)), detail
    if scene.bars:
        at = int(rng.integers(len(scene.bars)))
        bar = scene.bars[at]
        value = pick(rng, [v for v in range(1, 10) if v != bar.value])
        bars = (*scene.bars[:at], replace(bar, value=value), *scene.bars[at + 1 :])
        return replace(scene, bars=bars), {"sub_kind": "chart", "bar": at, "true": bar.value, "said": value}
    at = int(rng.integers(len(scene.things)))
    thing = scene.things[at]
    what = pick(rng, ("colour", "shape", "count"))
    if what == "count":
        return replace(scene, things=(*scene.things, thing)), {"sub_kind": "count", "object": at}
    present = {getattr(t, what) for t in scene.things}
    known = tuple(COLOURS) if what == "colour" else SHAPES
    new = pick(rng, [v for v in known if v not in present] or [v for v in known if v != getattr(thing, what)])
    changed = replace(thing, colour=new) if what == "colour" else replace(thing, shape=new)
    things = tuple(changed if i == at else t for i, t in enumerate(scene.things))
    return replace(scene, things=things), {
        "sub_kind": what,
        "object": at,
        "true": getattr(thing, what),
        "said": new,
    }
