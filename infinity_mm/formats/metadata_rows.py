"""The metadata files of an image folder: `metadata.jsonl`, `.csv` or `.parquet`, a row a record.

As in the imagefolder loader of `datasets` (5.2), the columns `file_name`, `*_file_name`, `file_names` and
`*_file_names` name a row's pictures, below the folder that the metadata file is in. Values of a CSV file stay
the texts they are. Reading holds a row, or a thousand of Parquet; a CSV row with an unclosed quote costs
its first line, and no more than 128 KB are gone through in vain.
"""

import codecs
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from infinity_mm.formats import columns, json_array, json_lines, mapped
from infinity_mm.formats.extensions import EXTENSIONS
from infinity_mm.formats.json_value import Bad, type_name
from infinity_mm.formats.media_refs import Media, RecordError
from infinity_mm.formats.parquet import DAMAGE, PARQUET, ROWS, damaged
from infinity_mm.formats.turns import FORMAT_FIELDS, printable
from infinity_mm.formats.types import Options, Record, Reject, Unit

NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
TEXTS = ("text", "caption", "captions", "txt", "sentence", "sentences", "description")
LOOK_AT = 20
HEAD_BYTES = 4 << 20


def is_metadata(path: Path) -> bool:
    """Whether a file has the name of one and columns for pictures, and no conversation of its own."""
    if path.name not in NAMES or not path.is_file():
        return False
    names = column_names(path)
    talk = {f for fields in FORMAT_FIELDS.values() for f in fields}
    return bool(file_columns(names)) and not talk & set(names)


def file_columns(names: Sequence[str]) -> list[str]:
    """Those of the columns that name pictures."""
    ends = ("_file_name", "_file_names")
    return [n for n in names if n in ("file_name", "file_names") or n.endswith(ends)]


def column_names(path: Path) -> list[str]:
    """A file's columns; of JSON Lines those of its first object. None where it can't be read so far."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        with open(path, "rb") as file:
            return _header(file)[0]
    if suffix == ".parquet":
        try:
            return list(pq.read_schema(path).names)
        except DAMAGE as error:
            damaged(error)
            return []
    if json_array.shape(path) == "lines":
        values = json_lines.values(Unit(str(path), "", 0, HEAD_BYTES))
    else:
        values = json_array.values(Unit(str(path), "", json_array.begin(path), HEAD_BYTES))
    for row, value in values:
        if isinstance(value, dict):
            return list(value)
        if row >= LOOK_AT:
            break
    return []


def plan(path: Path, format: str, unit_bytes: int) -> list[Unit]:
    """Units of about `unit_bytes` that begin where a row does. Raises OSError.

    Raises ValueError where no column names pictures.
    """
    names = column_names(path)
    if not file_columns(names):
        shown = ", ".join(names)[:300] or "none that can be read"
        raise ValueError(
            f"{path} has no column file_name (or *_file_name, file_names), which says what picture a row is "
            f"of; its columns are: {printable(shown)}"
        )
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _plan_csv(path, format, unit_bytes)
    if suffix == ".parquet":
        return [u._replace(format=format) for u in PARQUET.plan(path, unit_bytes)]
    if json_array.shape(path) == "lines":
        return json_lines.plan(path, format, unit_bytes)
    return json_array.plan(path, format, unit_bytes)


def values(unit: Unit) -> Iterator[tuple[int, Any]]:
    """(row, an object or `Bad`) of each row of a unit."""
    suffix = os.path.splitext(unit.path)[1].lower()
    if suffix == ".csv":
        return _csv_values(unit)
    if suffix == ".parquet":
        return _parquet_values(unit)
    return json_lines.values(unit) if json_array.shape(unit.path) == "lines" else json_array.values(unit)


def record(value: Any, row: int, path: str, options: Options) -> Record | Reject:
    """The record of a row: its pictures, then what the map or the first of `TEXTS` says."""
    if not isinstance(value, dict):
        return mapped.record_from(value, row, path, options)
    try:
        given = pictures(value, path)
    except RecordError as error:
        return Reject(row, error.bad.reason, printable(error.bad.detail))
    if not options.fields:
        text = next((name for name in TEXTS if name in value), None)
        if text is None:
            detail = f"columns: {', '.join(value)}; name what they are with --map, e.g. --map text=COLUMN"
            return Reject(row, "no_conversation", printable(detail[:300]))
        options = options._replace(fields=(("text", text),))
    own = set(file_columns(list(value)))
    if any(target in mapped.MEDIA_TARGETS for target, _ in options.fields):
        own = set()
    fields = {field for _, field in options.fields}
    rest = {name: v for name, v in value.items() if name not in own or name in fields}
    return mapped.record_from(rest, row, path, options, None, given)


def pictures(value: dict[str, Any], path: str) -> Media:
    """The pictures (or clips, by their extension) of a row, in its columns' order. Raises RecordError."""
    media = Media(path)
    for column, given in _given(value):
        if not isinstance(given, str):
            raise RecordError("bad_type", f"{column} is {type_name(given)}, not a path")
        name = as_path(given)
        media.add(EXTENSIONS.get(name.rpartition(".")[2].lower(), "image"), name, column)
    return media


def named(value: dict[str, Any]) -> list[str]:
    """The paths of a row's pictures."""
    return [as_path(given) for _, given in _given(value) if isinstance(given, str)]


def as_path(given: str) -> str:
    """A path as datasets reads it: a backslash divides folders."""
    return given.replace("\\", "/")


def _given(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(column, what it says) for each picture of a row; null and empty ones are none."""
    for column in file_columns(list(value)):
        several = value[column] if isinstance(value[column], list) else [value[column]]
        yield from ((column, given) for given in several if given is not None and given != "")


def _parquet_values(unit: Unit) -> Iterator[tuple[int, Any]]:
    row = max(unit.first, 0)
    try:
        with pq.ParquetFile(unit.path, pre_buffer=False) as file:
            names = columns.text_columns(file.schema_arrow)
            for group in range(unit.start, min(unit.end, file.metadata.num_row_groups)):
                for batch in file.iter_batches(ROWS, [group], names, use_threads=False):
                    for value in columns.rows_of(batch):
                        yield row, value
                        row += 1
    except DAMAGE as error:
        yield row, Bad("damaged_container", damaged(error))


def _header(file: Any) -> tuple[list[str], int]:
    """The names of a CSV file's columns, and where its rows begin."""
    start = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
    for _, end, cells in _cells(file, start, os.fstat(file.fileno()).st_size):
        return ([] if isinstance(cells, Bad) else cells), end
    return [], start


def _plan_csv(path: Path, format: str, unit_bytes: int) -> list[Unit]:
    with open(path, "rb") as file:
        start, size = _header(file)[1], os.stat(path).st_size
        cuts = [start]
        if size - start > unit_bytes:
            for at, _, _ in _cells(file, start, size):
                if at - cuts[-1] >= max(unit_bytes, 1):
                    cuts.append(at)
    return [Unit(str(path), format, a, b) for a, b in zip(cuts, [*cuts[1:], size], strict=True) if b > a]


def _csv_values(unit: Unit) -> Iterator[tuple[int, Any]]:
    row = max(unit.first, 0)
    with open(unit.path, "rb") as file:
        names = _header(file)[0]
        for _, _, cells in _cells(file, unit.start, unit.end):
            yield row, cells if isinstance(cells, Bad) else _named(names, cells)
            row += 1


def _named(names: list[str], cells: list[str]) -> dict[str, Any] | Bad:
    """The cells by name; what a short row lacks at its end is null."""
    if len(cells) > len(names):
        return Bad("malformed_csv", f"{len(cells)} cells, but {len(names)} columns: is a comma not quoted?")
    if not all(cell.isascii() for cell in cells):
        try:
            "".join(cells).encode()
        except UnicodeEncodeError:
            return Bad("bad_encoding", "a cell is not UTF-8")
    return dict.fromkeys(names) | dict(zip(names, cells, strict=False))


def _cells(file: Any, start: int, end: int) -> Iterator[tuple[int, int, list[str] | Bad]]:
    """(first byte, end, cells) of each row that is not blank. A broken one ends with its first line."""
    while start < end:
        lines = _Lines(file, start, end)
        reader = csv.reader(lines, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield start, lines.at, cells
                start, lines.first = lines.at, -1
            return
        except csv.Error:
            detail = f"a quote is out of place or not closed, or a cell too long: {lines.head.strip()!a:.100}"
            yield start, lines.first, Bad("malformed_csv", detail)
            start = lines.first


class _Lines:
    """Lines of a byte range as texts. `at`: the end of what was given out.

    `head`: the first line of a row, `first`: its end, or -1 before a row begins.
    """

    def __init__(self, file: Any, start: int, end: int) -> None:
        self.file, self.at, self.end, self.first, self.head = file, start, end, -1, ""
        file.seek(start)

    def __iter__(self) -> Iterator[str]:
        while self.at < self.end and (line := self.file.readline()):
            self.at += len(line)
            text = line.decode("utf-8", "surrogateescape")
            if self.first < 0:
                self.first, self.head = self.at, text
            yield text
