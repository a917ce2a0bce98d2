"""Replies read as tags: lists of many shapes, their scores, and what is no list."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.engines.base import Reply, Token
from pipelines.tag.replies import NotTags, Said, read_tags
from pipelines.tag.vocabulary import Entry, Vocabulary

VOCABULARY = Vocabulary(
    (Entry("dog", ("hound",), "狗"), Entry("bar chart", (), "柱状图"), Entry("grass", (), "草"))
)
PROMPT = "List what this picture shows, separated by commas, and nothing else."


def reply(text: str, *tokens: tuple[str, float], finish: str = "stop") -> Reply:
    told = tuple(Token(word, math.log(p)) for word, p in tokens)
    return Reply(text, finish, 5, 5, told)  # type: ignore[arg-type]


def tags(text: str, **more: str) -> list[str]:
    return [one.tag for one in read_tags(reply(text, **more), VOCABULARY, PROMPT)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog, grass", ["dog", "grass"]),
        ("A dog, the Grass.", ["dog", "grass"]),
        ("1. Dogs\n2. Grass\n3) red leash", ["dog", "grass", "red leash"]),
        ("- dog\n- hound\n* bar charts", ["dog", "bar chart"]),
        ("狗，草、蓝色的天空", ["dog", "grass", "蓝色的天空"]),
        ("Here are the tags: dog, leash", ["dog", "leash"]),
        ("“dog”; 'grass'; **leash**", ["dog", "grass", "leash"]),
        ('{"tags": ["dog", "grass"]}', ["dog", "grass"]),
        ("dog", ["dog"]),
        ("7, 3d model", ["7", "3d model"]),
        ("dog, , ;, grass,", ["dog", "grass"]),
        ("dog, a long sentence that is no tag at all, leash", ["dog", "leash"]),
    ],
)
def test_lists(text: str, expected: list[str]) -> None:
    assert tags(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_tags_empty"),
        (" \n\t", "no_tags_empty"),
        ("The picture shows a dog that runs over the grass.", "no_tags_list"),
        ("...!?", "no_tags_list"),
        ("一只棕色的狗在绿色的草地上快乐地奔跑着", "no_tags_list"),
        ("dog, dog, dog, dog, dog, dog", "no_tags_repeats"),
        ("dog, cat, dog, cat, dog, cat, dog, cat", "no_tags_repeats"),
        (PROMPT, "no_tags_prompt"),
        (PROMPT.upper() + " Dog.", "no_tags_prompt"),
        (PROMPT[5:60], "no_tags_prompt"),
        ("I'm sorry, but I can't help with that.", "no_tags_refusal"),
        ("抱歉，我无法回答这个问题。", "no_tags_refusal"),
    ],
)
def test_what_is_no_list_is_a_failure(text: str, reason: str) -> None:
    with pytest.raises(NotTags) as error:
        tags(text)
    assert str(error.value).startswith(f"{reason}: ")


def test_a_cut_reply_loses_its_last_item() -> None:
    assert tags("dog, grass, lea", finish="length") == ["dog", "grass"]
    with pytest.raises(NotTags, match="no_tags_cut"):
        tags("doggggg", finish="length")
    with pytest.raises(NotTags, match="no_tags_repeats"):
        tags("dog, " * 60, finish="length")


def test_scores_are_means_of_the_tags_own_tokens() -> None:
    said = reply(
        "bar chart, dog, dog",
        *(("bar", 0.9), (" ch", 0.5), ("art", 0.1), (",", 0.01), (" dog", 0.4), (",", 0.01), (" dog", 0.8)),
    )
    found = read_tags(said, VOCABULARY, PROMPT)
    assert [one.tag for one in found] == ["bar chart", "dog"]
    assert [one.score for one in found] == [pytest.approx(0.5), pytest.approx(0.8)]


def test_tokens_beside_the_text_are_left_out() -> None:
    said = reply("dog", ("<s>", 0.1), (" ", 0.2), ("dog", 0.75), ("</s>", 0.9))
    assert read_tags(said, VOCABULARY, PROMPT) == [Said("dog", pytest.approx(0.75))]


def test_without_fitting_tokens_there_is_no_score() -> None:
    assert read_tags(reply("dog"), VOCABULARY, PROMPT) == [Said("dog", None)]
    assert read_tags(reply("dog", ("cat", 0.5)), VOCABULARY, PROMPT) == [Said("dog", None)]


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_any_reply_is_tags_or_a_failure(text: str, finish: str) -> None:
    try:
        found = read_tags(reply(text, (text, 0.5), finish=finish), VOCABULARY, PROMPT)
    except NotTags:
        return
    assert found and len({one.tag for one in found}) == len(found)
    assert all(one.tag and len(one.tag) <= 200 and "," not in one.tag for one in found)
