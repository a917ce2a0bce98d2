"""Stored answers: what an engine was asked once is never asked again.

Answers lie in the store under `replies/<engine identity>/<first byte of a picture's id>/`, in Parquet files
that are only ever added, each named by its content. An answer is found by its request's key, so prompts,
sampling and limits may change between runs: what is the same is there. Failures are answers too: an engine
that may do better tomorrow raises instead. A request without a picture lies under `none`. Memory: the answers
of KEPT such folders, of about 256; of more where one call asks about pictures of more.
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
        self._room = KEPT

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """The answer to each request, asked only where none is stored; equal requests are asked once.

        Raises EngineError; what came before it is stored.
        """
        folders = [folder_of(request) for request in requests]
        self._room = max(KEPT, len(set(folders)))
        known: dict[str, Answer] = {}
        for name in dict.fromkeys(folders):
            stored = self._stored(name)
            own = (r.key for r, folder in zip(requests, folders, strict=True) if folder == name)
            known |= {key: stored[key] for key in own if key in stored}
        todo = {r.key: (r, folder) for r, folder in zip(requests, folders, strict=True) if r.key not in known}
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

    def _stored(self, folder: str) -> dict[str, Answer]:
        """What lies in a folder, by key."""
        if folder not in self._folders:
            found = {}
            for name in sorted(self._store.names(f"{self._folder}/{folder}")):
                for row in read_table(self._store, name).to_pylist():
                    found[row["key"]] = _answer(row)
            self._folders[folder] = found
        self._folders.move_to_end(folder)
        while len(self._folders) > self._room:
            self._folders.popitem(last=False)
        return self._folders[folder]


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


def folder_of(request: Request) -> str:
    """Where the answer to a request lies: the first byte of its last picture's id, in hex."""
    pictures = [part for message in request.messages for part in message.parts if isinstance(part, Picture)]
    return pictures[-1].id[:2] if pictures else "none"


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
