"""A sample as a document: its tokens with each picture's image tokens, what is supervised, and its visuals.

The plan counts with it, the data path and generation lay out with it, so that they cannot disagree. Nothing
here decodes: sizes of pictures come from the media index (`trainers.llava.sizes`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from infinity_mm.chat import Chat
from infinity_mm.image_tokens import Geometry, Visual
from infinity_mm.schema import Turn
from infinity_mm.sidecars import installed
from trainers.batch import Document, Pack, packed

VERSION = 1  # of the way samples are laid out
FRAMES = 32  # of a clip, as LLaVA-OneVision takes


class Medium(NamedTuple):
    """A picture (`image`) or clip (`video`) as it will be decoded: its size upright, and its frames."""

    kind: str
    width: int
    height: int
    frames: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How samples become documents."""

    chat: Chat
    geometry: Geometry
    frames: int = FRAMES  # of a clip at most

    @property
    def key(self) -> str:
        """What lengths depend on besides the sample, as 16 hex digits."""
        told = [VERSION, self.chat.digest, installed(["tokenizers"]), list(self.geometry), self.frames]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


class Laid(NamedTuple):
    """A sample laid out. `visuals` are in order of their tokens; `media`: which of the sample's each is."""

    tokens: np.ndarray  # int32 [T]
    supervised: np.ndarray  # bool [T]
    visuals: tuple[Visual, ...]
    media: tuple[int, ...]


def lay_out(
    turns: Sequence[Turn], media: Sequence[Medium | str], encoding: Encoding, prompt: bool = False
) -> Laid:
    """The tokens of a sample and what they stand for; with `prompt`, asked for the next answer.

    In place of a medium stands why its size is not known, as `reason: detail`. A picture is `single` if it is
    the only one that the turns show. Raises ValueError, as `reason: detail`, for such a medium where it is
    shown and for a conversation that can't be encoded.
    """
    try:
        encoded = encoding.chat.encode(turns, prompt)
    except ValueError as error:
        raise ValueError(f"bad_conversation: {error}") from None
    shown = [_known(media[number]) for _, number in encoded.media]
    pictures = sum(medium.kind != "video" for medium in shown)
    visuals = tuple(_visual(medium, pictures, encoding.frames) for medium in shown)
    repeats = np.ones(len(encoded.tokens), np.int64)
    repeats[[place for place, _ in encoded.media]] = [encoding.geometry.tokens(v) for v in visuals]
    supervised = np.repeat(encoded.supervised, repeats)
    supervised[:1] = False  # nothing comes before the first token that could tell it
    tokens = np.repeat(encoded.tokens, repeats)
    return Laid(tokens, supervised, visuals, tuple(number for _, number in encoded.media))


def frames_of(count: int, most: int) -> list[int]:
    """Which frames of a clip of `count` are seen: the middle one of each of `most` equal parts, or all."""
    seen = min(count, most)
    return [(2 * part + 1) * count // (2 * seen) for part in range(seen)]


def _known(medium: Medium | str) -> Medium:
    if isinstance(medium, str):
        raise ValueError(medium)
    return medium


def _visual(medium: Medium, pictures: int, frames: int) -> Visual:
    if medium.kind == "video":
        return Visual("clip", medium.width, medium.height, min(medium.frames, frames))
    return Visual("single" if pictures == 1 else "several", medium.width, medium.height)


def join(documents: Sequence[Document], side: int) -> Pack:
    """Documents as a pack, in their order; `side`: pixels of a tile, for packs without any."""
    tiles = [document.tiles for document in documents if len(document.tiles)]
    return packed(
        [document.tokens for document in documents],
        [document.supervised.astype(np.float32) for document in documents],
        [np.full(len(document.tokens), document.source) for document in documents],
        tuple(visual for document in documents for visual in document.visuals),
        np.concatenate(tiles) if tiles else np.zeros((0, 3, side, side), np.uint8),
    )
