import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.shingles import normalised, shingle_sets, shingles, text_key


@pytest.mark.parametrize(
    "texts",
    [
        ("Yes.", "yes", " YES!\n", "“Yes”", "ＹＥＳ", "y\u00ades\u200b"),
        ("A man, a dog.", "a  man a\tdog", "A man - a dog…"),
        ("一只红色的狗。", "一只 红色的狗", "一只红色的狗"),
        ("Straße", "STRASSE"),
        ("**Bold** text", "bold text"),
    ],
)
def test_texts_that_read_the_same_are_equal(texts: tuple[str, ...]) -> None:
    assert len({normalised(text) for text in texts}) == 1
    assert len({text_key(text) for text in texts}) == 1


@pytest.mark.parametrize(
    "texts",
    [
        ("3.5", "35", "3", "5", "-3", "3/5", "3:5", "3,5", "3%", "$3", "3 5", "0.3"),
        ("+", "-", "<", ">=", "?!", "...", "", "😀", "😢"),
        ("C", "C++", "C#"),
        ("का", "की", "क"),
        ("一只狗", "两只狗", "一只猫"),
        ("yes", "no"),
    ],
)
def test_texts_that_say_something_else_are_not(texts: tuple[str, ...]) -> None:
    assert len({normalised(text) for text in texts}) == len(texts)
    assert len({text_key(text) for text in texts}) == len(texts)


def test_marks_belong_to_their_letter() -> None:
    assert normalised("ที่นี่") == "ที่ นี่"
    assert normalised("हिन्दी") == "हिन्दी"


def test_a_lone_surrogate_has_a_key() -> None:
    assert len(text_key("\ud800 x")) == 16
    assert len(shingles("\ud800 b c d e")) == 1


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_quick_way_for_ascii_says_the_same(text: str) -> None:
    tokens = normalised("a " + text).split()
    assert normalised("a " + text + " é").split() == [*tokens, "é"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("one two three four", 0),
        ("one two three four five", 1),
        ("One, two; three four five six.", 2),
        ("one two three four one two three four one", 4),
        ("a a a a a a a", 1),
        ("红色的狗", 0),
        ("一只红色的狗", 2),
        ("用 AI 看红狗", 1),
        ("ภาษาไทย", 3),
    ],
)
def test_how_many_shingles(text: str, count: int) -> None:
    assert len(shingles(text)) == count


def test_the_order_of_tokens_matters() -> None:
    assert shingles("a b c d e") != shingles("b a c d e")
    assert shingles("a b c d e") != shingles("e d c b a")


def test_a_size_below_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        shingles("a b", 0)


@given(st.lists(st.text(alphabet="ab 红狗", max_size=12), max_size=12), st.integers(1, 4))
def test_as_by_hand(texts: list[str], size: int) -> None:
    """Sets are as equal, and as large, as sets of tuples of tokens are; together as one by one."""
    sets = shingle_sets(texts, size)
    names: dict[tuple[str, ...], int] = {}
    for row, text in enumerate(texts):
        tokens = normalised(text).split()
        runs = {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}
        values = sets.values[sets.offsets[row] : sets.offsets[row + 1]]
        assert values.dtype == np.uint64 and values.tolist() == sorted(set(values.tolist()))
        assert values.tolist() == shingles(text, size).tolist()
        assert len(values) == len(runs)
        hashes = {run: int(shingles(" ".join(run), size)[0]) for run in runs}
        assert sorted(hashes.values()) == values.tolist()
        names |= hashes
    assert len(set(names.values())) == len(names)


def test_hashes_stay_the_same() -> None:
    """Sidecars and fingerprints hold them."""
    assert shingles("a man and a dog").tolist() == [15728912669656258028]
    assert text_key("Yes.").hex() == "8a798890fe93817163b10b5f7bd2ca4d"


def test_many_texts_are_read_in_batches() -> None:
    texts = [f"{i} red dogs run in the park" for i in range(9000)] + ["short"]
    sets = shingle_sets(iter(texts))
    assert sets.sizes().tolist() == [3] * 9000 + [0]
    picked = sets.take(np.array([8999, 9000, 0]))
    assert picked.sizes().tolist() == [3, 0, 3]
    assert picked.values[:3].tolist() == shingles(texts[8999]).tolist()
    assert picked.values[3:].tolist() == shingles(texts[0]).tolist()
