"""Every sample comes back from every format with the same id, or the format says why it can't hold it."""

import json
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from infinity_mm import schema
from infinity_mm.formats.llava import LlavaWriter
from infinity_mm.formats.registry import READERS, WRITERS
from infinity_mm.formats.types import Item, Medium, Options, Record, WriteOptions
from infinity_mm.schema import Part, Sample, Turn

FORMATS = {
    "llava": [WriteOptions(), WriteOptions(lines=True)],
    "messages": [WriteOptions()],
    "webdataset": [WriteOptions(tar_bytes=4000)],
    "infinity-mm": [WriteOptions()],
    "parquet": [WriteOptions(group_rows=2)],
    "datasets": [WriteOptions(group_rows=2)],
}
TEXTS = st.one_of(
    st.sampled_from(
        [
            "\n",
            "\n\nq",
            "q\n",
            "<image>",
            "a <video> b",
            "<image",
            "image>",
            "<",
            ">",
            "你好，世界",
            "👩‍👩‍👧 <",
            "\r\n",
        ]
    ),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
MEDIA = st.tuples(
    st.sampled_from(["image", "video"]),
    st.binary(min_size=1, max_size=600),
    st.sampled_from(["jpeg", "mp4", "?"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "id",
            "source",
            "image",
            "images",
            "messages",
            "meta",
            "system",
            "chosen",
            "rejected",
            "x",
            "turn_fields",
        ]
    )
    | st.text(st.characters(codec="utf-8"), max_size=4),
    JSON,
    max_size=3,
)


@st.composite
def items(draw: Any) -> Item:
    media = draw(st.lists(MEDIA, max_size=3))
    number = st.none() | st.integers(0, max(len(media) - 1, 0))
    parts = st.one_of(
        st.builds(lambda t: Part("text", t), TEXTS),
        st.builds(lambda kind, m: Part(kind, None, m), st.sampled_from(["image", "video"]), number),
    )
    turn = st.builds(
        lambda r, p: Turn(r, tuple(p)), st.sampled_from(schema.ROLES), st.lists(parts, max_size=3)
    )
    turns = draw(st.lists(turn, max_size=3))
    rejected = draw(st.none() | st.lists(turn, max_size=2))
    form = schema.normalise(turns, rejected, len(media))
    stored = []
    for i in form.order:
        kind, data, format = media[i]
        size = draw(st.sampled_from([-1, len(data)]))
        identity = schema.media_id(data)
        stored.append(Medium(identity, kind, format, f"{i}.x", partial(bytes, data), size))
    ids = tuple(m.media_id for m in stored)
    meta = json.dumps(draw(FIELDS), ensure_ascii=False)
    source = draw(st.sampled_from(["", "coco"]))
    identity = schema.sample_id(form.digest, ids)
    return Item(
        Sample(identity, form.turns, ids, source, meta, form.rejected, tuple(m.name for m in stored), ""),
        stored,
    )


def store_and_read(
    name: str, items: list[Item], folder: Path, options: WriteOptions, formats: SimpleNamespace
) -> list[tuple[Record, bytes]]:
    """Write items as two parts, read all of it in small units; the records and the ids they get."""
    writer, reader = WRITERS[name], READERS[name]
    half = (len(items) + 1) // 2
    paths = [
        path
        for part, some in enumerate((items[:half], items[half:]))
        for path in writer.write(iter(some), folder, part, options)
    ]
    writer.finish(folder, paths)
    assert not list(folder.rglob(".tmp-*"))
    found = []
    for record in (r for p in paths for u in reader.plan(p, 1) for r in reader.read(u, Options())):
        assert isinstance(record, Record), record
        found.append((record, formats.sample_id(record, folder)))
    return found


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(samples=st.lists(items(), min_size=1, max_size=4, unique_by=lambda item: item.sample.sample_id))
def test_samples_come_back(name: str, formats: SimpleNamespace, samples: list[Item]) -> None:
    kept = [item for item in samples if WRITERS[name].refuses(item.sample) is None]
    assert kept == samples or name in ("llava", "infinity-mm")
    for options in FORMATS[name]:
        with tempfile.TemporaryDirectory() as folder:
            found = store_and_read(name, kept, Path(folder), options, formats)
        assert [identity for _, identity in found] == [item.sample.sample_id for item in kept]
        for (record, _), item in zip(found, kept, strict=True):
            _same_fields(record, item.sample, name)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(item=items())
def test_what_llava_refuses_would_come_back_as_another_sample(formats: SimpleNamespace, item: Item) -> None:
    sample = item.sample
    assume(WRITERS["llava"].refuses(sample) is not None)
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(ValueError, match=sample.sample_id.hex()):
            WRITERS["llava"].write(iter([item]), Path(folder), 0, WriteOptions())
        assert not list(Path(folder).glob("data*"))
    # a medium no part names has no kind in a sample, so a dangling marker of either kind is refused
    parts = [p for t in (*sample.turns, *(sample.rejected or ())) for p in t.parts if p.type != "text"]
    unnamed = {m.kind for i, m in enumerate(item.media) if i not in {p.media for p in parts}}
    dangling = {p.type for p in parts if p.media is None}
    assume(not unnamed or unnamed & dangling)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlavaWriter, "refuses", lambda self, sample: None)
        ((_, identity),) = store_and_read("llava", [item], Path(folder), WriteOptions(), formats)
    assert identity != sample.sample_id


def _same_fields(record: Record, sample: Sample, name: str) -> None:
    """Nothing of a sample's meta is lost, wherever in the record it is put."""
    found, given = json.loads(record.meta), json.loads(sample.meta)
    if name in ("parquet", "datasets"):
        assert found == given
        return
    if sample.source:
        assert record.source == sample.source
    if given.get("id") is None:
        assert found.pop("id") == sample.sample_id.hex()
        given.pop("id", None)
    moved = found.get("meta", {})
    for key, value in given.items():
        assert value in (found.get(key), moved.get(key) if isinstance(moved, dict) else None)
