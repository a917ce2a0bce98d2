"""Stored answers: what an engine was asked once is never asked again.

Answers lie in the store under `replies/<engine identity>/<first byte of a picture's id>/`, in Parquet files
that are only ever added, each named by its content. An answer is found by its request's key, so prompts,
sampling and limits may change between runs: what is the same is there. Failures are answers too: an engine
that may do better tomorrow raises instead. Memory: the answers about pictures of one first byte, a 256th of
all.
"""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.engines.base import Answer, Engine, Failure, Reply, Request, Token
from infinity_mm.store import Store, read_table, write_table

FLUSH = 256  # answers that a kill may cost
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
    """The answers of one engine about the pictures of one first byte."""

    def __init__(self, store: Store, engine: Engine, bucket: str, spent: Spent) -> None:
        self._store, self._engine, self.spent = store, engine, spent
        self._folder = f"replies/{engine.identity.key}/{bucket}"
        self._known: dict[str, Answer] = {}
        self._new: list[tuple[str, Answer]] = []
        for name in sorted(store.names(self._folder)):
            for row in read_table(store, name).to_pylist():
                self._known[row["key"]] = _answer(row)

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """The answer to each request, asked only where none is stored; equal requests are asked once.

        Raises EngineError; what came before it is stored.
        """
        todo = {r.key: r for r in requests if r.key not in self._known}
        self.spent.stored += len(requests) - len(todo)
        keys = list(todo)
        try:
            for place, answer in self._engine.ask(list(todo.values())):
                self._known[keys[place]] = answer
                self._new.append((keys[place], answer))
                self.spent.took(answer)
                if len(self._new) >= FLUSH:
                    self.flush()
        finally:
            self.flush()
        return [self._known[request.key] for request in requests]

    def flush(self) -> None:
        """Store what is not stored yet."""
        if self._new:
            rows = [_row(key, answer) for key, answer in self._new]
            write_table(self._store, self._folder, pa.Table.from_pylist(rows, SCHEMA), ".parquet")
            self._new = []


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
