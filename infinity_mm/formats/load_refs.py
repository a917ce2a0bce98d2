"""The bytes of media that lie in Parquet and Arrow files.

Each row group or record batch is read once where the refs come in the order they were read; of Parquet,
only the columns wanted, a few rows at a time. Memory holds those rows.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm.formats.datasets_folder import batches
from infinity_mm.formats.parquet import DAMAGE, MEDIA_ROWS
from infinity_mm.formats.types import Ref


def load_refs(refs: Sequence[Ref]) -> Iterator[bytes | ValueError]:
    """The bytes of each ref, in order; a ValueError in place of what cannot be read.

    Raises ValueError for a ref that is not of kind "parquet" or "arrow".
    """
    for (how, path), run in groupby(refs, key=lambda ref: (ref.how, ref.path)):
        if how == "parquet":
            yield from _from_parquet(path, list(run))
        elif how == "arrow":
            yield from _from_arrow(path, list(run))
        else:
            raise ValueError(f"a {how!r} ref is not in a table: {path}")


def _from_parquet(path: str, refs: list[Ref]) -> Iterator[bytes | ValueError]:
    file = None
    try:
        for group, run in groupby(refs, key=lambda ref: ref.offset):
            wanted = list(run)
            try:
                file = file or pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
                known = file.schema_arrow.names
                names = sorted({n for ref in wanted if (n := _column(ref.member, known))})
            except DAMAGE as error:
                yield from [_unreadable(path, error)] * len(wanted)
                continue
            rows: Iterator[tuple[int, pa.RecordBatch]] = iter(())
            start, batch = 0, None
            for ref in wanted:
                try:
                    if batch is None or ref.length < start:
                        rows = _numbered(file.iter_batches(MEDIA_ROWS, [group], names, use_threads=False))
                        start, batch = next(rows, (0, None))
                    while batch is not None and ref.length >= start + batch.num_rows:
                        start, batch = next(rows, (0, None))
                    yield _value(batch, ref, ref.length - start)
                except DAMAGE as error:
                    batch = None
                    yield _unreadable(path, error)
    finally:
        if file is not None:
            file.close()


def _from_arrow(path: str, refs: list[Ref]) -> Iterator[bytes | ValueError]:
    source: Iterator[tuple[int, pa.RecordBatch]] = iter(())
    number, batch = -1, None
    for ref in refs:
        try:
            if batch is None or ref.offset < number:
                source = enumerate(batches(path))
                number, batch = next(source, (-1, None))
            while batch is not None and number < ref.offset:
                number, batch = next(source, (-1, None))
            yield _value(batch, ref, ref.length)
        except DAMAGE as error:
            batch = None
            yield _unreadable(path, error)


def _numbered(found: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in found:
        yield start, batch
        start += batch.num_rows


def _column(member: str, names: Sequence[str]) -> str:
    """The column of a member such as images.0.bytes; "" where there is none."""
    return max((n for n in names if member == n or member.startswith(f"{n}.")), key=len, default="")


def _value(batch: pa.RecordBatch | None, ref: Ref, row: int) -> bytes:
    if batch is None or not 0 <= row < batch.num_rows:
        raise ValueError(f"no row {ref.length} in part {ref.offset}")
    name = _column(ref.member, batch.schema.names)
    if not name:
        raise ValueError(f"no column for {ref.member}")
    value: Any = batch.column(name)[row]
    try:
        for step in ref.member[len(name) + 1 :].split(".") if len(ref.member) > len(name) else ():
            value = value[int(step)] if step.isdecimal() else value[step]
        found = value.as_py()
    except (LookupError, TypeError):
        found = None
    if not isinstance(found, bytes):
        raise ValueError(f"no bytes at {ref.member} in row {ref.length} of part {ref.offset}")
    return found


def _unreadable(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path}: {error}".split("\n")[0][:300])
