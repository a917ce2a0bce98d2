"""COCO captions: a record an annotation, and nothing lost of the annotations, images or a damaged file."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infinity_mm.formats import json_members
from infinity_mm.formats.coco import COCO
from infinity_mm.formats.registry import recognise
from infinity_mm.formats.types import Options, Record, Reject

Write = Callable[..., Path]


def coco(**parts: Any) -> dict[str, Any]:
    """A file of two images with three captions; `parts` replace its own."""
    images = [
        {"license": 4, "file_name": "a.jpg", "coco_url": "http://c/a", "flickr_url": "http://f/a", "id": 9},
        {"license": 1, "file_name": "b.jpg", "height": 7, "id": 5},
    ]
    annotations = [
        {"image_id": 5, "id": 1, "caption": ' A ] dog,\n{on" a <image> bed. '},
        {"image_id": 9, "id": 2, "caption": "A cat."},
        {"image_id": 5, "id": 3, "caption": ""},
    ]
    licences = [{"url": "http://l/4", "id": 4, "name": "Attribution License"}]
    whole = {"info": {"images": [1]}, "licenses": licences, "images": images, "annotations": annotations}
    return whole | parts


def image(number: int) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.jpg"}


def caption(number: int, image_id: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "caption": f"Caption {number}."} | more


def rejects(found: list[Record | Reject]) -> list[tuple[int, str, str | None]]:
    return [(r.row, r.reason, r.key) for r in found if isinstance(r, Reject)]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("first", ["info", "annotations"])
def test_a_record_an_annotation(write: Write, formats: SimpleNamespace, indent: int, first: str) -> None:
    whole = coco()
    path = write(json.dumps({first: whole.pop(first)} | whole, indent=indent))
    assert recognise(path) == "coco"
    found = formats.read(path)
    assert [formats.said(r) for r in found] == [
        [["user", ("image", "b.jpg")], ["assistant", ' A ] dog,\n{on" a <image> bed. ']],
        [["user", ("image", "a.jpg")], ["assistant", "A cat."]],
        [["user", ("image", "b.jpg")], ["assistant"]],
    ]
    assert json.loads(found[1].meta) == {
        "image_id": 9,
        "id": 2,
        "license": 4,
        "license_name": "Attribution License",
        "license_url": "http://l/4",
        "coco_url": "http://c/a",
        "flickr_url": "http://f/a",
    }
    assert json.loads(found[0].meta) == {"image_id": 5, "id": 1, "license": 1, "height": 7}


def test_a_map_says_it_otherwise(write: Write, formats: SimpleNamespace) -> None:
    options = Options(formats.map("question='What is it?',answer=caption,source=license_name,id=image_id"))
    found = formats.read(write(json.dumps(coco())), options=options)[1]
    assert formats.said(found) == [["user", ("image", "a.jpg"), "What is it?"], ["assistant", "A cat."]]
    assert found.source == "Attribution License" and json.loads(found.meta)["id"] == 9
    mapped = Options(formats.map("image=file_name,text=coco_url"))
    assert formats.said(formats.read(write(json.dumps(coco())), options=mapped)[1])[0][1] == (
        "image",
        "a.jpg",
    )


def test_what_is_wrong_is_a_reject_each(write: Write, formats: SimpleNamespace) -> None:
    odd = [
        caption(1, 1),
        caption(2, 77),
        caption(3, 1, caption=5),
        caption(4, 1, caption=None),
        {"id": 5, "image_id": 1},
        caption(6, None),
        caption(7, True),
        caption(8, [1]),
        None,
        "text",
        caption(9, 2),
        caption(10, "two"),
        caption(11, 1, caption="\ud800"),
        caption(12, 6),
    ]
    images = [
        image(1),
        {"id": 2},
        {"id": "two", "file_name": "2.jpg"},
        image(3),
        [],
        {"file_name": "x.jpg"},
        image(1),
        image(4) | {"file_name": "\ud800"},
        {"id": 6, "file_name": "http://x/6.jpg"},
    ]
    found = formats.read(write(json.dumps(coco(images=images, annotations=odd))))
    assert [r.row for r in found if isinstance(r, Record)] == [0, 11]
    assert rejects(found) == [
        (1, "unknown_image", None),
        (2, "bad_type", None),
        (3, "bad_type", None),
        (4, "no_conversation", None),
        (5, "bad_type", None),
        (6, "bad_type", None),
        (7, "bad_type", None),
        (8, "not_an_object", None),
        (9, "not_an_object", None),
        (10, "bad_type", None),
        (12, "bad_encoding", None),
        (13, "remote_media", None),
        (3, "no_caption", "images[3]"),
        (4, "not_an_object", "images[4]"),
        (5, "bad_type", "images[5]"),
        (6, "bad_type", "images[6]"),
        (7, "no_caption", "images[7]"),
    ]
    details = {r.row: r.detail for r in found if isinstance(r, Reject) and r.key is None}
    assert "77" in details[1] and details[2] == "caption is a number, not a string"


def test_small_units_and_chunks_read_the_same(
    write: Write, formats: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["é" * 9, 'a "quoted\\" one', "\\\\", "[{", "plain"]
    annotations = [caption(i, i * 7 % 40, caption=texts[i % 5]) for i in range(200)]
    path = write(json.dumps(coco(images=[image(i) for i in range(41)], annotations=annotations)))
    whole = formats.read(path)
    assert len(whole) == 201 and rejects(whole) == [(40, "no_caption", "images[40]")]
    for chunk in (37, 64, 4096):
        monkeypatch.setattr(json_members, "SCAN_BYTES", chunk)
        json_members.layout.cache_clear()
        units = COCO.plan(path, 300)
        assert len(units) > 20
        parts = [list(COCO.read(unit, Options())) for unit in units]
        rows = [r._replace(row=0) for part in parts for r in part]
        assert rows == [r._replace(row=0) for r in whole]
        assert all([r.row for r in part] == list(range(len(part))) for part in parts[:-1])


@pytest.mark.parametrize(
    ("cut", "put", "kept"),
    [
        ('"Caption 3."}', '"Caption 3."', {0, 1, 2, 5, 6, 7, 8, 9}),
        ('"Caption 3."}', '"Caption 3."}}', {0, 1, 2, 3, 5, 6, 7, 8, 9}),
        ('"Caption 3."}', '"Caption 3."}]', set(range(10))),
        ('"Caption 3."', '"Caption 3.', {0, 1, 2, 5, 6, 7, 8, 9}),
        ('"Caption 3."', '"Cap"tion 3."', {0, 1, 2, 4, 5, 6, 7, 8, 9}),
        ('"Caption 9."}', '"Caption 9."}}', set(range(10))),
        ('"Caption 7."}', None, set(range(7))),
    ],
)
def test_damage_costs_what_it_hits(
    write: Write, formats: SimpleNamespace, cut: str, put: str | None, kept: set[int]
) -> None:
    text = json.dumps(coco(images=[image(0)], annotations=[caption(i, 0) for i in range(10)]))
    at = text.index(cut)
    path = write(text[:at] if put is None else text[:at] + put + text[at + len(cut) :])
    for unit_bytes in (1 << 30, 60):
        found = formats.read(path, "coco", unit_bytes)
        ids = {json.loads(r.meta)["id"] for r in found if isinstance(r, Record)}
        assert ids >= kept
        assert any(isinstance(r, Reject) for r in found)


def test_a_cut_never_falls_into_a_text(write: Write, formats: SimpleNamespace) -> None:
    annotations = [caption(i, 0, caption="a } b { c") for i in range(10)]
    text = json.dumps(coco(images=[image(0)], annotations=annotations))
    at = text.index('"id": 3,')
    path = write(text[:at] + text[at:].replace('"a }', '""a }', 1))
    found = formats.read(path, unit_bytes=60)
    ids = [json.loads(r.meta)["id"] for r in found if isinstance(r, Record)]
    assert ids == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_ids_with_one_hash(write: Write, formats: SimpleNamespace) -> None:
    assert hash(-1) == hash(-2)
    path = write(json.dumps(coco(images=[image(-1), image(-2)], annotations=[caption(1, -2)])))
    found = formats.read(path)
    assert found[0].refs[0].path == "-2.jpg"


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ([{"id": 1, "image_id": 9, "segmentation": [[1]], "bbox": [1]}], "instances.*no captions.*captions_"),
        ([{"id": 1, "keypoints": [1], "segmentation": [[1]]}], "keypoints, no captions"),
        ([{"segments_info": []}], "panoptic"),
        ([{"id": 1, "question": "Q"}], "annotations of id, question, no captions"),
        ([], "no annotations"),
    ],
)
def test_other_files_of_coco_are_named(write: Write, annotations: list[Any], says: str) -> None:
    path = write(json.dumps(coco(annotations=annotations)))
    assert recognise(path) == "coco"
    with pytest.raises(ValueError, match=says):
        COCO.plan(path, 1 << 20)


def test_files_without_annotations(write: Write) -> None:
    whole = coco()
    del whole["annotations"]
    path = write(json.dumps(whole))
    assert recognise(path) == "coco"
    with pytest.raises(ValueError, match="image_info"):
        COCO.plan(path, 1 << 20)
    text = json.dumps(coco())
    with pytest.raises(ValueError, match=r"no sound JSON from byte .*is it whole.*annotations were not"):
        COCO.plan(write(text[: text.index('"annotations"')]), 1 << 20)
    with pytest.raises(ValueError, match="not in COCO's format"):
        COCO.plan(write('{"a": 1}'), 1 << 20)


def test_conversations_with_images_are_not_coco(write: Write) -> None:
    talk = {"images": ["a.jpg"], "annotations": [], "messages": [{"role": "user", "content": "Q"}]}
    assert recognise(write(json.dumps(talk))) == "messages"
    talk["images"] = [{"path": "a.jpg"}]
    assert recognise(write(json.dumps(talk))) == "messages"


def test_real_captions(shared_data: Path, write: Write, formats: SimpleNamespace) -> None:
    lines = (shared_data / "coco_mini.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    images = [{"id": r["id"], "file_name": r["image"], "coco_url": r["coco_url"]} for r in rows]
    said = [(r["id"], text) for r in rows for text in r["text"]]
    annotations = [{"image_id": i, "id": n, "caption": text} for n, (i, text) in enumerate(said)]
    path = write(json.dumps(coco(images=images, annotations=annotations)))
    found = formats.read(path, unit_bytes=4000)
    assert [(json.loads(r.meta)["image_id"], r.turns[1].parts[0].text) for r in found] == said
    assert all((shared_data / r.refs[0].path).is_file() for r in found)
