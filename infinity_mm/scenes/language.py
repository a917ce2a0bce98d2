"""From meanings to words: noun phrases, lists and sentences in English ("en") and Chinese ("zh")."""

from collections.abc import Sequence
from types import ModuleType

from numpy.random import Generator

from . import chinese, english
from .randomness import pick

LANGUAGES: dict[str, ModuleType] = {"en": english, "zh": chinese}


def word(lang: str, value: object) -> str:
    """The word for a colour, shape, size, relation or truth value; numbers and other text as they are."""
    words: dict[str, str] = LANGUAGES[lang].WORDS
    return words.get(str(value), str(value))


def number_word(lang: str, n: int) -> str:
    """The number in words up to ten, in digits past it."""
    numbers: tuple[str, ...] = LANGUAGES[lang].NUMBERS
    return numbers[n] if n < len(numbers) else str(n)


def noun(
    lang: str, size: str | None = None, colour: str | None = None, shape: str | None = None, number: int = 1
) -> str:
    """A noun phrase without article, such as "small red circles"; what isn't given isn't said."""
    body = word(lang, shape or "object")
    if lang == "zh":
        return (word(lang, colour) + "的" if colour else "") + (word(lang, size) if size else "") + body
    if number != 1:
        body += "es" if body.endswith("s") else "s"
    return " ".join(w for w in (size, colour, body) if w)


def the(lang: str, phrase: str) -> str:
    """The phrase for something known: "the red circle"."""
    return phrase if lang == "zh" else f"the {phrase}"


def some(lang: str, phrase: str, number: int = 1) -> str:
    """The phrase for something new: "a red circle", "an orange star", "two circles"."""
    if lang == "zh":
        return f"{number_word(lang, number)}个{phrase}"
    if number != 1:
        return f"{number_word(lang, number)} {phrase}"
    return f"an {phrase}" if phrase[0] in "aeio" else f"a {phrase}"


def listing(lang: str, phrases: Sequence[str]) -> str:
    """The phrases as one: "a, b and c"."""
    if len(phrases) == 1:
        return phrases[0]
    if lang == "zh":
        return "、".join(phrases[:-1]) + "和" + phrases[-1]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def sentence(template: str, **slots: object) -> str:
    """The template filled; {It} is the slot `it` with its first letter raised."""
    texts = {name: str(value) for name, value in slots.items()}
    raised = {name[0].upper() + name[1:]: text[:1].upper() + text[1:] for name, text in texts.items()}
    return template.format(**raised, **texts)


def choose(lang: str, key: str, rng: Generator) -> str:
    """One of the language's templates of that key."""
    return pick(rng, LANGUAGES[lang].PHRASES[key])


def nth(lang: str, key: str, place: float) -> str:
    """The template at a place from 0 to 1 among those of that key: the same place gives like templates."""
    templates: tuple[str, ...] = LANGUAGES[lang].PHRASES[key]
    return templates[int(place * len(templates))]


def say(lang: str, key: str, rng: Generator, **slots: object) -> str:
    """A sentence of that key, its template drawn by lot."""
    return sentence(choose(lang, key, rng), **slots)
