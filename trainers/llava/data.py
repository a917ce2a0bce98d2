"""What LLaVA's data path reads: samples laid out, their pictures and clips decoded and tiled.

A sample whose picture is gone or damaged, or of another size than its header says, is told as a ledger row.
Time is that of the decode and of PIL's resize: 1,300 pictures of 64 pixels a second and core.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from infinity_mm.media.decode import decode_image
from infinity_mm.media.errors import MediaError
from infinity_mm.media.index import Library, Unavailable, read_checked
from infinity_mm.schema import turns_from
from infinity_mm.store import Store
from trainers import data
from trainers.batch import Document, Pack
from trainers.llava.documents import Encoding, Laid, Medium, frames_of, join, lay_out
from trainers.llava.sizes import Place, Sizes
from trainers.llava.tiles import GRAY, tiles
from trainers.plan import Plan

COLUMNS = ["sample_id", "turns", "media", "source", "origin"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a worker reads with. `shards`: of each sample shard its file and the number of its manifest;
    `media`: each manifest's media indexes."""

    store: str
    shards: tuple[tuple[str, int], ...]
    media: tuple[tuple[dict[str, Any], ...], ...]
    withdrawn: frozenset[bytes]
    sizes: dict[str, str]
    sources: dict[str, int]
    encoding: Encoding
    fill: tuple[int, int, int]

    def open(self) -> "_Reader":
        return _Reader(self)


class Data(data.Data):
    """The steps of a plan, read. `fill`: the colour that a picture among several is padded with; the rest as
    `trainers.data.Data`."""

    def __init__(
        self,
        plan: Plan,
        encoding: Encoding,
        *,
        workers: int = 1,
        fill: tuple[int, int, int] = GRAY,
        pin: bool = False,
        ahead: int = 4,
    ) -> None:
        mixture = plan.mixture
        reading = Reading(
            store=mixture.store.url,
            shards=tuple(zip([s.file for s in mixture.shards], mixture.manifest_of, strict=True)),
            media=tuple(tuple(manifest.document["media"]) for manifest in mixture.manifests),
            withdrawn=mixture.manifests[0].withdrawn.ids,
            sizes=plan.lengths.sizes,
            sources={name: number for number, name in enumerate(mixture.sources)},
            encoding=encoding,
            fill=fill,
        )
        super().__init__(plan, reading, workers=workers, pin=pin, ahead=ahead)


class _Reader:
    """Reads samples of sample shards and their media."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.store = Store.open(reading.store)
        self.libraries = [Library(self.store, media, reading.withdrawn) for media in reading.media]
        self.sizes = Sizes(self.store, reading.sizes)
        self._tables: dict[int, pa.Table] = {}

    def document(self, shard: int, row: int, epoch: int) -> tuple[Document | None, dict[str, Any] | None]:
        """A sample as a document, the same in every epoch, or the ledger row that says why not."""
        told = self._table(shard).slice(row, 1).to_pylist()[0]
        library = self.libraries[self.reading.shards[shard][1]]
        try:
            places = self.sizes.places(library, told["media"])
            turns = turns_from(told["turns"]) or ()
            laid = lay_out(turns, [place.medium for place in places], self.reading.encoding)
            seen = self._tiles(library, laid, places)
        except (MediaError, Unavailable, ValueError) as error:
            return None, data.failed_row(told, error)
        source = self.reading.sources[told["source"]]
        return Document(told["sample_id"], source, laid.tokens, laid.supervised, laid.visuals, seen), None

    def join(self, documents: Sequence[Document]) -> Pack:
        return join(documents, self.reading.encoding.geometry.side)

    def _tiles(self, library: Library, laid: Laid, places: Sequence[Place]) -> np.ndarray:
        side = self.reading.encoding.geometry.side
        parts = [np.zeros((0, 3, side, side), np.uint8)]
        for visual, number in zip(laid.visuals, laid.media, strict=True):
            place = places[number]
            assert isinstance(place.medium, Medium)
            data = read_checked(library.shard(place.shard), place.row, self.reading.withdrawn)
            pictures = _pictures(data, place.medium, visual.frames)
            shapes = {picture.shape[:2] for picture in pictures}
            if shapes != {(visual.height, visual.width)}:
                raise ValueError(
                    f"changed_size: decoded as {sorted(shapes)} (height, width), and its header told "
                    f"{visual.height, visual.width}"
                )
            parts.append(tiles(pictures, visual, self.reading.encoding.geometry, self.reading.fill))
        return np.concatenate(parts)

    def _table(self, shard: int) -> pa.Table:
        if shard not in self._tables:
            file = self.reading.shards[shard][0]
            self._tables[shard] = self.store.open_arrow(file).read_all().select(COLUMNS)
        return self._tables[shard]


def _pictures(data: bytes, medium: Medium, frames: int) -> list[np.ndarray]:
    """A picture, or the frames of a clip that are seen, uint8 [H, W, 3]. Raises MediaError."""
    if medium.kind != "video":
        return [decode_image(data).pixels]
    from infinity_mm.media.video import frames_at  # PyAV is heavy: only where a clip is

    wanted = frames_of(medium.frames, frames)
    found = list(frames_at(data, wanted))
    if len(found) < len(wanted):
        raise MediaError("truncated", f"{len(found)} of the {len(wanted)} frames wanted of {medium.frames}")
    return found
