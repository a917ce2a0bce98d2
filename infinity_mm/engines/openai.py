"""Models behind a server that speaks OpenAI's chat completions: vLLM's `serve`, SGLang, others.

    openai:MODEL@URL    such as openai:Qwen/Qwen2-VL-7B-Instruct@http://localhost:8000/v1

A number of requests are under way at a time, each asked again after a pause for as long as what went wrong
can pass: a server that is busy, restarting or breaks off. What can't pass stops the job at once. The key is
the environment's OPENAI_API_KEY, and is in no error.

Whether the server still has the model that it had is asked at the beginning of each job, after a connection
was lost, and after every new one, before a reply that came over it counts: its entry in the list of models
must be the same, but for `created`, which vLLM tells anew each time.

What is sent beside OpenAI's own fields depends on who owns the model by that list. vLLM:
`structured_outputs: {"choice": […]}` for choices, before 0.12 `guided_choice`; SGLang: `regex`; both:
`top_k`, `min_p` and `repetition_penalty` that switch the model's own habits off. To others nothing is sent
for choices, and their replies are checked alike. A schema goes as `response_format`.

Memory is that of the requests under way, with their pictures in base64, and of answers not yet taken.
"""

import asyncio
import base64
import json
import os
import random
import re
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import SimpleQueue
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

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
from infinity_mm.engines.checks import TOO_LONG, Refused, checked, one_line, parts_of, pictures_of
from infinity_mm.media.decode import check_image
from infinity_mm.media.sniff import sniff

KEY = "OPENAI_API_KEY"
TOLD = ("id", "root", "parent", "owned_by", "max_model_len")  # what a list of models says of one
PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529))
BUSY = frozenset((429, 503))  # says nothing of the request
OF_REQUEST = frozenset((400, 413, 415, 422))
LONGEST_PAUSE = 60.0  # seconds, of our own choice
LONGEST_WAIT = 600.0  # seconds that a server may ask for
NEVER = -9000.0  # a log-probability that vLLM writes for minus infinity is below
MIME = {"svg": "image/svg+xml", "ico": "image/x-icon", "ppm": "image/x-portable-anymap"}
PLAIN = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
T = TypeVar("T")


class Passing(Exception):
    """What may be otherwise after a pause: of at least `after` seconds, where the server says so."""

    def __init__(self, reason: str, detail: str, after: float = 0.0, busy: bool = False) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.after, self.busy = reason, detail, after, busy


def open_openai(
    rest: str, *, concurrency: int = 16, timeout: float = 120.0, retries: int = 6, wait: float = 1.0
) -> "OpenAIEngine":
    """The model of a server, which must be there.

    `concurrency`: requests under way; `timeout`: seconds for one; `retries`: how often it is asked again,
    the first time after `wait` seconds, then after twice as long each time, LONGEST_PAUSE at most: by default
    for a good minute, besides what the server itself asks for. Raises ValueError, in one line with the way
    out, and EngineError where the server can't be reached.
    """
    name, at, url = rest.partition("@http")
    place = urlsplit(f"http{url}")
    if not at or not name or not place.hostname or place.scheme not in ("http", "https"):
        raise ValueError("engine openai: give openai:MODEL@URL, such as openai:NAME@http://localhost:8000/v1")
    if "@" in url or place.query:
        raise ValueError(f"engine openai: the URL holds more than a place: give the key by {KEY} alone")
    if concurrency < 1 or retries < 0 or timeout <= 0 or wait < 0:
        raise ValueError(
            "engine openai: give a concurrency of 1 or more, retries of 0 or more, a timeout above 0 s and "
            "a wait of 0 s or more"
        )
    key = os.environ.get(KEY, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise ValueError(f"engine openai: {KEY} holds characters that no key has")
    path = place.path.rstrip("/") or "/v1"
    engine = OpenAIEngine(
        name, f"{place.scheme}://{place.netloc}{path}", key, concurrency, timeout, retries, wait
    )
    try:
        engine.meet()
    except BaseException:
        engine.close()
        raise
    return engine


class OpenAIEngine:
    """A server's model. Requests run in a thread of their own, whatever the caller does meanwhile."""

    def __init__(
        self, model: str, url: str, key: str, concurrency: int, timeout: float, retries: int, wait: float
    ) -> None:
        self.spec, self.model, self.url = f"openai:{model}@{url}", model, url
        self.concurrency, self.timeout, self.retries, self.wait = concurrency, timeout, retries, wait
        self.told: dict[str, Any] = {}
        self.version = ""
        self._key = key
        self._unsure = True  # whether the server has the model that it had
        self._asking = asyncio.Lock()
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=None,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=concurrency),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()

    @property
    def identity(self) -> Identity:
        """What the server tells of its model. Two models that it tells the same of are one."""
        model = ", ".join(f"{name} {value}" for name, value in self.told.items())
        return Identity("openai", model, "", "served", f"{self.told.get('owned_by')} {self.version}".strip())

    def meet(self) -> None:
        """Ask the server what it has. Raises ValueError where that is not our model, and EngineError."""
        try:
            self.told = self._run(self._card())
        except Passing as error:
            raise EngineError(f"engine {self.spec}: {error.detail}: is the server there?") from None
        if self.told.get("owned_by") == "vllm":
            try:
                found = self._run(self._call("GET", f"{self.url.removesuffix('/v1')}/version"))
                self.version = str(found.get("version", ""))
            except (Passing, Refused, EngineError):
                self.version = ""
        self._unsure = False

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """As `Engine` has it. Raises EngineError where the server stays away, or has another model."""
        answers: SimpleQueue[tuple[int, Answer] | None] = SimpleQueue()
        job = asyncio.run_coroutine_threadsafe(self._work(requests, answers), self._loop)
        job.add_done_callback(lambda _: answers.put(None))
        try:
            while (one := answers.get()) is not None:
                yield one
            job.result()
        finally:
            job.cancel()

    def close(self) -> None:
        if self._thread.is_alive():
            self._run(self._client.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _work(
        self, requests: Sequence[Request], answers: "SimpleQueue[tuple[int, Answer] | None]"
    ) -> None:
        todo = iter(enumerate(requests))
        self._unsure = True

        async def worker() -> None:
            for place, request in todo:
                answers.put((place, await self._answer(request)))

        workers = [asyncio.create_task(worker()) for _ in range(min(self.concurrency, len(requests)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for one in workers:
                one.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _answer(self, request: Request) -> Answer:
        """The answer to a request, asked as often as it takes. Raises EngineError."""
        try:
            body = await asyncio.to_thread(self._body, request)
            return await self._asked(request, body)
        except Refused as refused:
            return refused.failure

    async def _asked(self, request: Request, body: bytes) -> Answer:
        pause = self.wait
        for left in reversed(range(self.retries + 1)):
            try:
                await self._same()
                said = await self._call("POST", f"{self.url}/chat/completions", body)
                await self._same()
                return self._answered(request, said)
            except Passing as error:
                last = error
            if left:
                await asyncio.sleep(max(last.after, pause * random.uniform(1, 1.5)))
                pause = min(2 * pause, LONGEST_PAUSE)
        if not last.busy and await self._answers_others():
            return Failure(last.reason, f"{self.retries + 1} times: {last.detail}")
        raise EngineError(
            f"engine {self.spec}: {last.detail}, {self.retries + 1} times: go on when the server is there "
            "again"
        )

    async def _answers_others(self) -> bool:
        """Whether the server answers at all: then the fault is the request's."""
        short = {"model": self.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        try:
            await self._same()
            await self._call("POST", f"{self.url}/chat/completions", json.dumps(short).encode())
        except (Passing, Refused):
            return False
        return True

    async def _same(self) -> None:
        """Raises EngineError where the server has another model than at first."""
        async with self._asking:
            if not self._unsure:
                return
            told = await self._card()
            if told != self.told:
                names = [name for name in TOLD if told.get(name) != self.told.get(name)]
                had, has = (", ".join(f"{n} {card.get(n)}" for n in names) for card in (self.told, told))
                raise EngineError(
                    f"engine {self.spec}: the server came back with another model, {self._said(has)}, and "
                    f"had {self._said(had)}: serve that one, or begin anew"
                )
            self._unsure = False

    async def _card(self) -> dict[str, Any]:
        """What the server's list says of the model. Raises ValueError where it has none of that name."""
        try:
            found = await self._call("GET", f"{self.url}/models")
            cards = {card["id"]: card for card in found["data"]}
        except (Refused, KeyError, TypeError) as error:
            raise EngineError(
                f"engine {self.spec}: {self.url}/models is no list of models ({self._said(error, 100)}): is "
                "the URL that of an OpenAI-compatible server?"
            ) from None
        if self.model not in cards:
            has = f"has no model {self.model!r}; it has {self._said(', '.join(map(str, cards)) or 'none')}"
            if not self.told:
                raise ValueError(f"engine openai: the server {has}")
            raise EngineError(f"engine {self.spec}: the server came back and {has}")
        return {name: cards[self.model].get(name) for name in TOLD if cards[self.model].get(name) is not None}

    async def _call(self, method: str, url: str, body: bytes | None = None) -> dict[str, Any]:
        """The JSON object that a server answers. Raises Passing, Refused, EngineError."""
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._client.request(
                    method, url, content=body, headers=headers, extensions={"trace": self._traced}
                )
        except TimeoutError:
            raise Passing("no_time", f"no reply within {self.timeout:g} s") from None
        except httpx2.RequestError as error:
            self._unsure = True
            said = self._said(error) or "broken off"
            raise Passing("server_error", f"{type(error).__name__}: {said}") from None
        if response.status_code != 200:
            self._refused(response)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Passing(
                "server_error", f"{url} answered what is no JSON: {self._said(response.text, 80)!r}"
            )
        return found

    async def _traced(self, event: str, _: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "connect_unix_socket.complete")):
            self._unsure = True

    def _refused(self, response: httpx2.Response) -> None:
        """Raises what a status other than 200 means."""
        status, said = response.status_code, self._said(_message(response))
        detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        if status in (401, 403):
            how = "refuses the key" if self._key else "wants a key"
            raise EngineError(f"engine {self.spec}: the server {how} ({detail}): set {KEY} to a valid one")
        if status in PASSING and "insufficient_quota" not in response.text:
            after = _seconds(response.headers.get("Retry-After"))
            if after > LONGEST_WAIT:
                raise EngineError(
                    f"engine {self.spec}: {detail}; the server asks to come back in {after:.0f} s"
                )
            raise Passing("server_error", detail, after, status in BUSY)
        if status in OF_REQUEST:
            raise Refused("prompt_too_long" if TOO_LONG.search(said) else "refused", detail)
        raise EngineError(f"engine {self.spec}: {detail}: check the model's name and the URL")

    def _said(self, said: object, most: int = 300) -> str:
        """What a server or an exception says, in one line and without the key."""
        text = str(said)
        return one_line(text.replace(self._key, "[key]") if self._key else text, most)

    def _body(self, request: Request) -> bytes:
        """A request as it is sent. Raises Refused for a picture that does not decode."""
        for picture in pictures_of(request):
            if (error := check_image(picture.data)) is not None:
                raise Refused("bad_picture", f"picture {picture.id}: {error}")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": content(m)} for m in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        owner = self.told.get("owned_by")
        if owner in ("vllm", "sglang"):
            body |= PLAIN
        if request.stop:
            body["stop"] = list(request.stop)
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.choices and owner == "vllm":
            body |= _vllm_choices(self.version, list(request.choices))
        if request.choices and owner == "sglang":
            body["regex"] = "(" + "|".join(re.escape(choice) for choice in request.choices) + ")"
        if request.schema is not None:
            schema = {"name": "reply", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return json.dumps(body, default=dict).encode()

    def _answered(self, request: Request, said: dict[str, Any]) -> Answer:
        """What a completion says. Raises Passing for what is none, EngineError for one of another model."""
        try:
            choice, named, usage = said["choices"][0], said["model"], said["usage"]
            message, finish = choice["message"], choice["finish_reason"]
            text = message.get("content") or ""
            prompt_tokens, reply_tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
            tokens = _tokens(choice, text) if request.top_logprobs else ()
            if not isinstance(text, str):
                raise TypeError(text)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            missing = self._said(f"{type(error).__name__}: {error}", 100)
            raise Passing("server_error", f"the server's answer is no chat completion ({missing})") from None
        if named != self.model:
            raise EngineError(
                f"engine {self.spec}: the server answers as {self._said(named)!r}: ask for the model by that "
                "name"
            )
        if message.get("refusal"):
            return Failure("refused", self._said(message["refusal"]))
        if finish not in ("stop", "length"):
            return Failure("unfinished", f"the server's finish_reason is {self._said(finish)!r}")
        return checked(request, Reply(text, finish, prompt_tokens, reply_tokens, tokens))


def _message(response: httpx2.Response) -> str:
    """What a server says of its refusal."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text


def content(message: Message) -> str | list[dict[str, Any]]:
    """A turn's parts as OpenAI's API has them; texts one after the other are one."""
    parts: list[dict[str, Any]] = []
    for part in parts_of(message):
        if isinstance(part, Picture):
            form = sniff(memoryview(part.data))
            url = f"data:{MIME.get(form, f'image/{form}')};base64,{base64.b64encode(part.data).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            parts.append({"type": "text", "text": part})
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _vllm_choices(version: str, choices: list[str]) -> dict[str, Any]:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < (0, 12):
        return {"guided_choice": choices}
    return {"structured_outputs": {"choice": choices}}


def _tokens(choice: Mapping[str, Any], text: str) -> tuple[Token, ...]:
    """The tokens that a completion tells, without the one that ended it."""
    told = [
        Token(
            one["token"],
            float(one["logprob"]),
            tuple((t["token"], float(t["logprob"])) for t in one["top_logprobs"] if t["logprob"] > NEVER),
        )
        for one in (choice.get("logprobs") or {}).get("content") or ()
    ]
    if told and choice["finish_reason"] == "stop" and not (told[-1].text and text.endswith(told[-1].text)):
        told.pop()
    return tuple(told)


def _seconds(value: str | None) -> float:
    """A Retry-After header's seconds; 0 where there is none that can be read."""
    if value is None:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
