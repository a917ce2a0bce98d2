"""How right answers are."""

import pytest

from trainers.llava.scores import Judged, Truth, judge, normalise, tally

RED_STAR = {"colour": "red", "shape": "star", "size": "small"}
BLUE_STAR = {"colour": "blue", "shape": "star", "size": "small"}
STARS = {
    "objects": [RED_STAR, BLUE_STAR],
    "relations": [[0, "left", 1], [1, "right", 0]],
    "text": None,
    "chart": None,
}
ONE = {**STARS, "objects": [RED_STAR], "relations": []}


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("There is ONE red circle!", "there is 1 red circle"),
        ("The answer: A,  B", "answer b"),
        ("“十字形”。", "十字形"),
        ("ＡＢ１", "ab1"),
        ("50 %", "50 %"),
        ("-3", "-3"),
    ],
)
def test_normalised_texts(one: str, same: str) -> None:
    assert normalise(one) == same == normalise(same)


def test_a_value_is_right_however_it_is_said() -> None:
    truth = Truth("en", "colour", {"object": 0}, "red", ONE)
    assert judge("It is red.", "Red", truth) == Judged(False, False, True)
    assert judge("Blue", "Red", truth) == Judged(False, False, False)
    assert judge(" red ", "Red.", truth) == Judged(False, True, True)
    assert judge("A red circle.", "A red circle.", Truth("en", "caption", {}, {}, ONE)) == Judged(
        True, True, None
    )
    assert judge("Red", "Red", None) == Judged(True, True, None)


def test_types_tell_the_only_object_from_one_of_several() -> None:
    assert Truth("en", "size", {}, "small", ONE).type == "size of the one object"
    assert Truth("en", "size", {}, "small", STARS).type == "size of one of several"
    assert Truth("en", "count", {}, 3, STARS).type == "count"
    assert Truth("en", "relation", {"open": True}, "left", STARS).type == "relation, open"
    assert Truth("en", "chart", {"part": "chart_bars"}, 3, {}).type == "chart: chart_bars"


@pytest.mark.parametrize(
    ("question", "good"),
    [
        ("What color is the star?", False),  # which one?
        ("What size is the red star, small or large?", False),  # not of the kind
        ("What color is the big star?", False),  # no wording of ours
        ("What color is the circle?", False),  # there is none
        ("What color is the object?", False),
        ("", False),
    ],
)
def test_a_written_question_is_right_where_the_picture_answers_it(question: str, good: bool) -> None:
    truth = Truth("en", "write_question", {"asked_kind": "colour"}, "What color is the star?", STARS)
    assert judge(question, "x", truth).value is good
    assert judge("What color is the star?", "x", truth._replace(scene=ONE)).value


def test_shares_are_of_what_was_judged() -> None:
    judged = [Judged(True, True, True), Judged(False, True, None), Judged(False, False, False)]
    assert tally(judged) == {"questions": 3, "exact": 0.3333, "normalised": 0.6667, "value": 0.5}
    assert tally([]) == {"questions": 0, "exact": None, "normalised": None, "value": None}
