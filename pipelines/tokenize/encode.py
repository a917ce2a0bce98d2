"""Encoding: the map step that makes codes of the media of a shard, in batches of pictures of one size.

A unit is some rows of a media shard. Pictures wait in buckets by their size until a bucket has a batch, or
too many wait; a clip is encoded as it is decoded, some chunks at a time. Time is that of the network; memory:
the network and HELD batches of pictures a worker, whatever the length of a clip but for its codes.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from infinity_mm.engines.memory import out_of_memory
from infinity_mm.executor import Guard, Work
from infinity_mm.media.decode import MediaError, decode_image
from infinity_mm.media.index import Unavailable, read_checked
from infinity_mm.media.shards import Shard
from infinity_mm.media.sniff import sniff
from infinity_mm.media.video import iter_frames, read_header
from infinity_mm.models.emu3_vq import VisionTokenizer, find_tokenizer
from infinity_mm.store import Store
from infinity_mm.tombstones import read_tombstones
from infinity_mm.visual_size import Pixels, SizeRule, Unfit
from infinity_mm.visual_tokens import Tokens
from pipelines.embed import OneThread

HELD = 8  # batches of pictures that wait
FAILURES = (ArithmeticError, LookupError, OSError, MemoryError, ValueError)

Answers = dict[int, Tokens | str]  # by row


class ClipRule(NamedTuple):
    """`every`: of so many frames one is taken; `rest`: what becomes of frames that are no whole chunk."""

    every: int
    rest: str


class EncodeConfig(NamedTuple):
    """`digest`: the tokenizer's, as it was found."""

    store: str
    tokenizer: str
    digest: str
    device: str | None
    dtype: str
    size: SizeRule
    clip: ClipRule
    batch: int
    max_pixels: int


class Piece(NamedTuple):
    """Rows of a media shard."""

    shard: str
    rows: tuple[int, ...]


def open_step(config: EncodeConfig) -> Work:
    """The map step: Piece -> Answers."""
    store = Store.open(config.store)
    withdrawn = read_tombstones(store).ids
    found = find_tokenizer(config.tokenizer)
    if found.facts.digest != config.digest:
        raise ValueError(f"tokenizer {config.tokenizer} has changed since the command began; run it again")
    tokenizer = found.load(config.device, config.dtype)
    alone = OneThread(_Placed(tokenizer.device))

    def work(piece: Piece, guard: Guard) -> Answers:
        shard = Shard(store, piece.shard)
        buckets = Buckets(tokenizer, config.batch)
        try:
            with alone:
                for number, row in enumerate(piece.rows):
                    if not guard(number):
                        buckets.found[row] = "crashed_worker: it killed three workers"
                        continue
                    try:
                        data = read_checked(shard, row, withdrawn)
                        if shard.kinds[row] == "video":
                            buckets.found[row] = encode_clip(tokenizer, data, config)
                        else:
                            _look(shard, row, config.size)
                            pixels = decode_image(data, max_pixels=config.max_pixels).pixels
                            buckets.add(row, config.size.apply(pixels))
                    except (MediaError, Unavailable, Unfit) as error:
                        buckets.found[row] = str(error)
                    except FAILURES as error:
                        buckets.found[row] = f"tokenize_failed: {type(error).__name__}: {error}"
                    finally:
                        guard.done()
                buckets.flush()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise ValueError(
                f"a batch of {config.batch} does not fit into memory: lower --batch or --area"
            ) from error
        finally:
            shard.close()
        return buckets.found

    return work


class _Placed(NamedTuple):
    device: str
    libraries: tuple[str, ...] = ("torch",)


def _look(shard: Shard, row: int, rule: SizeRule) -> None:
    """Refuse by the media table what need not be decoded for that. Raises Unfit."""
    width, height = (shard.table.column(side)[row].as_py() for side in ("width", "height"))
    if width and height:
        rule.size(width, height)


class Buckets:
    """Pictures that wait for others of their size. `found`: the codes of those that were encoded."""

    def __init__(self, tokenizer: VisionTokenizer, batch: int) -> None:
        self.tokenizer, self.batch = tokenizer, batch
        self.found: Answers = {}
        self._waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}

    def add(self, row: int, pixels: Pixels) -> None:
        """Take a picture, uint8 [H, W, 3], and encode a batch when there is one."""
        bucket = self._waiting.setdefault(pixels.shape, [])
        bucket.append((row, pixels))
        if len(bucket) == self.batch:
            self._encode(pixels.shape)
        elif sum(map(len, self._waiting.values())) >= HELD * self.batch:
            self._encode(max(self._waiting, key=lambda shape: len(self._waiting[shape])))

    def flush(self) -> None:
        """Encode all that wait."""
        for shape in list(self._waiting):
            self._encode(shape)

    def _encode(self, shape: tuple[int, ...]) -> None:
        rows, pictures = zip(*self._waiting.pop(shape), strict=True)
        codes = self.tokenizer.encode_pictures(np.stack(pictures))
        self.found |= {row: Tokens(one[None]) for row, one in zip(rows, codes, strict=True)}


def encode_clip(tokenizer: VisionTokenizer, data: bytes, config: EncodeConfig) -> Tokens:
    """A clip's codes. Raises MediaError, and Unfit odd_frames or too_short."""
    header = read_header(data, sniff(memoryview(data)))
    chunk, (every, rest) = tokenizer.facts.chunk, config.clip
    if header.frames:  # announced: what is told here need not be decoded
        _whole(-(-header.frames // every), chunk, rest)
    frames = (config.size.apply(f) for f in iter_frames(data, every, max_pixels=config.max_pixels))
    layers, taken = [], 0
    for some in _some(frames, chunk * max(1, config.batch // chunk)):
        whole = len(some) // chunk * chunk
        taken += len(some)
        if whole:
            stacked = np.stack(some[:whole])
            layers.append(tokenizer.encode_chunks(stacked.reshape(-1, chunk, *stacked.shape[1:])))
    coded = _whole(taken, chunk, rest)
    fps = header.fps / every if header.fps else None
    return Tokens(np.concatenate(layers), fps, coded / fps if fps else None)


def _whole(frames: int, chunk: int, rest: str) -> int:
    """How many of a clip's frames are coded. Raises Unfit."""
    left = frames % chunk
    if frames < chunk:
        raise Unfit("too_short", f"{frames} frames, a code stands for {chunk}")
    if left and rest == "fail":
        raise Unfit(
            "odd_frames",
            f"{frames} frames are no multiple of {chunk}; --rest drop leaves the last {left} out",
        )
    return frames - left


def _some(frames: Iterator[Pixels], number: int) -> Iterator[list[Pixels]]:
    while some := list(islice(frames, number)):
        yield some
