"""Values read from answers, whatever their wording, against the truth that scenes are drawn with."""

from collections import Counter
from typing import Any

import pytest

from infinity_mm.scenes.answers import is_read, read_value

UNREAD = {("caption", None), ("write_question", None), ("motion", "mover"), ("text_only", "sort")}


def test_every_true_answer_says_its_value(drawn: Any) -> None:
    read, unread = Counter[str](), set()
    for _, truth in drawn.clean():
        for answer in truth["answers"]:
            kind, about = answer["kind"], answer["about"]
            if not is_read(kind, about):
                unread.add((kind, about.get("part")))
                continue
            said = read_value(truth["language"], kind, about, answer["text"])
            assert (said, type(said)) == (answer["value"], type(answer["value"])), (answer, said)
            read[kind] += 1
    assert unread <= UNREAD and len(read) >= 11


@pytest.mark.parametrize(
    ("lang", "kind", "about", "answer", "value"),
    [
        ("en", "colour", {}, "Red or blue, I think.", None),
        ("en", "colour", {}, "A circle", None),
        ("en", "colour", {}, "it's RED!", "red"),
        ("en", "count", {}, "Zero; the picture has no stars.", 0),
        ("en", "count", {}, "two or three", None),
        ("zh", "count", {}, "有两个十字形。", 2),
        ("zh", "count", {}, "图中没有三角形。", 0),
        ("en", "exists", {}, "Maybe.", None),
        ("en", "relation", {"open": True}, "To the left of it", "left"),
        ("en", "relation", {"open": False}, "No, it is not to the left.", False),
        ("en", "read_text", {"part": "text"}, 'It says "A7"', "A7"),
        ("en", "shape", {}, "", None),
    ],
)
def test_what_an_answer_says(lang: str, kind: str, about: dict[str, Any], answer: str, value: object) -> None:
    assert read_value(lang, kind, about, answer) == value


def test_captions_are_not_read() -> None:
    with pytest.raises(KeyError):
        read_value("en", "caption", {}, "A red circle.")
