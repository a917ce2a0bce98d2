"""What the tests of the formats share: reading a whole input, and the id its records would get."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infinity_mm import schema
from infinity_mm.formats.load_refs import load_refs
from infinity_mm.formats.mapped import parse_map
from infinity_mm.formats.registry import READERS, recognise
from infinity_mm.formats.types import Options, Record, Ref, Reject
from infinity_mm.schema import Part, Turn
from infinity_mm.store import read_range


def read_all(
    path: Path, format: str = "", unit_bytes: int = 1 << 30, options: Options | None = None
) -> list[Record | Reject]:
    reader = READERS[format or recognise(path)]
    return [r for u in reader.plan(path, unit_bytes) for r in reader.read(u, options or Options())]


def bytes_of(ref: Ref, root: Path) -> bytes:
    if ref.how == "file":
        return (root / ref.path).read_bytes()
    if ref.how == "range":
        return read_range(ref.path, ref.offset, ref.length)
    if ref.how == "inline":
        assert ref.data is not None
        return ref.data
    found = next(load_refs([ref]))
    assert isinstance(found, bytes), found
    return found


def sample_id(record: Record, root: Path) -> bytes:
    media = [schema.media_id(bytes_of(ref, root)) for ref in record.refs]
    form = schema.normalise(record.turns, record.rejected, len(media))
    return schema.sample_id(form.digest, [media[i] for i in form.order])


def said(record: Record | Reject) -> list[Any]:
    """A record's turns in short: [role, text or (kind, medium), ...]."""
    assert isinstance(record, Record), record
    form = schema.normalise(record.turns, None, len(record.refs))
    names = [record.refs[i].name for i in form.order]

    def short(part: Part) -> Any:
        if part.type == "text":
            return part.text
        return (part.type, None if part.media is None else names[part.media])

    def turn(t: Turn) -> list[Any]:
        return [t.role, *map(short, t.parts)]

    return [turn(t) for t in form.turns]


def one(records: Sequence[Record | Reject]) -> Any:
    assert len(records) == 1, records
    return records[0]


@pytest.fixture(scope="session")
def formats() -> SimpleNamespace:
    return SimpleNamespace(
        read=read_all, bytes_of=bytes_of, sample_id=sample_id, said=said, one=one, map=parse_map
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write an input file; its name says nothing of the format."""

    def write(data: str | bytes) -> Path:
        path = tmp_path / "input"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write
