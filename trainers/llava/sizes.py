"""The size of each medium as it will be decoded: what a header says, turned upright, and a clip's frames.

The media index has sizes as stored; a picture that lies on its side has another number of image tokens when
upright. So the first bytes of each JPEG, PNG, WebP and TIFF are read once, and a clip is counted where its
container has no count of frames; no picture is decoded. Kept is a sidecar a media shard (Arrow, mapped where
it is read), which serves every manifest, tokenizer and geometry. Time: a ranged read a picture. Memory: a
shard's rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.columns import one_chunk
from infinity_mm.executor import Guard, Report, Step, Work, run
from infinity_mm.media.errors import MediaError
from infinity_mm.media.index import Library
from infinity_mm.media.shards import Shard
from infinity_mm.media.turned import HEAD, is_on_its_side, turned
from infinity_mm.schema import ID, ID_BYTES
from infinity_mm.store import Store, digest_of
from trainers.lengths import mapped, publish_rows
from trainers.llava.documents import Medium

VERSION = 1
KEY = digest_of(["upright_size", VERSION])[:16]
SCHEMA = pa.schema(
    [
        ("media_id", ID),
        ("video", pa.bool_()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("frames", pa.int32()),
        ("error", pa.string()),
    ],
    metadata={"imm.schema": "sidecar:upright_size", "imm.version": str(VERSION)},
)
Size = tuple[int, int, int, str | None]  # width, height, frames, and why there are none


def measure_sizes(
    store: Store, shards: list[str], *, workers: int, report: Report | None = None
) -> dict[str, str]:
    """The sidecar of each media shard, made where it is missing."""
    files = {shard: f"sidecars/upright_size/{shard}-{KEY}.arrow" for shard in shards}
    missing = [shard for shard, file in files.items() if not store.exists(file)]
    step = Step(name="sizes of media", open=open_step, config=store.url)
    files.update(zip(missing, run(step, missing, workers=workers, report=report), strict=True))
    return files


def open_step(config: str) -> Work:
    """The map step: a media shard -> the name of its sidecar. `config`: the store's URL."""
    store = Store.open(config)

    def work(digest: str, guard: Guard) -> str:
        shard = Shard(store, digest)
        stored = shard.table.select(["kind", "format", "width", "height", "frames"]).to_pylist()
        sizes: list[Size] = []
        try:
            for row, told in enumerate(stored):
                if guard(row):
                    sizes.append(_size(shard, row, **told))
                else:
                    sizes.append((0, 0, 0, "crashed_worker: it killed three workers"))
                guard.done()
        finally:
            shard.close()
        columns = [list(column) for column in zip(*sizes, strict=True)] or [[], [], [], []]
        ids = one_chunk(shard.table.column("media_id"))
        table = pa.table([ids, pa.array([k == "video" for k in shard.kinds]), *columns], schema=SCHEMA)
        return publish_rows(store, f"sidecars/upright_size/{digest}-{KEY}.arrow", table)

    return work


def _size(
    shard: Shard, row: int, kind: str, format: str, width: int | None, height: int | None, frames: int | None
) -> Size:
    if kind not in ("image", "video"):
        return 0, 0, 0, f"not_an_image: the bytes are {format}"
    if not width or not height:
        return 0, 0, 0, f"unsupported: the header tells no size (the bytes are {format})"
    try:
        if kind == "video":
            return width, height, frames or _count(shard.read(row)), None
        on_its_side = is_on_its_side(_orientation(shard, row, format))
    except MediaError as error:
        return 0, 0, 0, str(error)
    except FileNotFoundError as error:
        return 0, 0, 0, f"missing_media: {error}"
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        return 0, 0, 0, f"unreadable_media: {error}"
    return (height, width, 1, None) if on_its_side else (width, height, 1, None)


def _orientation(shard: Shard, row: int, format: str) -> int:
    if turned(b"", format, False) is not None:
        return 1  # a format that is never turned
    length = int(shard.lengths[row])
    found = turned(shard.read(row, HEAD), format, length <= HEAD)
    return found or turned(shard.read(row), format, True) or 1


def _count(data: bytes) -> int:
    from infinity_mm.media.video import iter_frames  # PyAV is heavy: only where a clip is

    return sum(1 for _ in iter_frames(data))


class _Columns(NamedTuple):
    video: np.ndarray  # bool [N]
    width: np.ndarray  # int32 [N]
    height: np.ndarray
    frames: np.ndarray
    batch: pa.RecordBatch


class Place(NamedTuple):
    """Where a medium lies and what it will decode to, or why that is not known."""

    shard: str
    row: int
    medium: Medium | str


class Sizes:
    """The sizes of media shards, from the files that `measure_sizes` named; opened when first asked for."""

    def __init__(self, store: Store, files: Mapping[str, str]) -> None:
        self.store, self.files = store, dict(files)
        self._columns: dict[str, _Columns] = {}

    def places(self, library: Library, ids: Sequence[bytes]) -> list[Place]:
        """Where media of a library are, and their sizes."""
        wanted = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)
        shards = list(library.shards())
        found = zip(ids, *(array.tolist() for array in library.find_many(wanted)), strict=True)
        return [
            Place(shards[shard], row, self.medium(shards[shard], row))
            if shard >= 0
            else Place("", 0, f"missing_media: medium {medium.hex()} is in no media index of the manifest")
            for medium, shard, row in found
        ]

    def medium(self, shard: str, row: int) -> Medium | str:
        """What a medium will decode to, or why that is not known, as `reason: detail`."""
        if shard not in self._columns:
            batch = mapped(self.store, self.files[shard])
            width, height, frames = (batch.column(name).to_numpy() for name in ("width", "height", "frames"))
            video = batch.column("video").to_numpy(zero_copy_only=False)
            self._columns[shard] = _Columns(video, width, height, frames, batch)
        columns = self._columns[shard]
        size = (int(columns.width[row]), int(columns.height[row]), int(columns.frames[row]))
        if not size[0]:
            return str(columns.batch.column("error")[row])
        return Medium("video" if columns.video[row] else "image", *size)
