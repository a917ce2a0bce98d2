"""Texts as sets of hashed shingles: what near-duplicate search compares, in English, Chinese and others.

A text is first read as tokens. Compatibility forms (NFKC) and case are folded and format characters, as zero
width joiners and soft hyphens, removed; then a token is a run of letters, digits and the marks on them, one
character of a script that is written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) with its marks, or
one symbol (any of Unicode's category S, as + < = $ and emoji; and # % & @). White space, control characters
and all other punctuation only part tokens, but for one of - – . , : / right before a digit, which belongs to
the token: "Yes." and "yes" are equal, "3.5" and "35", or "-3" and "3", are not.

A shingle is a run of `size` tokens, as a hash of 64 bits. A text of fewer tokens has none: it can only be
compared exactly, by `text_key`. Time and memory are linear in the length of the texts.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b, sha256
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from infinity_mm.order import mix
from infinity_mm.scripts import HAN, KANA, THAI_LAO_KHMER_BURMESE

SHINGLE = 5  # tokens
_BATCH = 4096  # texts hashed at once
_KEPT = "#%&@"
_ASCII_TOKEN = re.compile(rf"[a-z0-9]+|[-.,:/][0-9][a-z0-9]*|[{_KEPT}$+<=>^`|~]")


class ShingleSets(NamedTuple):
    """The distinct shingles of N texts: of text i `values[offsets[i] : offsets[i + 1]]`, ascending."""

    values: np.ndarray  # uint64 [T]
    offsets: np.ndarray  # int64 [N + 1], from 0 to T

    def sizes(self) -> np.ndarray:
        """int64 [N]: how many shingles each text has."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "ShingleSets":
        """The sets of these rows, in this order."""
        sizes = self.sizes()[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], sizes)
        return ShingleSets(self.values[at], offsets)


def normalised(text: str) -> str:
    """The tokens of a text with one space between them; texts that read the same are equal after this.

    A text without any token, as "?!", is its characters with white space collapsed, so that it equals only
    itself. Normalising twice changes nothing.
    """
    folded = _folded(text)
    return " ".join(_tokens(folded) or folded.split())


def text_key(text: str) -> bytes:
    """16 bytes, the same for texts that are equal when normalised: the start of a sha256."""
    return sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()[:16]


def shingles(text: str, size: int = SHINGLE) -> np.ndarray:
    """uint64 [T]: the distinct shingles of one text, ascending; none if it has fewer than `size` tokens."""
    return shingle_sets([text], size).values


def shingle_sets(texts: Iterable[str], size: int = SHINGLE) -> ShingleSets:
    """The shingles of many texts. Raises ValueError if `size` is below 1."""
    if size < 1:
        raise ValueError(f"a shingle of {size} tokens: it needs at least 1")
    stream = iter(texts)
    values, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    while batch := list(islice(stream, _BATCH)):
        batch_values, batch_sizes = _hashed(batch, size)
        values.append(batch_values)
        sizes.append(batch_sizes)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return ShingleSets(np.concatenate(values), offsets)


def _hashed(texts: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct shingles of each text one after another, uint64 [T], and their counts, int64 [N]."""
    lists = [_tokens(_folded(text)) for text in texts]
    hash_of = _TokenHashes()
    hashes = np.fromiter(map(hash_of.__getitem__, chain.from_iterable(lists)), np.uint64)
    counts = np.array([len(tokens) for tokens in lists])
    if len(hashes) < size:
        return np.empty(0, np.uint64), np.zeros(len(texts), np.int64)
    runs = len(hashes) - size + 1
    value = mix(hashes[:runs], size)
    for later in range(1, size):
        value = mix(value + hashes[later : later + runs], size)
    row = np.repeat(np.arange(len(texts)), counts)
    inside = row[:runs] == row[size - 1 :]
    value, row = value[inside], row[:runs][inside]
    order = np.lexsort((value, row))
    value, row = value[order], row[order]
    first = np.ones(len(value), bool)
    first[1:] = (value[1:] != value[:-1]) | (row[1:] != row[:-1])
    return value[first], np.bincount(row[first], minlength=len(texts))


class _TokenHashes(dict[str, int]):
    """The 64-bit hash of each token met; the same in every process."""

    def __missing__(self, token: str) -> int:
        digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[token] = value = int.from_bytes(digest, "little")
        return value


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKC", _patterns().format.sub("", text))
    return _patterns().format.sub("", unicodedata.normalize("NFKC", bare.casefold()))


def _tokens(folded: str) -> list[str]:
    return (_ASCII_TOKEN if folded.isascii() else _patterns().token).findall(folded)


class _Patterns(NamedTuple):
    token: re.Pattern[str]
    format: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    """Made from the Unicode tables of this Python when the first text that is not ASCII comes."""
    classes: dict[str, list[int]] = {}
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        classes.setdefault(category if category[0] == "C" else category[0], []).append(code)
    marks, symbols = _ranges(classes["M"]), _ranges(classes["S"]) + _KEPT
    parting = r"\s" + _ranges(classes["P"]) + _ranges(classes["Cc"])
    single = HAN + KANA + THAI_LAO_KHMER_BURMESE
    other = rf"[^{parting}{symbols}{single}]"
    token = re.compile(rf"{other}+|[{single}][{marks}]*|[-–.,:/]\d{other}*|[{symbols}]")
    return _Patterns(token, re.compile(f"[{_ranges(classes['Cf'])}]"))


def _ranges(codes: list[int]) -> str:
    """Ascending code points as the inside of a class of characters."""
    starts = [code for i, code in enumerate(codes) if not i or codes[i - 1] != code - 1]
    ends = [code for i, code in enumerate(codes) if i + 1 == len(codes) or codes[i + 1] != code + 1]
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in zip(starts, ends, strict=True))
