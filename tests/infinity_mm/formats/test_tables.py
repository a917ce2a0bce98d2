"""Parquet and Arrow tables, read from files `datasets` wrote and written so that `datasets` reads them."""

import io
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from infinity_mm import schema
from infinity_mm.formats import parquet
from infinity_mm.formats.load_refs import load_refs
from infinity_mm.formats.registry import READERS, WRITERS, recognise
from infinity_mm.formats.types import Item, Medium, Options, Record, Ref, Reject, WriteOptions
from infinity_mm.schema import Part, Sample, Turn


def png(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


PICTURES = [png(i) for i in range(6)]
MEDIUM = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
MESSAGES = [{"role": "user", "content": "<image>Q"}, {"role": "assistant", "content": "A"}]


def saved(folder: Path) -> datasets.Dataset:
    """One picture, two, none, and one by its path alone."""
    folder.mkdir(exist_ok=True)
    (folder / "on_disk.png").write_bytes(PICTURES[3])
    rows = [
        [{"bytes": PICTURES[0], "path": "zero.png"}],
        [{"bytes": PICTURES[1], "path": None}, {"bytes": PICTURES[2], "path": "two.png"}],
        [],
        [{"bytes": None, "path": str(folder / "on_disk.png")}],
    ]
    features = datasets.Features(
        {
            "images": datasets.Sequence(datasets.Image()),
            "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
            "note": datasets.Value("int64"),
        }
    )
    values = {"images": rows, "messages": [MESSAGES] * 4, "note": list(range(4))}
    return datasets.Dataset.from_dict(values, features=features)


def check(records: list[Any], formats: SimpleNamespace, how: str) -> None:
    assert [r.row for r in records] == [0, 1, 2, 3]
    found = [[formats.bytes_of(ref, Path()) for ref in r.refs] for r in records]
    assert found == [[PICTURES[0]], [PICTURES[1], PICTURES[2]], [], [PICTURES[3]]]
    assert [[ref.name for ref in r.refs] for r in records[:3]] == [["zero.png"], ["", "two.png"], []]
    assert records[3].refs[0].how == how
    assert formats.said(records[0]) == [["user", ("image", "zero.png"), "Q"], ["assistant", "A"]]
    assert formats.said(records[2])[0] == ["user", "<image>Q"]
    assert json.loads(records[1].meta) == {"note": 1}


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_parquet(rows: int, tmp_path: Path, formats: SimpleNamespace) -> None:
    path = tmp_path / "input"
    pq.write_table(saved(tmp_path / "d").data.table, path, row_group_size=rows)
    assert recognise(path) == "parquet"
    for unit_bytes in (1, 1 << 30):
        check(formats.read(path, unit_bytes=unit_bytes), formats, "file")


def test_a_saved_folder(tmp_path: Path, formats: SimpleNamespace) -> None:
    saved(tmp_path / "d").save_to_disk(tmp_path / "saved", num_shards=2)
    assert recognise(tmp_path / "saved") == "datasets"
    records = formats.read(tmp_path / "saved")
    check([r._replace(row=i) for i, r in enumerate(records)], formats, "arrow")
    splits = datasets.DatasetDict({"a": saved(tmp_path / "d"), "b": saved(tmp_path / "d")})
    splits.save_to_disk(tmp_path / "dict")
    assert len(formats.read(tmp_path / "dict")) == 8


def test_an_arrow_file(tmp_path: Path, formats: SimpleNamespace) -> None:
    table = saved(tmp_path / "d").data.table
    for name, open_ in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        with open_(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
        assert recognise(tmp_path / name) == "datasets"
        check(formats.read(tmp_path / name, unit_bytes=1), formats, "file")


def test_an_indices_file_is_refused(tmp_path: Path, formats: SimpleNamespace) -> None:
    saved(tmp_path / "d").save_to_disk(tmp_path / "saved")
    state = json.loads((tmp_path / "saved/state.json").read_text())
    (tmp_path / "saved/state.json").write_text(
        json.dumps({**state, "_indices_data_files": [{"filename": "i"}]})
    )
    with pytest.raises(ValueError, match="flatten_indices"):
        formats.read(tmp_path / "saved")


COLUMNS = {
    "struct": ("image", [{"bytes": b"x", "path": None}, None, {"bytes": b"y", "path": "p"}], MEDIUM),
    "mixed struct": (
        "image",
        [{"bytes": b"x", "path": "q"}, {"bytes": None, "path": None}, {"bytes": b"y", "path": "p"}],
        MEDIUM,
    ),
    "binary": ("image", [b"x", None, b"y"], pa.binary()),
    "all binary": ("image", [b"x", b"z", b"y"], pa.binary()),
    "large binary": ("image", [b"x", None, b"y"], pa.large_binary()),
    "list": (
        "images",
        [[{"bytes": b"x", "path": None}], None, [{"bytes": b"y", "path": "p"}, None]],
        pa.list_(MEDIUM),
    ),
    "large list": (
        "images",
        [[{"bytes": b"x", "path": None}], [], [{"bytes": b"y", "path": "p"}]],
        pa.large_list(MEDIUM),
    ),
    "list of binary": ("images", [[b"x"], None, [b"y", None]], pa.list_(pa.binary())),
    "bytes alone": ("image", [{"bytes": b"x"}, None, {"bytes": b"y"}], pa.struct([("bytes", pa.binary())])),
}


@pytest.mark.parametrize("layout", COLUMNS)
@pytest.mark.parametrize("format", ["parquet", "datasets"])
@pytest.mark.parametrize("statistics", [True, False])
def test_media_columns(
    layout: str, format: str, statistics: bool, tmp_path: Path, formats: SimpleNamespace
) -> None:
    name, values, kind = COLUMNS[layout]
    table = pa.table({name: pa.array(values, kind), "q": ["a", "b", "c"], "v": pa.array([b"?"] * 3)})
    path = tmp_path / "input"
    if format == "parquet":
        pq.write_table(table, path, write_statistics=statistics)
    else:
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    records = formats.read(path, options=Options(formats.map("question=q")))
    found = [[formats.bytes_of(ref, Path()) for ref in r.refs] for r in records]
    assert found == [[b"x"], [b"z"] if "all" in layout else [], [b"y"]]
    assert [r.meta for r in records] == ["{}"] * 3
    named = formats.read(path, options=Options(formats.map(f"question=q,{name}={name}")))
    assert [r.refs for r in named] == [r.refs for r in records]


def test_bytes_are_not_read(
    tmp_path: Path, formats: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "input"
    saved(tmp_path / "d").select(range(3)).to_parquet(path)
    wanted: list[str] = []
    plain = pq.ParquetFile.iter_batches

    def watched(self: Any, size: int, groups: Any, columns: list[str], **more: Any) -> Any:
        wanted.extend(c for c in columns if size > 1)
        return plain(self, size, groups, columns, **more)

    monkeypatch.setattr(parquet.pq.ParquetFile, "iter_batches", watched)
    assert len(formats.read(path)) == 3
    assert "images" not in wanted and any(c.startswith("images.") and c.endswith(".path") for c in wanted)


def test_rows_that_cannot_be_held(tmp_path: Path, formats: SimpleNamespace) -> None:
    path = tmp_path / "input"
    text = pa.array([b"ok", b"\xff", b"ok"]).view(pa.string())
    pq.write_table(pa.table({"q": text}), path)
    records = formats.read(path, options=Options(formats.map("question=q")))
    assert [getattr(r, "reason", "") for r in records] == ["", "bad_encoding", ""]
    (found, *_) = formats.read(path)
    assert found.reason == "no_conversation" and "q" in found.detail and "--map" in found.detail


@pytest.mark.parametrize("format", ["parquet", "datasets"])
def test_a_damaged_table(format: str, tmp_path: Path, formats: SimpleNamespace) -> None:
    path = tmp_path / "input"
    data = saved(tmp_path / "d").data.table
    if format == "parquet":
        pq.write_table(data, path, row_group_size=1)
    else:
        with pa.ipc.new_stream(str(path), data.schema) as writer:
            writer.write_table(data, max_chunksize=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    found = formats.read(path, format)
    assert isinstance(found[-1], Reject) and found[-1].reason == "damaged_container"
    assert all(isinstance(r, Record) for r in found[:-1])
    if format == "parquet":
        at = whole.index(b"<image>Q")
        path.write_bytes(whole[: at - 40] + b"\xff" * 40 + whole[at:])
        found = formats.read(path, format)
        assert [isinstance(r, Reject) for r in found] == [True, False, False, False]
        assert "1 of 1 rows lost" in found[0].detail


def test_load_refs_in_and_out_of_order(tmp_path: Path) -> None:
    rows = [[{"bytes": b"%d.%d" % (i, k), "path": None} for k in range(i % 3)] for i in range(60)]
    table = pa.table(
        {"images": pa.array(rows, pa.list_(MEDIUM)), "a.b": pa.array([b"%d" % i for i in range(60)])}
    )
    pq.write_table(table, tmp_path / "p", row_group_size=40)
    with pa.ipc.new_stream(str(tmp_path / "a"), table.schema) as writer:
        writer.write_table(table, max_chunksize=40)
    for how, name in (("parquet", "p"), ("arrow", "a")):
        refs, expected = [], []
        for i in [*range(60), *range(59, -1, -7)]:
            for k in range(i % 3):
                refs.append(Ref(how, str(tmp_path / name), i // 40, i % 40, f"images.{k}.bytes", ""))
                expected.append(b"%d.%d" % (i, k))
            refs.append(Ref(how, str(tmp_path / name), i // 40, i % 40, "a.b", ""))
            expected.append(b"%d" % i)
        assert list(load_refs(refs)) == expected
        bad = [
            refs[0]._replace(length=99),
            refs[0]._replace(member="nothing"),
            refs[0]._replace(member="images.0.bytes"),
            refs[0]._replace(offset=9),
            refs[0]._replace(path=str(tmp_path / "none")),
        ]
        found = list(load_refs([*bad, refs[0]]))
        assert [isinstance(f, ValueError) for f in found] == [True] * 5 + [False]
        assert [isinstance(f, ValueError) for f in load_refs([refs[0], bad[1], refs[1]])] == [
            False,
            True,
            False,
        ]
    with pytest.raises(ValueError, match="not in a table"):
        list(load_refs([Ref("file", "x", 0, -1, "", "")]))


def items() -> list[Item]:
    made = []
    for i, picture in enumerate(PICTURES):
        media = [Medium(schema.media_id(picture), "image", "png", f"{i}.png", partial(bytes, picture))] * (
            i % 2
        )
        parts = (*(Part("image", None, k) for k in range(len(media))), Part("text", f"Q{i} <image>"))
        form = schema.normalise([Turn("user", parts)], None, len(media))
        ids = tuple(m.media_id for m in media)
        identity = schema.sample_id(form.digest, ids)
        made.append(Item(Sample(identity, form.turns, ids, "s", '{"k": 1}', None, (), ""), media))
    return made


@pytest.mark.parametrize("format", ["parquet", "datasets"])
def test_datasets_loads_what_is_written(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    writer, samples = WRITERS[format], items()
    folder = tmp_path / "out"
    options = WriteOptions(group_rows=2)
    paths = [p for k in (0, 1) for p in writer.write(iter(samples[k * 3 : k * 3 + 3]), folder, k, options)]
    writer.finish(folder, paths)
    if format == "parquet":
        files = [str(p) for p in paths]
        loaded = datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "c")
        )
        chunk = pq.ParquetFile(paths[0]).metadata.row_group(0)
        kinds = {
            chunk.column(i).path_in_schema: chunk.column(i).compression for i in range(chunk.num_columns)
        }
        assert kinds["images.list.element.bytes"] == "UNCOMPRESSED" and kinds["meta"] == "ZSTD"
        assert pq.ParquetFile(paths[0]).metadata.num_row_groups == 2
    else:
        loaded = datasets.load_from_disk(str(folder))
    assert loaded.features["images"] == datasets.List(datasets.Image())
    assert loaded["sample_id"][:] == [item.sample.sample_id.hex() for item in samples]
    assert loaded[1]["images"][0].getpixel((0, 0)) == (1, 0, 0)
    assert loaded[0]["images"] == [] and loaded[0]["videos"] == []
    assert loaded[1]["messages"][0]["content"][0] == {"type": "image", "text": None, "index": 0}


def test_parts_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("parquet", "datasets"):
        first, second = (
            WRITERS[name].write(iter(items()), tmp_path / name / which, 0, WriteOptions())[0].read_bytes()
            for which in "ab"
        )
        assert first == second


def test_a_medium_too_large_for_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinity_mm.formats.table_writers.LARGEST_MEDIUM", 10)
    with pytest.raises(ValueError, match="2 GB"):
        WRITERS["parquet"].write(iter(items()), tmp_path, 0, WriteOptions())
    assert not list(tmp_path.iterdir())


def test_a_hub_id_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match="save_to_disk") as caught:
        READERS["datasets"].plan(Path("hf:owner/name"), 1)
    assert "\n" not in str(caught.value) and "hf:owner/name" in str(caught.value)


def test_a_hub_data_set(tmp_path: Path, formats: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "d").save_to_disk(tmp_path / "saved")
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))
    calls: list[Any] = []

    def load(*args: Any) -> datasets.DatasetDict:
        calls.append(args)
        return datasets.DatasetDict({"train": loaded})

    monkeypatch.setattr(datasets, "load_dataset", load)
    check(formats.read(Path("hf:owner/name:plain")), formats, "arrow")
    assert calls == [("owner/name", "plain")]
