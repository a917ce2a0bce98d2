from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity_mm.report.model import Run
from infinity_mm.report.words import AROUND, MOST, compared, same_words

TEXTS = st.text(st.sampled_from("ab 是的\n.é"), max_size=40) | st.text(max_size=40)


def told(runs: Sequence[Run]) -> str:
    """Runs as text: +what is new+, -what is not there-."""
    marks = {0: "", 1: "+", -1: "-"}
    return "".join(f"{marks[run.change]}{run.text}{marks[run.change]}" for run in runs)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Yes.", "No.", "-No-+Yes+."),
        ("What is this thing?", "What was this thing?", "What -was-+is+ this thing?"),
        ("图中有三只猫。", "图中有两只猫。", "图中有-两-+三+只猫。"),
        ("I see it", "", "+I see it+"),
        ("a dog", "a dog barks", "a dog -barks-"),
        ("a big dog", "a very big dog", "a -very- big dog"),
        ("", "I see it", "-I see it-"),
        ("two  words", "two words", "two  words"),
        ("one or two or three or four cats", "这里没有任何动物", "one or two or three or four cats"),
    ],
)
def test_what_is_marked(one: str, other: str, expected: str) -> None:
    assert told(compared(one, other)) == expected


def test_only_the_surroundings_of_a_difference_are_shown() -> None:
    before, after = "so it went on " * 30, "and it goes on " * 30
    found = told(compared(f"{before}one {after}", f"{before}two {after}"))
    assert found == "… so it went on so it went on -two-+one+ and it goes on and it goes on … "
    assert len(found.split("-")[0].split()) == AROUND + 1
    long = [" ".join(f"{letter}{i} same" for i in range(9 * MOST)) for letter in "ab"]
    cut = compared(*long)
    assert cut[-1].text.endswith("… ")
    assert sum(len(run.text.split()) for run in cut) < 3 * MOST


def test_a_long_text_without_difference_is_cut() -> None:
    [run] = compared("word " * 500, "word  " * 500)
    assert run.change == 0
    assert (run.text.count("word"), run.text[-2:]) == (MOST, "… ")


@settings(max_examples=500)
@given(one=TEXTS, other=TEXTS)
def test_both_texts_can_be_read_from_the_runs(one: str, other: str) -> None:
    runs = compared(one, other)
    assert all(run.text for run in runs)
    assert all(a.change != b.change for a, b in pairwise(runs))
    if "…" in told(runs) or (len(runs) == 1 and runs[0].change == 0):
        return  # cut, or too different to be marked
    mine = "".join(run.text for run in runs if run.change >= 0)
    theirs = "".join(run.text for run in runs if run.change <= 0)
    assert same_words(mine, one)
    assert same_words(theirs, other)


@given(text=TEXTS)
def test_white_space_is_no_difference(text: str) -> None:
    assert same_words(text, text)
    assert same_words(text.replace(" ", "  \n"), text)
    assert same_words(text + "x", text) is False
