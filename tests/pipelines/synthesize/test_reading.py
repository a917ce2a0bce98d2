"""What is refused of what a model writes, scores, and when answers and questions are the same."""

import math

import pytest

from infinity_mm.engines.base import Reply, Token
from pipelines.synthesize.reading import (
    agree,
    chance_of,
    expected_score,
    is_echo,
    language_of,
    near,
    nearly_same,
    not_a_question,
    refused,
    repeats,
)


def said(text: str, *tokens: Token, finish: str = "stop") -> Reply:
    return Reply(text, finish, 1, 1, tokens)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "lang", "reason"),
    [
        ("There are two red circles and a star.", "en", None),
        ("图中有两个红色的圆形。", "zh", None),
        ("图中有两个红色的圆形。", "en", "other_language"),
        ("There are two red circles.", "zh", "other_language"),
        ("7", "zh", None),
        ("K7AB", "zh", None),
        ("a dog a dog a dog a dog a dog a dog", "en", "repetition"),
        ("图中有图中有图中有图中有图中有", "zh", "repetition"),
        ("Describe this picture in detail.", "en", "echo"),
    ],
)
def test_what_is_refused(text: str, lang: str, reason: str | None) -> None:
    assert refused(said(text), lang, "Describe this picture in detail.") == reason


def test_a_reply_that_was_cut_is_refused() -> None:
    assert refused(said("There are two", finish="length"), "en", "What?") == "cut_off"


def test_a_word_said_twice_is_no_repetition() -> None:
    assert not repeats("a very very tall tower")
    assert not repeats("yes, yes, yes")
    assert repeats("\n".join(["- a dog", "- a cat"] * 8))


def test_a_short_answer_that_is_in_the_prompt_is_no_echo() -> None:
    assert not is_echo("Large", "Is the circle small or large?")
    assert is_echo("Is the circle small or large? It", "Is the circle small or large?")


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("红色", "zh"),
        ("What colour is it?", "en"),
        ("A", None),
        ("1999", None),
        ("UI 设计", "zh"),
        ("été", None),
    ],
)
def test_languages(text: str, lang: str | None) -> None:
    assert language_of(text) == lang


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("What is it?", None),
        ("What is it?\nA dog.", "several_lines"),
        ("Why", "no_question"),
        ("", "no_question"),
    ],
)
def test_what_is_no_question(text: str, reason: str | None) -> None:
    assert not_a_question(text) == reason


@pytest.mark.parametrize(
    ("full", "brief", "same"),
    [
        ("The circle is red.", "Red", True),
        ("Red", "The circle is red.", True),
        ("There are three stars.", "3", True),
        ("有三个圆形。", "3", True),
        ("It is red.", "Blue", False),
        ("It is not there.", "There it is", False),
        ("It is a redder one.", "red", False),
        ("", "red", False),
        ("图中是红色的。", "红色", True),
    ],
)
def test_when_answers_agree(full: str, brief: str, same: bool) -> None:
    assert agree(full, brief) is same


def tops(**masses: float) -> Token:
    pairs = sorted(masses.items(), key=lambda pair: -pair[1])
    return Token(
        pairs[0][0].lstrip("_"), math.log(pairs[0][1]), tuple((n.lstrip("_"), math.log(p)) for n, p in pairs)
    )


def test_a_score_is_an_expectation() -> None:
    assert expected_score(said("9", tops(_9=0.6, _8=0.2, _1=0.2))) == pytest.approx(7.2)
    assert expected_score(said("9", tops(_9=0.6, _8=0.2, good=0.2))) == pytest.approx(8.75)  # of scores alone
    assert expected_score(said(" 10", tops(_10=0.5, _4=0.5))) == pytest.approx(7.0)


def test_a_ten_of_two_tokens_shares_its_first_with_one() -> None:
    reply = said("10", tops(_1=0.8, _9=0.2), tops(_0=0.75, end=0.25))
    assert expected_score(reply) == pytest.approx(10 * 0.6 + 1 * 0.2 + 9 * 0.2)


@pytest.mark.parametrize(
    ("text", "score"), [("8", 8.0), ("Score: 7/10", 7.0), ("good", None), ("0", None), ("95", None)]
)
def test_without_probabilities_a_score_is_what_is_said(text: str, score: float | None) -> None:
    assert expected_score(said(text)) == score


def test_a_reply_that_begins_with_no_score_is_read() -> None:
    assert expected_score(said("Score 6", tops(Score=0.9, _9=0.1))) == 6.0


def test_the_chance_of_a_choice() -> None:
    assert chance_of(said("Yes.", tops(Yes=0.9, No=0.05, Maybe=0.05)), "Yes.", "No.") == pytest.approx(
        0.9 / 0.95
    )
    assert chance_of(said("No."), "Yes.", "No.") == 0.0
    assert chance_of(said("yes"), "Yes.", "No.") == 1.0
    later = said("不能", tops(_不=0.7, _能=0.3), tops(_能=1.0))
    assert chance_of(later, "能", "不能") == pytest.approx(0.3)
    shared = said("right", Token("r", 0.0, (("r", 0.0),)), tops(ight=0.8, ound=0.2))
    assert chance_of(shared, "right", "round") == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What color is the car?", "What is the color of the car?", True),
        (
            "What color is the car?",
            "Tell me the car's color!",
            False,
        ),  # in another order: told apart, to be safe
        ("How many red circles are there?", "How many blue circles are there?", False),
        ("How many red circles are there?", "How many red circles can you see?", True),
        ("Is the star above the cross?", "Is the cross above the star?", False),
        ("图中有几个红色的圆形？", "你能看到几个红色的圆形？", True),
        ("图中有几个红色的圆形？", "图中有几个蓝色的圆形？", False),
        ("What is it?", "What is it?", True),
        ("What is it?", "Where is it?", False),
    ],
)
def test_questions_that_are_nearly_the_same(one: str, other: str, same: bool) -> None:
    assert (near(one, other) >= 0.9) is same


def test_the_first_of_those_that_are_the_same_stays() -> None:
    asked = [
        "What color is the car?",
        "How many people are there?",
        "Which color has the car",
        "Color of the car?",
    ]
    told = nearly_same(asked, 0.9)
    assert [close and close[0] for close in told] == [None, None, 0, 0]
