"""A sample as an Emu3 sequence: which layout it takes, its ids, their loss weights and kinds.

    a captioned picture or clip   the caption and then the picture, or the other way round
    a text and a drawn answer     image generation
    one turn alone                its texts and pictures in order
    any other conversation        chat

Captioned is a sample of which a user's turn shows one picture and asks for a caption (`Encoding.captions`).
Which way round it comes, and whether its caption is left out for guidance, is drawn from the sample's id and
the epoch: the same for any order, ranks and workers. In a stage of `answers_only` every conversation is a
chat. The plan counts with what is laid out here, so that they cannot disagree.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple

import numpy as np

from infinity_mm.schema import Turn
from infinity_mm.sidecars import installed
from infinity_mm.store import file_digest
from infinity_mm.visual_tokens import VisualTokens
from trainers.batch import Pack, packed
from trainers.emu3.layouts import CLIP, Laid, Layouts, Said, Visual, Weights
from trainers.emu3.vocabulary import Vocabulary

VERSION = 1  # of the way samples are laid out and measured
KINDS = ("text", "codes", "marks")  # that losses are told by


class Document(NamedTuple):
    """One sample."""

    sample_id: bytes
    source: int  # number of its source
    laid: Laid
    kinds: np.ndarray  # int8 [T]: number in KINDS


class Drawn(NamedTuple):
    """What a captioned sample's lot is."""

    image_last: bool  # the picture comes after the caption
    null: bool  # and the caption is left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How samples become documents."""

    tokenizer: str  # its tokenizer.json
    vocabulary: Vocabulary
    weights: Weights
    answers_only: bool
    captions: tuple[str, ...]
    drawn: float
    null_prompt: float
    seed: int

    @property
    def layouts(self) -> Layouts:
        return open_layouts(self.tokenizer, self.vocabulary)

    def key(self, tokens: Sequence[str]) -> str:
        """What lengths depend on besides the sample, as 16 hex digits. `tokens`: what tells the visual tokens
        apart."""
        counted = [weight > 0 for weight in self.weights]
        told = [
            *(VERSION, file_digest(self.tokenizer), installed(["tokenizers"]), list(self.vocabulary)),
            *(counted, self.answers_only, list(self.captions), list(tokens)),
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def lot(self, sample_id: bytes, epoch: int) -> Drawn:
        """What is drawn for a captioned sample in an epoch."""
        seeded = hashlib.blake2b(sample_id, digest_size=16, key=f"{self.seed}/{epoch}".encode()).digest()
        order, null = (int.from_bytes(half, "big") / 2**64 for half in (seeded[:8], seeded[8:]))
        image_last = order < self.drawn
        return Drawn(image_last, image_last and null < self.null_prompt)


class Captioned(NamedTuple):
    """A picture and what is said of it; `asked`: whether it is to be said rather than drawn."""

    caption: str
    visual: Visual
    asked: bool


class LaidOut(NamedTuple):
    """A sample laid out; `caption`: tokens of its caption, where that may be left out."""

    laid: Laid
    caption: int


@cache
def open_layouts(tokenizer: str, vocabulary: Vocabulary) -> Layouts:
    """The layouts of a tokenizer.json, opened once in a process."""
    from tokenizers import Tokenizer

    return Layouts.of(Tokenizer.from_file(tokenizer), vocabulary)


def lay_out(
    turns: Sequence[Turn],
    visuals: Sequence[Visual | str],
    encoding: Encoding,
    lot: Drawn = Drawn(True, False),
) -> LaidOut:
    """The ids of a sample. In place of a visual stands why it has no tokens, as `reason: detail`.

    Raises ValueError, as `reason: detail`, for such a one where it is shown, and for what has no layout.
    """
    said = [_said(turn, visuals) for turn in turns]
    layouts, weights = encoding.layouts, encoding.weights
    try:
        captioned = None if encoding.answers_only else _captioned(said, encoding.captions)
        if captioned is not None:
            return _pair(captioned, encoding, lot)
        if len(said) == 1 and not encoding.answers_only:
            return LaidOut(layouts.interleaved(said[0].pieces, weights), 0)
        if encoding.answers_only:
            weights = weights._replace(vision=0.0, marks=0.0)
        return LaidOut(layouts.chat(said, weights), 0)
    except ValueError as error:
        raise ValueError(f"bad_conversation: {error}") from None


def visual_of(tokens: VisualTokens, medium: bytes, vocabulary: Vocabulary) -> Visual | str:
    """A medium's codes, or why it has none, as `reason: detail`."""
    if tokens.grid(medium) is None:
        return tokens.error(medium) or f"not_tokenized: medium {medium.hex()} has no tokens"
    codes, fps = tokens.codes(medium), tokens.fps(medium)
    if codes.max() >= vocabulary.codes:
        return f"bad_codes: medium {medium.hex()} has code {codes.max()}; there are {vocabulary.codes:,}"
    if fps is None and len(codes) > 1:
        return f"no_frame_rate: clip {medium.hex()} has no frames a second"
    if fps is not None and tokens.chunk != CLIP:
        return f"bad_clip: a frame of tokens stands for {tokens.chunk} frames; in a sequence it is {CLIP}"
    return Visual(codes, fps)


def join(documents: Sequence[Document]) -> Pack:
    """Documents as a pack, in their order; losses are told by source and kind."""
    return packed(
        [document.laid.ids for document in documents],
        [document.laid.weights for document in documents],
        [len(KINDS) * document.source + document.kinds for document in documents],
        (),
        np.zeros((0, 3, 1, 1), np.uint8),
    )


def kinds_of(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The kind of each token, int8 [T]; the text of a grid is text."""
    return np.where(ids < vocabulary.text, 0, np.where(ids >= vocabulary.visual, 1, 2)).astype(np.int8)


def _said(turn: Turn, visuals: Sequence[Visual | str]) -> Said:
    pieces: list[str | Visual] = []
    for part in turn.parts:
        if part.type == "text":
            pieces.append(part.text or "")
        elif part.media is None:
            raise ValueError("missing_media: a turn shows a picture that the record has not")
        else:
            visual = visuals[part.media]
            if isinstance(visual, str):
                raise ValueError(visual)
            pieces.append(visual)
    return Said(turn.role, tuple(pieces))


def _captioned(said: Sequence[Said], patterns: Sequence[str]) -> Captioned | None:
    """The picture and caption that a sample is made of, if it is."""
    if [turn.role for turn in said] != ["user", "assistant"]:
        return None
    (user, shown), (answer, made) = (_parted(turn.pieces) for turn in said)
    if len(shown) == 1 and not made and any(fnmatchcase(user.lower(), one) for one in patterns):
        return Captioned(answer, shown[0], asked=True)
    if len(made) == 1 and not shown and not answer:
        return Captioned(user, made[0], asked=False)
    return None


def _parted(pieces: Sequence[str | Visual]) -> tuple[str, list[Visual]]:
    text = " ".join(piece.strip() for piece in pieces if isinstance(piece, str))
    return text.strip(), [piece for piece in pieces if isinstance(piece, Visual)]


def _pair(captioned: Captioned, encoding: Encoding, lot: Drawn) -> LaidOut:
    layouts, weights = encoding.layouts, encoding.weights
    ids = np.array(layouts.encode(captioned.caption), np.int32)
    if captioned.asked and not lot.image_last:
        return LaidOut(layouts.caption(captioned.visual, ids, weights), 0)
    laid = layouts.image(ids[:0] if lot.null else ids, captioned.visual, weights)
    return LaidOut(laid, len(ids))
