"""JSON Lines and JSON arrays: units, damage, encodings."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity_mm.formats import json_array, json_lines
from infinity_mm.formats.json_files import LLAVA
from infinity_mm.formats.json_value import Bad
from infinity_mm.formats.types import Options, Record, Reject, Unit

Write = Callable[[str | bytes], Path]


def record(i: int, text: str = "q") -> dict[str, Any]:
    return {"id": i, "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "a"}]}


def read(path: Path, unit_bytes: int = 1 << 30) -> list[Record | Reject]:
    return [r for u in LLAVA.plan(path, unit_bytes) for r in LLAVA.read(u, Options())]


def ids(records: list[Record | Reject]) -> list[Any]:
    return [json.loads(r.meta)["id"] if isinstance(r, Record) else r.reason for r in records]


LAYOUTS: dict[str, Callable[[Any], str]] = {
    "lines": lambda rows: "".join(json.dumps(r) + "\n" for r in rows),
    "lines, no last newline": lambda rows: "\n".join(json.dumps(r) for r in rows),
    "crlf and blanks": lambda rows: "\r\n \r\n".join(json.dumps(r) for r in rows) + "\r\n\r\n",
    "byte order mark": lambda rows: "\ufeff" + "\n".join(json.dumps(r) for r in rows),
    "array": json.dumps,
    "indented array": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
    "array with a byte order mark": lambda rows: "\ufeff " + json.dumps(rows),
    "compact array": lambda rows: json.dumps(rows, separators=(",", ":")),
    "objects": lambda rows: "\n".join(json.dumps(r, indent=1) for r in rows),
}
TRICKY = ['}, {"id": 1', '\\"', "\\", '"', "]", "[{", "你好\n", '\\\\"', "é😀" * 30]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("unit_bytes", [1, 100, 700, 1 << 30])
def test_every_layout_in_units_of_every_size(layout: str, unit_bytes: int, write: Write) -> None:
    path = write(LAYOUTS[layout]([record(i, TRICKY[i % len(TRICKY)]) for i in range(30)]))
    records = read(path, unit_bytes)
    assert ids(records) == list(range(30))
    units = LLAVA.plan(path, unit_bytes)
    assert len(units) > 4 or unit_bytes > 200
    if "lines" not in layout and "mark" not in layout:
        for unit in units:
            if unit.first >= 0:
                assert [r.row for r in LLAVA.read(unit, Options())][:1] in ([unit.first], [])


@settings(max_examples=60)
@given(
    values=st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(st.sampled_from('{}[],"\\ a你\n:'), max_size=6),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
            ),
        ),
        max_size=8,
    ),
    unit_bytes=st.integers(1, 60),
    scan=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
)
def test_any_array_is_cut_at_its_elements(
    values: list[Any],
    unit_bytes: int,
    scan: int,
    indent: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("array") / "x"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "SCAN_BYTES", scan)
        units = json_array.plan(path, "", unit_bytes)
        found: list[Any] = []
        for unit in units:
            assert unit.first == len(found)
            found += [value for _, value in json_array.values(unit)]
    assert found == values


def test_elements_longer_than_the_buffer(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "READ_BYTES", 16)
    path = write(json.dumps([record(i, '"x😀\\' * i * 9) for i in range(9)], ensure_ascii=False))
    assert ids(read(path, 300)) == list(range(9))


BROKEN = [
    b'{"id": 2, "conversations": [{"from" "human"}]}',
    b'{"id": 2, "conversations": [}',
    b'{"id": 2, "conversations": [{"from": "human", "value": "a "quote" in it"}]}',
    b'{"id": 2, "conversations": [{"from": "human", "value": "5" tall"}]}',
    b'{"id": 2, "conversations": [{"from": "human", "value": "\xff"}]}',
    b'{"id": 2, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"id": 2, "x": ' + b"1" * 5000 + b"}",
]


@pytest.mark.parametrize("bad", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("unit_bytes", [250, 1 << 30])
@pytest.mark.parametrize("array", [False, True])
def test_a_damaged_record_costs_itself(bad: bytes, unit_bytes: int, array: bool, write: Write) -> None:
    rows = [json.dumps(record(i)).encode() for i in range(8)]
    rows[2] = bad
    path = write(b"[" + b", ".join(rows) + b"]" if array else b"\n".join(rows))
    assert ids(read(path, unit_bytes)) == [0, 1, "malformed_json", 3, 4, 5, 6, 7]


def test_two_damaged_elements_in_a_row_are_two(write: Write) -> None:
    rows = [json.dumps(record(i)) for i in range(5)]
    rows[1] = rows[2] = '{"id": 1, "conversations": oops}'
    assert ids(read(write(f"[{','.join(rows)}]"))) == [0, "malformed_json", "malformed_json", 3, 4]


def test_a_file_cut_off_gives_its_good_records(write: Write) -> None:
    text = json.dumps([record(i) for i in range(6)])
    assert ids(read(write(text[:-40]))) == [0, 1, 2, 3, 4, "malformed_json"]
    assert ids(read(write(text[:-1]))) == list(range(6))
    assert ids(read(write(text + " [1]"))) == [*range(6), "malformed_json"]


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("[]", []),
        ("[1, null, [2]]", ["not_an_object"] * 3),
        ('{"a": 1}', ["no_conversation"]),
        ('{\n "a": 1\n}', ["no_conversation"]),
        ("7\n{}\n", ["not_an_object", "no_conversation"]),
        ('{"a": NaN, "a": Infinity, "conversations": []}', ["record"]),
        ('{"conversations": []}\r{"conversations": []}', ["record", "record"]),
    ],
)
def test_odd_files(text: str, reasons: list[str], write: Write) -> None:
    found = [r.reason if isinstance(r, Reject) else "record" for r in read(write(text))]
    assert found == reasons


def test_a_line_says_where_it_is_not_utf8(write: Write) -> None:
    path = write(b'{"a": 1}\n{"a": "\xe4\xbd"}\n')
    values = [v for _, v in json_lines.values(Unit(str(path), "", 0, 1 << 20))]
    assert values[0] == {"a": 1}
    assert isinstance(values[1], Bad) and "byte 7" in values[1].detail


def test_meta_is_untouched(write: Write, formats: SimpleNamespace) -> None:
    fields = {"x": {"y": [1, 2.5, None]}, "字": "é", "big": 10**30, "lone": "\ud800"}
    path = write(json.dumps({**record(1), **fields}) + "\n")
    found = formats.one(read(path))
    assert json.loads(found.meta) == {"id": 1, **fields}
    found.meta.encode()


@pytest.mark.parametrize("first", ['[{"a": 1', "[", "]]", '{"a": [', "\x00"])
def test_a_broken_first_line_costs_one_line(tmp_path: Path, formats: SimpleNamespace, first: str) -> None:
    good = '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}'
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([first, *[good] * 20]) + "\n")
    records = formats.read(path, "llava")
    assert [isinstance(r, Record) for r in records] == [False] + [True] * 20
