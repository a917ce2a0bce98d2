"""Parquet in: rows with pictures and clips as bytes and path, and any of the ways to hold a conversation.

Units are row groups. The bytes of media are not read: whether a row has some is told from the path column
and the number of nulls each row group's footer gives for the bytes; only where some rows of a group have
bytes and others a path alone, or where there are no paths to tell it, is the column itself gone through, a
few rows at a time. Memory holds a row group's paths and a thousand rows of the other columns.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm.formats import columns
from infinity_mm.formats.columns import Entry, MediaColumn
from infinity_mm.formats.types import Options, Record, Reject, Unit

ROWS = 1000
MEDIA_ROWS = 16
# what pyarrow raises for files that are damaged
DAMAGE = (pa.ArrowException, OSError, ValueError, IndexError, KeyError)


def damaged(error: Exception) -> str:
    """What is wrong with a file, for a Reject. Re-raises what says nothing of the file's content."""
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        raise error
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]


class ParquetReader:
    def plan(self, path: Path, unit_bytes: int) -> list[Unit]:
        """Units of whole row groups of about `unit_bytes`; a file without a readable footer is one unit."""
        try:
            with pq.ParquetFile(path) as file:
                groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
                sizes = [(group.num_rows, group.total_byte_size) for group in groups]
        except DAMAGE as error:
            damaged(error)
            return [Unit(str(path), "parquet", 0, 1, 0)]
        units, start, first, rows, held = [], 0, 0, 0, 0
        for i, (count, size) in enumerate(sizes):
            rows, held = rows + count, held + size
            if held >= unit_bytes or i + 1 == len(sizes):
                units.append(Unit(str(path), "parquet", start, i + 1, first))
                start, first, held = i + 1, rows, 0
        return units

    def read(self, unit: Unit, options: Options) -> Iterator[Record | Reject]:
        row = max(unit.first, 0)
        try:
            file = pq.ParquetFile(unit.path, pre_buffer=False, buffer_size=1 << 20)
        except DAMAGE as error:
            yield Reject(row, "damaged_container", damaged(error))
            return
        with file:
            for group in range(unit.start, min(unit.end, file.metadata.num_row_groups)):
                count = file.metadata.row_group(group).num_rows
                done = 0
                try:
                    for record in _group(file, unit.path, group, row, options):
                        yield record
                        done += 1
                except DAMAGE as error:
                    lost = f"row group {group}, {count - done} of {count} rows lost: {damaged(error)}"
                    yield Reject(row + done, "damaged_container", lost)
                row += count


def _group(
    file: pq.ParquetFile, path: str, group: int, row: int, options: Options
) -> Iterator[Record | Reject]:
    schema = file.schema_arrow
    found = columns.media_columns(schema)
    media = {column.name: _entries(file, group, column) for column in found}
    count = file.metadata.row_group(group).num_rows
    rows = _rows(file, group, columns.text_columns(schema), count)
    for i, values in enumerate(rows):
        own = {c.name: columns.refs(media[c.name][i], c, "parquet", path, group, i) for c in found}
        yield columns.record_from(values, own, row + i, path, options)


def _rows(file: pq.ParquetFile, group: int, names: list[str], count: int) -> Iterator[Any]:
    if not names:
        yield from ({} for _ in range(count))
        return
    for batch in file.iter_batches(ROWS, [group], names, use_threads=False):
        yield from columns.rows_of(batch)


def _entries(file: pq.ParquetFile, group: int, column: MediaColumn) -> list[list[Entry]]:
    """The media of each row of a row group, reading paths only where that can tell."""
    nulls, total = _nulls(file, group, _leaf(file, column.name, "bytes" if column.struct else ""))
    if column.has_path and nulls is not None:
        found, absent = _read(
            file, group, column, file.schema.column(_leaf(file, column.name, "path")).path, ROWS
        )
        if nulls == absent:
            return found
        if nulls == total:
            return [[e._replace(has_bytes=False) for e in row if e.path] for row in found]
    elif not column.several and not column.struct and nulls in (0, total):
        rows = file.metadata.row_group(group).num_rows
        return [[Entry(0, None, True)] if nulls == 0 else [] for _ in range(rows)]
    return _read(file, group, column, column.name, MEDIA_ROWS)[0]


def _nulls(file: pq.ParquetFile, group: int, leaf: int) -> tuple[int | None, int]:
    """How many nulls, of how many values, a leaf has in a row group; None: the footer does not tell.

    Reads one value and compares types first: in a damaged footer pyarrow (26) raises for the one and ends the
    process when it is asked for statistics.
    """
    schema = file.schema.column(leaf)
    next(file.iter_batches(1, [group], [schema.path], use_threads=False), None)
    chunk = file.metadata.row_group(group).column(leaf)
    known = (
        chunk.physical_type == schema.physical_type and chunk.is_stats_set and chunk.statistics.has_null_count
    )
    return (chunk.statistics.null_count if known else None), chunk.num_values


def _leaf(file: pq.ParquetFile, name: str, last: str) -> int:
    """The number of a column's leaf, e.g. of images.list.element.path."""
    paths = [file.schema.column(i).path for i in range(len(file.schema))]
    return next(i for i, p in enumerate(paths) if f"{p}.".startswith(f"{name}.") and p.endswith(last))


def _read(
    file: pq.ParquetFile, group: int, column: MediaColumn, what: str, rows: int
) -> tuple[list[list[Entry]], int]:
    """The entries of a row group, and how many of its values are no struct at all."""
    found: list[list[Entry]] = []
    absent = 0
    for batch in file.iter_batches(rows, [group], [what], use_threads=False):
        array = batch.column(column.name)
        found += columns.entries(array, column)
        if column.several:
            lengths = columns.pc.list_value_length(array).to_pylist()
            absent += array.flatten().null_count + sum(not n for n in lengths)
        else:
            absent += array.null_count
    return found, absent


PARQUET = ParquetReader()
