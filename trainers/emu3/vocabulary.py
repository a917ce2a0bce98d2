"""Emu3's vocabulary: text ids, a few marks, and one id for each code of the vision tokenizer.

A visual id is a number, `visual + code`, from the token shard to the batch; the names that Hugging Face gives
the ids are written only into exported folders. The published ids are those of baaivision/Emu3's tokenizer
(Emu3: Next-Token Prediction is All You Need, arXiv 2409.18869, section 2.4); a small model has the same marks
in the same order behind its own tokenizer's ids.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

NAMES = {  # the marks as the published tokenizer names them
    "pad": "<|endoftext|>",
    "image": "<image>",
    "eol": "<|extra_200|>",
    "eof": "<|extra_201|>",
    "bos": "<|extra_203|>",
    "eos": "<|extra_204|>",
    "img": "<|image token|>",
    "boi": "<|image start|>",
    "eoi": "<|image end|>",
}


class Sized(Protocol):
    """A tokenizer of the `tokenizers` library."""

    def get_vocab_size(self) -> int: ...


class Vocabulary(NamedTuple):
    """Ids of a model."""

    text: int  # text ids are 0 to text - 1: a byte-level BPE with its own special tokens
    pad: int
    bos: int
    eos: int
    eol: int  # ends a row of codes
    eof: int  # ends a frame
    img: int  # the codes begin
    boi: int  # a picture or clip begins; text says its grid
    eoi: int  # it ends
    image: int  # the placeholder of Hugging Face's processor; in no sequence
    visual: int  # the id of code 0; code c is visual + c
    codes: int  # size of the codebook
    size: int  # rows of the embedding


EMU3 = Vocabulary(
    text=151_643,
    pad=151_643,
    bos=151_849,
    eos=151_850,
    eol=151_846,
    eof=151_847,
    img=151_851,
    boi=151_852,
    eoi=151_853,
    image=151_646,
    visual=151_854,
    codes=32_768,
    size=184_622,
)


def scaled(tokenizer: Sized, codes: int) -> Vocabulary:
    """The same marks in the same order behind a small tokenizer's own ids, then `codes` visual ids."""
    text = tokenizer.get_vocab_size()
    marks = {mark: text + number for number, mark in enumerate(NAMES)}
    visual = text + len(marks)
    return Vocabulary(text=text, visual=visual, codes=codes, size=visual + codes, **marks)


def visual_name(code: int) -> str:
    """The name of a code's token in published vocabularies."""
    return f"<|visual token {code:06d}|>"


def vocabulary_from(ids: Mapping[str, int], codes: int, size: int) -> Vocabulary:
    """The vocabulary of an exported folder: `ids` of the marks' names and of code 0's, `codes` of its
    codebook, `size` of its embedding. Raises ValueError naming what is not there or does not fit."""
    wanted = [*NAMES.values(), visual_name(0)]
    missing = [name for name in wanted if name not in ids]
    if missing:
        raise ValueError(f"the vocabulary has no {', '.join(missing)}: this is not a model of Emu3's kind")
    marks = {mark: ids[name] for mark, name in NAMES.items()}
    visual = ids[visual_name(0)]
    if visual + codes > size:
        raise ValueError(
            f"{codes:,} codes from id {visual:,} on do not fit {size:,} embeddings: the vision tokenizer is "
            "not this model's"
        )
    return Vocabulary(text=marks["pad"], visual=visual, codes=codes, size=size, **marks)
