"""What a question about a scene asks, and its right answer: the other way of the makers of `questions.py`.

A question is read where it is worded as those makers word theirs, with or without the plea for a brief
answer. Its answer is that of a scene's truth; a question that the scene does not answer, or in more than one
way, has none.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from .language import LANGUAGES, noun, some, the, word
from .questions import Value
from .world import COLOURS, SHAPES, SIZES

DIRECTIONS = ("left", "right", "above", "below")
LETTER = r"[A-Z]"
ATTRIBUTES = ("colour", "shape", "size")
# Templates of questions, by their key: the kind, and what `about` says of it beyond its slots.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{part}.q": (part, {}) for part in ATTRIBUTES},
    "count.q": ("count", {}),
    "exists.q": ("exists", {}),
    "relation.q": ("relation", {"open": False}),
    "place.q": ("relation", {"open": True}),
    **{f"{part}.q": ("chart", {"part": part}) for part in ("chart_value", "chart_difference", "chart_bars")},
    **{f"{part}.q": ("chart", {"part": part}) for part in ("chart_largest", "chart_smallest")},
    **{f"{part}.q": ("read_text", {"part": part}) for part in ("text", "text_first", "text_last")},
    **{f"{part}.q": ("read_text", {"part": part}) for part in ("text_length", "text_colour")},
}
Phrase = dict[str, str]  # which of colour, shape and size a noun phrase tells


class Asked(NamedTuple):
    """A question that was read: its kind, and the objects, directions and labels it names."""

    kind: str
    about: dict[str, Any]


def read_question(lang: str, question: str) -> Asked | None:
    """What a question asks; None where it is worded in no way that scenes' questions are."""
    text = question.strip()
    for plea in LANGUAGES[lang].PHRASES["brief"]:
        text = text.removesuffix(plea).strip()
    for key, pattern in _patterns(lang):
        found = pattern.fullmatch(text)
        if found is not None:
            kind, about = KINDS[key]
            slots = {name: _slot(lang, name, said) for name, said in found.groupdict().items()}
            return Asked(kind, {**about, **slots})
    return None


def right_answer(scene: Mapping[str, Any], asked: Asked) -> Value | None:
    """The answer that a scene's truth (`world.scene_truth`) gives; None where it gives none, or several."""
    if asked.kind == "chart":
        return _of_chart(scene["chart"], asked.about) if scene["chart"] else None
    if asked.kind == "read_text":
        return _of_text(scene["text"], asked.about["part"]) if scene["text"] else None
    if not scene["objects"]:
        return None
    if asked.kind in ("count", "exists"):
        number = len(_fitting(scene, asked.about["them" if asked.kind == "count" else "it"]))
        return number if asked.kind == "count" else number > 0
    it = _fitting(scene, asked.about["it"])
    if len(it) != 1:
        return None
    if asked.kind in ATTRIBUTES:
        value: str = scene["objects"][it[0]][asked.kind]
        return value
    other = _fitting(scene, asked.about["other"])
    if len(other) != 1 or other == it:
        return None
    holds = [way for a, way, b in scene["relations"] if [a, b] == [it[0], other[0]]]
    if not asked.about["open"]:
        return asked.about["where"] in holds if holds else None
    return holds[0] if len(holds) == 1 else None


def _fitting(scene: Mapping[str, Any], phrase: Phrase) -> list[int]:
    """The objects that a noun phrase fits."""
    return [
        number
        for number, thing in enumerate(scene["objects"])
        if all(thing[part] == said for part, said in phrase.items())
    ]


def _of_chart(bars: list[dict[str, Any]], about: Mapping[str, Any]) -> Value | None:
    values = {bar["label"]: bar["value"] for bar in bars}
    part = about["part"]
    if part == "chart_bars":
        return len(values)
    if part in ("chart_largest", "chart_smallest"):
        choose = max if part == "chart_largest" else min
        return str(choose(values, key=values.__getitem__))
    if part == "chart_value":
        found: int | None = values.get(about["label"])
        return found
    first, second = values.get(about["first"]), values.get(about["second"])
    return None if first is None or second is None or first == second else abs(first - second)


def _of_text(lettering: Mapping[str, Any], part: str) -> Value:
    text = str(lettering["text"])
    values: dict[str, Value] = {
        "text": text, "text_first": text[0], "text_last": text[-1], "text_length": len(text),
        "text_colour": str(lettering["colour"]),
    }  # fmt: skip
    return values[part]


@cache
def _patterns(lang: str) -> list[tuple[str, re.Pattern[str]]]:
    """A pattern a template, its slots as groups."""
    said = {
        "it": _one_of(_said_of(lang, the)),
        "other": _one_of(_said_of(lang, the)),
        "a_it": _one_of(_said_of(lang, some)),
        "them": _one_of(phrase for phrase, _ in _phrases(lang, number=2)),
        "where": _one_of(word(lang, way) for way in DIRECTIONS),
        **dict.fromkeys(("label", "first", "second"), LETTER),
    }
    bare = {**said, "it": _one_of(phrase for phrase, _ in _phrases(lang, number=1))}
    found = []
    for key in KINDS:
        for template in LANGUAGES[lang].PHRASES[key]:
            slots = bare if key == "exists.q" else said
            pieces = re.split(r"\{(\w+)\}", template)
            written = [
                f"(?P<{piece}>{slots[piece]})" if odd % 2 else re.escape(piece)
                for odd, piece in enumerate(pieces)
            ]
            found.append((key, re.compile("".join(written).replace("?P<a_it>", "?P<it>"))))
    return found


def _slot(lang: str, name: str, said: str) -> Any:
    """What the words in a slot mean."""
    if name == "where":
        return next(way for way in DIRECTIONS if word(lang, way) == said)
    if name in ("it", "other", "them"):
        return _meanings(lang)[said]
    return said


@cache
def _meanings(lang: str) -> dict[str, Phrase]:
    """The attributes that a noun phrase tells, with every article and number it is written with."""
    found: dict[str, Phrase] = {}
    for number in (1, 2):
        for phrase, parts in _phrases(lang, number):
            found |= dict.fromkeys((phrase, the(lang, phrase), some(lang, phrase)), parts)
    return found


def _said_of(lang: str, article: Any) -> Iterator[str]:
    return (article(lang, phrase) for phrase, _ in _phrases(lang, number=1))


def _phrases(lang: str, number: int) -> Iterator[tuple[str, Phrase]]:
    """Every noun phrase of size, colour and shape."""
    for size in (None, *SIZES):
        for colour in (None, *COLOURS):
            for shape in (None, *SHAPES):
                parts = {"size": size, "colour": colour, "shape": shape}
                told = {part: said for part, said in parts.items() if said is not None}
                yield noun(lang, size, colour, shape, number), told


def _one_of(texts: Any) -> str:
    return "|".join(re.escape(text) for text in dict.fromkeys(texts))
