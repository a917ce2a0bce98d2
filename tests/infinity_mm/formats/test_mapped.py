"""Records read through --map, and every real file read with one."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inputs import MAPS

from infinity_mm.formats.mapped import parse_map, record_from
from infinity_mm.formats.types import Options, Record


@pytest.mark.parametrize("name", MAPS)
def test_real_data_comes_in_whole(name: str, shared_data: Path, formats: SimpleNamespace) -> None:
    path = shared_data / f"{name}.jsonl"
    lines = sum(1 for line in path.read_bytes().splitlines() if line.strip())
    options = Options(formats.map(MAPS[name]) if MAPS[name] else ())
    format = "mapped" if MAPS[name] else ""
    for unit_bytes in (4000, 1 << 30):
        records = formats.read(path, format, unit_bytes, options)
        assert len(records) == lines
        assert all(isinstance(r, Record) for r in records), next(
            r for r in records if not isinstance(r, Record)
        )
    for record in records:
        assert record.turns and record.refs
        assert all((shared_data / ref.path).is_file() for ref in record.refs)


def test_no_real_file_is_left_out(shared_data: Path) -> None:
    names = {p.stem for p in shared_data.glob("*.jsonl")} - {"MANIFEST", "PROVENANCE"}
    assert names == set(MAPS)


def read(record: Any, fields: str) -> Any:
    return record_from(record, 0, "f", Options(parse_map(fields)))


@pytest.mark.parametrize(
    ("record", "fields", "expected"),
    [
        (
            {"i": "a", "q": "Q<image>", "a": 7},
            "image=i,question=q,answer=a",
            [["user", ("image", "a"), "Q<image>"], ["assistant", "7"]],
        ),
        ({"i": "a", "t": ["x", "y"]}, "image=i,text=t", [["user", ("image", "a")], ["assistant", "x\ny"]]),
        ({"i": None, "q": "Q"}, "image=i,question=q", [["user", "Q"]]),
        (
            {"i": ["a", "b"], "v": "c"},
            "images=i,video=v",
            [["user", ("image", "a"), ("image", "b"), ("video", "c")]],
        ),
        ({"a": True}, "question='It''s, ok?',answer=a", [["user", "It's, ok?"], ["assistant", "true"]]),
        ({"s": "S", "q.r": "Q"}, "system=s,question=q.r", [["system", "S"], ["user", "Q"]]),
        ({"d": {"e": [{"f": "deep"}]}}, "text=d.e.0.f", [["assistant", "deep"]]),
        ({"a": "only"}, "answer=a", [["assistant", "only"]]),
    ],
)
def test_mapped_records(record: Any, fields: str, expected: list[Any], formats: SimpleNamespace) -> None:
    found = read(record, fields)
    assert formats.said(found) == expected


@pytest.mark.parametrize(
    ("record", "fields", "reason", "says"),
    [
        ({"x": 1}, "question=q", "no_conversation", "q"),
        ({"q": None}, "question=q", "no_conversation", "q, mapped to question, is null"),
        ({"q": {}}, "question=q", "bad_type", "an object"),
        ({"q": []}, "question=q", "bad_type", "empty list"),
        ({"q": "Q", "i": 4}, "question=q,image=i", "bad_type", "image"),
        ({"q": ["a"]}, "question=q.1", "no_conversation", "q.1"),
        ("x", "question=q", "not_an_object", "string"),
    ],
)
def test_a_record_that_does_not_fit(record: Any, fields: str, reason: str, says: str) -> None:
    found = read(record, fields)
    assert found.reason == reason and says in found.detail


def test_meta_is_what_was_not_mapped() -> None:
    found = read(
        {"q": "Q", "t": ["x", "y"], "z": 1, "key": 9, "from": "vg"}, "question=q,text=t.0,id=key,source=from"
    )
    assert json.loads(found.meta) == {"t": ["x", "y"], "z": 1, "id": 9}
    assert found.source == "vg"


def test_parse_map() -> None:
    assert parse_map("question=a.b , answer='x, ''y'''") == (("question", "a.b"), ("answer", "'x, ''y'''"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty piece"),
        ("question", "has no field"),
        ("question=", "has no field"),
        ("what=x", "no target"),
        ("question=a,question=b", "twice"),
        ("question='a", "not closed"),
        ("question='a'b", "one literal"),
        ("id=x", "nothing to read"),
        ("text=a,answer=b", "same thing"),
        ("image=a,images=b", "same thing"),
        ("question=a,,answer=b", "empty piece"),
    ],
)
def test_a_bad_map_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_map(text)


def test_without_a_map(write: Callable[[str], Path], formats: SimpleNamespace) -> None:
    found = formats.one(formats.read(write('{"q": 1}'), "mapped"))
    assert found.reason == "no_conversation" and "--map" in found.detail
