"""Requests, their keys, and what their replies are checked for."""

from typing import Any

import pytest

from infinity_mm.engines.base import REASONS, Failure, Identity, Message, Picture, Reply, Request, open_engine
from infinity_mm.engines.checks import Refused, checked, covering, fits, images_of, parts_of, plain


def ask(**options: Any) -> Request:
    return Request(messages=(Message("user", ("Which?",)),), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"choices": ("a",), "schema": {}}, "one of them"),
        ({"choices": ("a", "a")}, "different"),
        ({"choices": (" a",)}, "white space"),
        ({"choices": ("",)}, "white space"),
        ({"schema": {"$ref": "#"}}, r"\$ref"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stop": ("a", "")}, "stop"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ask(**options)


def test_a_key_is_of_all_that_a_reply_depends_on() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"max_tokens": 3}, {"temperature": 0.5}, {"top_p": 0.5}, {"seed": 1}, {"choices": ("a", "b")},
        {"choices": ("b", "a")}, {"schema": {"type": "string"}}, {"top_logprobs": 1}, {"stop": ("a",)},
    ]  # fmt: skip
    keys = [ask(**change).key for change in changes]
    assert len(set(keys)) == len(changes)
    assert ask(temperature=0, top_p=1).key == keys[0]
    shown = [Request(messages=(Message("user", (Picture(id, b""), "x")),)).key for id in ("a", "b")]
    said = Request(messages=(Message("user", ("a", "x")),)).key
    assert len({*shown, said}) == 3
    assert shown[0] == Request(messages=(Message("user", (Picture("a", b"other"), "x")),)).key
    assert Request(messages=(Message("user", ("\ud800",)),)).key


def test_a_reply_is_what_was_asked_for_or_a_failure() -> None:
    def end(text: str, **options: Any) -> str:
        answer = checked(ask(**options), Reply(text, "stop", 3, 2))
        if isinstance(answer, Failure):
            assert answer.reason in REASONS and "\n" not in answer.detail
            return answer.reason
        return answer.text

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert end(" fine\n") == "fine"
    assert [end(text) for text in ("", " \n\t")] == ["empty_reply"] * 2
    assert end("red\n", choices=("red", "blue")) == "red"
    assert [end(t, choices=("red",)) for t in ("Red", "red.", "re")] == ["not_a_choice"] * 3
    assert end(' {"n": 1}', schema=schema) == '{"n": 1}'
    broken = ('{"n": 1', "[1]", '{"n": "1"}', '{"m": 1}', '{"n": NaN}', "[" * 100_000, 'It is {"n": 1}')
    assert [end(text, schema=schema) for text in broken] == ["not_json"] * len(broken)


def test_a_prompt_has_to_leave_room() -> None:
    fits(90, ask(max_tokens=10), 100)
    fits(10**6, ask(max_tokens=10), None)
    with pytest.raises(Refused) as refused:
        fits(91, ask(max_tokens=10), 100)
    assert refused.value.failure.reason == "prompt_too_long"


def test_texts_that_spell_a_special_token_are_refused() -> None:
    plain(ask(), frozenset(("<image>",)))
    bad = Request(messages=(Message("user", ("fine",)), Message("assistant", ("an <image>", "x"))))
    with pytest.raises(Refused):
        plain(bad, frozenset(("<image>", "<s>")))


def test_texts_in_a_row_are_one_part() -> None:
    shown = Picture("0", b"")
    assert parts_of(Message("user", ("a", "b", shown, shown, "c", "d", "e"))) == ["ab", shown, shown, "cde"]


def test_a_damaged_picture_names_itself() -> None:
    with pytest.raises(Refused) as refused:
        images_of(Request(messages=(Message("user", (Picture("ab" * 16, b"GIF89a"),)),)))
    assert refused.value.failure.reason == "bad_picture"
    assert "ab" * 16 in refused.value.failure.detail


def test_tokens_that_write_a_cut_text() -> None:
    words = ["a ", "b ", "c ", "", ""]

    def decode(ids: Any) -> str:
        return "".join(words[i] for i in ids)

    assert [covering(range(5), text, decode) for text in ("", "a", "a ", "a b", "a b c ")] == [0, 1, 1, 2, 3]


def test_identities_differ_by_each_part() -> None:
    first = Identity("vllm", "m", "float32", "cpu", "vllm 1")
    keys = {first.key, *(first._replace(**{name: "other"}).key for name in first._fields)}
    assert len(keys) == 6


def test_an_engine_that_is_none_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="did you mean 'openai'"):
        open_engine("opnai:x")


def test_options_of_vllm_have_names_and_values() -> None:
    with pytest.raises(ValueError, match=r"give \?NAME=VALUE"):
        open_engine("vllm:some/model?tensor_parallel_size")
