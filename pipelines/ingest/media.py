"""Map step 2 of ingest: take the media of one shard in, or note where they lie.

A unit is a list of media by place (`work/media/<key>.take.arrow`, PLACES rows), cut by bytes before any
worker starts. Each is read once: straight into the buffer that is written, hashed there, its header
looked at. The answer is `work/media/<key>.taken.arrow`, a row a medium: its id, or why it could not be
read. Memory: the writer's buffers.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.executor import Guard, Work
from infinity_mm.formats.load_refs import load_refs
from infinity_mm.formats.types import Ref
from infinity_mm.media.probe import probe
from infinity_mm.media.shards import BUFFER_BYTES, CopyWriter, Location, MediaInfo, write_reference_shard
from infinity_mm.schema import ID, media_id
from infinity_mm.store import Store
from pipelines.ingest.records import write_rows

THREADS = 2
TAKEN = pa.schema([("key", ID), ("media_id", ID), ("reason", pa.string()), ("detail", pa.string())])


class MediaConfig(NamedTuple):
    """`roots`: in reference mode, (name, folder) of every media root; empty in copy mode."""

    store: str
    roots: tuple[tuple[str, str], ...]


class Taken(NamedTuple):
    """What the decide step learns at once: the shards a unit made."""

    key: str
    shards: tuple[str, ...]


def take_file(key: str) -> str:
    return f"work/media/{key}.take.arrow"


def taken_file(key: str) -> str:
    return f"work/media/{key}.taken.arrow"


def finished(store: Store, key: str) -> Taken | None:
    """The answer of an earlier run, if its shards are still there and nothing in it is worth another try."""
    if not store.exists(taken_file(key)):
        return None
    reader = store.open_arrow(taken_file(key))
    if any(reason is not None for reason in reader.read_all().column("reason").to_pylist()):
        return None
    shards = reader.schema.metadata[b"imm.shards"].decode().split()
    there = all(store.exists(f"media/{shard}.arrow") for shard in shards)
    return Taken(key, tuple(shards)) if there else None


def open_step(config: MediaConfig) -> Work:
    """The map step: key of a take file -> Taken."""
    store = Store.open(config.store)

    def work(key: str, guard: Guard) -> Taken:
        return _take(store, config, key, guard)

    return work


def _take(store: Store, config: MediaConfig, key: str, guard: Guard) -> Taken:
    writer = CopyWriter(store)
    seen: set[bytes] = set()
    rows: list[tuple[Any, ...]] = []
    infos: list[MediaInfo] = []
    locations: list[Location] = []
    number = 0
    try:
        for window in _read(store, writer, store.open_arrow(take_file(key)).read_all()):
            copied: list[MediaInfo] = []
            starts: list[int] = []
            for slot in window.slots:
                number += 1
                if slot.failure is None and not guard(number - 1):
                    slot.failure = ("crashed_worker", "looking at it killed three workers")
                if slot.failure is not None:
                    rows.append((slot.key, None, *slot.failure))
                    continue
                rows.append((slot.key, slot.medium, None, None))
                if slot.medium in seen:
                    continue
                seen.add(slot.medium)
                found = probe(window.view[slot.start : slot.start + slot.size])
                guard.done()
                info = MediaInfo(
                    slot.medium, found.kind, found.format, found.width, found.height, found.frames, found.fps,
                    slot.size,
                )  # fmt: skip
                location = _locate(slot.ref, config.roots)
                if location is None:
                    copied.append(info)
                    starts.append(slot.start)
                else:
                    infos.append(info)
                    locations.append(location)
            writer.put(window.view, copied, starts)
    except BaseException:
        writer.abort()
        raise
    shards = []
    digest = writer.close()
    if digest:
        shards.append(digest)
    if infos:
        shards.append(write_reference_shard(store, infos, locations, dict(config.roots)))
    write_rows(store, taken_file(key), TAKEN.with_metadata({"imm.shards": " ".join(shards)}), rows)
    return Taken(key, tuple(shards))


def _locate(ref: Ref, roots: tuple[tuple[str, str], ...]) -> Location | None:
    """Where a medium lies, in reference mode and if it has a byte range of its own; else it is copied."""
    if ref.how in ("file", "range"):
        for name, folder in roots:
            prefix = folder if folder.endswith("/") else f"{folder}/"
            if ref.path.startswith(prefix):
                return Location(name, os.fsencode(ref.path[len(prefix) :]), ref.offset, ref.length)
    return None


@dataclass(slots=True)
class _Slot:
    """One medium in a window: where its bytes go, and after reading its id or why it failed."""

    key: bytes
    ref: Ref
    start: int
    size: int
    data: bytes | None = None
    medium: bytes = b""
    failure: tuple[str, str] | None = None


class _Window(NamedTuple):
    view: memoryview
    slots: list[_Slot]


def _read(store: Store, writer: CopyWriter, table: pa.Table) -> Iterator[_Window]:
    """The media in windows of about BUFFER_BYTES, read and hashed by THREADS threads, one window ahead."""
    windows = _windows(store, table)
    with ThreadPoolExecutor(THREADS) as pool:
        ahead: tuple[_Window, list[Future[None]]] | None = None
        for slots in chain(windows, [None]):
            current = ahead
            if slots is not None:
                window = _Window(writer.borrow(sum(slot.size for slot in slots)), slots)
                ahead = (window, [pool.submit(_fill, window, thread) for thread in range(THREADS)])
            if current is not None:
                for future in current[1]:
                    future.result()
                yield current[0]


def _windows(store: Store, table: pa.Table) -> Iterator[list[_Slot]]:
    """Slots for all rows of a take file, in order."""
    slots: list[_Slot] = []
    end = 0
    for slot in _slots(store, table):
        if slots and end + slot.size > BUFFER_BYTES:
            yield slots
            slots, end = [], 0
        slot.start = end
        end += slot.size
        slots.append(slot)
    if slots:
        yield slots


def _slots(store: Store, table: pa.Table) -> Iterator[_Slot]:
    columns = ("key", "how", "path", "offset", "length", "member", "size")
    waiting: list[_Slot] = []
    for key, how, path, offset, length, member, size in zip(
        *(table.column(c).to_pylist() for c in columns), strict=True
    ):
        slot = _Slot(key, Ref(how, os.fsdecode(path), offset, length, member, ""), 0, size)
        if waiting and (waiting[0].ref.how, waiting[0].ref.path) != (how, slot.ref.path):
            yield from _loaded(waiting)
            waiting = []
        if how in ("parquet", "arrow"):
            waiting.append(slot)
            continue
        if how == "inline":
            slot.data = store.read_range(slot.ref.path, offset, length)
        yield slot
    yield from _loaded(waiting)


def _loaded(slots: list[_Slot]) -> Iterator[_Slot]:
    """Media in the rows of one table file: their bytes come one after another from its own reader."""
    for slot, data in zip(slots, load_refs([slot.ref for slot in slots]), strict=True):
        if isinstance(data, ValueError):
            slot.size, slot.failure = 0, ("unreadable_file", str(data))
        elif not data:
            slot.size, slot.failure = 0, ("empty_file", f"{slot.ref.path}: no bytes in {slot.ref.member}")
        else:
            slot.size, slot.data = len(data), data
        yield slot


def _fill(window: _Window, thread: int) -> None:
    """Read and hash every THREADS-th slot of a window; both let other threads run meanwhile."""
    for slot in window.slots[thread::THREADS]:
        if slot.failure is not None:
            continue
        view = window.view[slot.start : slot.start + slot.size]
        if slot.data is not None:
            view[:] = slot.data
            slot.data = None
        else:
            slot.failure = _pread(slot.ref, view)
        if slot.failure is None:
            slot.medium = media_id(view)


def _pread(ref: Ref, view: memoryview) -> tuple[str, str] | None:
    """Read a file or range into a view of the size it was found to have; what is wrong, or None."""
    try:
        handle = os.open(ref.path, os.O_RDONLY)
        try:
            if ref.how == "file" and os.fstat(handle).st_size != len(view):
                return ("changed_file", f"{ref.path} changed while it was being read in: ingest again")
            done = 0
            while done < len(view):
                count = os.preadv(handle, [view[done:]], ref.offset + done)
                if count == 0:
                    return ("short_file", f"{ref.path} ends {len(view) - done} bytes early")
                done += count
        finally:
            os.close(handle)
    except FileNotFoundError:
        return ("missing_file", f"{ref.path} went away while it was being read in")
    except OSError as error:
        return ("unreadable_file", f"{ref.path}: {error.strerror}")
    return None
