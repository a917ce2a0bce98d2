"""Samples out as tables with their media in them: Parquet, and folders that `datasets` loads.

Both hold the Hugging Face features of their columns, so that `images` comes back as pictures. Samples are
gathered up to `group_bytes` of media or `group_rows`; memory holds that twice. A part names its medium as
the k-th of the row's `images` or `videos` (`index`; -1: one it lacks).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm.formats.datasets_folder import INFO, STATE, batches
from infinity_mm.formats.publish import nothing_more, publishing
from infinity_mm.formats.sample_out import Lists, lists_of, written_order
from infinity_mm.formats.types import Item, Medium, WriteOptions
from infinity_mm.schema import MEDIA_KINDS, Sample, Turn

PART = pa.struct([("type", pa.string()), ("text", pa.string()), ("index", pa.int32())])
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(PART))])
MEDIUM = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


def _list(feature: Any) -> dict[str, Any]:
    return {"feature": feature, "_type": "List"}


_PART = {"type": _value("string"), "text": _value("string"), "index": _value("int32")}
_MESSAGES = _list({"role": _value("string"), "content": _list(_PART)})
FEATURES = {
    "sample_id": _value("string"),
    "messages": _MESSAGES,
    "images": _list({"_type": "Image"}),
    "videos": _list({"_type": "Video"}),
    "rejected": _MESSAGES,
    "media_order": _list(_value("string")),
    "source": _value("string"),
    "meta": _value("string"),
}
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("images", pa.list_(MEDIUM)),
        ("videos", pa.list_(MEDIUM)),
        ("rejected", pa.list_(MESSAGE)),
        ("media_order", pa.list_(pa.string())),
        ("source", pa.string()),
        ("meta", pa.string()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)
BYTES = [f"{kind}s.list.element.bytes" for kind in MEDIA_KINDS]
LARGEST_MEDIUM = (1 << 31) - (1 << 26)
HOLDS = "every sample, with its media in the table"


def row_batches(items: Iterator[Item], options: WriteOptions) -> Iterator[pa.RecordBatch]:
    """Record batches of the samples. Raises ValueError for a medium of 2 GB, which a column cannot hold."""
    samples: list[Sample] = []
    lists: list[Lists] = []
    media: dict[str, list[list[tuple[bytes, str]]]] = {kind: [] for kind in MEDIA_KINDS}
    held = 0
    for sample, own in items:
        found = lists_of(sample, own)
        loaded = [_load(medium) for medium in own]
        size = sum(len(data) for data, _ in loaded)
        if samples and (held + size > options.group_bytes or len(samples) >= options.group_rows):
            yield _batch(samples, lists, media)
            samples, lists, held = [], [], 0
            media = {kind: [] for kind in MEDIA_KINDS}
        samples.append(sample)
        lists.append(found)
        for kind, members in found.members.items():
            media[kind].append([loaded[i] for i in members])
        held += size
    if samples:
        yield _batch(samples, lists, media)


def _load(medium: Medium) -> tuple[bytes, str]:
    data = medium.read()
    if len(data) > LARGEST_MEDIUM:
        raise ValueError(
            f"medium {medium.media_id.hex()} has {len(data)} bytes: a table column holds 2 GB at most"
        )
    return data, medium.name


def _batch(
    samples: list[Sample], lists: list[Lists], media: dict[str, list[list[tuple[bytes, str]]]]
) -> pa.RecordBatch:
    pairs = list(zip(samples, lists, strict=True))
    rejected = [None if s.rejected is None else _messages(s.rejected, found) for s, found in pairs]
    arrays = {
        "sample_id": [s.sample_id.hex() for s in samples],
        "messages": [_messages(s.turns, found) for s, found in pairs],
        "rejected": rejected,
        "media_order": [written_order(s, found) for s, found in pairs],
        "source": [s.source for s in samples],
        "meta": [s.meta for s in samples],
    }
    made = {f"{kind}s": _media(rows) for kind, rows in media.items()}
    made |= {name: pa.array(values, SCHEMA.field(name).type) for name, values in arrays.items()}
    return pa.record_batch([made[name] for name in SCHEMA.names], schema=SCHEMA)


def _messages(turns: Sequence[Turn], found: Lists) -> list[dict[str, Any]]:
    def part(kind: str, text: str | None, medium: int | None) -> dict[str, Any]:
        if kind == "text":
            return {"type": kind, "text": text, "index": None}
        return {"type": kind, "text": None, "index": -1 if medium is None else found.place[medium]}

    return [{"role": turn.role, "content": [part(*p) for p in turn.parts]} for turn in turns]


def _media(rows: list[list[tuple[bytes, str]]]) -> pa.Array:
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    data = pa.array([data for row in rows for data, _ in row], pa.binary())
    names = pa.array([name or None for row in rows for _, name in row], pa.string())
    structs = pa.StructArray.from_arrays([data, names], fields=list(MEDIUM))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs)


class ParquetWriter:
    largest_medium = LARGEST_MEDIUM
    holds = HOLDS

    def refuses(self, sample: Sample) -> str | None:
        return None

    def write(self, items: Iterator[Item], folder: Path, part: int, options: WriteOptions) -> list[Path]:
        path = folder / f"data-{part:05}.parquet"

        def open_(temporary: Path) -> pq.ParquetWriter:
            leaves = _leaves()
            return pq.ParquetWriter(
                temporary,
                SCHEMA,
                compression={name: "NONE" if name in BYTES else "ZSTD" for name in leaves},
                use_dictionary=[name for name in leaves if name not in BYTES],
            )

        _write(items, path, options, open_)
        return [path]

    def finish(self, folder: Path, parts: Sequence[Path]) -> list[Path]:
        return nothing_more(folder, parts)


def _leaves() -> list[str]:
    sink = pa.BufferOutputStream()
    pq.write_table(SCHEMA.empty_table(), sink)
    schema = pq.ParquetFile(sink.getvalue()).schema
    return [schema.column(i).path for i in range(len(schema))]


class DatasetsWriter:
    largest_medium = LARGEST_MEDIUM
    holds = HOLDS

    def refuses(self, sample: Sample) -> str | None:
        return None

    def write(self, items: Iterator[Item], folder: Path, part: int, options: WriteOptions) -> list[Path]:
        path = folder / f"data-{part:05}.arrow"
        _write(items, path, options, lambda temporary: pa.ipc.new_stream(os.fspath(temporary), SCHEMA))
        return [path]

    def finish(self, folder: Path, parts: Sequence[Path]) -> list[Path]:
        """`state.json` and `dataset_info.json`, which make the folder one that `datasets` loads."""
        names = [path.relative_to(folder).as_posix() for path in parts]
        content = hashlib.sha256()
        for path in parts:
            for batch in batches(str(path)):
                content.update("".join(batch.column("sample_id").to_pylist()).encode())
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": content.hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        info = {"citation": "", "description": "", "features": FEATURES, "homepage": "", "license": ""}
        for name, value in ((INFO, info), (STATE, state)):
            with publishing(folder / name) as temporary:
                temporary.write_text(json.dumps(value, indent=2) + "\n")
        return [folder / INFO, folder / STATE]


def _write(items: Iterator[Item], path: Path, options: WriteOptions, open_: Callable[[Path], Any]) -> None:
    with publishing(path) as temporary, open_(temporary) as writer:
        for batch in row_batches(items, options):
            writer.write_batch(batch)
