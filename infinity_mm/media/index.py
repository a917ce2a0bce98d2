"""The media index: from a media id to the shard and row that has it, and the library that reads through it.

A part is a range of ids (the first `bits` bits), an Arrow file of at most about PART_ROWS rows sorted by id
with byte offsets, so that one medium of forty million is one binary search and one ranged read. Parts are
opened when first needed and checked against their digest then. Memory: the parts opened, mapped.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.columns import id_array, id_rows
from infinity_mm.media.shards import Shard
from infinity_mm.schema import ID, media_id
from infinity_mm.spill import KEY, Spill, first_of_run, halves
from infinity_mm.store import Store, file_digest, write_table

PART_ROWS = 16_384
INDEX = pa.schema(
    [
        ("media_id", ID),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)
ROW = np.dtype([KEY, ("shard", "i4"), ("row", "i4"), ("offset", "i8"), ("length", "i8")])
OPEN_SHARDS = 64


class Found(NamedTuple):
    shard: str
    row: int


class Unavailable(ValueError):
    """A medium that can't be had: `reason` is missing_media, unreadable_media, changed_media or withdrawn; or
    what could not be made of it here, out_of_memory."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return Unavailable, (self.reason, self.detail)


def build_index(store: Store, shards: Sequence[str]) -> dict[str, Any]:
    """Index media shards; the manifest entry: bits, shards, count, and parts (file, sha256, bytes, rows).

    A medium in two shards is found in the first.
    """
    with Spill(ROW) as spill:
        for number, digest in enumerate(shards):
            table = store.open_arrow(f"media/{digest}.arrow").read_all()
            spill.add(
                key=id_rows(table.column("media_id")),
                shard=number,
                row=np.arange(table.num_rows),
                offset=table.column("offset").to_numpy(),
                length=table.column("length").to_numpy(),
            )
        bits = max(0, int(np.ceil(np.log2(max(1, spill.rows / PART_ROWS)))))
        parts: list[dict[str, Any]] = []
        count = 0
        held: list[np.ndarray] = []
        for bucket in spill.buckets():
            rows = bucket[first_of_run(bucket) == np.arange(len(bucket))]
            count += len(rows)
            held.append(rows)
            rows = np.concatenate(held)
            numbers = _part_of(rows["key"], bits)
            last = 1 << bits if len(rows) == 0 else int(numbers[-1])
            while len(parts) < last:
                parts.append(_write_part(store, rows[numbers == len(parts)]))
            held = [rows[numbers == last]]
        rows = np.concatenate(held) if held else np.empty(0, ROW)
        numbers = _part_of(rows["key"], bits)
        while len(parts) < 1 << bits:
            parts.append(_write_part(store, rows[numbers == len(parts)]))
    return {"bits": bits, "count": count, "shards": list(shards), "parts": parts}


def _part_of(keys: np.ndarray, bits: int) -> np.ndarray:
    if bits == 0:
        return np.zeros(len(keys), np.int64)
    return (halves(keys)[0] >> np.uint64(64 - bits)).astype(np.int64)


def _write_part(store: Store, rows: np.ndarray) -> dict[str, Any]:
    columns = [
        id_array(rows["key"]),
        *(pa.array(np.ascontiguousarray(rows[name])) for name in INDEX.names[1:]),
    ]
    return file_entry(store, write_table(store, "index", pa.table(columns, schema=INDEX)), len(rows))


def file_entry(store: Store, name: str, rows: int) -> dict[str, Any]:
    """A manifest's line on a file that is named by its sha256."""
    sha256 = name.rsplit("/", 1)[1].split(".", 1)[0]
    return {"file": name, "sha256": sha256, "bytes": store.size(name), "rows": rows}


def check_file(store: Store, entry: dict[str, Any]) -> str | None:
    """Check a file against its manifest line, reading it all; what is wrong, or None."""
    try:
        size = store.size(entry["file"])
    except FileNotFoundError:
        return f"{entry['file']} is missing"
    if size != entry["bytes"]:
        return f"{entry['file']} has {size} bytes instead of {entry['bytes']}"
    if file_digest(store.open_file(entry["file"])) != entry["sha256"]:
        return f"{entry['file']} does not have the sha256 it is named by: its content was changed"
    return None


class MediaIndex:
    """One index of a manifest, from its manifest entry."""

    def __init__(self, store: Store, entry: dict[str, Any]) -> None:
        self.store = store
        self.bits: int = entry["bits"]
        self.shards: list[str] = entry["shards"]
        self.entries: list[dict[str, Any]] = entry["parts"]
        self._parts: dict[int, tuple[np.ndarray, np.ndarray, pa.Table]] = {}

    def _part(self, number: int) -> tuple[np.ndarray, np.ndarray, pa.Table]:
        if number not in self._parts:
            wrong = check_file(self.store, self.entries[number])
            if wrong:
                raise ValueError(f"{self.store.url}: media index part {wrong}")
            table = self.store.open_arrow(self.entries[number]["file"]).read_all()
            self._parts[number] = (*halves(id_rows(table.column("media_id"))), table)
        return self._parts[number]

    def find_many(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For ids (N×16 uint8): the number of the shard in `shards`, -1 where none has it, and the row."""
        shards, rows = np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.int32)
        high, low = halves(ids)
        numbers = _part_of(ids, self.bits)
        for number in np.unique(numbers):
            asked = np.flatnonzero(numbers == number)
            highs, lows, table = self._part(int(number))
            at = np.searchsorted(highs, high[asked])
            while len(asked):
                inside = at < len(highs)
                asked, at = asked[inside], at[inside]
                same = highs[at] == high[asked]
                asked, at = asked[same], at[same]
                hit = lows[at] == low[asked]
                shards[asked[hit]] = table.column("shard").to_numpy()[at[hit]]
                rows[asked[hit]] = table.column("row").to_numpy()[at[hit]]
                asked, at = asked[~hit], at[~hit] + 1
        return shards, rows


class Library:
    """The media of a manifest. Every medium read is checked against its id.

    `withdrawn`: ids that a tombstone forbids. Keeps up to OPEN_SHARDS shards open.
    """

    def __init__(self, store: Store, entries: Iterable[dict[str, Any]], withdrawn: frozenset[bytes]) -> None:
        self.store = store
        self.indexes = [MediaIndex(store, entry) for entry in entries]
        self.withdrawn = withdrawn
        self._open: OrderedDict[str, Shard] = OrderedDict()

    def find(self, medium: bytes) -> Found:
        """Where a medium is. Raises Unavailable missing_media if no index has it."""
        for index in self.indexes:
            shards, rows = index.find_many(np.frombuffer(medium, np.uint8)[None])
            if shards[0] >= 0:
                return Found(index.shards[shards[0]], int(rows[0]))
        raise Unavailable("missing_media", f"medium {medium.hex()} is in no media index of this manifest")

    def find_many(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For ids (N×16 uint8): the number of the shard in `list(shards())`, -1 where none, and the row."""
        numbers = {digest: i for i, digest in enumerate(self.shards())}
        shards, rows = np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.int32)
        for index in self.indexes:
            missing = np.flatnonzero(shards < 0)
            found, row = index.find_many(ids[missing])
            hit = found >= 0
            own = np.array([numbers[d] for d in index.shards] or [0], np.int32)
            shards[missing[hit]], rows[missing[hit]] = own[found[hit]], row[hit]
        return shards, rows

    def shard(self, digest: str) -> Shard:
        if digest in self._open:
            self._open.move_to_end(digest)
            return self._open[digest]
        shard = self._open[digest] = Shard(self.store, digest)
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)  # closed when its last reader lets it go
        return shard

    def info(self, medium: bytes) -> dict[str, Any]:
        """The MEDIA row of a medium as a dict."""
        found = self.find(medium)
        row: dict[str, Any] = self.shard(found.shard).table.slice(found.row, 1).to_pylist()[0]
        return row

    def read(self, medium: bytes) -> bytes:
        """A medium's bytes, checked. Raises Unavailable."""
        found = self.find(medium)
        return read_checked(self.shard(found.shard), found.row, self.withdrawn)

    def shards(self) -> Iterator[str]:
        """The digests of all media shards, each once."""
        yield from dict.fromkeys(shard for index in self.indexes for shard in index.shards)


def read_checked(shard: Shard, row: int, withdrawn: frozenset[bytes]) -> bytes:
    """One medium of a shard, checked against its id. Raises Unavailable."""
    wanted = shard.media_id(row)
    if wanted in withdrawn:
        raise Unavailable("withdrawn", f"medium {wanted.hex()} was withdrawn (imm forget)")
    try:
        data = shard.read(row)
    except FileNotFoundError as error:
        raise Unavailable("missing_media", str(error)) from None
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise Unavailable("unreadable_media", str(error)) from None
    if media_id(data) != wanted:
        raise Unavailable(
            "changed_media",
            f"medium {wanted.hex()} ({shard.lengths[row]} bytes) now reads as {len(data)} other bytes",
        )
    return data
