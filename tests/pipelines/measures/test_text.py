import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from looks import PICTURE, asked, look, values

from pipelines.measures.language import LANGUAGE
from pipelines.measures.text import TEXT
from pipelines.measures.tokens import TOKENS


def test_lengths() -> None:
    got = values(
        TEXT,
        look(
            ("system", "Be brief."),
            ("user", [PICTURE, "\nWhat's in 图1?"]),
            ("assistant", " A red dog. "),
            ("user", "Who?"),
            ("assistant", "No one."),
            rejected=[("assistant", "Everything that is not counted.")],
        ),
    )
    assert got["question_chars"] == 13 + 4
    assert got["answer_chars"] == 10 + 7
    assert got["chars"] == 9 + 17 + 17
    assert got["words"] == 2 + 4 + 3 + 1 + 2
    assert got["answer_words"] == 5
    assert got["longest_turn"] == 13
    assert got["shortest_question"] == 4
    assert got["shortest_answer"] == 7


def test_ratios() -> None:
    got = values(TEXT, asked("红色？", "12 ab"))
    assert got["special_ratio"] == pytest.approx(1 / 7)
    assert got["digit_ratio"] == pytest.approx(2 / 7)


def test_what_means_nothing_is_not_applicable() -> None:
    got = values(TEXT, look(("user", PICTURE)))
    nothing = {"shortest_question", "shortest_answer", "special_ratio", "digit_ratio", "repetition"}
    nothing |= {"refusal", "boilerplate", "answer_leaked", "yes_no"}
    assert {name for name, value in got.items() if value is None} == nothing
    assert got["chars"] == got["words"] == got["yes_answers"] == 0


def test_the_worst_answer_is_the_one_that_counts() -> None:
    once = ("assistant", "One two three four five six.")
    got = values(TEXT, look(("user", "?"), once, ("user", "And?"), ("assistant", "It is red. " * 10)))
    assert got["repetition"] == pytest.approx(23 / 26)


def test_phrases() -> None:
    got = values(
        TEXT, asked("Who is it? See www.example.org or http://a.b/c?d=e.", "I cannot help with that.")
    )
    assert (got["refusal"], got["boilerplate"], got["answer_leaked"]) == ("i cannot help", "none", "none")
    assert got["urls"] == 2
    assert values(TEXT, asked("As an AI, I ask: click here", "Yes"))["boilerplate"] == "as an ai, i"
    assert values(TEXT, asked("Answer: red", "Red"))["answer_leaked"] == "Answer: red"


def test_a_refusal_in_a_question_is_none() -> None:
    assert values(TEXT, asked("I cannot help with that. Can you?", "Yes."))["refusal"] == "none"


def test_yes_and_no() -> None:
    yes, no = ("assistant", "Yes, it is."), ("assistant", "不是。")
    assert values(TEXT, look(("user", "?"), yes, ("user", "So?"), yes))["yes_no"] == "yes"
    assert values(TEXT, look(("user", "?"), no))["yes_no"] == "no"
    mixed = values(TEXT, look(("user", "?"), yes, ("user", "So?"), no))
    assert (mixed["yes_answers"], mixed["no_answers"], mixed["yes_no"]) == (1, 1, None)
    assert values(TEXT, look(("user", "?"), yes, ("user", "So?"), ("assistant", "Red.")))["yes_no"] is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=40)), max_size=5
    )
)
def test_any_text_has_values_of_the_right_kind(said: list[tuple[str, str]]) -> None:
    seen = look(*said)
    got = values(TEXT, seen)
    for name in ("special_ratio", "digit_ratio", "repetition"):
        assert got[name] is None or 0 <= got[name] <= 1
    assert got["question_chars"] + got["answer_chars"] <= got["chars"]
    assert got == values(TEXT, look(*said))


ENDLESS = (
    "a", "A) ", "the ", "Answer: ", "'", "1", "你", "。", "😀", "\0", "\n", "$", "\\a", "www.", "https://a ",
    "© ", "I cannot ", "terms of use ", "subscribe to our a", "未经", "答案", "‏שלום ",
)  # fmt: skip


@pytest.mark.parametrize("unit", ENDLESS)
def test_time_is_linear_in_the_length(unit: str) -> None:
    opened = [family.open({}) for family in (TEXT, LANGUAGE, TOKENS)]

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        seen = asked(text, text)
        started = time.process_time()
        for of in opened:
            of(seen)
        return time.process_time() - started

    seconds(1000)
    assert seconds(100_000) < 1  # what is quadratic takes minutes
