"""What an engine is: requests in, replies or failures out, in any order, each with the place of its request.

    transformers:ID_OR_FOLDER   in this process; any image-text-to-text model; a CPU does
    vllm:ID_OR_FOLDER           vLLM in this process: batches, prefix caching, guided decoding; GPUs
    openai:MODEL@URL            a server that speaks OpenAI's chat completions (vLLM serve, SGLang, others)
    tiny                        the small VLM that ships, by transformers: it knows `imm scenes` alone

A request says everything its reply depends on but the model, and has a key: a stored reply is found again by
the engine's `identity` and that key. What a request could not have is a `Failure`, which callers put in a
ledger; an engine that can answer nothing more raises `EngineError`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol


class Picture(NamedTuple):
    """A picture's stored file. `id`: its media id, 32 hex digits, which stands for the bytes in keys."""

    id: str
    data: bytes


class Message(NamedTuple):
    """One turn: texts and pictures in order."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A conversation that wants its next turn, and how it is to be written.

    `choices`: the reply is exactly one of these texts; `schema`: it is JSON that fits this JSON schema; at
    most one of the two. `top_logprobs`: of each token of the reply so many likeliest tokens are told, with
    their log-probabilities before temperature and constraint; 0 tells none.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0
    seed: int = 0
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0
    stop: tuple[str, ...] = field(default=())  # texts that end a reply; they are not part of it

    @cached_property
    def key(self) -> str:
        """32 hex digits of all of the above, a picture by its id."""
        parts = [
            [m.role, [p if isinstance(p, str) else {"picture": p.id} for p in m.parts]] for m in self.messages
        ]
        told = [
            parts, self.max_tokens, self.temperature, self.top_p, self.seed, self.choices, self.schema,
            self.top_logprobs, self.stop,
        ]  # fmt: skip
        text = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Token(NamedTuple):
    """One token of a reply; `top` the likeliest at its place, best first, as (text, log-probability)."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Reply(NamedTuple):
    """What the model said. `finish`: it ended by itself ("stop"), or at `max_tokens` ("length"). `tokens` are
    told where `top_logprobs` asked for them."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    reply_tokens: int
    tokens: tuple[Token, ...] = ()


class Failure(NamedTuple):
    """Why a request has no reply: a snake_case reason for the ledger, and what was said."""

    reason: str
    detail: str


Answer = Reply | Failure


class EngineError(RuntimeError):
    """The engine answers nothing any more: a job stops here and can go on later."""


class Identity(NamedTuple):
    """What replies depend on besides the request."""

    engine: str  # transformers, vllm, openai
    model: str  # digest of its files; of a server, its name and what it tells of the model
    dtype: str
    device: str  # cpu, cuda; of a server: "served"
    libraries: str  # names and versions

    @property
    def key(self) -> str:
        """16 hex digits."""
        return hashlib.sha256(json.dumps(list(self)).encode()).hexdigest()[:16]


class Engine(Protocol):
    """An open engine; a worker opens one and closes it at its end."""

    spec: str  # the text that named it

    @property
    def identity(self) -> Identity: ...

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """The answer to each request, with its place among them, as soon as it is there.

        Raises EngineError. Answers that came before it stand.
        """
        ...

    def close(self) -> None: ...


def _transformers(rest: str, device: str | None, options: Mapping[str, Any]) -> Engine:
    from infinity_mm.engines.hf import open_hf

    return open_hf(rest, device, **options)


def _vllm(rest: str, device: str | None, options: Mapping[str, Any]) -> Engine:
    from infinity_mm.engines.vllm import open_vllm

    return open_vllm(rest, device, **options)


def _openai(rest: str, device: str | None, options: Mapping[str, Any]) -> Engine:
    from infinity_mm.engines.openai import open_openai

    return open_openai(rest, **options)


def _tiny(rest: str, device: str | None, options: Mapping[str, Any]) -> Engine:
    from infinity_mm.engines.hf import open_hf
    from infinity_mm.models.shipped import TINY_VLM

    if rest:
        raise ValueError(f"engine tiny:{rest}: it is just `tiny`; another one is transformers:FOLDER")
    return open_hf(str(TINY_VLM), device, **options)


ENGINES: dict[str, Callable[[str, str | None, Mapping[str, Any]], Engine]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
    "tiny": _tiny,
}


def open_engine(spec: str, device: str | None = None, **options: Any) -> Engine:
    """The engine that a text names, ready to be asked; `options` are the engine's own (`batch`,
    `concurrency`, …). Raises ValueError, in one line with the way out."""
    kind, _, rest = spec.partition(":")
    if kind not in ENGINES:
        near = get_close_matches(kind, ENGINES, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = "transformers:ID_OR_FOLDER, vllm:ID_OR_FOLDER, openai:MODEL@URL or tiny"
        raise ValueError(f"no engine {spec!r}: name one as {known}{hint}")
    return ENGINES[kind](rest, device, options)
