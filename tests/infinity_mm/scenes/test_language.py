"""English and Chinese say the same things."""

import string

import pytest

from infinity_mm.scenes import chinese, english
from infinity_mm.scenes.language import listing, noun, sentence, some


def slots(templates: tuple[str, ...]) -> set[str]:
    return {name.lower() for t in templates for _, name, _, _ in string.Formatter().parse(t) if name}


def test_the_two_languages_have_the_same_keys():
    for table in ("WORDS", "MOVES", "CORNERS", "KIND_NAMES", "PHRASES"):
        assert set(getattr(english, table)) == set(getattr(chinese, table)), table
    assert len(english.NUMBERS) == len(chinese.NUMBERS)


def test_no_clean_prompt_looks_like_a_leaked_answer():
    for module in (english, chinese):
        for key, templates in module.PHRASES.items():
            if key != "leak":
                assert not any("answer:" in t.lower() or "答案：" in t for t in templates), key


@pytest.mark.parametrize("key", [k for k in english.PHRASES if k.endswith(".q")])
def test_every_question_tells_all_it_must(key):
    wanted = slots(english.PHRASES[key])
    for templates in (english.PHRASES[key], chinese.PHRASES[key]):
        for template in templates:
            assert {s.removeprefix("a_") for s in slots((template,))} == {
                s.removeprefix("a_") for s in wanted
            }


def test_noun_phrases():
    assert noun("en", "small", "red", "cross", 2) == "small red crosses"
    assert some("en", noun("en", colour="orange", shape="star")) == "an orange star"
    assert some("zh", noun("zh", "small", "red", "circle"), 2) == "两个红色的小圆形"
    assert listing("en", ["a", "b", "c"]) == "a, b and c"
    assert sentence("{It} is {value}.", it="the star", value="red") == "The star is red."
