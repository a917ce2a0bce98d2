"""Stored answers: what an engine was asked once is never asked again.

Answers lie in the store under `replies/<engine identity>/<first>-<last>/`, in Parquet files that are only
ever added, each named by its content. First and last are the first bytes of the pictures' ids that were
asked about together: all bytes of a small set, one of a large one. An answer is found by its request's key,
so prompts, sampling and limits may change between runs: what is the same is there. Failures are answers
too: an engine that may do better tomorrow raises instead. A request without a picture of the set lies under
`none`. Memory: the answers of the folders that the requests at hand may lie in, and of KEPT at least.
"""

import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.engines.base import Answer, Engine, Failure, Identity, Picture, Reply, Request, Token
from infinity_mm.store import Store, read_table, write_table

FLUSH = 256  # answers that a kill may cost
KEPT = 8
NONE = "none"
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        ("finish", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("reply_tokens", pa.int32()),
        ("tokens", pa.string()),
        ("failure", pa.string()),
    ],
    metadata={"imm.schema": "replies", "imm.version": "1"},
)


class Spent:
    """What a run asked and what it took: the measure of budgets and plans."""

    def __init__(self) -> None:
        self.asked = self.stored = self.prompt_tokens = self.reply_tokens = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.reply_tokens

    def took(self, answer: Answer) -> None:
        self.asked += 1
        if isinstance(answer, Reply):
            self.prompt_tokens += answer.prompt_tokens
            self.reply_tokens += answer.reply_tokens


class Replies:
    """The answers of one engine."""

    def __init__(self, store: Store, engine: Engine, spent: Spent) -> None:
        self._store, self.engine, self.spent = store, engine, spent
        self._folder = f"replies/{engine.identity.key}"
        self._folders: OrderedDict[str, dict[str, Answer]] = OrderedDict()
        self._new: defaultdict[str, list[tuple[str, Answer]]] = defaultdict(list)

    def ask(self, requests: Sequence[Request], blind: bool = False) -> list[Answer]:
        """The answer to each request, asked only where none is stored; equal requests are asked once.

        `blind`: their pictures are none of the set's. Raises EngineError; what came before it is stored.
        """
        bytes_ = {} if blind else {r.key: byte for r in requests if (byte := byte_of(r)) is not None}
        wanted = set(bytes_.values())
        span = f"{min(wanted)}-{max(wanted)}" if wanted else NONE
        apart = {NONE} if any(request.key not in bytes_ for request in requests) else set()
        folders = self._load({span, *apart, *self._covering(wanted)})
        known = {r.key: stored[r.key] for r in requests for stored in folders if r.key in stored}
        todo = {r.key: (r, span if r.key in bytes_ else NONE) for r in requests if r.key not in known}
        self.spent.stored += len(requests) - len(todo)
        asked = list(todo.values())
        try:
            for place, answer in self.engine.ask([request for request, _ in asked]):
                request, folder = asked[place]
                known[request.key] = answer
                self._new[folder].append((request.key, answer))
                self.spent.took(answer)
                if sum(map(len, self._new.values())) >= FLUSH:
                    self.flush()
        finally:
            self.flush()
        return [known[request.key] for request in requests]

    def flush(self) -> None:
        """Store what is not stored yet."""
        for folder, new in self._new.items():
            table = pa.Table.from_pylist([_row(key, answer) for key, answer in new], SCHEMA)
            write_table(self._store, f"{self._folder}/{folder}", table, ".parquet")
            if folder in self._folders:
                self._folders[folder].update(new)
        self._new.clear()

    def _covering(self, wanted: set[str]) -> list[str]:
        """The folders whose span has one of these bytes."""
        names = (name.rsplit("/", 1)[-1] for name in self._store.names(self._folder))
        spans = {name: name.partition("-") for name in names if name != NONE}
        return [
            name
            for name, (first, _, last) in spans.items()
            if any(first <= byte <= (last or first) for byte in wanted)
        ]

    def _load(self, names: set[str]) -> list[dict[str, Answer]]:
        """What lies in these folders, by key; of others that were loaded the longest unused are let go."""
        for name in sorted(names):
            if name not in self._folders:
                files = self._store.names(f"{self._folder}/{name}")
                rows = (row for file in files for row in read_table(self._store, file).to_pylist())
                self._folders[name] = {row["key"]: _answer(row) for row in rows}
            self._folders.move_to_end(name)
        while len(self._folders) > max(KEPT, len(names)):
            self._folders.popitem(last=False)
        return [self._folders[name] for name in names]


class Remembering:
    """An engine whose answers are stored: what it was asked once is not asked again."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self.spec = replies.engine.spec

    @property
    def identity(self) -> Identity:
        return self._replies.engine.identity

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        return iter(enumerate(self._replies.ask(requests)))

    def close(self) -> None:
        self._replies.engine.close()


def byte_of(request: Request) -> str | None:
    """The first byte of the id of a request's last picture, in hex."""
    pictures = [part for message in request.messages for part in message.parts if isinstance(part, Picture)]
    return pictures[-1].id[:2] if pictures else None


def _row(key: str, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Failure):
        return {"key": key, "failure": json.dumps(list(answer), ensure_ascii=False)}
    return {
        "key": key,
        **answer._asdict(),
        "tokens": json.dumps(answer.tokens, ensure_ascii=False) if answer.tokens else None,
    }


def _answer(row: dict[str, Any]) -> Answer:
    if row["failure"] is not None:
        return Failure(*json.loads(row["failure"]))
    told = json.loads(row["tokens"] or "[]")
    tokens = tuple(Token(text, logprob, tuple(map(tuple, top))) for text, logprob, top in told)
    return Reply(row["text"], row["finish"], row["prompt_tokens"], row["reply_tokens"], tokens)
