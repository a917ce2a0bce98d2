"""An engine whose replies are a function of the request, and which counts what it is asked."""

import math
import re
from collections.abc import Callable, Iterator, Sequence

from infinity_mm.engines.base import Answer, EngineError, Failure, Identity, Picture, Reply, Request, Token

Say = Callable[[Request], str | Failure]


def picture_ids(request: Request) -> list[str]:
    return [part.id for message in request.messages for part in message.parts if isinstance(part, Picture)]


def prompt_of(request: Request) -> str:
    return "".join(part for message in request.messages for part in message.parts if isinstance(part, str))


class Scripted:
    """Answers in reverse order, as engines may; a reply's tokens are its words with the space before them,
    each of probability `sure`. Dies when it is asked for the `dies_at`-th time."""

    spec = "scripted"

    def __init__(self, say: Say, sure: float = 0.5, dies_at: int | None = None, model: str = "m") -> None:
        self.say, self.sure, self.dies_at, self.model = say, sure, dies_at, model
        self.asked: list[Request] = []
        self.closed = False

    @property
    def identity(self) -> Identity:
        return Identity("scripted", self.model, "float32", "cpu", "")

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for place in reversed(range(len(requests))):
            if self.dies_at is not None and len(self.asked) >= self.dies_at:
                raise EngineError("the engine died")
            self.asked.append(requests[place])
            yield place, self._answer(requests[place])

    def _answer(self, request: Request) -> Answer:
        said = self.say(request)
        if isinstance(said, Failure):
            return said
        words = re.findall(r"\s*\S+", said)
        cut = len(words) > request.max_tokens
        text = "".join(words[: request.max_tokens]) if cut else said
        told = request.top_logprobs > 0
        tokens = [Token(word, math.log(self.sure)) for word in words[: request.max_tokens]] if told else []
        return Reply(text, "length" if cut else "stop", 10, len(words), tuple(tokens))

    def close(self) -> None:
        self.closed = True
