"""The small tokenizer that the shipped models share: byte-level BPE, 4,096 tokens, English and Chinese.

Every text comes back as it was: what has no token of its own is spelled in bytes. A digit is a token of its
own, and so is a capital letter before another or before a digit: what a sign or a bar says is read letter by
letter. `python -m trainers.tokenizer` makes the file.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = Path(__file__).with_name("tokenizer.json")
SIZE = 4096
PAD, BOS, EOS, IM_START, IM_END, IMAGE = range(6)
RESERVED = 64  # tokens kept free for models to come, such as those of a picture's grid
SPECIAL = (
    *("<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<image>"),
    *(f"<|reserved_{i}|>" for i in range(RESERVED)),
)


@cache
def tokenizer() -> "Tokenizer":
    """The tokenizer, as the `tokenizers` library reads it. A text that spells a special token has none."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(FILE))
    found.encode_special_tokens = True
    return found


def encode(text: str) -> list[int]:
    """The tokens of a text, without any special one."""
    # One text at a time: the library's batches start threads, which a forked worker can't use.
    return list(tokenizer().encode(text, add_special_tokens=False).ids)


def decode(ids: Sequence[int]) -> str:
    """The text that tokens stand for; special tokens are left out."""
    return str(tokenizer().decode(list(ids), skip_special_tokens=True))


def encode_padded(texts: Sequence[str], length: int) -> np.ndarray:
    """int64 [len(texts), length]: BOS, a text's tokens as far as they go, EOS, PAD."""
    rows = np.full((len(texts), length), PAD, np.int64)
    for row, text in zip(rows, texts, strict=True):
        ids = [BOS, *encode(text)[: length - 2], EOS]
        row[: len(ids)] = ids
    return rows
