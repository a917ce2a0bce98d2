"""An engine of the tests: what it says follows from picture and prompt, and is bad as often as told."""

import hashlib
import math
from collections.abc import Iterator, Sequence

from infinity_mm.engines.base import (
    Answer,
    EngineError,
    Failure,
    Identity,
    Message,
    Picture,
    Reply,
    Request,
    Token,
)

QUESTIONS = {
    "the color of an object": "What color is the object?",
    "the shape of an object": "Which shape does the object have?",
    "the size of an object": "Is the object small or large?",
    "the number of objects": "How many objects are there?",
    "whether something is there": "Is there a red circle in the picture?",
    "where an object is relative to another": "Is the star above the cross?",
    "the text": "What does the text say?",
    "the bar chart": "How many bars does the chart have?",
}
BAD: dict[str, Answer] = {
    "empty": Failure("empty_reply", "the model said nothing"),
    "rejected": Failure("bad_picture", "the picture can't be read"),
    "endless": Reply("red red red red red red red red", "length", 9, 8),
    "cut": Reply("There is a thing that", "length", 9, 5),
    "chinese": Reply("图中有一个红色的圆形。", "stop", 9, 5),
    "lines": Reply("What color is it?\nIt is red.", "stop", 9, 9),
}


class Scripted:
    """`bad`: the share of replies that are bad; `dies_after`: answers until it raises EngineError."""

    spec = "scripted"

    def __init__(self, bad: float = 0.0, dies_after: int | None = None, seed: int = 0) -> None:
        self.bad, self.dies_after, self.seed = bad, dies_after, seed
        self.asked: list[Request] = []
        self.closed = False

    @property
    def identity(self) -> Identity:
        return Identity("scripted", f"{self.bad}-{self.seed}", "float32", "cpu", "")

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for place in reversed(range(len(requests))):  # in no order that could be counted on
            if self.dies_after is not None and len(self.asked) >= self.dies_after:
                raise EngineError("the server is gone")
            self.asked.append(requests[place])
            yield place, self.say(requests[place])

    def say(self, request: Request) -> Answer:
        lot = int(hashlib.sha256(f"{self.seed}{request.key}".encode()).hexdigest()[:8], 16) / 2**32
        if lot < self.bad:
            return list(BAD.values())[int(lot / self.bad * len(BAD))]
        prompt = text_of(request.messages[-1])
        for asks, question in QUESTIONS.items():
            if prompt == f"Write a question about {asks} in this picture.":
                return Reply(question, "stop", 20, 6)
        if request.choices:
            good = lot < 0.9
            token = Token(
                request.choices[not good], math.log(0.8), ((request.choices[not good], math.log(0.8)),)
            )
            return Reply(request.choices[not good], "stop", 20, 1, (token,))
        if "Score the reply" in prompt:
            top = (("9", math.log(0.7)), ("8", math.log(0.2)), ("2", math.log(0.1)))
            return Reply("9", "stop", 20, 1, (Token("9", math.log(0.7), top),))
        if prompt == "Describe the picture.":
            return Reply("The picture shows a red circle.", "stop", 20, 7)
        return Reply("Red" if lot < 0.8 else "Blue", "stop", 20, 1)

    def close(self) -> None:
        self.closed = True


def text_of(message: Message) -> str:
    return " ".join(part for part in message.parts if not isinstance(part, Picture))
