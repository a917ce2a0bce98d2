"""Folders of images: metadata files as datasets reads them, texts beside pictures, nothing left unsaid."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inputs import write_folder

from infinity_mm.formats.image_folder import IMAGE_FOLDER
from infinity_mm.formats.registry import expand, recognise
from infinity_mm.formats.types import Options, Record, Reject

Make = Callable[..., Path]
ROWS = [
    {"file_name": "a.jpg", "text": "A cat.", "n": 1},
    {"file_name": "sub/b.jpg", "text": 'Ein Hünd,\n"wet"', "n": 2},
    {"file_name": "sub/c.jpg", "text": " blanks ", "n": 3},
]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make({"sub/a.jpg": 1, "a.txt": "text", ...})`: a folder; a number is the seed of a picture."""

    return lambda files, name="photos": write_folder(tmp_path / name, files)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    else:
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def rejects(found: list[Record | Reject]) -> dict[str, tuple[str, str]]:
    return {r.key or str(r.row): (r.reason, r.detail) for r in found if isinstance(r, Reject)}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("unit_bytes", [1 << 20, 1])
def test_rows_of_metadata(make: Make, formats: SimpleNamespace, suffix: str, unit_bytes: int) -> None:
    folder = make({"a.jpg": 1, "sub/b.jpg": 2, "sub/c.jpg": 3, "sub/d.png": 4, "notes.txt": "x"})
    write_rows(folder / f"metadata.{suffix}", ROWS)
    assert expand(folder) == [folder] and recognise(folder) == "imagefolder"
    found = formats.read(folder, unit_bytes=unit_bytes)
    assert [formats.said(r) for r in found[:3]] == [
        [["user", ("image", row["file_name"])], ["assistant", row["text"]]] for row in ROWS
    ]
    assert [str(json.loads(r.meta)["n"]) for r in found[:3]] == ["1", "2", "3"]
    assert rejects(found) == {"sub/d.png": ("no_caption", "sub/d.png is named by no row of a metadata file")}
    assert formats.read(folder / f"metadata.{suffix}") == formats.read(folder)[:3]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_map_names_the_columns(make: Make, formats: SimpleNamespace, suffix: str) -> None:
    folder = make({"a.jpg": 1})
    write_rows(folder / f"metadata.{suffix}", [{"file_name": "a.jpg", "q": "Q?", "a": "A", "k": "z"}])
    reject = formats.one(formats.read(folder))
    assert reject.reason == "no_conversation" and "file_name, q, a, k; name what they are" in reject.detail
    for extra in ("", ",image=file_name"):
        options = Options(formats.map(f"question=q,answer=a{extra}"))
        record = formats.one(formats.read(folder, options=options))
        assert formats.said(record) == [["user", ("image", "a.jpg"), "Q?"], ["assistant", "A"]]
        assert json.loads(record.meta) == {"k": "z"}


def test_several_pictures_a_row(make: Make, formats: SimpleNamespace) -> None:
    row = {
        "left_file_name": "a.jpg",
        "text": "t",
        "file_names": ["b.jpg", None, "c\\d.mp4"],
        "x_file_name": "",
    }
    folder = make({"a.jpg": 1, "b.jpg": 2, "c/d.mp4": b"x"})
    write_rows(folder / "metadata.jsonl", [row])
    record = formats.one(formats.read(folder))
    seen = [["user", ("image", "a.jpg"), ("image", "b.jpg"), ("video", "c/d.mp4")], ["assistant", "t"]]
    assert formats.said(record) == seen
    options = Options(formats.map("image=left_file_name,text=text"))
    record = formats.one(formats.read(folder, options=options))
    assert formats.said(record) == [["user", ("image", "a.jpg")], ["assistant", "t"]]
    assert json.loads(record.meta) == {k: v for k, v in row.items() if k not in ("left_file_name", "text")}


def test_rows_that_are_wrong(make: Make, formats: SimpleNamespace) -> None:
    rows = [
        '{"file_name": "a.jpg", "text": "good"}',
        "{oops",
        "5",
        '{"file_name": 5, "text": "t"}',
        '{"file_name": "https://x/a.jpg", "text": "t"}',
        '{"file_name": "a.jpg", "text": null}',
        '{"file_name": "a.jpg", "text": ""}',
        '{"file_name": "a.jpg"}',
        '{"text": "no picture"}',
        '{"file_name": "\\ud800.jpg", "text": "t"}',
    ]
    folder = make({"a.jpg": 1, "metadata.jsonl": b"\xef\xbb\xbf" + "\r\n".join(rows).encode()})
    found = formats.read(folder)
    assert [formats.said(r) for r in found if isinstance(r, Record)] == [
        [["user", ("image", "a.jpg")], ["assistant", "good"]],
        [["user", ("image", "a.jpg")], ["assistant"]],
        [["assistant", "no picture"]],
    ]
    assert {k: reason for k, (reason, _) in rejects(found).items()} == {
        "1": "malformed_json",
        "2": "not_an_object",
        "3": "bad_type",
        "4": "remote_media",
        "5": "no_conversation",
        "7": "no_conversation",
        "9": "bad_encoding",
    }


@pytest.mark.parametrize("unit_bytes", [1 << 20, 1, 30])
def test_csv_that_is_wrong(make: Make, formats: SimpleNamespace, unit_bytes: int) -> None:
    lines = [
        b"file_name,text,more",
        b'a.jpg,"two\r\nlines, ""quoted""",x',
        b"",
        b"a.jpg,short",
        b"a.jpg,too,many,cells",
        b'a.jpg,"never closed,x',
        b'a.jpg,5" pipe,x',
        b"a.jpg,\xff,x",
        b"a.jpg,t,\xff",
        b"a.jpg,,x",
        b'a.jpg,"' + b"y" * 140_000 + b'",x',
        b"a.jpg,last,x",
    ]
    folder = make({"a.jpg": 1, "metadata.csv": b"\r\n".join(lines)})
    found = formats.read(folder, unit_bytes=unit_bytes)
    assert [r.turns[1].parts[0].text for r in found if isinstance(r, Record)] == [
        'two\r\nlines, "quoted"',
        "short",
        '5" pipe',
        "",
        "last",
    ]
    wrong = [(r.reason, r.detail) for r in found if isinstance(r, Reject)]
    assert [reason for reason, _ in wrong] == ["malformed_csv"] * 2 + ["bad_encoding"] * 2 + ["malformed_csv"]
    assert wrong[0][1].startswith("4 cells, but 3 columns") and "too long" in wrong[4][1]


def test_texts_beside_pictures(make: Make, formats: SimpleNamespace) -> None:
    folder = make(
        {
            "b/1.jpg": 1,
            "b/1.txt": b"\xef\xbb\xbfOne\r\nline.\r\n",
            "b/2.png": 2,
            "b/3.txt": "alone",
            "a.JPG": 3,
            "a.jpeg": 4,
            "a.TXT": "both\n\n",
            "c.jpg": 5,
            "c.txt": "",
            "d.jpg": 6,
            "d.txt": b"\xff",
            "e.jpg": 7,
            "e.txt": "x" * (1 << 20) + "x",
            ".hidden.jpg": 8,
            "__MACOSX/f.jpg": 9,
        }
    )
    assert expand(folder) == [folder] and recognise(folder) == "imagefolder"
    found = formats.read(folder)
    assert {r.key: r.turns[1].parts[0].text for r in found if isinstance(r, Record)} == {
        "a.JPG": "both\n",
        "a.jpeg": "both\n",
        "c.jpg": "",
        "1.jpg": "One\nline.",
    }
    assert {k: reason for k, (reason, _) in rejects(found).items()} == {
        "d.jpg": "bad_encoding",
        "e.jpg": "bad_type",
        "2.png": "no_caption",
        "3.txt": "missing_file",
    }
    small = formats.read(folder, unit_bytes=1)
    assert small == found and len(IMAGE_FOLDER.plan(folder, 1)) == len(found)
    mapped = formats.read(folder, options=Options(formats.map("question='Q?',answer=text")))
    assert formats.said(mapped[0]) == [["user", ("image", "a.JPG"), "Q?"], ["assistant", "both\n"]]
    assert mapped[0].meta == "{}"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"cat/1.jpg": 1, "dog/2.jpg": 2},
            "no captions .*2 of them .*cat, dog.*NAME.txt",
        ),
        ({"1.jpg": 1, "captions/1.txt": "apart"}, "no captions for its pictures, 1 of them: write"),
        (
            {"1.jpg": 1, "metadata.csv": "name,text\n1,2\n"},
            r"has no column file_name.*: name, text",
        ),
        ({"1.txt": "x"}, "no pictures in it"),
    ],
)
def test_captions_are_not_made_up(make: Make, files: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        IMAGE_FOLDER.plan(make(files), 1 << 20)


def test_folders_of_other_data_stay_what_they_are(make: Make) -> None:
    talk = json.dumps({"conversations": [{"from": "human", "value": "Q"}]})
    folder = make({"data.json": f"[{talk}]", "images/1.jpg": 1, "images/1.txt": "x", "metadata.csv": "a,b\n"})
    assert expand(folder) == [folder / "data.json"] and recognise(folder) == "llava"
    own = make({"metadata.jsonl": talk.replace("{", '{"file_name": "1.jpg", ', 1), "1.jpg": 1}, "own")
    assert expand(own) == [own / "metadata.jsonl"] and recognise(own) == "llava"
    write_rows(folder / "images/metadata.csv", [{"file_name": "1.jpg", "text": "t"}])
    assert expand(folder) == [folder / "data.json", folder / "images/metadata.csv"]
    assert recognise(folder / "images/metadata.csv") == "imagefolder"
    assert expand(folder, "imagefolder") == [folder]
    assert expand(own, "llava") == [own / "metadata.jsonl"]
    with pytest.raises(ValueError, match="no data files"):
        expand(make({"1.jpg": 1}, "plain"), "llava")


def test_datasets_reads_the_same(make: Make, formats: SimpleNamespace, tmp_path: Path) -> None:
    import datasets

    names = ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/d.jpg"]
    texts = ["A cat.", 'Ein Hünd,\n"wet"', " blanks ", "猫"]
    for suffix in ("jsonl", "csv", "parquet"):
        folder = make({name: i for i, name in enumerate(names)} | {"sub/extra.jpg": 9}, suffix)
        rows = [{"file_name": n, "text": t} for n, t in zip(names, texts, strict=True)]
        write_rows(folder / f"metadata.{suffix}", rows[:2])
        nested = [row | {"file_name": row["file_name"].removeprefix("sub/")} for row in rows[2:]]
        write_rows(folder / "sub" / f"metadata.{suffix}", nested)
        theirs = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
        table = theirs["train"].cast_column("image", datasets.Image(decode=False))
        expected = {(Path(row["image"]["path"]).read_bytes(), row["text"]) for row in table}
        found = set()
        for unit in IMAGE_FOLDER.plan(folder, 1 << 20):
            for r in IMAGE_FOLDER.read(unit, Options()):
                if isinstance(r, Record):
                    root = Path(unit.path).parent
                    found.add((formats.bytes_of(r.refs[0], root), r.turns[1].parts[0].text))
        assert found == expected and len(found) == 4
