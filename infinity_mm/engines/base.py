"""What an engine is: requests in, replies or failures out, in any order, each with the place of its request.

    transformers:ID_OR_FOLDER   in this process; any image-text-to-text model; a CPU does
    vllm:ID_OR_FOLDER           in this process, by vLLM: GPUs, or a CPU by vLLM's build for it
    openai:MODEL@URL            a server that speaks OpenAI's chat completions (vLLM serve, SGLang, others)
    tiny                        the small VLM of `trainers.tiny_vlm`, by transformers: for scenes alone

A request says everything its reply depends on but the model, and has a key: a stored reply is found again by
the engine's `identity` and that key. What a request could not have is a `Failure`, which callers put in a
ledger; an engine that can answer nothing more raises `EngineError`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

from infinity_mm.engines.json_schema import check_schema

MOST_LOGPROBS = 20  # what OpenAI's API and vLLM tell at most


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

    `choices`: the reply is exactly one of these texts; `schema`: it is JSON that fits this JSON schema, of
    the keywords that `json_schema` knows; at most one of the two. `top_logprobs`: of each token of the reply
    so many likeliest tokens are told, 20 at most, with their log-probabilities before temperature; 0 tells
    none. transformers tells them as they are before a constraint, vLLM and its server as they are among what
    it allows: shares of choices agree once they are scaled to sum to 1. Raises ValueError.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0
    seed: int = 0
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0
    stop: tuple[str, ...] = ()  # texts that end a reply; they are not part of it

    def __post_init__(self) -> None:
        if self.choices and self.schema is not None:
            raise ValueError("a request has choices and a schema: give one of them")
        if len(set(self.choices)) < len(self.choices) or any(c != c.strip() or not c for c in self.choices):
            raise ValueError(f"choices {self.choices}: give different ones, without white space around them")
        if self.schema is not None:
            check_schema(self.schema)
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens {self.max_tokens}: give 1 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature}: give 0 for the likeliest token, or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: give more than 0, at most 1")
        if not 0 <= self.top_logprobs <= MOST_LOGPROBS:
            raise ValueError(f"top_logprobs {self.top_logprobs}: give 0 to {MOST_LOGPROBS}")
        if not all(self.stop):
            raise ValueError("stop: an empty text ends every reply before it begins")

    @cached_property
    def key(self) -> str:
        """32 hex digits of all of the above, a picture by its id."""
        parts = [
            [m.role, [p if isinstance(p, str) else {"picture": p.id} for p in m.parts]] for m in self.messages
        ]
        told = [
            parts, self.max_tokens, float(self.temperature), float(self.top_p), self.seed, self.choices,
            self.schema, self.top_logprobs, self.stop,
        ]  # fmt: skip
        text = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


class Token(NamedTuple):
    """One token of a reply; `top` the likeliest at its place, best first, as (text, log-probability)."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Reply(NamedTuple):
    """What the model said, without white space around it.

    `finish`: it ended by itself ("stop"), or at `max_tokens` ("length"). `reply_tokens` counts the token
    that ended it too; `tokens` are told without that one, where `top_logprobs` asked for them and a server
    has them.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    reply_tokens: int
    tokens: tuple[Token, ...] = ()


REASONS: dict[str, str] = {
    "bad_picture": "a picture's bytes do not decode",
    "refused_by_template": "the model's chat template does not take these turns",
    "refused": "the model's processor, the engine or the server does not take the request",
    "prompt_too_long": "the prompt and max_tokens together are more than the model's context",
    "out_of_memory": "the request alone is more than the device's memory",
    "no_time": "the server took longer than the timeout, each time",
    "server_error": "the server failed on this request each time, and answers others",
    "unfinished": "the engine or the server broke the reply off",
    "empty_reply": "the reply has no text",
    "not_a_choice": "the reply is none of the choices",
    "not_json": "the reply is no JSON, or does not fit the schema",
}


class Failure(NamedTuple):
    """Why a request has no reply: a key of REASONS, for the ledger, and what was said."""

    reason: str
    detail: str


Answer = Reply | Failure


class EngineError(RuntimeError):
    """The engine answers nothing any more: a job stops here and can go on later."""


class Identity(NamedTuple):
    """What replies depend on besides the request."""

    engine: str  # transformers, vllm, openai
    model: str  # digest of its files, vLLM's options; of a server, its name and what it tells of it
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
    from infinity_mm.models.shipped import shipped_folder

    if rest:
        raise ValueError(f"engine tiny:{rest}: it is just `tiny`; another one is transformers:FOLDER")
    engine = open_hf(str(shipped_folder("tiny")), device, **options)
    engine.spec = "tiny"
    return engine


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
