"""Writing replies with transformers' `generate`, which runs the model and keeps its cache; the tokens are
chosen here, a row at a time: each has its own temperature, seed, constraint and end.

Time a token is the model's, and a sort of the vocabulary where it is drawn.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from transformers import LogitsProcessor, StoppingCriteria

from infinity_mm.engines.base import Answer, Failure, Reply, Request, Token
from infinity_mm.engines.checks import checked, covering

Decode = Callable[[Sequence[int]], str]
Node = dict[int, Any]  # a token to what may follow it


class Constraint(Protocol):
    def constrain(self, logits_V: torch.Tensor) -> torch.Tensor:
        """The logits of a row's next token, [vocabulary], with -inf where it may not be."""
        ...

    def take(self, token: int) -> None:
        """The token that was chosen."""
        ...


def trie(choices: Sequence[Sequence[int]], ends: Sequence[int]) -> Node:
    """The tokens of each choice one below the other, and below its last those that end a reply."""
    root: Node = {}
    for choice in choices:
        node = root
        for token in choice:
            node = node.setdefault(token, {})
        node.update((end, {}) for end in ends)
    return root


class OneOf:
    """Exactly one of the choices of a trie."""

    def __init__(self, root: Node) -> None:
        self.node = root

    def constrain(self, logits_V: torch.Tensor) -> torch.Tensor:
        allowed = torch.tensor(list(self.node), device=logits_V.device)
        return torch.full_like(logits_V, -torch.inf).index_copy(0, allowed, logits_V[allowed])

    def take(self, token: int) -> None:
        self.node = self.node[token]


class Fitting:
    """JSON that fits a schema which xgrammar has compiled."""

    def __init__(self, compiled: Any) -> None:
        import xgrammar

        self.apply = xgrammar.apply_token_bitmask_inplace
        self.matcher = xgrammar.GrammarMatcher(compiled)
        self.bits = xgrammar.allocate_token_bitmask(1, compiled.tokenizer_info.vocab_size)

    def constrain(self, logits_V: torch.Tensor) -> torch.Tensor:
        self.matcher.fill_next_token_bitmask(self.bits, 0)
        rows = logits_V[None].clone()
        self.apply(rows, self.bits.to(rows.device))
        return rows[0]

    def take(self, token: int) -> None:
        accepted = self.matcher.accept_token(token)
        assert accepted, token


class Row:
    """A reply while it is written."""

    def __init__(
        self, request: Request, prompt_tokens: int, ends: frozenset[int], constraint: Constraint | None
    ) -> None:
        self.request, self.prompt_tokens, self.ends, self.constraint = (
            request,
            prompt_tokens,
            ends,
            constraint,
        )
        self.ids: list[int] = []
        self.tokens: list[Token] = []
        self.generated = 0
        self.text: str | None = None  # cut at a stop text
        self.finish: Literal["stop", "length", "nan"] | None = None
        self.generator = torch.Generator().manual_seed(request.seed % 2**63)

    def draw(self, logits_V: torch.Tensor) -> int:
        """A token drawn among the likeliest that have `top_p` of the probability together."""
        shares_V, tokens_V = (
            logits_V.cpu().double().div(self.request.temperature).softmax(-1).sort(descending=True)
        )
        upto_V = shares_V.cumsum(-1)
        kept = int((upto_V - shares_V < self.request.top_p).sum())
        point = torch.rand((), generator=self.generator, dtype=torch.float64) * upto_V[kept - 1]
        return int(tokens_V[torch.searchsorted(upto_V[:kept], point, right=True).clamp(max=kept - 1)])

    def take(self, token: int, told: Token | None, decode: Decode) -> None:
        """The next token, and what is told of it."""
        self.generated += 1
        if token in self.ends:
            self.finish = "stop"
            return
        if self.constraint is not None:
            self.constraint.take(token)
        self.ids.append(token)
        if told is not None:
            self.tokens.append(told)
        if self.request.stop:
            self._stop(decode)
        if self.finish is None and self.generated == self.request.max_tokens:
            self.finish = "length"

    def _stop(self, decode: Decode) -> None:
        text = decode(self.ids)
        found = [at for at in (text.find(stop) for stop in self.request.stop) if at >= 0]
        if found:
            self.finish, self.text = "stop", text[: min(found)]
            self.tokens = self.tokens[: covering(self.ids, self.text, decode)]

    def answer(self, decode: Decode) -> Answer:
        if self.finish == "nan":
            return Failure("unfinished", f"the model's logits are NaN after {self.generated} tokens")
        assert self.finish is not None
        text = decode(self.ids) if self.text is None else self.text
        reply = Reply(text, self.finish, self.prompt_tokens, self.generated, tuple(self.tokens))
        return checked(self.request, reply)


class Writer(LogitsProcessor):
    """Chooses the next token of every row, and leaves `generate` no other."""

    def __init__(self, rows: Sequence[Row], pad: int, decode: Decode, spelling: Callable[[int], str]) -> None:
        self.rows, self.pad, self.decode, self.spelling = rows, pad, decode, spelling
        self.most_told = max(row.request.top_logprobs for row in rows)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        open_ = [(place, row) for place, row in enumerate(self.rows) if row.finish is None]
        logs_BV = scores.log_softmax(-1) if self.most_told else None
        wanted_BV = scores
        if any(row.constraint is not None for _, row in open_):
            wanted_BV = scores.clone()
            for place, row in open_:
                if row.constraint is not None:
                    wanted_BV[place] = row.constraint.constrain(scores[place])
        best = wanted_BV.max(dim=-1)
        tokens = best.indices.tolist()
        for place, nan in enumerate(best.values.isnan().tolist()):
            if nan and self.rows[place].finish is None:
                self.rows[place].finish = "nan"
        for place, row in open_:
            if row.finish is None and row.request.temperature > 0:
                tokens[place] = row.draw(wanted_BV[place])
        told = self._told(logs_BV, tokens) if logs_BV is not None else [None] * len(tokens)
        for place, row in open_:
            if row.finish is None:
                row.take(tokens[place], told[place], self.decode)
        ahead = [t if row.finish is None else self.pad for t, row in zip(tokens, self.rows, strict=True)]
        only_BV = torch.full_like(scores, -torch.inf)
        only_BV[torch.arange(len(ahead)), ahead] = 0
        return only_BV

    def _told(self, logs_BV: torch.Tensor, tokens: Sequence[int]) -> list[Token | None]:
        """Each row's token with its log-probability and the likeliest, where its request asks for them."""
        most = logs_BV.topk(min(self.most_told, logs_BV.shape[1]))
        chosen = logs_BV.gather(1, torch.tensor(tokens, device=logs_BV.device)[:, None])[:, 0].tolist()
        found: list[Token | None] = []
        for row, token, log, ids, logs in zip(
            self.rows, tokens, chosen, most.indices.tolist(), most.values.tolist(), strict=True
        ):
            count = row.request.top_logprobs
            if count and row.finish is None:
                top = tuple((self.spelling(i), at) for i, at in zip(ids[:count], logs[:count], strict=True))
                found.append(Token(self.spelling(token), log, top))
            else:
                found.append(None)
        return found


class Done(StoppingCriteria):
    """Which rows are finished."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.tensor([row.finish is not None for row in self.rows], device=input_ids.device)
