"""Media shards: what each medium is (`media/<digest>.arrow`) and where its bytes are.

In copy mode the bytes lie in `bytes/<digest>.arrow` (Arrow IPC, uncompressed `large_binary`), at an offset
that the table gives, so that one medium is one ranged read. In reference mode they stay where they are and
`locations/<digest>.arrow`, row for row, gives root, path, offset and length; roots are folders named in
`roots.json`, so a moved data set is one edited line.
A shard's digest is sha256 over its media ids, lengths and offsets: the ids cover the bytes, so nothing is
hashed twice, and one digest is one layout; offset -1 is reference mode. Memory: BUFFERS write buffers of
BUFFER_BYTES, or of the largest medium.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from threading import Lock
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.schema import ID
from infinity_mm.store import Store, read_range

SHARD_VERSION = 1
BUFFER_BYTES = 4 << 20
BUFFERS = 4
MEDIA = pa.schema(
    [
        ("media_id", ID),
        ("kind", pa.string()),
        ("format", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("frames", pa.int64()),
        ("fps", pa.float32()),
        ("length", pa.int64()),
        ("offset", pa.int64()),
    ],
    metadata={"imm.schema": "media", "imm.version": str(SHARD_VERSION)},
)
BYTES = pa.schema(
    [("media_id", ID), ("data", pa.large_binary())],
    metadata={"imm.schema": "bytes", "imm.version": str(SHARD_VERSION)},
)
LOCATIONS = pa.schema(
    [("root", pa.string()), ("path", pa.binary()), ("offset", pa.int64()), ("length", pa.int64())],
    metadata={"imm.schema": "locations", "imm.version": str(SHARD_VERSION)},
)


class MediaInfo(NamedTuple):
    """What a medium is: `format` from its first bytes; width and height in pixels as stored."""

    media_id: bytes
    kind: str
    format: str
    width: int | None
    height: int | None
    frames: int | None
    fps: float | None
    length: int


class Location(NamedTuple):
    """Where bytes lie: a named root, a path below it (raw bytes), an offset; length -1 is a whole file."""

    root: str
    path: bytes
    offset: int
    length: int


def shard_digest(rows: Iterable[tuple[bytes, int, int]]) -> str:
    """The name of a shard, from (media id, length, offset) of its media in order."""
    digest = hashlib.sha256(b"imm:media:1\0")
    for media_id, length, offset in rows:
        digest.update(media_id + length.to_bytes(8, "big") + offset.to_bytes(8, "big", signed=True))
    return digest.hexdigest()


class CopyWriter:
    """Writes one shard in copy mode. Bytes are read straight into the buffer that is written:

    `view = borrow(n)`, fill it, then `put(view, infos, starts)` in the order borrowed. A thread writes what
    was put while the next buffer fills.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.infos: list[MediaInfo] = []
        self._free: list[bytearray] = []
        self._lent: dict[int, bytearray] = {}
        self._pending: deque[Future[bytearray]] = deque()
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(store.scratch())
        self._thread = self._stack.enter_context(ThreadPoolExecutor(1))
        self._sink = pa.OSFile(self._temporary, "wb")
        self._writer = pa.ipc.new_file(self._sink, BYTES)

    def borrow(self, size: int) -> memoryview:
        """A writable view of `size` bytes."""
        while len(self._pending) >= BUFFERS - 1 or (self._pending and self._pending[0].done()):
            self._free.append(self._pending.popleft().result())
        buffer = self._free.pop() if self._free else bytearray(max(size, BUFFER_BYTES))
        if len(buffer) < size or len(buffer) > 4 * max(size, BUFFER_BYTES):
            buffer = bytearray(max(size, BUFFER_BYTES))
        view = memoryview(buffer)[:size]
        self._lent[id(view)] = buffer
        return view

    def put(self, view: memoryview, infos: Sequence[MediaInfo], starts: Sequence[int]) -> None:
        """Keep `infos[k].length` bytes from `starts[k]` of a borrowed view, rising; the rest is let go."""
        buffer = self._lent.pop(id(view))
        if not infos:
            self._free.append(buffer)
            return
        self.infos += infos
        self._pending.append(self._thread.submit(self._write, infos, starts, buffer))

    def _write(self, infos: Sequence[MediaInfo], starts: Sequence[int], buffer: bytearray) -> bytearray:
        end = 0
        with memoryview(buffer) as view:
            for info, start in zip(infos, starts, strict=True):
                if start != end:
                    view[end : end + info.length] = bytes(view[start : start + info.length])
                end += info.length
        ends = np.cumsum([0] + [info.length for info in infos], dtype=np.int64)
        data = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(infos), [None, pa.py_buffer(ends), pa.py_buffer(buffer).slice(0, end)]
        )
        ids = pa.array([info.media_id for info in infos], ID)
        self._writer.write_batch(pa.record_batch([ids, data], schema=BYTES))
        return buffer

    def close(self) -> str | None:
        """Publish the shard; its digest, or None if nothing was kept."""
        with self._stack:
            for pending in self._pending:
                pending.result()
            self._writer.close()
            self._sink.close()
            if not self.infos:
                return None
            offsets = data_offsets(self._temporary)
            digest = shard_digest((i.media_id, i.length, o) for i, o in zip(self.infos, offsets, strict=True))
            table = media_table(self.infos, offsets)
            if not self.store.exists(f"bytes/{digest}.arrow"):
                self.store.publish(self._temporary, f"bytes/{digest}.arrow")
            publish_table(self.store, f"media/{digest}.arrow", table)
            return digest

    def abort(self) -> None:
        """Give the shard up: nothing is published."""
        with self._stack:
            self._sink.close()


def write_reference_shard(
    store: Store, infos: list[MediaInfo], locations: list[Location], roots: dict[str, str]
) -> str:
    """Publish a shard in reference mode; its digest. New locations of the same media replace older ones."""
    offsets = [-1] * len(infos)
    digest = shard_digest((info.media_id, info.length, -1) for info in infos)
    columns = list(zip(*locations, strict=True))
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, LOCATIONS, strict=True)], schema=LOCATIONS)
    publish_table(store, f"locations/{digest}.arrow", table)
    publish_table(store, f"media/{digest}.arrow", media_table(infos, offsets))
    add_roots(store, roots)
    return digest


def media_table(infos: list[MediaInfo], offsets: Iterable[int]) -> pa.Table:
    columns = [*zip(*infos, strict=True), list(offsets)]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, MEDIA, strict=True)], schema=MEDIA)


def publish_table(store: Store, name: str, table: pa.Table) -> None:
    """Publish a table as an Arrow file of a given name, replacing what is there."""
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        store.publish(temporary, name)


def data_offsets(path: str) -> list[int]:
    """The offset in the file of each medium's first byte, read off a local bytes file."""
    with pa.memory_map(path) as source:
        base = source.read_buffer(1).address
        source.seek(0)
        offsets: list[int] = []
        reader = pa.ipc.open_file(source)
        for i in range(reader.num_record_batches):
            data = reader.get_batch(i).column("data")
            start = data.buffers()[2].address - base
            offsets += (np.frombuffer(data.buffers()[1], np.int64)[: len(data)] + start).tolist()
        return offsets


# roots: the folders that reference-mode locations start from


def read_roots(store: Store) -> dict[str, dict[str, str]]:
    """`roots.json`: name -> {"path": absolute, "relative": to the store}; either may be edited by hand."""
    if not store.exists("roots.json"):
        return {}
    try:
        roots: dict[str, dict[str, str]] = json.loads(store.read("roots.json"))
    except ValueError as error:
        raise ValueError(f"{store.url}/roots.json is not JSON any more: {error}") from None
    return roots


def add_roots(store: Store, roots: dict[str, str]) -> None:
    """Name further root folders: `{name: absolute path}`. The same name is pointed to the newest path."""
    with store.changing_refs():
        known = read_roots(store)
        for name, path in roots.items():
            known[name] = {"path": path}
            if store.local:
                known[name]["relative"] = os.path.relpath(path, store.root)
        store.write("roots.json", json.dumps(known, indent=1, sort_keys=True).encode() + b"\n")


def resolve(store: Store, location: Location, roots: dict[str, dict[str, str]]) -> str:
    """The local path of a location. Raises FileNotFoundError for an unknown root or a file that is gone,
    ValueError for a path that leaves its root."""
    if location.root not in roots:
        raise FileNotFoundError(f"root {location.root!r} is not in {store.url}/roots.json")
    path = os.fsdecode(location.path)
    if os.path.isabs(path) or ".." in path.split("/"):
        raise ValueError(f"location {path!r} leaves its root {location.root!r}")
    tried = []
    for key in ("path", "relative"):
        if key in roots[location.root]:
            folder = roots[location.root][key]
            candidate = os.path.join(store.root if key == "relative" else "/", folder, path)
            tried.append(candidate)
            if os.path.isfile(candidate):
                return candidate
    raise FileNotFoundError(
        f"{' and '.join(tried) or path}: gone; if it was moved, edit {store.url}/roots.json"
    )


class Shard:
    """A media shard opened for reading, by several threads if need be; rows are media in intake order."""

    def __init__(self, store: Store, digest: str) -> None:
        self.store = store
        self.digest = digest
        self.table = store.open_arrow(f"media/{digest}.arrow").read_all()
        self.offsets = self.table.column("offset").to_numpy()
        self.lengths = self.table.column("length").to_numpy()
        self._locations: pa.Table | None = None
        self.roots: dict[str, dict[str, str]] = {}
        self._handle: int | None = None
        self._opening = Lock()

    @cached_property
    def kinds(self) -> list[str]:
        """The kind of each row: image, video or unknown."""
        kinds: list[str] = self.table.column("kind").to_pylist()
        return kinds

    @cached_property
    def formats(self) -> list[str]:
        """The true format of each row."""
        formats: list[str] = self.table.column("format").to_pylist()
        return formats

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def content_digest(self) -> str:
        """The digest that the table's content has; it is the shard's name unless the file was changed."""
        ids: list[bytes] = self.table.column("media_id").to_pylist()
        return shard_digest(zip(ids, self.lengths.tolist(), self.offsets.tolist(), strict=True))

    def media_id(self, row: int) -> bytes:
        value: bytes = self.table.column("media_id")[row].as_py()
        return value

    def read(self, row: int, most: int | None = None) -> bytes:
        """A medium's bytes, or the first `most` of them, unchecked. Raises OSError or ValueError where they
        can't be had."""
        offset, length = int(self.offsets[row]), int(self.lengths[row])
        wanted = length if most is None else min(length, most)
        if offset < 0:
            location = self.location(row)
            path = resolve(self.store, location, self.roots)
            grown = most is None and location.length < 0  # one byte more tells a file that has grown
            return read_range(path, location.offset, wanted + grown)
        if not self.store.local:
            return self.store.read_range(f"bytes/{self.digest}.arrow", offset, wanted)
        with self._opening:
            if self._handle is None:
                self._handle = os.open(self.store.path(f"bytes/{self.digest}.arrow"), os.O_RDONLY)
        data = os.pread(self._handle, wanted, offset)
        if len(data) < wanted and len(data) > 0:
            return read_range(self.store.path(f"bytes/{self.digest}.arrow"), offset, wanted)
        return data

    def location(self, row: int) -> Location:
        """Where a medium of a reference shard lies."""
        with self._opening:
            if self._locations is None:
                name = f"locations/{self.digest}.arrow"
                locations = self.store.open_arrow(name).read_all()
                if locations.num_rows != len(self):
                    raise ValueError(f"{self.store.url}/{name} has another number of rows")
                self.roots = read_roots(self.store)
                self._locations = locations
        return Location(*(self._locations.column(i)[row].as_py() for i in range(4)))

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()
