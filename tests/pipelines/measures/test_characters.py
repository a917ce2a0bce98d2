import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.measures.characters import digit_count, special_count, visible_count, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The dog's bone, 3 times.", ["The", "dog's", "bone", "3", "times"]),
        ("l’été d’Anne", ["l’été", "d’Anne"]),
        ("一只红色的狗", ["一", "只", "红", "色", "的", "狗"]),
        ("用AI模型2个", ["用", "AI", "模", "型", "2", "个"]),
        ("犬がいる", ["犬", "が", "い", "る"]),
        ("강아지가 있다", ["강아지가", "있다"]),
        ("snake_case --", ["snake", "case"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "visible", "special", "digits"),
    [
        ("a_b-c! 42\n", 8, 3, 2),
        ("红色，三个。", 6, 2, 0),
        ("नमस्ते दुनिया", 12, 0, 0),
        ("٣٤ é", 3, 0, 2),
        ("\0\0", 2, 2, 0),
        ("😀 ok", 3, 1, 0),
        (" \t\n", 0, 0, 0),
    ],
)
def test_counts(text: str, visible: int, special: int, digits: int) -> None:
    assert (visible_count(text), special_count(text), digit_count(text)) == (visible, special, digits)


@given(st.text())
def test_counts_are_parts_of_what_is_visible(text: str) -> None:
    assert 0 <= special_count(text) + digit_count(text) <= visible_count(text)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_quick_way_for_ascii_counts_the_same(text: str) -> None:
    foreign = text + " é"
    assert len(words_of(foreign)) == len(words_of(text)) + 1
    assert special_count(foreign) == special_count(text)
