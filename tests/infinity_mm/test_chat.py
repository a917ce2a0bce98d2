"""Chat templates: the tokens of transformers, and supervised exactly what an assistant writes."""

import json
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from infinity_mm.chat import Chat, Encoded, chat_of
from infinity_mm.chat_template import CHATML
from infinity_mm.models.tokenizer import FILE
from infinity_mm.schema import Part, Turn

QWEN = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role in ('user', 'assistant') or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'] | trim + ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
PHI_3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
ONEVISION = (  # of llava-hf: takes parts, and puts pictures first
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% if message['role'] != 'assistant' %}{{ '\n' + content['text'] }}{% else %}"
    "{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endif %}{% endfor %}"
    "{{'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML, "qwen": QWEN, "llama 3": LLAMA_3, "gemma": GEMMA, "llama 2": LLAMA_2, "phi 3": PHI_3,
    "onevision": ONEVISION,
}  # fmt: skip
SPECIAL = (
    *(
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<video>",
    ),
    *("<|user|>", "<|system|>", "<|assistant|>", "<|end|>"),
)
# Letters, Chinese, digits and what might be taken for something else.
TEXTS = st.lists(
    st.sampled_from(
        ["red", " circle", "红色", "3", "\n", " ", "<image>", "<|im_end|>", "{{ x }}", "\ue0000.0\ue001"]
    ),
    min_size=1,
    max_size=5,
).map("".join)  # fmt: skip


def backend() -> Tokenizer:
    """The small tokenizer, with the special tokens of all TEMPLATES."""
    tokenizer = Tokenizer.from_file(str(FILE))
    # as Phi-3 has them: blanks after them are theirs
    tokenizer.add_special_tokens([AddedToken(t, rstrip=t.startswith("<|") and "_" not in t) for t in SPECIAL])
    return tokenizer


def of_transformers(template: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend(), bos_token="<bos>", eos_token="<eos>", chat_template=template
    )


@pytest.fixture(scope="module", params=list(TEMPLATES))
def both(request: pytest.FixtureRequest) -> tuple[str, Any, Chat]:
    tokenizer = of_transformers(TEMPLATES[request.param])
    return request.param, tokenizer, chat_of(tokenizer)


def turn(role: str, *parts: str | int) -> Turn:
    """A turn of texts and, for numbers, pictures."""
    return Turn(role, tuple(Part("image", None, p) if isinstance(p, int) else Part("text", p) for p in parts))


def answers(chat: Chat, encoded: Encoded) -> list[str]:
    """The texts of each run of supervised tokens, special tokens spelled out."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], encoded.supervised, [0]])))
    spans = edges.reshape(-1, 2).tolist()
    return [str(backend().decode(encoded.tokens[a:b].tolist(), skip_special_tokens=False)) for a, b in spans]


def messages(turns: Sequence[Turn], texts_only: bool) -> list[dict[str, Any]]:
    if texts_only:
        return [{"role": t.role, "content": "".join(p.text or "" for p in t.parts)} for t in turns]
    return [{"role": t.role, "content": [{"type": p.type, "text": p.text} for p in t.parts]} for t in turns]


TALK = [
    turn("user", "What is it?"),
    turn("assistant", "A red circle."),
    turn("user", "红色的吗？"),
    turn("assistant", "是。"),
]
END = {"llama 3": "<|eot_id|>", "gemma": "<end_of_turn>", "llama 2": " <eos>", "phi 3": "<|end|>"}


def test_tokens_are_those_of_the_whole_text(both: tuple[str, Any, Chat]) -> None:
    name, tokenizer, chat = both
    for turns, prompt in ((TALK, False), (TALK[:3], True), (TALK[:1], True)):
        told = messages(turns, texts_only=name != "onevision")
        whole = tokenizer.apply_chat_template(told, add_generation_prompt=prompt, tokenize=False)
        wanted = tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert chat.encode(turns, prompt).tokens.tolist() == wanted


def test_supervised_is_what_the_assistant_writes(both: tuple[str, Any, Chat]) -> None:
    name, _, chat = both
    end = END.get(name, "<|im_end|>")
    start = " " if name == "llama 2" else ""
    encoded = chat.encode(TALK)
    assert answers(chat, encoded) == [f"{start}A red circle.{end}", f"{start}是。{end}"]
    assert chat.end_id == backend().token_to_id(end.strip())


def test_an_answer_begins_where_the_prompt_for_it_ends(both: tuple[str, Any, Chat]) -> None:
    name, _, chat = both
    encoded = chat.encode(TALK)
    if name == "onevision":
        # llava-hf's prompt, "assistant\n", is no beginning of what its template makes of a whole conversation
        assert answers(chat, encoded)[0] == "A red circle.<|im_end|>"
        return
    for number in (1, 3):
        prompt = chat.encode(TALK[:number], prompt=True).tokens
        assert encoded.tokens[: len(prompt)].tolist() == prompt.tolist()
        assert encoded.supervised[len(prompt)]
        assert not encoded.supervised[len(prompt) - 1]


@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, TEXTS)
def test_any_text_stays_a_text(asked: list[str], system: str, answer: str) -> None:
    chat = CHAT
    turns = [turn("system", system)]
    for number, text in enumerate(asked):
        turns += [turn("user", number, text), turn("assistant", answer), turn("tool", text)]
    encoded = chat.encode(turns)
    assert answers(chat, encoded) == [f"{answer}<|im_end|>"] * len(asked)
    assert (encoded.tokens == chat.image_id).sum() == len(asked)
    assert [medium for _, medium in encoded.media] == list(range(len(asked)))
    assert all(encoded.tokens[place] == chat.image_id for place, _ in encoded.media)
    assert not encoded.supervised[encoded.tokens == chat.image_id].any()
    wanted = "".join(
        f"<|im_start|>{t.role}\n" + "".join(p.text or "<image>\n" for p in t.parts) + "<|im_end|>\n"
        for t in turns
    )
    assert backend().decode(encoded.tokens.tolist(), skip_special_tokens=False) == wanted


CHAT = chat_of(backend(), "chatml")


def test_pictures_stand_where_the_template_puts_them(both: tuple[str, Any, Chat]) -> None:
    name, _, chat = both
    encoded = chat.encode([turn("user", "one", 1, "two", 0), turn("assistant", "yes", 2)])
    text = backend().decode(encoded.tokens.tolist(), skip_special_tokens=False)
    assert [medium for _, medium in encoded.media] == [1, 0, 2]
    if name == "onevision":
        assert "<image><image>\none\ntwo" in text
    else:
        assert "one<image>\ntwo<image>" in text
    assert answers(chat, encoded)[0].strip().startswith("yes")


def test_clips_have_the_image_token_too() -> None:
    encoded = CHAT.encode(
        [Turn("user", (Part("video", None, 0), Part("text", "what?"))), turn("assistant", "a")]
    )
    assert encoded.media == ((encoded.tokens.tolist().index(CHAT.image_id), 0),)


def test_templates_that_take_texts_take_parts_when_exported() -> None:
    tokenizer = of_transformers(CHAT.template)
    turns = [turn("user", 0, "what?"), turn("assistant", "a")]
    text = tokenizer.apply_chat_template(messages(turns, False), tokenize=False)
    assert text == "<|im_start|>user\n<image>\nwhat?<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
    assert tokenizer.apply_chat_template(messages(TALK, True), tokenize=False).count("<|im_end|>") == 4
    assert chat_of(tokenizer).template == CHAT.template


def test_an_empty_answer_is_its_end() -> None:
    assert answers(CHAT, CHAT.encode([turn("user", "a"), Turn("assistant", ())])) == ["<|im_end|>"]


def test_a_template_that_refuses_a_conversation_says_so() -> None:
    chat = chat_of(of_transformers(GEMMA))
    with pytest.raises(ValueError, match="turns of system, user: System role not supported"):
        chat.encode([turn("system", "a"), turn("user", "b")])


def test_a_medium_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="turn 1 marks a medium"):
        CHAT.encode([Turn("user", (Part("image"),)), turn("assistant", "a")])


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "no chat template: name a built-in one"),
        ("{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}", "could not learn to stop"),
        ("{{ messages[0]['content'] }}<eos>", "leaves out or repeats"),
        ("{% for m in messages %}{{ m.nothing.at_all }}{% endfor %}", "refuses turns of user, assistant"),
        ("{% if %}", "refuses"),
    ],
)
def test_templates_that_cannot_serve(template: str | None, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        chat_of(backend(), template)


def test_the_image_token_must_be_special() -> None:
    with pytest.raises(ValueError, match="no special token"):
        chat_of(backend(), "chatml", image_token="<picture>")


def test_a_template_with_a_date_is_the_same_every_day() -> None:
    chat = chat_of(backend(), "{{ strftime_now('%d %b %Y') }}" + CHATML)
    assert backend().decode(chat.encode(TALK).tokens.tolist()).startswith("26 Jul 2024")


def test_it_is_pickled_and_known_by_its_digest() -> None:
    again = pickle.loads(pickle.dumps(CHAT))
    assert again.digest == CHAT.digest
    assert again.encode(TALK).tokens.tolist() == CHAT.encode(TALK).tokens.tolist()
    assert chat_of(backend(), QWEN).digest != CHAT.digest


def test_no_piece_gets_the_space_of_a_first_one() -> None:
    value = json.loads(backend().to_str())
    value["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Metaspace", "replacement": "Ġ", "prepend_scheme": "first", "split": False}
        ],
    }
    chat = chat_of(Tokenizer.from_str(json.dumps(value)), "chatml")
    whole = Tokenizer.from_str(json.dumps(value)).encode(
        "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n", add_special_tokens=False
    )
    assert chat.encode([turn("user", "ab"), turn("assistant", "c")]).tokens.tolist() == whole.ids
