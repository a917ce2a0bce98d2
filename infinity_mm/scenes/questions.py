"""Questions with one known answer, made from a scene.

A maker takes (scene, language, rng) and returns an Ask, or None where the scene has no unambiguous question
of that kind. An Ask can also word any wrong answer the way it words the right one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.random import Generator

from .language import LANGUAGES, choose, noun, nth, number_word, say, sentence, some, the, word
from .randomness import chance, pick, shuffled
from .world import COLOURS, LETTERS, SHAPES, SIZES, Scene, Thing, between

Value = str | int | bool


@dataclass(frozen=True)
class Ask:
    """A question, its right value and the wrong ones, and how a value is said in full and in brief."""

    kind: str
    question: str
    value: Value
    others: tuple[Value, ...]
    full: Callable[[Any], str]
    brief: Callable[[Any], str]
    about: dict[str, Any] = field(default_factory=dict)


Maker = Callable[[Scene, str, Generator], Ask | None]


def words_of(lang: str, thing: Thing, parts: Sequence[str] = ("size", "colour", "shape")) -> str:
    """The noun phrase of an object from some of its attributes."""
    size, colour, shape = (getattr(thing, p) if p in parts else None for p in ("size", "colour", "shape"))
    return noun(lang, size, colour, shape)


def refer(scene: Scene, index: int, lang: str, rng: Generator, without: str = "") -> str | None:
    """A phrase that only this object fits and doesn't tell the attribute `without`; None if there is none."""
    parts = [p for p in ("size", "colour", "shape") if p != without]
    if len(scene.things) == 1:
        return words_of(lang, scene.things[0], pick(rng, [[], parts[1:], parts[:1]]))
    for chosen in ([parts[1]], [parts[0]], parts) if without else (["colour", "shape"], parts):
        told = [tuple(getattr(t, p) for p in chosen) for t in scene.things]
        if told.count(told[index]) == 1:
            return words_of(lang, scene.things[index], chosen)
    return None


def _attribute(name: str, choices: Sequence[str]) -> Maker:
    """Maker of questions for the colour, shape or size of one object."""

    def make(scene: Scene, lang: str, rng: Generator) -> Ask | None:
        index = int(rng.integers(len(scene.things)))
        phrase = refer(scene, index, lang, rng, without=name)
        if phrase is None:
            return None
        it, value = the(lang, phrase), getattr(scene.things[index], name)
        answer = choose(lang, f"{name}.a", rng)

        def full(v: str) -> str:
            a_value = noun(lang, shape=v) if lang == "zh" else some(lang, v)
            return sentence(answer, it=it, value=word(lang, v), a_value=a_value)

        return Ask(
            name,
            say(lang, f"{name}.q", rng, it=it),
            value,
            tuple(c for c in choices if c != value),
            full,
            lambda v: word(lang, v).capitalize(),
            {"object": index},
        )

    return make


def _count(scene: Scene, lang: str, rng: Generator) -> Ask:
    """How many objects, of any kind or of one colour, shape or both; now and then of none that is there."""
    parts = pick(rng, ([], [], [], ["colour"], ["shape"], ["colour"], ["shape"], ["colour", "shape"]))
    if chance(rng, 0.12):
        wanted = {"colour": pick(rng, tuple(COLOURS)), "shape": pick(rng, SHAPES)}
    else:
        like = pick(rng, scene.things)
        wanted = {"colour": like.colour, "shape": like.shape}
    wanted = {p: wanted[p] for p in parts}
    value = sum(all(getattr(t, p) == w for p, w in wanted.items()) for t in scene.things)
    colour, shape = wanted.get("colour"), wanted.get("shape")
    it, them = noun(lang, None, colour, shape), noun(lang, None, colour, shape, number=2)
    place = float(rng.random())

    def full(v: int) -> str:
        key = "count.none" if v == 0 else "count.one" if v == 1 else "count.many"
        return sentence(nth(lang, key, place), it=it, them=them, n=number_word(lang, v))

    others = tuple(n for n in range(max(0, value - 2), value + 3) if n != value)
    return Ask("count", say(lang, "count.q", rng, them=them), value, others, full, str, {"wanted": wanted})


def _exists(scene: Scene, lang: str, rng: Generator) -> Ask:
    """Whether an object of a colour and shape is there: half of the time it is."""
    pairs = {(t.colour, t.shape) for t in scene.things}
    if chance(rng, 0.5):
        colour, shape = pick(rng, sorted(pairs))
    else:
        colour, shape = pick(rng, sorted({(c, s) for c in COLOURS for s in SHAPES} - pairs))
    it = noun(lang, colour=colour, shape=shape)
    slots = {"it": it, "a_it": some(lang, it)}
    value, place = (colour, shape) in pairs, float(rng.random())
    return Ask(
        "exists",
        say(lang, "exists.q", rng, **slots),
        value,
        (not value,),
        lambda v: sentence(nth(lang, "exists.yes" if v else "exists.no", place), **slots),
        lambda v: word(lang, "there" if v else "not there"),
        {"wanted": {"colour": colour, "shape": shape}},
    )


def _relation(scene: Scene, lang: str, rng: Generator) -> Ask | None:
    """Where one object is as seen from another: for yes or no, or open where only one answer holds."""
    if len(scene.things) < 2:
        return None
    a, b = (int(i) for i in rng.permutation(len(scene.things))[:2])
    first, second = refer(scene, a, lang, rng), refer(scene, b, lang, rng)
    holds = between(scene, a, b)
    if first is None or second is None or not holds:
        return None
    slots = {"it": the(lang, first), "other": the(lang, second)}
    directions = ("left", "right", "above", "below")
    if len(holds) == 1 and chance(rng, 0.5):
        answer = choose(lang, "place.a", rng)
        return Ask(
            "relation",
            say(lang, "place.q", rng, **slots),
            holds[0],
            tuple(d for d in directions if d not in holds),
            lambda v: sentence(answer, **slots, where=word(lang, v)),
            lambda v: word(lang, v).capitalize(),
            {"object": a, "other": b, "open": True},
        )
    asked = pick(rng, holds)
    if chance(rng, 0.5):
        asked = {"left": "right", "right": "left", "above": "below", "below": "above"}[asked]
    value, place = asked in holds, float(rng.random())
    return Ask(
        "relation",
        say(lang, "relation.q", rng, **slots, where=word(lang, asked)),
        value,
        (not value,),
        lambda v: sentence(
            nth(lang, "relation.yes" if v else "relation.no", place), **slots, where=word(lang, asked)
        ),
        lambda v: word(lang, v),
        {"object": a, "other": b, "open": False, "asked": asked},
    )


def _read_text(scene: Scene, lang: str, rng: Generator) -> Ask:
    """What a text says, its first or last character, its length or its colour."""
    assert scene.lettering is not None
    text, colour = scene.lettering.text, scene.lettering.colour
    part = pick(rng, ("text", "text", "text", "text_first", "text_last", "text_length", "text_colour"))
    value: Value = text
    others: tuple[Value, ...]
    if part == "text":
        spoiled = [
            text[:i] + pick(rng, [c for c in LETTERS if c != text[i]]) + text[i + 1 :]
            for i in range(len(text))
        ]
        others = tuple(spoiled)
    elif part in ("text_first", "text_last"):
        value = text[0] if part == "text_first" else text[-1]
        others = tuple(c for c in shuffled(rng, LETTERS) if c != value)[:4]
    elif part == "text_length":
        value, others = len(text), tuple(n for n in range(1, 5) if n != len(text))
    else:
        value, others = colour, tuple(c for c in COLOURS if c != colour)
    key = "text_char.a" if part in ("text_first", "text_last") else f"{part}.a"
    answer = choose(lang, key, rng)

    def full(v: Value) -> str:
        characters = "字符" if lang == "zh" else "character" if v == 1 else "characters"
        n = number_word(lang, v) if isinstance(v, int) else v
        return sentence(answer, value=word(lang, v), n=n, characters=characters)

    return Ask(
        "read_text", say(lang, f"{part}.q", rng), value, others, full, lambda v: word(lang, v), {"part": part}
    )


def _chart(scene: Scene, lang: str, rng: Generator) -> Ask:
    """A bar's value, the tallest or shortest bar, the difference of two, or how many there are."""
    part = pick(
        rng,
        ("chart_value", "chart_value", "chart_largest", "chart_smallest", "chart_difference", "chart_bars"),
    )
    first, second = shuffled(rng, scene.bars)[:2]
    labels = [b.label for b in scene.bars]
    about: dict[str, Any] = {"part": part}
    value: Value
    if part in ("chart_largest", "chart_smallest"):
        ends = sorted(scene.bars, key=lambda b: b.value)
        value = (ends[-1] if part == "chart_largest" else ends[0]).label
        others: tuple[Value, ...] = tuple(label for label in labels if label != value)
    else:
        value = len(labels)
        if part == "chart_value":
            value, about["label"] = first.value, first.label
        elif part == "chart_difference":
            value, about["labels"] = abs(first.value - second.value), [first.label, second.label]
        others = tuple(n for n in range(max(1, value - 2), value + 3) if n != value)
    answer = choose(lang, f"{part}.a", rng)
    slots = {"label": first.label, "first": first.label, "second": second.label}

    def full(v: Value) -> str:
        n = number_word(lang, v) if isinstance(v, int) else v
        return sentence(answer, label=first.label, value=v, n=n)

    return Ask("chart", say(lang, f"{part}.q", rng, **slots), value, others, full, str, about)


def _motion(scene: Scene, lang: str, rng: Generator) -> Ask | None:
    """Which way the moving object of a clip goes, or which object it is."""
    assert scene.motion is not None
    moves: dict[str, str] = LANGUAGES[lang].MOVES
    mover, direction = scene.motion.thing, scene.motion.direction
    phrase = refer(scene, mover, lang, rng)
    if phrase is None:
        return None
    if len(scene.things) == 2 and chance(rng, 0.35):
        names = [words_of(lang, t, ("colour", "shape")) for t in scene.things]
        answer = choose(lang, "mover.a", rng)
        return Ask(
            "motion",
            say(lang, "mover.q", rng),
            mover,
            tuple(i for i in range(len(names)) if i != mover),
            lambda v: sentence(answer, it=the(lang, names[v])),
            lambda v: names[v].capitalize(),
            {"part": "mover"},
        )
    it = the(lang, phrase)
    answer = choose(lang, "motion.a", rng)
    return Ask(
        "motion",
        say(lang, "motion.q", rng, it=it),
        direction,
        tuple(m for m in moves if m != direction),
        lambda v: sentence(answer, it=it, way=moves[v]),
        lambda v: moves[v].capitalize(),
        {"part": "direction", "object": mover},
    )


MAKERS: dict[str, Maker] = {
    "colour": _attribute("colour", tuple(COLOURS)),
    "shape": _attribute("shape", SHAPES),
    "size": _attribute("size", tuple(SIZES)),
    "count": _count,
    "exists": _exists,
    "relation": _relation,
    "read_text": _read_text,
    "chart": _chart,
    "motion": _motion,
}
# Which questions a scene of each kind can be asked.
ASKABLE: dict[str, tuple[str, ...]] = {
    "shapes": ("colour", "shape", "size", "count", "exists", "relation"),
    "text": ("read_text",),
    "chart": ("chart",),
    "clip": ("motion", "colour", "shape", "size"),
}


def ask(scene: Scene, kind: str, lang: str, rng: Generator, tries: int = 12) -> Ask | None:
    """A question of that kind about the scene, or None if a few draws find no unambiguous one."""
    for _ in range(tries):
        made = MAKERS[kind](scene, lang, rng)
        if made is not None:
            return made
    return None
