"""Counting right pairs on scenes before and after checks."""

from typing import Any

from pipelines.synthesize.pairs import Image, Kind, Pair
from pipelines.synthesize.truth import by_type, is_right, passed, table

SCENE = {"kind": "shapes", "objects": [{"shape": "star", "colour": "red", "size": "large", "x": 9, "y": 9}]}


def pair(question: str, answer: str, kind: str = "colour", rejected: tuple[str, str] | None = None) -> Pair:
    made = Pair(Image(b"m" * 16, b"o" * 16, "a", "s", "en"), Kind(kind, {}), "brief", 0, question, answer)
    if rejected:
        made.reject(*rejected)
    return made


def scene(**more: Any) -> dict[str, Any]:
    return {**SCENE, "chart": None, "text": None, **more}


def test_an_answer_is_right_where_it_says_what_the_picture_has() -> None:
    assert is_right(pair("What color is the star?", "Red"), scene())
    assert not is_right(pair("What color is the star?", "Blue"), scene())
    assert not is_right(pair("What color is the circle?", "Red"), scene())  # there is none
    assert not is_right(pair("Who painted this?", "Red"), scene())


def test_the_table_counts_what_each_check_leaves() -> None:
    pairs = [
        pair("a", "1"),
        pair("b", "2", rejected=("score", "low_score")),
        pair("c", "3", rejected=("judge", "disagrees")),
        pair("d", "4", "size", ("score", "low_score")),
    ]
    lines = table(pairs, [True, True, False, False], {step: passed(step) for step in ("score", "judge")})
    assert [line.split() for line in lines[1:]] == [
        ["answer", "4", "2", "0.500", "0.000"],
        ["score", "2", "1", "0.500", "0.500"],
        ["judge", "1", "1", "1.000", "0.500"],
    ]
    assert by_type(pairs) == {"colour": [0, 1, 2], "size": [3]}
