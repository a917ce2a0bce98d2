"""How right answers are."""

import pytest

from trainers.llava.scores import Judged, Truth, judge, normalise, tally


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
    truth = Truth("en", "colour", {"object": 0}, "red", 1)
    assert judge("It is red.", "Red", truth) == Judged(False, False, True)
    assert judge("Blue", "Red", truth) == Judged(False, False, False)
    assert judge(" red ", "Red.", truth) == Judged(False, True, True)
    assert judge("A red circle.", "A red circle.", Truth("en", "caption", {}, {}, 1)) == Judged(
        True, True, None
    )
    assert judge("Red", "Red", None) == Judged(True, True, None)


def test_types_tell_the_only_object_from_one_of_several() -> None:
    assert Truth("en", "size", {}, "small", 1).type == "size of the one object"
    assert Truth("en", "size", {}, "small", 3).type == "size of one of several"
    assert Truth("en", "count", {}, 3, 3).type == "count"
    assert Truth("en", "relation", {"open": True}, "left", 3).type == "relation, open"
    assert Truth("en", "chart", {"part": "chart_bars"}, 3, 0).type == "chart: chart_bars"


def test_shares_are_of_what_was_judged() -> None:
    judged = [Judged(True, True, True), Judged(False, True, None), Judged(False, False, False)]
    assert tally(judged) == {"questions": 3, "exact": 0.3333, "normalised": 0.6667, "value": 0.5}
    assert tally([]) == {"questions": 0, "exact": None, "normalised": None, "value": None}
