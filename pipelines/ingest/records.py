"""Map step 1 of ingest: read a unit of records, publish a piece.

A piece is two Arrow files: `<key>.records.arrow`, a row a record, rejected ones too, and
`<key>.refs.arrow`, a row for each distinct medium the unit names, as it is named. Nothing but the records'
own file is read, so a piece stands for as long as that file is unchanged. Memory: one batch of records and
the distinct media of one unit.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.executor import Guard, Work
from infinity_mm.formats.registry import READERS
from infinity_mm.formats.types import Options, Record, Ref, Reject, Unit
from infinity_mm.schema import TURN, Part, Turn, normalise
from infinity_mm.store import Store, digest_of

PIECE_VERSION = 1
BATCH_ROWS = 1024
# The "format" of a file in an input folder that none of the formats knows; why follows.
UNRECOGNISED = "unrecognised: "
VIDEO_NAMES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".mpg", ".mpeg", ".m4v", ".flv", ".ts")

RECORDS = pa.schema(
    [
        ("row", pa.int64()),
        ("key", pa.string()),
        ("turns", pa.list_(TURN)),
        ("rejected", pa.list_(TURN)),
        ("digest", pa.binary(32)),
        ("refs", pa.list_(pa.int32())),
        ("names", pa.list_(pa.string())),
        ("source", pa.string()),
        ("meta", pa.large_string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
NAMED = pa.schema(
    [
        ("how", pa.string()),
        ("path", pa.binary()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("member", pa.string()),
    ]
)


class RecordsConfig(NamedTuple):
    store: str
    options: Options
    prepend: bool
    follow_links: bool


class RecordsUnit(NamedTuple):
    """`root`: where its media paths start; `source`: the input's, unless a record names its own and
    `fixed_source` is false; `file`: the input's (size, mtime_ns)."""

    unit: Unit
    root: str
    source: str
    fixed_source: bool
    file: tuple[int, int]

    def key(self, config: RecordsConfig) -> str:
        return digest_of([PIECE_VERSION, self, config._replace(store="")])[:32]


class Piece(NamedTuple):
    """What the decide step learns at once: rows and distinct refs of the unit."""

    key: str
    rows: int
    refs: int


def piece_files(key: str) -> tuple[str, str]:
    return f"work/records/{key}.records.arrow", f"work/records/{key}.refs.arrow"


def finished(store: Store, key: str) -> Piece | None:
    """The piece of an earlier run, if it is whole and no record in it killed workers. Refs come last."""
    records, refs = piece_files(key)
    if not store.exists(refs) or not store.exists(records):
        return None
    reader = store.open_arrow(refs)
    inline = f"work/records/{key}.inline"
    if reader.schema.metadata[b"imm.again"] == b"yes" or (
        reader.schema.metadata[b"imm.inline"] == b"yes" and not store.exists(inline)
    ):
        return None
    return Piece(key, int(reader.schema.metadata[b"imm.rows"]), int(reader.schema.metadata[b"imm.refs"]))


def open_step(config: RecordsConfig) -> Work:
    """The map step: `RecordsUnit -> Piece`."""
    store = Store.open(config.store)

    def work(unit: RecordsUnit, guard: Guard) -> Piece:
        return _read_unit(store, config, unit, guard)

    return work


def _read_unit(store: Store, config: RecordsConfig, unit: RecordsUnit, guard: Guard) -> Piece:
    key = unit.key(config)
    records_file, refs_file = piece_files(key)
    refs = _Refs(store, key)
    rows = refused = 0
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, RECORDS) as writer:
            batch: list[tuple[Any, ...]] = []
            for record in _records(unit.unit, config.options):
                if guard(rows):
                    batch.append(_row(record, refs, unit, config))
                    guard.done()
                else:
                    batch.append(_rejected(Reject(record.row, "crashed_worker", "", record.key), unit))
                    refused += 1
                rows += 1
                if len(batch) == BATCH_ROWS:
                    writer.write_batch(_batch(batch, RECORDS))
                    batch = []
            if batch:
                writer.write_batch(_batch(batch, RECORDS))
        store.publish(temporary, records_file)
    refs.publish(refs_file, rows, again=refused > 0)
    return Piece(key, rows, len(refs.rows))


def _records(unit: Unit, options: Options) -> Iterator[Record | Reject]:
    if unit.format.startswith(UNRECOGNISED):
        yield Reject(0, "unrecognised_file", unit.format.removeprefix(UNRECOGNISED))
    else:
        yield from READERS[unit.format].read(unit, options)


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.record_batch(
        [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )


def _rejected(reject: Reject, unit: RecordsUnit) -> tuple[Any, ...]:
    key = reject.key and clean(reject.key)
    detail = clean(reject.detail)
    return (reject.row, key, None, None, None, [], [], unit.source, "{}", reject.reason, detail)


def clean(name: str) -> str:
    """A name as valid UTF-8: undecodable bytes of it (PEP 383) as \\xNN, other surrogates as \\uNNNN."""
    try:
        name.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(name).decode(errors="backslashreplace")
        except UnicodeEncodeError:
            return name.encode(errors="backslashreplace").decode()
    return name


def _row(record: Record | Reject, refs: "_Refs", unit: RecordsUnit, config: RecordsConfig) -> tuple[Any, ...]:
    if isinstance(record, Reject):
        return _rejected(record, unit)
    turns = record.turns
    if config.prepend and record.refs and not any(p.type != "text" for t in turns for p in t.parts):
        turns = prepend_media(turns, record.refs)
    try:
        normal = normalise(turns, record.rejected, len(record.refs))
        record.meta.encode()
        (record.source or "").encode()
    except ValueError as error:
        return _rejected(Reject(record.row, "bad_encoding", str(error), record.key), unit)
    source = unit.source if unit.fixed_source or not record.source else record.source
    numbers = [refs.number(ref) for ref in record.refs]
    return (
        record.row,
        record.key and clean(record.key),
        normal.turns,
        normal.rejected,
        normal.digest,
        [numbers[i] for i in normal.order],
        [clean(record.refs[i].name) for i in normal.order],
        source,
        record.meta,
        None,
        None,
    )


def prepend_media(turns: Any, refs: Any) -> list[Turn]:
    """Put the media of a record that marks none at the head of its first user turn."""
    parts = tuple(
        Part("video" if ref.name.lower().endswith(VIDEO_NAMES) else "image", None, i)
        for i, ref in enumerate(refs)
    )
    out = list(turns)
    for i, turn in enumerate(out):
        if turn.role == "user":
            out[i] = Turn(turn.role, parts + tuple(turn.parts))
            break
    return out


class _Refs:
    """The distinct media of one unit, in the order they are first named."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key
        self.rows: list[tuple[Any, ...]] = []
        self._numbers: dict[tuple[str, str, int, int, str], int] = {}
        self._inline: list[bytes] = []
        self._inline_bytes = 0

    def number(self, ref: Ref) -> int:
        if ref.how == "inline":
            ref = self._put(ref)
        known = (ref.how, ref.path, ref.offset, ref.length, ref.member)
        if known not in self._numbers:
            self._numbers[known] = len(self.rows)
            path = ref.path.encode("utf-8", "surrogateescape" if _escaped(ref.path) else "surrogatepass")
            self.rows.append((ref.how, path, ref.offset, ref.length, ref.member))
        return self._numbers[known]

    def _put(self, ref: Ref) -> Ref:
        """Bytes that the record itself carries go to a file of the piece."""
        assert ref.data is not None
        start, size = self._inline_bytes, len(ref.data)
        self._inline.append(ref.data)
        self._inline_bytes += size
        return ref._replace(path=f"work/records/{self.key}.inline", offset=start, length=size, data=None)

    def publish(self, name: str, rows: int, again: bool) -> None:
        if self._inline:
            self.store.write(f"work/records/{self.key}.inline", b"".join(self._inline))
        flags = {"imm.again": "yes" if again else "no", "imm.inline": "yes" if self._inline else "no"}
        counts = {"imm.rows": str(rows), "imm.refs": str(len(self.rows))}
        schema = NAMED.with_metadata({**counts, **flags})
        write_rows(self.store, name, schema, self.rows)


def _escaped(path: str) -> bool:
    """Whether all surrogates of a path are escaped bytes of a file name (PEP 383)."""
    return all("\udc80" <= c <= "\udcff" for c in path if "\ud800" <= c <= "\udfff")


def write_rows(store: Store, name: str, schema: pa.Schema, rows: list[tuple[Any, ...]]) -> None:
    """Publish rows as an Arrow file of a given name."""
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for start in range(0, len(rows), 65_536):
                writer.write_batch(_batch(rows[start : start + 65_536], schema))
        store.publish(temporary, name)
