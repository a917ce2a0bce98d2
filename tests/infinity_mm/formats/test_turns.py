"""Records to turns: roles, markers, parts, media and what is refused."""

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest

from infinity_mm.formats.turns import record_from
from infinity_mm.formats.types import Options, Record, Reject

PIXEL = base64.b64encode(b"\xff\xd8\xff" + bytes(range(200))).decode()


def llava(record: Any, options: Options | None = None) -> Any:
    return record_from(record, 0, "f.json", options or Options(), "llava")


def messages(record: Any) -> Any:
    return record_from(record, 0, "f.jsonl", Options(), "messages")


def talk(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": v} for i, v in enumerate(values)]


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **fields}


IMG, VID = ("image", "a.jpg"), ("video", "v.mp4")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"image": "a.jpg", "conversations": talk("<image>\nQ", "A")},
            [["user", IMG, "Q"], ["assistant", "A"]],
        ),
        ({"image": "a.jpg", "conversations": talk("<image>\n\nQ")}, [["user", IMG, "\nQ"]]),
        ({"image": "a.jpg", "conversations": talk("Q\n<image>")}, [["user", "Q\n", IMG]]),
        (
            {"image": ["a.jpg"], "conversations": talk("<image>Q<image>")},
            [["user", IMG, "Q", ("image", None)]],
        ),
        (
            {"image": ["a.jpg", "b.jpg"], "conversations": talk("<image>\n<image>\nQ")},
            [["user", IMG, ("image", "b.jpg"), "Q"]],
        ),
        ({"image": "a.jpg", "conversations": talk("Q")}, [["user", "Q"]]),
        ({"image": None, "conversations": talk("<image>\nQ")}, [["user", ("image", None), "Q"]]),
        ({"image": "", "conversations": talk("Q")}, [["user", "Q"]]),
        ({"image": [], "conversations": talk("Q")}, [["user", "Q"]]),
        (
            {"image": "a.jpg", "images": ["a.jpg", "b.jpg"], "conversations": talk("<image><image>")},
            [["user", IMG, ("image", "b.jpg")]],
        ),
        (
            {"video": "v.mp4", "image": "a.jpg", "conversations": talk("<video>\nx<image>")},
            [["user", VID, "x", IMG]],
        ),
        ({"system": "S", "conversations": talk("Q")}, [["system", "S"], ["user", "Q"]]),
        (
            {
                "conversations": [
                    {"from": "observation", "value": "r"},
                    {"from": "function_call", "value": "c"},
                ]
            },
            [["tool", "r"], ["assistant", "c"]],
        ),
        ({"conversations": [{"from": "human", "value": None}]}, [["user"]]),
        ({"conversations": []}, []),
    ],
)
def test_llava_records(record: Any, expected: list[Any], formats: SimpleNamespace) -> None:
    assert formats.said(llava(record)) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (user("<image>Q", images=["a.jpg"]), [["user", IMG, "Q"]]),
        (user("<image>Q"), [["user", "<image>Q"]]),
        (user("<image>Q", images=[]), [["user", "<image>Q"]]),
        (
            user([{"type": "image"}, {"type": "text", "text": "<image>"}], images=["a.jpg"]),
            [["user", IMG, "<image>"]],
        ),
        (user([{"type": "image", "image": "a.jpg"}, "Q"]), [["user", IMG, "Q"]]),
        (user([{"type": "image", "image": "file:///x/a%20b.jpg"}]), [["user", ("image", "/x/a b.jpg")]]),
        (user([{"type": "image_url", "image_url": {"url": "a.jpg"}}]), [["user", IMG]]),
        (
            user([{"type": "input_image", "image_url": "a.jpg"}, {"type": "input_text", "text": "t"}]),
            [["user", IMG, "t"]],
        ),
        (user([{"type": "video", "video": "v.mp4"}]), [["user", VID]]),
        (user([{"image": "a.jpg"}, {"text": "Q"}]), [["user", IMG, "Q"]]),
        (user([{"type": "image", "image": "a.jpg"}], images=["a.jpg"]), [["user", IMG]]),
        (
            user(
                [{"type": "image", "index": 1, "text": None}, {"type": "image", "index": -1}],
                images=["b.jpg", "a.jpg"],
            ),
            [["user", IMG, ("image", None)]],
        ),
        (user([{"type": "image"}]), [["user", ("image", None)]]),
        ({"conversations": [{"role": "user", "content": "Q"}]}, [["user", "Q"]]),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, [["assistant"]]),
    ],
)
def test_messages(record: Any, expected: list[Any], formats: SimpleNamespace) -> None:
    assert formats.said(messages(record)) == expected


@pytest.mark.parametrize(
    ("record", "reason", "says"),
    [
        ([], "not_an_object", "a list"),
        ({"a": 1, "b": 2}, "no_conversation", "a, b"),
        ({"conversations": {}}, "bad_type", "conversations is an object"),
        ({"conversations": ["x"]}, "bad_type", r"conversations\[0\] is a string"),
        ({"conversations": [{"from": "x", "value": ""}]}, "unknown_role", "'x'"),
        ({"conversations": [{"value": ""}]}, "unknown_role", "no role"),
        ({"conversations": [{"from": 1, "value": ""}]}, "bad_type", "role"),
        ({"conversations": [{"from": "gpt", "value": 5}]}, "bad_type", "a number"),
        ({"conversations": [{"from": "gpt"}]}, "bad_type", "no content"),
        ({"image": 5, "conversations": []}, "bad_type", "image"),
        ({"image": ["a", None], "conversations": []}, "bad_type", r"image\[1\] is null"),
        ({"image": "a", "images": ["b"], "conversations": []}, "bad_type", "begins with"),
        ({"image": "https://x/y.jpg", "conversations": []}, "remote_media", "https"),
        ({"image": "s3://x/y.jpg", "conversations": []}, "remote_media", "s3"),
        ({"image": "data:image/png;base64,@@@", "conversations": []}, "bad_data_url", "base64"),
        ({"image": "data:image/png;base64,", "conversations": []}, "bad_data_url", "empty"),
        ({"videos": [["f1.jpg"]], "conversations": []}, "bad_type", "video"),
        ({"system": 5, "conversations": []}, "bad_type", "system"),
        ({"conversations": [{"from": "gpt", "value": "\ud800"}]}, "bad_encoding", "ud800"),
        ({"image": "\ud800.jpg", "conversations": []}, "bad_encoding", "ud800"),
        ({"conversations": [{"from": "\ud800", "value": ""}]}, "unknown_role", "ud800"),
        ({"conversations": [{"from": "human", "value": [{"type": "audio"}]}]}, "unsupported_part", "audio"),
        (
            {"conversations": [{"from": "human", "value": [{"type": "text", "text": 1}]}]},
            "bad_type",
            "text of",
        ),
        (
            {"conversations": [{"from": "human", "value": [{"type": "image", "index": "1"}]}]},
            "bad_type",
            "index",
        ),
        ({"conversations": [{"from": "human", "value": [{}]}]}, "bad_type", "no type"),
    ],
)
def test_what_cannot_be_held_says_why(record: Any, reason: str, says: str) -> None:
    found = llava(record)
    assert isinstance(found, Reject) and found.reason == reason
    assert says.replace("\\", "") in found.detail
    found.detail.encode()


@pytest.mark.parametrize(
    "value",
    [
        f"data:image/jpeg;base64,{PIXEL}",
        PIXEL,
        {"bytes": PIXEL},
        f"data:image/jpeg;base64,{PIXEL.rstrip('=')}",
    ],
)
def test_inline_media(value: Any) -> None:
    record = llava({"image": value, "conversations": talk("<image>")})
    assert record.refs[0].how == "inline"
    assert record.refs[0].data == base64.b64decode(PIXEL)


def test_parts_of_other_makers_hold_inline_media() -> None:
    source = {"type": "base64", "media_type": "image/jpeg", "data": PIXEL}
    assert messages(user([{"type": "image", "source": source}])).refs[0].how == "inline"


@pytest.mark.parametrize(
    ("record", "turns", "rejected"),
    [
        ({"messages": talk("Q", "A"), "rejected": "B"}, 2, ["B"]),
        ({"messages": talk("Q", "A"), "rejected": talk("Q", "B")}, 2, ["Q", "B"]),
        ({"messages": talk("Q", "A"), "rejected_messages": []}, 2, []),
        ({"messages": talk("Q", "A"), "rejected": False}, 2, None),
        ({"messages": talk("Q"), "chosen": talk("Q", "A"), "rejected": talk("Q", "B")}, 2, ["B"]),
        (
            {
                "messages": talk("Q"),
                "chosen": {"role": "assistant", "content": "A"},
                "rejected": {"role": "assistant", "content": "B"},
            },
            2,
            ["B"],
        ),
        ({"chosen": talk("Q", "A"), "rejected": talk("Q", "B"), "prompt": "Q"}, 2, ["B"]),
        ({"chosen": "A", "rejected": "B", "prompt": "Q"}, 2, ["B"]),
        ({"chosen": talk("<image>Q", "A"), "rejected": talk("<image>Q", "B"), "images": ["a.jpg"]}, 2, ["B"]),
    ],
)
def test_preferences(record: Any, turns: int, rejected: list[str] | None) -> None:
    found = messages(record)
    assert isinstance(found, Record) and len(found.turns) == turns
    assert (None if found.rejected is None else [t.parts[-1].text for t in found.rejected]) == rejected


def test_fields_of_turns_are_kept() -> None:
    found = messages({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]})
    assert json.loads(found.meta) == {"turn_fields": {"messages[0]": {"tool_calls": [{"id": "1"}]}}}


@pytest.mark.parametrize(
    ("record", "options", "source"),
    [
        ({"source": "coco"}, Options(), "coco"),
        ({"source": 5}, Options(), None),
        ({}, Options(), None),
        ({"set": {"name": "vg"}}, Options(source_field="set.name"), "vg"),
        ({"set": 7, "source": "x"}, Options(source_field="set"), "7"),
    ],
)
def test_the_records_own_source(record: dict[str, Any], options: Options, source: str | None) -> None:
    assert llava({**record, "conversations": []}, options).source == source
