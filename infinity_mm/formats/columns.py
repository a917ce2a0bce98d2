"""Rows of a table to records, for Parquet and Arrow alike, without touching the bytes of the media.

A media column is a struct<bytes, path>, a binary, or a list of either. Other columns that hold binary data
are left out: nothing in a record can hold them.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.formats import mapped, turns
from infinity_mm.formats.json_value import Bad
from infinity_mm.formats.media_refs import MEDIA_FIELDS, RecordError, media_of
from infinity_mm.formats.types import Options, Record, Ref, Reject

OWN_COLUMNS = frozenset(("sample_id", "messages", "images", "videos", "meta"))


class MediaColumn(NamedTuple):
    """`several`: a list in each row; `struct`: bytes and path, else the bytes alone."""

    name: str
    several: bool
    struct: bool
    has_path: bool


class Entry(NamedTuple):
    """One medium of a row: its number there, its path if it has one, and whether its bytes are there."""

    number: int
    path: str | None
    has_bytes: bool


def is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def holds_binary(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(holds_binary(kind.field(i).type) for i in range(kind.num_fields))
    return holds_binary(kind.value_type) if is_list(kind) else is_binary(kind)


def media_columns(schema: pa.Schema) -> list[MediaColumn]:
    """The columns that may hold media, whatever their names."""
    found = []
    for field in schema:
        several = is_list(field.type)
        kind = field.type.value_type if several else field.type
        names = {kind.field(i).name for i in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
        if "bytes" in names and is_binary(kind.field("bytes").type) and names <= {"bytes", "path"}:
            found.append(MediaColumn(field.name, several, True, "path" in names))
        elif is_binary(kind):
            found.append(MediaColumn(field.name, several, False, False))
    return found


def text_columns(schema: pa.Schema) -> list[str]:
    """The columns that go into a record as they are."""
    return [field.name for field in schema if not holds_binary(field.type)]


def entries(array: pa.Array, column: MediaColumn) -> Iterator[list[Entry]]:
    """The media of each row. Where the array has no bytes, each struct counts as having some."""
    lengths = pc.list_value_length(array).to_pylist() if column.several else [1] * len(array)
    elements = array.flatten() if column.several else array
    paths: Sequence[str | None] = [None] * len(elements)
    there = elements.is_valid().to_pylist()
    if column.struct:
        names = {elements.type.field(i).name for i in range(elements.type.num_fields)}
        if "path" in names:
            paths = pc.struct_field(elements, "path").to_pylist()
        if "bytes" in names:
            there = pc.struct_field(elements, "bytes").is_valid().to_pylist()
    at = 0
    for length in lengths:
        row = range(at, at + (length or 0))
        yield [Entry(k - at, paths[k], there[k]) for k in row if there[k] or paths[k]]
        at += length or 0


def refs(found: list[Entry], column: MediaColumn, how: str, path: str, group: int, row: int) -> list[Any]:
    """A ref for each medium whose bytes are in the row; the path itself where only that is there."""
    out: list[Any] = []
    for entry in found:
        if entry.has_bytes:
            number = f".{entry.number}" if column.several else ""
            member = column.name + number + (".bytes" if column.struct else "")
            out.append(Ref(how, path, group, row, member, entry.path or ""))
        else:
            out.append(entry.path)
    return out


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | Bad]:
    """The rows of a batch as values; one with a text that is not UTF-8 is a `Bad`."""
    try:
        yield from batch.to_pylist()
        return
    except ValueError:
        pass
    for i in range(batch.num_rows):
        try:
            yield batch.slice(i, 1).to_pylist()[0]
        except ValueError as error:
            yield Bad("bad_encoding", f"a text in the row is not Unicode: {error}"[:200])


def record_from(
    values: dict[str, Any] | Bad, media: dict[str, list[Any]], row: int, path: str, options: Options
) -> Record | Reject:
    """The record of a row. `media`: its media columns, refs and paths."""
    if isinstance(values, Bad):
        return Reject(row, *values)
    own = {name: found for name, found in media.items() if name in MEDIA_FIELDS}
    if options.fields:
        wanted = {field.split(".")[0] for _, field in options.fields} | {f for _, f in options.fields}
        mapped_media = {name: found for name, found in media.items() if name in wanted}
        for target, field in options.fields:
            if field in mapped_media and target in ("image", "video") and len(mapped_media[field]) < 2:
                mapped_media[field] = (mapped_media[field] or [None])[0]
        try:
            given = media_of(own | {k: v for k, v in values.items() if k in MEDIA_FIELDS}, path)
        except RecordError as error:
            return Reject(row, *error.bad)
        rest = {k: v for k, v in values.items() if k in wanted or k not in MEDIA_FIELDS or not given.refs}
        return mapped.record_from(rest | mapped_media, row, path, options, None, given)
    whole = values | own
    meta = None
    if whole.keys() >= OWN_COLUMNS and isinstance(values.get("meta"), str):
        meta = _own_meta(values["meta"])
    if meta is not None:
        whole = {k: v for k, v in whole.items() if k not in ("sample_id", "meta")}
    elif all(whole.get(f) is None for f in ("conversations", "messages", "conversation", "chosen")):
        detail = f"columns: {', '.join((*values, *media))}; name what they are with --map"
        return Reject(row, "no_conversation", turns.printable(detail[:300]))
    turn = whole.get("conversations")
    turn = turn[0] if isinstance(turn, list) and turn else None
    style = "llava" if isinstance(turn, dict) and turn.get("from") is not None else "messages"
    record = turns.record_from(whole, row, path, options, style)
    if meta is None or isinstance(record, Reject):
        return record
    return record._replace(meta=meta)


def _own_meta(text: str) -> str | None:
    """The meta of a row that this library wrote."""
    try:
        return text if isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None
