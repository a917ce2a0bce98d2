"""One sample as measures look at it: the views of its text and meta that several families share."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from infinity_mm.schema import Sample, Turn


def turn_text(turn: Turn) -> str:
    """The text of a turn without the white space around it; texts on two sides of a picture keep a space."""
    parts = turn.parts
    if len(parts) == 1:
        return (parts[0].text or "").strip()
    return " ".join(p.text.strip() for p in parts if p.text).strip()


def _check_unicode(value: Any) -> None:
    """Raises ValueError for a lone surrogate, which a JSON escape can name and no text may hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("meta has a text that is not valid Unicode (a lone surrogate)") from None


class SampleLook:
    """The texts of a sample's turns, and its meta: made once, however many families ask.

    `turns`: (role, text) of each turn. `questions` and `answers`: the texts of user and assistant turns that
    have text (a turn of nothing but a picture is none). `exchanges`: (question, answer) where a user turn
    with text is answered by the very next turn. `text`: all turns, a line each. Rejected turns are in none
    of them: they are not what a model learns to say; the structure family counts them.
    """

    __slots__ = ("_meta", "answers", "exchanges", "questions", "sample", "text", "turns")

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.turns: Sequence[tuple[str, str]] = [(turn.role, turn_text(turn)) for turn in sample.turns]
        self.questions: Sequence[str] = [text for role, text in self.turns if role == "user" and text]
        self.answers: Sequence[str] = [text for role, text in self.turns if role == "assistant" and text]
        self.exchanges: Sequence[tuple[str, str]] = [
            (question, answer)
            for (asks, question), (tells, answer) in pairwise(self.turns)
            if asks == "user" and tells == "assistant" and question and answer
        ]
        self.text: str = "\n".join([text for _, text in self.turns if text])
        self._meta: dict[str, Any] | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """The sample's meta. Raises ValueError where it is not a JSON object."""
        if self._meta is None:
            found = json.loads(self.sample.meta) if self.sample.meta else {}
            if "\\u" in self.sample.meta:
                _check_unicode(found)
            if not isinstance(found, dict):
                raise ValueError(f"meta is a JSON {type(found).__name__}, not an object")
            self._meta = found
        return self._meta
