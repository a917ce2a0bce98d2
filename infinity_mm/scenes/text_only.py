"""Questions without a picture: sums, comparisons, sorting, sides of shapes, letters; all have one answer."""

from typing import Any

from numpy.random import Generator

from .language import listing, say
from .randomness import pick
from .world import LETTERS

PARTS = ("sum", "minus", "larger", "sort", "sides", "spell")


def text_question(lang: str, rng: Generator) -> tuple[str, str, dict[str, Any]]:
    """A question, its answer, and the truth {"kind", "value", "about"}."""
    part = pick(rng, PARTS)
    a, b = (int(n) for n in rng.permutation(200)[:2])
    slots: dict[str, Any] = {"a": a, "b": b}
    value: str | int
    if part == "sum":
        value = a + b
    elif part == "minus":
        slots["a"], slots["b"] = max(a, b), min(a, b)
        value = abs(a - b)
    elif part == "larger":
        value = max(a, b)
    elif part == "sort":
        numbers = [int(n) for n in rng.permutation(100)[: int(rng.integers(3, 6))]]
        slots = {"numbers": listing(lang, [str(n) for n in numbers])}
        value = listing(lang, [str(n) for n in sorted(numbers)])
    elif part == "sides":
        slots = {"a": int(rng.integers(2, 30)), "b": int(rng.integers(2, 30))}
        value = 3 * slots["a"] + 4 * slots["b"]
    else:
        text = "".join(pick(rng, LETTERS) for _ in range(int(rng.integers(4, 8))))
        slots = {"text": text, "n": int(rng.integers(1, len(text)))}
        value = text[slots["n"]]
    question = say(lang, f"{part}.q", rng, **slots)
    answer = say(lang, f"{part}.a", rng, **slots, value=value)
    return question, answer, {"kind": "text_only", "value": value, "about": {"part": part, **slots}}
