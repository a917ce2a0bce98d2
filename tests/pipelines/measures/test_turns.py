import pytest
from looks import PICTURE, asked, look

from infinity_mm.schema import Part
from pipelines.measures.characters import words_of
from pipelines.measures.turns import leak, repeated_turns, repetition, yes_or_no


@pytest.mark.parametrize(
    ("answer", "begins"),
    [
        ("Yes", "yes"),
        ("yes, there are two.", "yes"),
        ("No.", "no"),
        ("No, it is not.", "no"),
        ("no there isn't", "no"),
        ("No single story stands out.", None),
        ("No people are visible.", None),
        ("NO. 76, JALAN SS15", None),
        ("Nothing.", None),
        ("Yes-men", None),
        ("是的，图中有一个圆。", "yes"),
        ("是。", "yes"),
        ("有，能看到。", "yes"),
        ("对", "yes"),
        ("是红色的。", None),
        ("有四个物体。", None),
        ("不是，它在右边。", "no"),
        ("没有，图中没有圆。", "no"),
        ("没有圆。", None),
        ("不同，一个是圆。", None),
        ("不对。", "no"),
        ("错。", "no"),
        ("对不起，我不能。", None),
    ],
)
def test_yes_or_no(answer: str, begins: str | None) -> None:
    assert yes_or_no(answer) == begins


def test_repetition_is_the_share_of_five_grams_seen_before() -> None:
    def of(answer: str) -> float | None:
        return repetition(words_of(answer.lower()))

    assert of("one two three four") is None
    assert of("one two three four five six") == 0
    # 12 words, 8 five-grams, of which 6 are different
    assert of("a b c d e f " * 2) == pytest.approx(1 / 8 * 2)
    assert of("It is red. " * 10) == pytest.approx(23 / 26)
    assert of("红色的圆。" * 5) == pytest.approx(12 / 16)


def test_repeated_turns() -> None:
    long = "There are two small red circles."
    question = ("user", "How many?")
    assert repeated_turns(look(question, ("assistant", long), question, ("assistant", f"{long}  "))) == 2
    assert (
        repeated_turns(
            look(("user", "Is it?"), ("assistant", "Yes."), ("user", "So?"), ("assistant", "Yes."))
        )
        == 0
    )
    assert repeated_turns(look(("user", long), ("assistant", long))) == 0
    other = [Part("image", None, 1), "How many?"]
    assert repeated_turns(look(("user", [PICTURE, "How many?"]), ("user", other))) == 0
    assert repeated_turns(look(("user", PICTURE), ("user", PICTURE))) == 0


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What color? Answer: red", "Red"),
        ("What color?\nThe answer is: red", "The ball is red."),
        ("What color is it? The answer is red.", "Red"),
        ("颜色是什么？\n提示：答案：红色", "红色"),
        ("颜色是什么？答案是红色。", "红色。"),
        ("选哪一个？本题答案：B", "B"),
        ("答案：红色。本题的答案是什么？", "红色"),
        ("The answer is red. So what is the answer?", "Red. So what"),
        ("What is it?\nHint: Answer: a big red ball\nPlease explain.", "A big red ball."),
        ("Is a man riding a brown horse on the beach here?", "A man riding a brown horse on the beach."),
        ("Which one? (correct answer: B)", "B"),
    ],
)
def test_leaks(question: str, answer: str) -> None:
    assert leak(question, answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Answer the question: what is it?", "a cat"),
        ("What is it? Short answer:", "cat"),
        ("Answer: yes or no. Is it red?", "yes"),
        ("Is it red? Answer: yes\nIs it blue? Answer:", "yes"),
        ("What is it? Answer: a cat\nWhat is it? Answer:", "a cat"),
        ("Question: is it red?\nAnswer: Yes\nIs this right?", "Yes"),
        ("Pick one.\nA. a man riding a brown horse\nB. a cat", "a man riding a brown horse"),
        ("Is it the big red ball on the left or the small one?", "the big red ball on the left"),
        ("End with 'Answer: X'.", "X"),
        ("Reply as Answer: <answer>", "red"),
        ("What is the answer?", "The answer is 5."),
        ("Is there a red ball?", "A red ball"),
        ("这道题的答案是什么？", "红色"),
        ("Read this. " + "It says a lot of things. " * 20 + "What?", "It says a lot of things."),
        ("Answer: north", "..."),
    ],
)
def test_questions_that_do_not_tell(question: str, answer: str) -> None:
    assert leak(question, answer) is None


def test_a_leak_is_judged_in_its_own_exchange() -> None:
    seen = look(
        ("user", "What is it?"), ("assistant", "a man riding a brown horse"),
        ("user", "Is the man riding a brown horse happy?"), ("assistant", "Yes."),
    )  # fmt: skip
    assert [leak(*exchange) for exchange in seen.exchanges] == [None, None]
    assert [leak(*exchange) for exchange in asked("Answer: red", "Red.").exchanges] == ["Answer: red"]
