"""How right answers are: to the letter, up to how they are written, and by the value they say.

The value counts where a truth tells what kind of question it is (`infinity_mm.scenes.answers`): "It is red."
and "Red" are as right. Of a question that the model was to write, the value is right where it asks for what
was wanted and the picture gives it one answer (`infinity_mm.scenes.asked`).
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from infinity_mm.scenes.answers import is_read, read_value
from infinity_mm.scenes.asked import read_question, right_answer

ARTICLES = re.compile(r"\b(a|an|the)\b")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {name: str(number) for number, name in enumerate(NUMBERS)}
ATTRIBUTES = ("colour", "shape", "size")


class Truth(NamedTuple):
    """What a question is about and its right value: an entry of `answers` in the truth.jsonl of `imm
    scenes`, and what its scene holds."""

    language: str
    kind: str
    about: Mapping[str, Any]
    value: Any
    scene: Mapping[str, Any]  # empty where there is none

    @property
    def type(self) -> str:
        """The type of question that it is scored with."""
        if self.kind in ATTRIBUTES:
            alone = len(self.scene.get("objects", ())) == 1
            return f"{self.kind} of the one object" if alone else f"{self.kind} of one of several"
        if self.kind == "relation":
            return "relation, open" if self.about["open"] else "relation, yes or no"
        return f"{self.kind}: {self.about['part']}" if "part" in self.about else self.kind


class Judged(NamedTuple):
    """Which ways one answer is right. `value` is None where no value is read."""

    exact: bool
    normalised: bool
    value: bool | None


def normalise(text: str) -> str:
    """A text without case, punctuation, articles and spare blanks, its numbers up to ten in digits."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(" " if unicodedata.category(c)[0] in "PS" and c not in "+-%" else c for c in text)
    text = ARTICLES.sub(" ", text)
    return " ".join(DIGITS.get(word, word) for word in text.split())


def judge(answer: str, right: str, truth: Truth | None) -> Judged:
    """How right an answer is."""
    value = None
    if truth is not None and truth.kind == "write_question":
        value = _is_good(answer, truth)
    elif truth is not None and is_read(truth.kind, truth.about):
        value = read_value(truth.language, truth.kind, truth.about, answer) == truth.value
    return Judged(answer.strip() == right.strip(), normalise(answer) == normalise(right), value)


def _is_good(question: str, truth: Truth) -> bool:
    """Whether a written question is of the kind that was wanted, and the picture gives it one answer."""
    asked = read_question(truth.language, question)
    if asked is None or asked.kind != truth.about["asked_kind"]:
        return False
    return right_answer(truth.scene, asked) is not None


def tally(judged: Iterable[Judged]) -> dict[str, Any]:
    """Questions, and the shares of them that are right in each way; `value` of those whose value is read."""
    answers = list(judged)
    values = [one.value for one in answers if one.value is not None]
    return {
        "questions": len(answers),
        "exact": _share([one.exact for one in answers]),
        "normalised": _share([one.normalised for one in answers]),
        "value": _share(values),
    }


def _share(judged: list[bool]) -> float | None:
    return round(sum(judged) / len(judged), 4) if judged else None
