"""What a model said when it was asked for tags, read as tags, or why it can't be.

A reply is a list of short items between commas (of any script), semicolons or lines; numbers and dashes
before an item are not part of it, nor is what comes before a colon. An item that the vocabulary knows
becomes its tag; any other stays as it was said, in lower case. The score of a tag is the mean probability
of its tokens, where the engine tells them.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from infinity_mm.engines.base import Reply, Token
from pipelines.measures.phrases import refusal_in
from pipelines.tag.vocabulary import Vocabulary, normal

MOST_WORDS = 4  # of a tag
MOST_CHARACTERS = 40
MOST_HAN = 12  # characters of a tag in Chinese, which has no spaces between words
REPEATS = 3  # an item may come so often before the reply counts as one that repeats itself
PIECE = re.compile(r"[^,;，、；。\n]+")
BULLET = re.compile(r"\s*(?:[-*•·]|\(?\d{1,3}[.):、])\s*")
EDGES = " \t\r\"'`“”‘’「」《》[](){}*_.!?。！？"
HAN = re.compile(r"[\u3400-\u9fff]")


class NotTags(ValueError):
    """A reply that is no list of tags; the message begins with a reason in snake_case."""


class Said(NamedTuple):
    """A tag, and how sure the model was of it, 0 to 1, or None where that is not told."""

    tag: str
    score: float | None


def read_tags(reply: Reply, vocabulary: Vocabulary, prompt: str) -> list[Said]:
    """The tags of a reply to `prompt`, each once, in the order said. Raises NotTags.

    The last item of a reply that was cut at `max_tokens` is left out: it may be half a word.
    """
    text = reply.text
    if not text.strip():
        raise NotTags("no_tags_empty: the model said nothing")
    if _same(text, prompt):
        raise NotTags("no_tags_prompt: the model said its prompt again")
    if refusal := refusal_in(text):
        raise NotTags(f"no_tags_refusal: {refusal!r}")
    items = _items(text)
    if reply.finish == "length":
        items = items[:-1]
    counts: dict[str, int] = {}
    for item in items:
        word = normal(item.word)
        counts[word] = counts.get(word, 0) + 1
        if counts[word] > REPEATS:
            raise NotTags(f"no_tags_repeats: {item.word!r} comes {REPEATS + 1} times and more")
    short = [item for item in items if _is_short(item.word)]
    if not items and reply.finish == "length":
        raise NotTags("no_tags_cut: no comma before the limit of tokens")
    if 2 * len(short) <= len(items):
        raise NotTags(f"no_tags_list: {' '.join(text.split())[:80]!r}")
    found: dict[str, float | None] = {}
    probabilities = _Probabilities(text, reply.tokens)
    for item in short:
        tag = vocabulary.match(item.word) or normal(item.word)
        score = probabilities.mean(item.start, item.end)
        known = found.get(tag)
        found[tag] = score if known is None else max(known, score or 0)
    return [Said(tag, score) for tag, score in found.items()]


class _Item(NamedTuple):
    word: str
    start: int
    end: int


def _items(text: str) -> list[_Item]:
    """The items of a list and where each is in the text; without those that are only marks."""
    head = re.match(r"[^:：]*[:：](?=\s*\S)", text)
    items = []
    for piece in PIECE.finditer(text, head.end() if head else 0):
        bullet = BULLET.match(piece[0])
        bare = piece[0][bullet.end() if bullet else 0 :]
        word = bare.strip(EDGES)
        if word:
            start = piece.start() + len(piece[0]) - len(bare) + bare.index(word)
            items.append(_Item(word, start, start + len(word)))
    return items


def _is_short(word: str) -> bool:
    """Whether an item can be a tag: a few words with a letter or digit among them."""
    limit = MOST_HAN if HAN.search(word) else MOST_CHARACTERS
    few = len(word.split()) <= MOST_WORDS and len(word) <= limit
    return few and any(letter.isalnum() for letter in word)


def _same(text: str, prompt: str) -> bool:
    """Whether a reply begins with its prompt, or is a part of it that is too long to be chance."""
    said, asked = " ".join(text.split()).lower(), " ".join(prompt.split()).lower()
    return said.startswith(asked) or (len(said) > MOST_CHARACTERS and said in asked)


class _Probabilities:
    """The probabilities of a reply's tokens, by their places in its text."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        whole = "".join(token.text for token in tokens)
        at = whole.find(text) if text else -1
        self.tokens = tokens if at >= 0 else ()
        self.ends = [end - at for end in accumulate(len(token.text) for token in self.tokens)]

    def mean(self, start: int, end: int) -> float | None:
        """Of the tokens that have a character from `start` to `end`; None where there are none."""
        first = bisect_right(self.ends, start)
        found = []
        for token, stop in zip(self.tokens[first:], self.ends[first:], strict=True):
            found.append(min(1.0, math.exp(token.logprob)))
            if stop >= end:
                return sum(found) / len(found)
        return None
