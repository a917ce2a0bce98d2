"""Formats are told from content, and what cannot be told is refused with the way out."""

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from infinity_mm.formats.mapped import parse_map
from infinity_mm.formats.registry import READERS, WRITERS, expand, recognise, suggest_map

LLAVA = {"conversations": [{"from": "human", "value": "Q"}]}
MESSAGES = {"messages": [{"role": "user", "content": "Q"}]}


def test_every_format_has_a_name() -> None:
    assert set(WRITERS) | {"mapped", "coco", "imagefolder"} == set(READERS)
    assert all(w.holds for w in WRITERS.values())


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (json.dumps(LLAVA), "llava"),
        (json.dumps([LLAVA], indent=1), "llava"),
        (json.dumps(LLAVA, indent=1), "llava"),
        ("oops\n" + json.dumps(LLAVA), None),
        ("{oops\n" + json.dumps(LLAVA), "llava"),
        ('[{"a": oops}, ' + json.dumps(LLAVA) + "]", None),
        ('[{"a": oops}, {"a": 1, "messages": [{"role": "user"}]}]', "messages"),
        (json.dumps(MESSAGES), "messages"),
        (json.dumps({"conversations": MESSAGES["messages"]}), "messages"),
        (json.dumps({"chosen": [], "rejected": []}), "messages"),
        ("\ufeff\n" + json.dumps(LLAVA), "llava"),
    ],
)
def test_json_is_told_by_its_records(data: str, format: str | None, write: Callable[..., Path]) -> None:
    if format is None:
        with pytest.raises(ValueError, match=r"in no known format|no record can be read"):
            recognise(write(data))
    else:
        assert recognise(write(data)) == format


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "nothing but blanks"),
        (gzip.compress(b"{}", mtime=0), "gzip.*uncompress it: members of a compressed tar have no place"),
        (b"\x28\xb5\x2f\xfdxx", "zstd"),
        (b"PK\x03\x04xxxx", "zip"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        ("\ufeff{}".encode("utf-16-le"), "UTF-16"),
        (b"a,b\n1,2\n", "begins with b'a,b.*formats are llava"),
        (b"[1, 2]", "first element is 1"),
        (b"{broken", "no record can be read"),
        (
            b'{"question": "Q", "answer": "A", "image": "x.jpg"}',
            "--map image=image,question=question,answer=answer",
        ),
    ],
)
def test_what_cannot_be_told(data: bytes, says: str, write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=says):
        recognise(write(data))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"img": "a/b.PNG", "caption": "c"}, "image=img,text=caption"),
        ({"images": ["a.jpg"], "q": "Q", "response": "R"}, "images=images,question=q,answer=response"),
        ({"clip": "a.mp4", "text": ["t"]}, "video=clip,text=text"),
        ({"zzz": 1}, "question=FIELD,answer=FIELD"),
    ],
)
def test_a_map_is_suggested(record: dict[str, object], expected: str) -> None:
    assert suggest_map(record) == expected
    parse_map(expected)


def test_the_suggested_maps_fit_real_data(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("*.jsonl")):
        if path.stem not in ("MANIFEST", "PROVENANCE"):
            with open(path) as file:
                pairs = parse_map(suggest_map(json.loads(file.readline())))
            assert {t for t, _ in pairs} & {"image", "images", "video", "videos"}


def test_a_folder_is_its_data_files(tmp_path: Path) -> None:
    for name in (
        "b/2.jsonl",
        "b/10.jsonl",
        "a.json",
        "b/.hidden.json",
        "x.jpg",
        "_tmp.json",
        "dataset_info.json",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(LLAVA))
    assert [p.relative_to(tmp_path).as_posix() for p in expand(tmp_path)] == [
        "a.json",
        "b/10.jsonl",
        "b/2.jsonl",
    ]
    assert recognise(tmp_path) == "llava"
    (tmp_path / "c.jsonl").write_text(json.dumps(MESSAGES))
    with pytest.raises(ValueError, match="several formats"):
        recognise(tmp_path)


def test_a_saved_folder_is_one_input(tmp_path: Path) -> None:
    for name in ("state.json", "dataset_info.json", "data.arrow"):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / name).write_text("{}")
    assert expand(tmp_path) == expand(tmp_path / "train") == [tmp_path / "train"]
    assert recognise(tmp_path / "train") == "datasets"
    assert expand(Path("hf:a/b")) == [Path("hf:a/b")] and recognise(Path("hf:a/b")) == "datasets"


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not there"):
        expand(tmp_path / "none")
    with pytest.raises(ValueError, match="is not there"):
        recognise(tmp_path / "none")
    with zipfile.ZipFile(tmp_path / "x.zip", "w"), pytest.raises(ValueError, match="no data files"):
        expand(tmp_path)
