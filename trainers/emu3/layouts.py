"""Emu3's sequences: ids with a loss weight a token, and back from ids to what they say.

    image generation   BOS caption BOI "H*W" IMG row EOL ... row EOL EOF EOI EOS
    captioning         BOS BOI "H*W" IMG ... EOI caption EOS
    chat               BOS "You are a helpful assistant. USER: " BOI ... EOI question ". ASSISTANT:"
                       answer EOS
    video              BOI "H*W F fps S s" IMG row EOL ... EOF row EOL ... EOF EOI in place of a picture
    interleaved        BOS text picture text picture ... EOS
    text               BOS text EOS

H and W are the grid's rows and columns, as plain text. Layouts are those of the Emu3 paper (arXiv 2409.18869,
sections 2.4 and 2.5) and its released processor. Choices where nothing is published: a clip says its frame
rate and its length in seconds after its grid, each frame of its grid has rows and EOF like a picture's, and
later turns of a chat begin with "USER: ". Unlike the released trainer, every sequence ends with EOS, and
marks are learned.

A token's weight is that of predicting it from what comes before; BOS is first and has none. Visual ids are
made from codes by adding, never through strings. Time and memory grow with the tokens.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from trainers.emu3.vocabulary import Vocabulary

CLIP = 4  # frames of a clip that one frame of its grid stands for
SIDE = 9999  # rows or columns of a grid at most
RATES = (0.1, 240.0)  # frames a second that the length in seconds tells exactly
SYSTEM = "You are a helpful assistant."
META = re.compile(r"([1-9]\d{0,3})\*([1-9]\d{0,3})(?: (\d+(?:\.\d+)?) fps (\d+\.\d\d) s)?")


class Weights(NamedTuple):
    """Loss weights of a sequence's kinds of tokens."""

    text: float = 1.0
    vision: float = 0.5  # codes
    marks: float = 1.0  # BOI, the grid's text, IMG, EOL, EOF, EOI and EOS


UNDERSTANDING = Weights(text=1.0, vision=0.0, marks=0.0)


class Visual(NamedTuple):
    """A picture or, with a frame rate, a clip. Its codes are never negative."""

    codes: np.ndarray  # int [T, H, W]
    fps: float | None = None

    @property
    def grid(self) -> tuple[int, int, int]:
        frames, rows, columns = self.codes.shape
        return frames, rows, columns


Ids = np.ndarray  # int32 [N]
Piece = str | Ids | Visual  # a text, the ids of one, or a picture


class Laid(NamedTuple):
    """A sequence."""

    ids: Ids  # int32 [N]
    weights: np.ndarray  # float32 [N]


class Said(NamedTuple):
    """A chat's turn, in order of what it shows and says."""

    role: str  # system, user or assistant
    pieces: tuple[str | Visual, ...]


class Drawing(NamedTuple):
    """What an image-generation sequence says."""

    caption: Ids
    visual: Visual


def shaped(codes: np.ndarray, grid: Sequence[int], fps: float | None = None) -> Visual:
    """Codes in raster order as a picture or clip. Raises ValueError if they are not as many as the grid
    says."""
    frames, rows, columns = grid
    if frames * rows * columns != np.size(codes):
        raise ValueError(f"{np.size(codes):,} codes do not fill a grid of {frames}x{rows}x{columns}")
    return Visual(np.asarray(codes).reshape(frames, rows, columns), fps)


def meta_text(grid: Sequence[int], fps: float | None = None) -> str:
    """What is written between BOI and IMG. Raises ValueError for a grid or frame rate that can't be."""
    frames, rows, columns = grid
    if not (1 <= rows <= SIDE and 1 <= columns <= SIDE and frames >= 1):
        raise ValueError(f"a grid of {frames}x{rows}x{columns} has no text: sides are 1 to {SIDE:,}")
    if fps is None:
        if frames != 1:
            raise ValueError(f"a grid of {frames} frames has no frame rate")
        return f"{rows}*{columns}"
    least, most = RATES
    if not least <= fps <= most:
        raise ValueError(f"{fps:g} frames a second have no text: {least:g} to {most:g} have")
    rate = f"{fps:g}"
    return f"{rows}*{columns} {rate} fps {frames * CLIP / float(rate):.2f} s"


def meta_grid(text: str) -> tuple[tuple[int, int, int], float | None]:
    """The grid and frame rate that a text says. Raises ValueError for a text that `meta_text` never makes."""
    found = META.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} says no grid")
    rows, columns, rate, seconds = found.groups()
    fps = None if rate is None else float(rate)
    frames = 1 if fps is None else round(float(seconds) * fps / CLIP)
    grid = (frames, int(rows), int(columns))
    if meta_text(grid, fps) != text:
        raise ValueError(f"{text!r} is not how its grid is written")
    return grid, fps


@dataclass(frozen=True, slots=True)
class Layouts:
    """The sequences of a vocabulary, whose text `encode` and `decode` turn into ids and back."""

    vocabulary: Vocabulary
    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]

    @classmethod
    def of(cls, tokenizer: Any, vocabulary: Vocabulary) -> "Layouts":
        """With a tokenizer of the `tokenizers` library. A text that spells a mark has none in its ids."""
        tokenizer.encode_special_tokens = True

        @lru_cache(maxsize=4096)  # the grids, and the little that many samples ask
        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

        def decode(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(list(ids), skip_special_tokens=False))

        return cls(vocabulary, encode, decode)

    # Sequences, all of which raise ValueError for codes, grids and text ids that the vocabulary has not.

    def image(self, caption: str | Ids, visual: Visual, weights: Weights = Weights()) -> Laid:
        """Image (or video) generation. An empty caption is the unconditional sequence of guidance."""
        return self.interleaved([caption, visual], weights)

    def caption(self, visual: Visual, caption: str | Ids, weights: Weights = Weights()) -> Laid:
        """Image understanding: what is said comes after what is seen."""
        return self.interleaved([visual, caption], weights)

    def text(self, text: str | Ids, weights: Weights = Weights()) -> Laid:
        return self.interleaved([text], weights)

    def interleaved(self, pieces: Iterable[Piece], weights: Weights = Weights()) -> Laid:
        """Texts and pictures in any order."""
        mark = self.vocabulary
        return self._sequence(
            [*(self._piece(piece, weights) for piece in pieces)], [(mark.eos, weights.marks)]
        )

    def chat(self, turns: Sequence[Said], weights: Weights = UNDERSTANDING) -> Laid:
        """A conversation; only what the assistant says, and the EOS after it, has a weight."""
        return self._sequence(self._chat(turns, weights), [])

    def image_prompt(self, caption: str | Ids, rows: int, columns: int) -> Ids:
        """The ids that a picture of a caption is drawn after: up to IMG."""
        told = self._piece(caption, Weights())
        return self._sequence([told, self._header((1, rows, columns), None, 0.0)], []).ids

    def chat_prompt(self, turns: Sequence[Said]) -> Ids:
        """The ids that the next answer comes after. The last turn is the user's."""
        return self._sequence(self._chat(turns, UNDERSTANDING), []).ids

    def visual_length(self, grid: Sequence[int], fps: float | None = None) -> int:
        """Tokens of a picture of a grid, from BOI to EOI."""
        frames, rows, columns = grid
        return len(self.encode(meta_text(grid, fps))) + frames * (rows * (columns + 1) + 1) + 3

    def parse(self, ids: Sequence[int] | Ids) -> tuple[tuple[Ids | Visual, ...], ...]:
        """What a sequence says: the texts' ids and pictures before each EOS. The exact inverse of laying out.

        Raises ValueError, with the place, for ids that no layout makes.
        """
        return _Reader(self, np.asarray(ids, np.int64)).parts()

    def parse_image(self, ids: Sequence[int] | Ids) -> Drawing:
        """What an image-generation sequence says. Raises ValueError for any other."""
        parts = self.parse(ids)
        pieces = parts[0]
        caption, visual = (np.zeros(0, np.int32), *pieces)[-2:] if len(pieces) <= 2 else (None, None)
        if len(parts) != 1 or not isinstance(visual, Visual) or not isinstance(caption, np.ndarray):
            raise ValueError("this is no caption with one picture after it")
        return Drawing(caption, visual)

    def _sequence(self, laid: Sequence[Laid], end: Sequence[tuple[int, float]]) -> Laid:
        ids = [np.array([self.vocabulary.bos], np.int32), *(one.ids for one in laid)]
        weights = [np.zeros(1, np.float32), *(one.weights for one in laid)]
        for mark, weight in end:
            ids.append(np.array([mark], np.int32))
            weights.append(np.array([weight], np.float32))
        return Laid(np.concatenate(ids), np.concatenate(weights))

    def _piece(self, piece: Piece, weights: Weights) -> Laid:
        if isinstance(piece, Visual):
            return self._visual(piece, weights)
        ids = np.array(self.encode(piece) if isinstance(piece, str) else piece, np.int32)
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocabulary.text:
            raise ValueError(
                f"text ids are 0 to {self.vocabulary.text - 1:,}, not {ids.min()} to {ids.max():,}"
            )
        return Laid(ids, np.full(len(ids), weights.text, np.float32))

    def _header(self, grid: Sequence[int], fps: float | None, weight: float) -> Laid:
        said = self.encode(meta_text(grid, fps))
        ids = np.array([self.vocabulary.boi, *said, self.vocabulary.img], np.int32)
        return Laid(ids, np.full(len(ids), weight, np.float32))

    def _visual(self, visual: Visual, weights: Weights) -> Laid:
        mark, codes = self.vocabulary, np.asarray(visual.codes)
        frames, rows, columns = visual.grid
        header = self._header(visual.grid, visual.fps, weights.marks)
        if codes.min() < 0 or codes.max() >= mark.codes:
            raise ValueError(
                f"codes are 0 to {mark.codes - 1:,}, not {codes.min():,} to {codes.max():,}: these are of "
                "another vision tokenizer"
            )
        lines = np.full((frames, rows, columns + 1), mark.eol, np.int32)
        lines[:, :, :-1] = codes + mark.visual
        lined = np.full(lines.shape, weights.marks, np.float32)
        lined[:, :, :-1] = weights.vision
        pages = np.full((frames, rows * (columns + 1) + 1), mark.eof, np.int32)
        pages[:, :-1] = lines.reshape(frames, -1)
        paged = np.full(pages.shape, weights.marks, np.float32)
        paged[:, :-1] = lined.reshape(frames, -1)
        end = np.array([weights.marks], np.float32)
        return Laid(
            np.concatenate([header.ids, pages.ravel(), np.array([mark.eoi], np.int32)]),
            np.concatenate([header.weights, paged.ravel(), end]),
        )

    def _chat(self, turns: Sequence[Said], weights: Weights) -> list[Laid]:
        system = [turn for turn in turns if turn.role == "system"]
        spoken = [turn for turn in turns if turn.role != "system"]
        roles = [turn.role for turn in spoken]
        if not roles or roles != [("user", "assistant")[at % 2] for at in range(len(roles))]:
            raise ValueError(f"a chat is user and assistant by turns, not {', '.join(roles) or 'nothing'}")
        told = [piece for turn in system for piece in turn.pieces]
        if any(isinstance(piece, Visual) for piece in told):
            raise ValueError("a system turn shows a picture, which Emu3's chat has no place for")
        first = f"{' '.join(map(str, told)) or SYSTEM} "
        laid, silent = [], Weights(0.0, 0.0, 0.0)
        for turn in spoken:
            if turn.role == "user":
                asked = _joined([first + "USER: ", *turn.pieces, ". ASSISTANT:"])
                laid += [self._piece(piece, silent) for piece in asked]
                first = ""
            else:
                laid += [self._piece(piece, weights) for piece in _joined(turn.pieces)]
                eos = np.array([self.vocabulary.eos], np.int32)
                laid.append(Laid(eos, np.array([weights.text], np.float32)))
        return laid


def _joined(pieces: Iterable[str | Visual]) -> list[str | Visual]:
    """The same with neighbouring texts as one, as a tokenizer has to see them."""
    joined: list[str | Visual] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


class _Reader:
    """Ids read from left to right."""

    def __init__(self, layouts: Layouts, ids: np.ndarray) -> None:
        self.layouts, self.mark, self.ids, self.at = layouts, layouts.vocabulary, ids, 0

    def parts(self) -> tuple[tuple[Ids | Visual, ...], ...]:
        self.take(self.mark.bos, "BOS")
        parts = []
        while self.at < len(self.ids):
            pieces: list[Ids | Visual] = []
            while self.next() != self.mark.eos:
                pieces.append(self.visual() if self.next() == self.mark.boi else self.text())
            self.at += 1
            parts.append(tuple(pieces))
        if not parts:
            raise self.wrong("EOS")
        return tuple(parts)

    def next(self) -> int:
        return int(self.ids[self.at]) if self.at < len(self.ids) else -1

    def wrong(self, wanted: str) -> ValueError:
        found = f"id {self.next()}" if self.at < len(self.ids) else "the end"
        return ValueError(f"{found} at place {self.at} where {wanted} belongs")

    def take(self, mark: int, name: str) -> None:
        if self.next() != mark:
            raise self.wrong(name)
        self.at += 1

    def text(self) -> Ids:
        left = self.ids[self.at :]
        other = np.flatnonzero((left < 0) | (left >= self.mark.text))
        count = int(other[0]) if len(other) else len(left)
        if not count:
            raise self.wrong("text, BOI or EOS")
        self.at += count
        return left[:count].astype(np.int32)

    def visual(self) -> Visual:
        self.take(self.mark.boi, "BOI")
        begins = self.at
        said = self.text().tolist()
        try:
            grid, fps = meta_grid(self.layouts.decode(said))
            canonical = list(self.layouts.encode(meta_text(grid, fps))) == said
        except ValueError as error:
            raise ValueError(f"at place {begins}: {error}") from None
        if not canonical:
            raise ValueError(f"at place {begins}: a grid's text in other tokens than the tokenizer's")
        self.take(self.mark.img, "IMG")
        codes = self.codes(grid)
        self.take(self.mark.eoi, "EOI")
        return Visual(codes, fps)

    def codes(self, grid: tuple[int, int, int]) -> np.ndarray:
        frames, rows, columns = grid
        if len(self.ids) - self.at < frames * rows * (columns + 1):
            raise ValueError(f"at place {self.at}: too few ids for a grid of {frames}x{rows}x{columns}")
        wanted = np.full((frames, rows * (columns + 1) + 1), -1, np.int64)  # -1: a code
        wanted[:, :-1].reshape(frames, rows, columns + 1)[:, :, -1] = self.mark.eol
        wanted[:, -1] = self.mark.eof
        flat = wanted.ravel()
        found = self.ids[self.at : self.at + len(flat)]
        visual = (found >= self.mark.visual) & (found < self.mark.visual + self.mark.codes)
        fits = np.where(flat[: len(found)] < 0, visual, found == flat[: len(found)])
        begins, first = self.at, int(np.argmin(fits)) if not fits.all() else len(found)
        if first < len(flat):
            self.at += first
            raise self.wrong({self.mark.eol: "EOL", self.mark.eof: "EOF"}.get(int(flat[first]), "a code"))
        self.at = begins + len(flat)
        return (found[flat < 0] - self.mark.visual).astype(np.int32).reshape(grid)
