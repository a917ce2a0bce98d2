"""Tars: grouping by key, the traps of the tar format, and both layouts written."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infinity_mm import schema
from infinity_mm.formats import tar_files, webdataset
from infinity_mm.formats.registry import READERS, WRITERS
from infinity_mm.formats.types import Item, Medium, Options, Record, Reject, WriteOptions
from infinity_mm.formats.webdataset import WEBDATASET
from infinity_mm.schema import Part, Sample, Turn

JPG = b"\xff\xd8\xff" + b"j" * 700
TALK = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
Members = list[tuple[str, Any]]


def make(members: Members, format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar; a member's content is bytes, a value for JSON, or a TarInfo of another type."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=format, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
                continue
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def info(kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo("x")
    made.type, made.linkname = kind, target
    return made


def sample(key: str, **fields: Any) -> Members:
    return [(f"{key}.json", {"conversations": TALK, **fields}), (f"{key}.jpg", JPG)]


IMG = ("image", "a.jpg")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (sample("a"), [["user", IMG, "Q"], ["assistant", "A"]]),
        (sample("a", image="x/y.jpg"), [["user", ("image", "x/y.jpg"), "Q"], ["assistant", "A"]]),
        ([("a.jpg", JPG), ("a.txt", b"a caption\n")], [["user", IMG], ["assistant", "a caption"]]),
        ([("a.json", {"conversations": TALK[1:]}), ("a.jpg", b"")], [["assistant", "A"]]),
        (
            [("a.json", {"conversations": TALK, "image": "q.jpg"}), ("a.jpg", b"")],
            [["user", ("image", None), "Q"], ["assistant", "A"]],
        ),
        (
            [("a.json", {"conversations": TALK, "image": "q.jpg"})],
            [["user", ("image", "q.jpg"), "Q"], ["assistant", "A"]],
        ),
        (
            [
                ("a.10.jpg", JPG),
                ("a.2.JPG", JPG),
                ("a.json", {"messages": [{"role": "user", "content": "<image><image>"}]}),
            ],
            [["user", ("image", "a.2.JPG"), ("image", "a.10.jpg")]],
        ),
        (
            [
                (
                    "a.json",
                    {
                        "messages": [
                            {
                                "role": "user",
                                "content": [
                                    {"type": "image", "image": "w.jpg"},
                                    {"type": "text", "text": "t"},
                                ],
                            }
                        ]
                    },
                ),
                ("a.jpg", JPG),
            ],
            [["user", IMG, "t"]],
        ),
        (
            [
                ("a.json", {"conversations": [{"from": "human", "value": "<video>\n<image>\nQ"}]}),
                ("a.mp4", JPG),
                ("a.png", JPG),
            ],
            [["user", ("video", "a.mp4"), ("image", "a.png"), "Q"]],
        ),
    ],
)
def test_a_sample(
    members: Members, expected: Any, write: Callable[..., Path], formats: SimpleNamespace
) -> None:
    record = formats.one(formats.read(write(make(members))))
    assert formats.said(record) == expected
    assert record.key == "a"
    assert all(formats.bytes_of(ref, Path()) == JPG for ref in record.refs if ref.how == "range")


def test_a_map_and_the_other_members(write: Callable[..., Path], formats: SimpleNamespace) -> None:
    path = write(make([("a.json", {"c": "cap", "w": 3}), ("a.cls", b"7"), ("a.jpg", JPG)]))
    record = formats.one(formats.read(path, options=Options(formats.map("text=c"))))
    assert formats.said(record) == [["user", IMG], ["assistant", "cap"]]
    assert json.loads(record.meta) == {"w": 3, "cls": "7"}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("name", ["a" * 90, f"{'d' * 120}/{'k' * 60}", "../up/x", "/etc/x", "./b/c", "字/é"])
def test_names(format: int, name: str, write: Callable[..., Path], formats: SimpleNamespace) -> None:
    records = formats.read(write(make([*sample(name), *sample(name + "2")], format)))
    assert [r.key for r in records] == [name, name + "2"]
    assert all(formats.bytes_of(r.refs[0], Path()) == JPG for r in records)


def test_longer_and_undecodable_names(write: Callable[..., Path], formats: SimpleNamespace) -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        long = "d/" * 200 + "k"
        assert formats.one(formats.read(write(make(sample(long), format)))).key == long
    record = formats.one(formats.read(write(make(sample("a\udcff")))))
    assert record.key == "a\\xff"
    record.refs[0].name.encode()


def test_what_belongs_to_no_sample_is_passed_over(
    write: Callable[..., Path], formats: SimpleNamespace
) -> None:
    extra = [("d/", info(tarfile.DIRTYPE)), ("d/README", b"x"), ("d/._a.json", b"x"), (".hidden", b"")]
    path = write(make([*extra, *sample("d/a"), *extra, *sample("d/b")]))
    assert [r.key for r in formats.read(path)] == ["d/a", "d/b"]


@pytest.mark.parametrize(
    ("members", "reason", "says"),
    [
        (
            [("a.json", {"conversations": TALK}), ("a.jpg", info(tarfile.SYMTYPE, "/etc/passwd"))],
            "bad_type",
            "a.jpg is a link",
        ),
        (
            [("a.json", {"conversations": TALK}), ("a.jpg", info(tarfile.LNKTYPE, "b.jpg"))],
            "bad_type",
            "link",
        ),
        ([("a.json", info(tarfile.FIFOTYPE)), ("a.jpg", JPG)], "bad_type", "device"),
        ([("a.json", {}), ("a.json", {}), ("a.jpg", JPG)], "bad_type", "two members named a.json"),
        ([("a.jpg", JPG)], "no_conversation", "no json or txt"),
        ([("a.json", {"url": "x"}), ("a.jpg", JPG)], "no_conversation", "url"),
        ([("a.json", b"{"), ("a.jpg", JPG)], "malformed_json", ""),
        ([("a.json", b"\xff"), ("a.jpg", JPG)], "malformed_json", "UTF-8"),
        ([("a.json", [1]), ("a.jpg", JPG)], "not_an_object", "list"),
        ([("a.txt", b"\xff"), ("a.jpg", JPG)], "bad_encoding", "UTF-8"),
    ],
)
def test_a_sample_that_cannot_be_held(
    members: Members, reason: str, says: str, write: Callable[..., Path], formats: SimpleNamespace
) -> None:
    first, second = formats.read(write(make([*members, *sample("b")])))
    assert isinstance(first, Reject) and isinstance(second, Record)
    assert (first.reason, first.key) == (reason, "a")
    assert says in first.detail


def test_a_sparse_member_is_not_read(write: Callable[..., Path], formats: SimpleNamespace) -> None:
    data = bytearray(make(sample("a")))
    at = data.index(b"a.jpg")
    data[at + 156] = ord("S")
    data[at + 148 : at + 156] = b"%06o\0 " % (sum(data[at : at + 512]) - sum(data[at + 148 : at + 156]) + 256)
    found = formats.one(formats.read(write(bytes(data))))
    assert found.reason == "bad_type" and "sparse" in found.detail


def test_a_truncated_tar_gives_its_good_samples(write: Callable[..., Path], formats: SimpleNamespace) -> None:
    data = make([m for k in "abc" for m in sample(k)])
    end = data.index(b"c.jpg")
    for cut, key in ((end + 600, "c"), (end + 300, "c"), (end - 300, "c"), (end - 700, None)):
        found = formats.read(write(data[:cut]))
        assert [type(r).__name__ for r in found] == ["Record", "Record", "Reject"]
        assert found[-1].reason == "damaged_container" and found[-1].key == key
    assert len(formats.read(write(data[: end + 2048]))) == 3


def test_a_damaged_header_ends_it(write: Callable[..., Path], formats: SimpleNamespace) -> None:
    data = bytearray(make([m for k in "abc" for m in sample(k)]))
    data[data.index(b"b.json") + 1] ^= 1
    found = formats.read(write(bytes(data)))
    assert [getattr(r, "reason", r.key) for r in found] == ["a", "damaged_container"]


def test_joined_tars_are_read_to_the_end(write: Callable[..., Path], formats: SimpleNamespace) -> None:
    path = write(make(sample("a")) + make(sample("b")))
    assert [r.key for r in formats.read(path)] == ["a", "b"]


def test_a_large_tar_is_cut_between_samples(
    write: Callable[..., Path], formats: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "PIECE_BYTES", 1)
    keys = [f"{'long' * 40 * (i % 2)}{i}" for i in range(20)]
    path = write(make([m for k in keys for m in sample(k)]))
    units = WEBDATASET.plan(path, 5000)
    assert len(units) > 5
    records = [r for u in units for r in WEBDATASET.read(u, Options())]
    assert [(r.row, r.key) for r in records] == list(enumerate(keys))


def test_the_release_layout_both_ways(tmp_path: Path, formats: SimpleNamespace) -> None:
    fields = {
        "id": "7",
        "source": "coco",
        "source_file": "x.json",
        "phash": [2**63],
        "ram++_tags": [["a"]],
        "qw2vl_loss": 1.5,
    }
    turns = (
        Turn("user", (Part("image", None, 0), Part("text", "Q"))),
        Turn("assistant", (Part("text", "A"),)),
    )
    identity = schema.media_id(JPG)
    samples = []
    for talk, media in ((turns, (identity,)), (turns[1:], ())):
        form = schema.normalise(talk, None, len(media))
        key = schema.sample_id(form.digest, media)
        samples.append(Sample(key, form.turns, media, "coco", json.dumps(fields), None, ("x.jpg",), ""))
    items = [Item(s, [Medium(m, "image", "jpeg", "x.jpg", lambda: JPG) for m in s.media]) for s in samples]
    (path,) = WRITERS["infinity-mm"].write(iter(items), tmp_path, 3, WriteOptions())
    with tarfile.open(path) as tar:
        names = tar.getnames()
        ids = [s.sample_id.hex() for s in samples]
        assert names == [f"{name}{end}" for name in ids for end in (".json", ".jpg")]
        assert tar.getmember(f"{ids[1]}.jpg").size == 0
        member = tar.extractfile(f"{ids[0]}.json")
        assert member is not None
        assert json.load(member) == {**fields, "image": f"{ids[0]}.jpg", "conversations": TALK}
    records = formats.read(path, "infinity-mm")
    assert [formats.sample_id(r, tmp_path) for r in records] == [s.sample_id for s in samples]
    assert [r.source for r in records] == ["coco", "coco"]
    assert json.loads(records[0].meta) == fields
    again = WRITERS["infinity-mm"].write(iter(items), tmp_path / "again", 3, WriteOptions())
    assert again[0].read_bytes() == path.read_bytes()
    assert READERS["infinity-mm"].plan(path, 1)[0].format == "infinity-mm"


@pytest.mark.parametrize("size", [0, 511, 512, 8 << 30, 70 << 30])
def test_headers_are_what_tarfile_reads(size: int) -> None:
    header = tar_files.tar_header("ab.json", size)
    found = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (found.name, found.size, found.mtime, found.uid, found.mode) == ("ab.json", size, 0, 0, 0o644)
