"""The data path: a plan's steps as packs of tensors, decoded and tiled by worker processes ahead of the loop.

What a rank gets depends on the plan alone: pack after pack in order, whatever the number of workers. A sample
that can't be had any more (a picture gone or damaged, or of another size than its header says) is left out of
its pack and told as a ledger row; nothing takes its place. A worker that dies is an error.

Packs come through pipes, as arrays: torch's shared memory is 64 MB in many a container, and what lies in it
is lost with the worker that made it. A thread takes them in while the step before is trained on. Time is that
of the decode and of PIL's resize: 1,300 pictures of 64 pixels a second and core. Memory: two steps' packs,
and `ahead` packs a worker.
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from infinity_mm.executor import WorkerDied
from infinity_mm.media.decode import decode_image
from infinity_mm.media.errors import MediaError
from infinity_mm.media.index import Library, Unavailable, read_checked
from infinity_mm.schema import turns_from
from infinity_mm.store import Store
from trainers.ahead import ahead
from trainers.batch import Document, Pack
from trainers.llava.documents import Encoding, Laid, Medium, frames_of, join, lay_out
from trainers.llava.plan import Plan, PlannedStep
from trainers.llava.sizes import Place, Sizes
from trainers.llava.tiles import GRAY, tiles

COLUMNS = ["sample_id", "turns", "media", "source", "origin"]
Unit = tuple[tuple[int, int], ...]  # the places of a pack


class Step(NamedTuple):
    """One step's work for a rank."""

    packs: tuple[Pack, ...]  # as many on every rank: the last may be empty
    consumed: int  # the cursor when it is done
    sample_ids: tuple[bytes, ...]  # of all ranks' packs, as planned
    skipped: tuple[dict[str, Any], ...]  # ledger rows: what this rank could not read, and on the first, what
    # the plan left out
    supervised: int  # tokens of all ranks, as planned


class Loaded(NamedTuple):
    """What makes a pack, arrays in place of tensors, and the ledger rows of what is missing from it."""

    arrays: tuple[Any, ...]
    skipped: list[dict[str, Any]]


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


class Data:
    """The steps of a plan, read. `fill`: the colour that a picture among several is padded with; `pin`:
    whether packs lie in pinned memory, for a GPU; `ahead`: packs a worker prepares before they are asked
    for."""

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
        self.plan, self.workers, self.pin, self.ahead = plan, workers, pin, ahead
        self.reading = Reading(
            store=mixture.store.url,
            shards=tuple(zip([s.file for s in mixture.shards], mixture.manifest_of, strict=True)),
            media=tuple(tuple(manifest.document["media"]) for manifest in mixture.manifests),
            withdrawn=mixture.manifests[0].withdrawn.ids,
            sizes=plan.lengths.sizes,
            sources={name: number for number, name in enumerate(mixture.sources)},
            encoding=encoding,
            fill=fill,
        )

    def steps(self, cursor: int = 0, rank: int = 0, world: int = 1) -> Iterator[Step]:
        """Every step from a cursor on, for one of `world` ranks. To be closed when it is left early.

        Raises ValueError for a cursor at which no step begins, WorkerDied where a worker did.
        """
        first = self.plan.number(cursor)
        steps = self._read(first, rank, world)
        return ahead(steps) if self.workers and first < self.plan.steps else steps

    def _read(self, first: int, rank: int, world: int) -> Generator[Step]:
        planned: deque[PlannedStep] = deque()

        def units() -> Iterator[Unit]:
            for number in range(first, self.plan.steps):
                step = self.plan.step(number)
                planned.append(step)
                yield from share(step, rank, world)

        loaded = self._loaded(units())
        for first_pack in loaded:
            step = planned.popleft()
            packs = [first_pack, *islice(loaded, len(share(step, rank, world)) - 1)]
            left_out = [self.plan.why_left_out(place) for place in map(tuple, step.left_out.tolist())]
            yield Step(
                packs=tuple(self._pack(one.arrays) for one in packs),
                consumed=step.consumed,
                sample_ids=tuple(i for places in step.packs for i in self.plan.mixture.ids(places)),
                skipped=(*(left_out if rank == 0 else ()), *(row for one in packs for row in one.skipped)),
                supervised=step.supervised,
            )

    def _loaded(self, units: Iterator[Unit]) -> Iterator[Loaded]:
        try:
            yield from DataLoader(
                _Packs(self.reading),
                sampler=units,
                batch_size=None,
                collate_fn=_as_it_is,
                num_workers=self.workers,
                prefetch_factor=self.ahead if self.workers else None,
                multiprocessing_context="spawn" if self.workers else None,
                worker_init_fn=_apart if self.workers else None,
                generator=torch.Generator(),  # else it would draw a seed from the training's
            )
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise WorkerDied(
                f"a process that reads pictures died ({error}): is there enough memory? Give fewer workers, "
                "and go on from the last checkpoint"
            ) from error

    def _pack(self, arrays: tuple[Any, ...]) -> Pack:
        fields: list[Any] = [self._tensor(x) if isinstance(x, np.ndarray) else x for x in arrays]
        return Pack(*fields)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.pin else tensor


def share(step: PlannedStep, rank: int, world: int) -> list[Unit]:
    """The packs of a rank: every `world`-th, with empty ones so that all ranks have as many."""
    count = max(1, -(-len(step.packs) // world))
    mine = [tuple(map(tuple, places.tolist())) for places in step.packs[rank::world]]
    return [*mine, *[()] * (count - len(mine))]


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _apart(worker: int) -> None:
    """A signal to the process group is for the loop, which ends its step first; not for its workers."""
    os.setsid()


class _Packs(Dataset[Loaded]):
    """Packs by the places of their samples. A worker opens the store when it is first asked."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._open: _Reader | None = None

    def __getitem__(self, unit: Any) -> Loaded:
        self._open = self._open or _Reader(self.reading)
        documents, skipped = [], []
        for shard, row in unit:
            document, error = self._open.document(shard, row)
            if document is not None:
                documents.append(document)
            if error is not None:
                skipped.append(error)
        pack = join(documents, self.reading.encoding.geometry.side)
        return Loaded(tuple(x.numpy() if torch.is_tensor(x) else x for x in pack), skipped)


class _Reader:
    """Reads samples of sample shards and their media."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.store = Store.open(reading.store)
        self.libraries = [Library(self.store, media, reading.withdrawn) for media in reading.media]
        self.sizes = Sizes(self.store, reading.sizes)
        self._tables: dict[int, pa.Table] = {}

    def document(self, shard: int, row: int) -> tuple[Document | None, dict[str, Any] | None]:
        """A sample as a document, or the ledger row that says why not."""
        told = self._table(shard).slice(row, 1).to_pylist()[0]
        library = self.libraries[self.reading.shards[shard][1]]
        try:
            places = self.sizes.places(library, told["media"])
            turns = turns_from(told["turns"]) or ()
            laid = lay_out(turns, [place.medium for place in places], self.reading.encoding)
            seen = self._tiles(library, laid, places)
        except (MediaError, Unavailable, ValueError) as error:
            reason, _, detail = str(error).partition(": ")
            return None, {
                "sample_id": told["sample_id"].hex(),
                "source": told["source"],
                "origin": told["origin"],
                "outcome": "failed",
                "reason": reason,
                "detail": detail,
            }
        source = self.reading.sources[told["source"]]
        return Document(told["sample_id"], source, laid.tokens, laid.supervised, laid.visuals, seen), None

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
