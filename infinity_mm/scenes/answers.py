"""What an answer to a scene's question says, whatever its wording: the other way of `questions.py`.

A value is read where the answer names one of its kind and no other: "It is red." says red, "red or blue" and
"a circle" say no colour. Captions and questions made up have no one value and are not read.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from .language import LANGUAGES, word
from .questions import Value
from .world import COLOURS, SHAPES, SIZES

Reader = Callable[[str, str], Value | None]  # (language, answer)
DIRECTIONS = ("left", "right", "above", "below")
NO = re.compile(r"\b(no|not|wrong|neither)\b|不|没|错", re.IGNORECASE)
YES = re.compile(r"\b(yes|right)\b|是|有|对|相同|一样", re.IGNORECASE)
NOT_NUMBERS = re.compile("|".join(["一共", *(word("zh", shape) for shape in SHAPES)]))
WHICH = {"first": re.compile(r"\bfirst\b|第一"), "second": re.compile(r"\bsecond\b|第二")}
SAME = re.compile(r"\b(same|neither)\b|一样", re.IGNORECASE)


def read_value(lang: str, kind: str, about: Mapping[str, Any], answer: str) -> Value | None:
    """The value that an answer to a question of this kind says; None where it says none or several.

    `kind` and `about` are those of the truth. Raises KeyError where answers of that kind are not read.
    """
    return _reader(kind, about)(lang, answer)


def is_read(kind: str, about: Mapping[str, Any]) -> bool:
    """Whether answers of this kind are read."""
    try:
        _reader(kind, about)
    except KeyError:
        return False
    return True


def _reader(kind: str, about: Mapping[str, Any]) -> Reader:
    if kind == "relation":
        return _direction if about["open"] else _truth
    return READERS[f"{kind}.{about['part']}" if "part" in about else kind]


def _only(found: Iterable[Value]) -> Value | None:
    values = list(dict.fromkeys(found))
    return values[0] if len(values) == 1 else None


def _one_of(choices: Iterable[str], lang: str, answer: str) -> str | None:
    """The one of some words that an answer has."""
    names = {choice: word(lang, choice) for choice in choices}
    found = [choice for choice, name in names.items() if _has(lang, answer, name)]
    return str(found[0]) if len(found) == 1 else None


def _has(lang: str, answer: str, name: str) -> bool:
    if lang == "zh":
        return name in answer
    return re.search(rf"\b{re.escape(name)}(e?s)?\b", answer, re.IGNORECASE) is not None


def _direction(lang: str, answer: str) -> Value | None:
    return _one_of(DIRECTIONS, lang, answer)


def _way(lang: str, answer: str) -> Value | None:
    ways: dict[str, str] = LANGUAGES[lang].MOVES
    return _only(way for way, name in ways.items() if _has(lang, answer, name))


def _truth(lang: str, answer: str) -> Value | None:
    if NO.search(answer):
        return False
    return True if YES.search(answer) else None


def _number(lang: str, answer: str) -> Value | None:
    """A number in words or digits; none at all is 0."""
    text = NOT_NUMBERS.sub("", answer).replace("二", "两")
    numbers: tuple[str, ...] = LANGUAGES[lang].NUMBERS
    found = [n for n, name in enumerate(numbers) if _has(lang, text, name)]
    found += [int(digits) for digits in re.findall(r"\d+", text)]
    return _only(found) if found else (0 if NO.search(text) else None)


def _result(lang: str, answer: str) -> Value | None:
    """The number that a calculation ends in."""
    found = re.findall(r"\d+", answer)
    return int(found[-1]) if found else None


def _sides(lang: str, answer: str) -> Value | None:
    found = re.search(r"\d+", answer)
    return int(found[0]) if found else None


def _characters(lang: str, answer: str) -> Value | None:
    """What is written in capitals and digits."""
    return _only(re.findall(r"(?<![A-Za-z0-9])[A-Z0-9]+(?![A-Za-z0-9])", answer))


def _which(lang: str, answer: str) -> Value | None:
    """Which of two pictures, or that they are alike."""
    if SAME.search(answer):
        return "same"
    return _only(name for name, said in WHICH.items() if said.search(answer.lower()))


READERS: dict[str, Reader] = {
    "colour": partial(_one_of, COLOURS),
    "shape": partial(_one_of, SHAPES),
    "size": partial(_one_of, SIZES),
    "count": _number,
    "exists": _truth,
    "judge_relevance": _truth,
    "judge_answer": _truth,
    "score_answer": _number,
    "chart.chart_bars": _number,
    "chart.chart_value": _result,
    "chart.chart_difference": _result,
    "chart.chart_largest": _characters,
    "chart.chart_smallest": _characters,
    "read_text.text": _characters,
    "read_text.text_first": _characters,
    "read_text.text_last": _characters,
    "read_text.text_length": _number,
    "read_text.text_colour": partial(_one_of, COLOURS),
    "motion.direction": _way,
    "compare.more": _which,
    "compare.same_colour": _truth,
    "compare.same_shape": _truth,
    "text_only.sum": _result,
    "text_only.minus": _result,
    "text_only.larger": _result,
    "text_only.sides": _sides,
    "text_only.spell": _characters,
}
