"""Batches of crops of a manifest's pictures and clips, for the training of a vision tokenizer.

Which media, and where they are cropped, is a function of the seed and the step. A crop is of the picture as
it is where that is large enough, else of one enlarged; of a clip it is the same place in neighbouring frames.
Memory: 16 bytes a medium, and a batch. Time: a decode a picture; of a clip, all frames before the crop's.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image

from infinity_mm.columns import among, media_of
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import MediaError, decode_image
from infinity_mm.media.index import Unavailable
from infinity_mm.media.sniff import sniff
from infinity_mm.media.video import frames_at, read_header
from trainers.vision_tokenizer import Batch

Frames = npt.NDArray[np.uint8]


class Crops(NamedTuple):
    """A batch is `pictures` crops of pictures and `clips` of chunks of clips, `side` x `side` pixels."""

    side: int
    pictures: int
    clips: int
    chunk: int


class MediaBatches:
    """`batches(step)`: the batches from a step on. Raises ValueError where the manifest has no pictures, or
    no clips, and some are wanted."""

    def __init__(self, manifest: Manifest, crops: Crops, seed: int) -> None:
        self.library, self.crops, self.seed = manifest.library(), crops, seed
        self.ids = _media(manifest)
        for kind, wanted in (("image", crops.pictures), ("video", crops.clips)):
            if wanted and not len(self.ids[kind]):
                raise ValueError(f"manifest {manifest.digest[:12]}… has no {kind}s to train on")

    def batches(self, first: int) -> Iterator[Batch]:
        step = first
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        """The batch of a step. Raises ValueError for a medium that does not decode."""
        rng, crops = np.random.default_rng((self.seed, step)), self.crops
        pictures = [self._crop(rng, "image") for _ in range(crops.pictures)]
        clips = [self._crop(rng, "video") for _ in range(crops.clips)]
        shape = (crops.side, crops.side, 3)
        return Batch(
            np.array(pictures, np.uint8).reshape(-1, *shape),
            np.array(clips, np.uint8).reshape(-1, crops.chunk, *shape),
        )

    def _crop(self, rng: Generator, kind: str) -> Frames:
        medium = self.ids[kind][int(rng.integers(len(self.ids[kind])))].tobytes()
        try:
            data = self.library.read(medium)
            frames = [decode_image(data).pixels] if kind == "image" else _chunk(rng, data, self.crops.chunk)
        except (MediaError, Unavailable) as error:
            raise ValueError(
                f"medium {medium.hex()} can't be trained on: {error}; drop it first, with `imm filter`"
            ) from None
        return cropped(rng, frames, self.crops.side)


def _media(manifest: Manifest) -> dict[str, npt.NDArray[np.uint8]]:
    """The ids of the media that selected samples show, each once, by kind: uint8 [N, 16]."""
    library = manifest.library()
    shards = list(library.shards())
    found = []
    for number, shard in enumerate(manifest.shards):
        found.append(media_of(manifest.table(number).select(["media"]).take(shard.selected.rows))[1])
        manifest.release(number)
    ids = np.unique(np.concatenate([np.empty((0, 16), np.uint8), *found]), axis=0)
    ids = ids[~among(ids, manifest.withdrawn.ids)] if len(ids) else ids
    where, rows = library.find_many(ids)
    kinds = np.array(["" for _ in ids], dtype="U8")
    for number in np.unique(where[where >= 0]).tolist():
        mine = where == number
        kinds[mine] = np.array(library.shard(shards[number]).kinds)[rows[mine]]
    return {kind: ids[kinds == kind] for kind in ("image", "video")}


def _chunk(rng: Generator, data: bytes, chunk: int) -> list[Frames]:
    """Neighbouring frames of a clip. Raises MediaError."""
    known = read_header(data, sniff(memoryview(data))).frames or chunk
    first = int(rng.integers(max(1, known // chunk))) * chunk
    frames = list(frames_at(data, range(first, first + chunk)))
    if len(frames) < chunk:
        raise MediaError("truncated", f"no frames {first} to {first + chunk - 1}")
    return frames


def cropped(rng: Generator, frames: list[Frames], side: int) -> Frames:
    """The same place of some frames [H, W, 3], uint8 [side, side, 3] of one, else [n, side, side, 3]."""
    height, width = frames[0].shape[:2]
    if min(height, width) < side:
        scale = side / min(height, width)
        width, height = max(side, round(width * scale)), max(side, round(height * scale))
        frames = [
            np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC))
            for one in frames
        ]
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    cut = np.stack([one[top : top + side, left : left + side] for one in frames])
    return cut[0] if len(cut) == 1 else cut
