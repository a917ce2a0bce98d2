"""transformers' engine on a real small model: alone and in batches, constrained, drawn, with bad requests."""

import importlib.util
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity_mm.engines.base import (
    Answer,
    EngineError,
    Failure,
    Message,
    Picture,
    Reply,
    Request,
    open_engine,
)
from infinity_mm.engines.checks import pictures_of
from infinity_mm.engines.hf import HfEngine, collate, open_hf
from infinity_mm.engines.hf_writing import Row
from infinity_mm.media.decode import decode_image
from infinity_mm.schema import Part, Turn
from trainers.llava.generate import Question, Sampling, open_answerer


def picture(width: int, height: int, seed: int = 0) -> Picture:
    """A PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(
        file, "png"
    )
    return Picture(f"{seed:032x}", file.getvalue())


def ask(*parts: str | Picture, **options: Any) -> Request:
    return Request(messages=(Message("user", parts),), **{"max_tokens": 8, **options})


GOOD = [
    ask("What?"),
    ask(picture(60, 40), "How many are there?", top_logprobs=3),
    ask(picture(20, 20), picture(50, 30, 1), "哪个更大？"),
    ask(picture(20, 90, 2), "Which colour?", max_tokens=4, top_logprobs=1),
    Request(
        messages=(
            Message("system", ("Be brief.",)),
            Message("user", (picture(33, 40, 3), "What is it?")),
            Message("assistant", ("Noise.",)),
            Message("user", ("Which colour?",)),
        ),
        max_tokens=8,
    ),
    ask("Yes or no?", choices=("yes", "no", "yes indeed"), top_logprobs=2),
    ask("Draw me one.", temperature=1.5, seed=3),
    ask("Draw me one.", temperature=1.5, top_p=0.5, seed=3),
]
BAD = {
    "bad_picture": ask(Picture("f" * 32, picture(9, 9)[1][:-30]), "What?"),
    "prompt_too_long": ask("word " * 2050),
    "refused": ask("A text with <image> in it."),
}


@pytest.fixture(scope="module")
def engine(exported_model: Path) -> HfEngine:
    return open_hf(str(exported_model), "cpu", batch=len(GOOD))


def answers(engine: HfEngine, requests: list[Request]) -> list[Answer]:
    """The answers in the order of the requests, each of which has one."""
    found = list(engine.ask(requests))
    assert sorted(place for place, _ in found) == list(range(len(requests)))
    return [answer for _, answer in sorted(found, key=lambda one: one[0])]


def replies(found: Iterable[Answer]) -> list[Reply]:
    made = list(found)
    assert all(isinstance(one, Reply) for one in made), made
    return [one for one in made if isinstance(one, Reply)]


def same(one: Reply, other: Reply) -> bool:
    """Equal, log-probabilities up to rounding."""
    flat = [
        [v for t in reply.tokens for v in (t.logprob, *(log for _, log in t.top))] for reply in (one, other)
    ]
    return one[:4] == other[:4] and flat[0] == pytest.approx(flat[1], abs=1e-4)


def test_a_reply_does_not_depend_on_its_batch(engine: HfEngine) -> None:
    together = replies(answers(engine, GOOD))
    alone = [replies(answers(engine, [request]))[0] for request in GOOD]
    assert all(map(same, together, alone))
    assert len({reply.text for reply in together}) == len(GOOD)
    turned = replies(answers(engine, GOOD[::-1]))[::-1]
    assert all(map(same, together, turned))


def test_the_model_sees_what_it_sees_where_it_was_trained(engine: HfEngine, exported_model: Path) -> None:
    answerer = open_answerer(exported_model, "cpu")
    requests = [GOOD[0], GOOD[1], GOOD[2], GOOD[4]]
    for request, reply in zip(requests, replies(answers(engine, requests)), strict=True):
        pictures = pictures_of(request)
        numbers = iter(range(len(pictures)))
        turns = tuple(
            Turn(
                m.role,
                tuple(
                    Part("text", p) if isinstance(p, str) else Part("image", None, next(numbers))
                    for p in m.parts
                ),
            )
            for m in request.messages
        )
        media = tuple([decode_image(picture.data).pixels] for picture in pictures)
        document = answerer.document(Question(turns, media, ("image",) * len(media)))
        assert reply.prompt_tokens == len(document.tokens)
        (ids,) = answerer.tokens([document], Sampling(most=8))
        assert reply.text == answerer.chat.decode(ids).strip()


def test_bad_requests_harm_no_other(engine: HfEngine) -> None:
    expected = replies(answers(engine, GOOD[:4]))
    mixed = [GOOD[0], BAD["bad_picture"], GOOD[1], BAD["prompt_too_long"], GOOD[2], BAD["refused"], GOOD[3]]
    found = answers(engine, mixed)
    assert all(map(same, replies(found[::2]), expected))
    assert [f.reason for f in found[1::2] if isinstance(f, Failure)] == list(BAD)


@settings(max_examples=8)
@given(
    kinds=st.lists(
        st.sampled_from(["bad_picture", "prompt_too_long", "refused", "good", "choice"]), max_size=7
    )
)
def test_each_request_has_one_answer_at_its_place(engine: HfEngine, kinds: list[str]) -> None:
    choice = ask("Which?", choices=("red",))
    made = [BAD.get(kind) or (choice if kind == "choice" else ask("Go.", max_tokens=2)) for kind in kinds]
    for kind, answer in zip(kinds, answers(engine, made), strict=True):
        if kind in BAD:
            assert isinstance(answer, Failure) and answer.reason == kind
        else:
            assert isinstance(answer, Reply) and (kind == "good" or answer.text == "red")


def forward(engine: HfEngine, request: Request, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [token, vocabulary] of a reply's tokens, by one pass over prompt and reply."""
    inputs = dict(engine._inputs(request))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.inference_mode():
        logits = engine.model(**inputs).logits[0]
    return logits[-len(ids) - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.3, "seed": 5}, {"choices": ("red and green", "red", "blue")}]
)
def test_log_probabilities_are_those_of_one_pass(engine: HfEngine, options: dict[str, Any]) -> None:
    shown = (picture(60, 40), picture(30, 30, 1))
    asked = [ask(*shown, f"Which? {n}", top_logprobs=4, **options) for n in range(12)]
    spelled: dict[str, list[int]] = {}
    for token in range(len(engine.tokenizer)):
        spelled.setdefault(engine.spelling(token), []).append(token)
    request, reply = next(
        (request, reply)
        for request, reply in zip(asked, replies(answers(engine, asked)), strict=True)
        if all(len(spelled[token.text]) == 1 for token in reply.tokens)  # no pieces of a character
    )
    ids = [spelled[token.text][0] for token in reply.tokens]
    logs = forward(engine, request, ids)
    assert [t.logprob for t in reply.tokens] == pytest.approx(logs[range(len(ids)), ids].tolist(), abs=1e-4)
    for token, best in zip(reply.tokens, logs.topk(4).values.tolist(), strict=True):
        assert [log for _, log in token.top] == pytest.approx(best, abs=1e-4)


def test_a_choice_is_the_likeliest_along_its_tokens(engine: HfEngine) -> None:
    choices = ("a red circle", "a red square", "a red", "the blue one", "7", "71")
    requests = [ask(f"Which? {n}", choices=choices) for n in range(12)]
    texts = [reply.text for reply in replies(answers(engine, requests))]
    assert set(texts) <= set(choices) and len(set(texts)) > 1
    tokens = {c: [*engine.tokenizer.encode(c, add_special_tokens=False), min(engine.ends)] for c in choices}
    for request, text in zip(requests, texts, strict=True):
        written: list[int] = []
        while written != tokens[text]:
            open_ = {ids[len(written)] for ids in tokens.values() if ids[: len(written)] == written}
            logs = forward(engine, request, [*written, 0])[-1]
            written.append(max(open_, key=lambda token: float(logs[token])))
            assert tokens[text][: len(written)] == written
    drawn = answers(engine, [ask("Which?", choices=choices, temperature=3.0, seed=n) for n in range(40)])
    assert {reply.text for reply in replies(drawn)} == set(choices)


def test_a_choice_that_max_tokens_cuts_is_none(engine: HfEngine) -> None:
    (answer,) = answers(engine, [ask("Which?", choices=("a very long choice indeed",), max_tokens=2)])
    assert isinstance(answer, Failure) and answer.reason == "not_a_choice"


def test_a_drawn_reply_depends_on_its_seed_alone(engine: HfEngine) -> None:
    asked = ask("Draw.", temperature=1.0, seed=11, top_p=0.9)
    others = [ask(f"Other {n}", temperature=2.0, seed=n) for n in range(3)]
    (alone,) = replies(answers(engine, [asked]))
    assert replies(answers(engine, [*others, asked]))[3] == alone
    seeds = [ask("Draw.", temperature=1.0, seed=n, top_p=0.9) for n in range(6)]
    assert len({reply.text for reply in replies(answers(engine, seeds))}) == 6


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.0, 3.0, -torch.inf, 1.0, 2.0])
    for top_p, kept in ((1.0, [0, 1, 3, 4]), (0.8, [1, 4]), (0.01, [1])):
        row = Row(Request(messages=(), temperature=1.0, top_p=top_p), 1, frozenset(), None)
        shares = np.bincount([row.draw(logits) for _ in range(2000)], minlength=5) / 2000
        expected = np.zeros(5)
        expected[kept] = logits[kept].softmax(-1)
        assert shares == pytest.approx(expected, abs=0.04)
        assert not shares[expected == 0].any()


def test_a_stop_text_ends_a_reply_and_is_no_part_of_it(engine: HfEngine) -> None:
    (whole,) = replies(answers(engine, [ask("What?", top_logprobs=1)]))
    stop = whole.tokens[4].text.strip()
    assert stop
    (cut,) = replies(answers(engine, [ask("What?", top_logprobs=1, stop=("never", stop))]))
    assert cut.finish == "stop" and cut.text == whole.text[: whole.text.index(stop)].strip()
    assert "".join(t.text for t in cut.tokens).strip().startswith(cut.text)
    assert cut.tokens == whole.tokens[: len(cut.tokens)]


def test_max_tokens_is_a_requests_own(engine: HfEngine) -> None:
    long, short = replies(answers(engine, [ask("What?", max_tokens=9), ask("What?", max_tokens=2)]))
    assert (long.finish, long.reply_tokens) == ("length", 9)
    assert (short.finish, short.reply_tokens) == ("length", 2)
    assert long.text.startswith(short.text)


def test_a_batch_without_memory_is_asked_in_halves(engine: HfEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    write, sizes = engine._write, []
    whole = replies(answers(engine, GOOD))

    def small(group: Any) -> list[Answer]:
        sizes.append(len(group))
        if len(group) > 2 or any(one.length > 300 for one in group):
            raise torch.OutOfMemoryError("out of memory")
        return write(group)

    monkeypatch.setattr(engine, "_write", small)
    assert all(map(same, replies(answers(engine, GOOD)), whole))
    assert max(sizes) > 2
    (lost,) = answers(engine, [ask("word " * 400)])
    assert isinstance(lost, Failure) and lost.reason == "out_of_memory"

    def broken(group: Any) -> list[Answer]:
        raise RuntimeError("device-side assert\ntriggered")

    monkeypatch.setattr(engine, "_write", broken)
    with pytest.raises(EngineError, match="device-side assert triggered"):
        answers(engine, GOOD)


def test_rows_of_several_shapes_are_padded_each_on_its_side() -> None:
    def row(length: int, tiles: int) -> dict[str, torch.Tensor]:
        ids = torch.arange(1, length + 1)[None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "tiles": torch.ones(1, tiles, 2)}

    made = collate([row(3, 1), row(1, 2)], pad=9)
    assert made["input_ids"].tolist() == [[1, 2, 3], [9, 9, 1]]
    assert made["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert made["tiles"].tolist() == [[[1, 1], [0, 0]], [[1, 1], [1, 1]]]


def changed(model: Path, folder: Path, **files: str) -> Path:
    """A copy of an exported model with other files."""
    shutil.copytree(model, folder)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def templated(model: Path, folder: Path, template: str) -> Path:
    """A copy with another chat template, in each place where one is looked for."""
    folder = changed(model, folder, chat_template__jinja=template)
    (folder / "chat_template.json").unlink()
    for name in ("tokenizer_config.json", "processor_config.json"):
        values = json.loads((folder / name).read_text("utf-8"))
        values.pop("chat_template", None)
        (folder / name).write_text(json.dumps(values), "utf-8")
    return folder


def test_a_template_that_refuses_is_a_failure(exported_model: Path, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system\\nturns') }}"
        "{% endif %}{% for p in m['content'] %}{{ p['text'] if p['type'] == 'text' else '<image>' }}"
        "{% endfor %}{% endfor %}"
    )
    engine = open_hf(str(templated(exported_model, tmp_path / "model", template)), "cpu")
    system = Request(messages=(Message("system", ("Be brief.",)), Message("user", ("What?",))), max_tokens=2)
    found = answers(engine, [system, ask("What?")])
    assert found[0] == Failure("refused_by_template", "no system turns")
    assert isinstance(found[1], Reply)


def test_a_template_that_takes_texts_sees_marks_of_pictures(exported_model: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}assistant:"
    engine = open_hf(str(templated(exported_model, tmp_path / "model", template)), "cpu")
    words, shown = replies(answers(engine, [ask("What? ", "Say it."), ask(picture(20, 20), "What? Say it.")]))
    assert words.prompt_tokens == len(engine.tokenizer.encode("user: What? Say it. assistant:"))
    assert shown.prompt_tokens > words.prompt_tokens + 4


def test_a_models_own_habits_are_no_part_of_a_reply(
    engine: HfEngine, exported_model: Path, tmp_path: Path
) -> None:
    habits = json.dumps({"eos_token_id": 4, "repetition_penalty": 3.0, "do_sample": True, "temperature": 0.3})
    other = open_hf(str(changed(exported_model, tmp_path / "m", generation_config__json=habits)), "cpu")
    assert all(map(same, replies(answers(other, GOOD)), replies(answers(engine, GOOD))))


def test_identity_is_of_the_files_and_the_dtype(
    engine: HfEngine, exported_model: Path, tmp_path: Path
) -> None:
    copy = open_hf(str(changed(exported_model, tmp_path / "copy")), "cpu", batch=3)
    assert copy.identity == engine.identity
    assert open_hf(str(exported_model), "cpu", dtype="bfloat16").identity.key != engine.identity.key
    told = changed(exported_model, tmp_path / "other", generation_config__json='{"eos_token_id": 5}')
    assert open_hf(str(told), "cpu").identity.model != engine.identity.model
    assert (engine.identity.engine, engine.identity.dtype, engine.identity.device) == (
        "transformers",
        "float32",
        "cpu",
    )
    assert "transformers" in engine.identity.libraries


@pytest.mark.skipif(importlib.util.find_spec("xgrammar") is not None, reason="xgrammar is here")
def test_a_schema_without_xgrammar_says_what_to_install(engine: HfEngine) -> None:
    with pytest.raises(ValueError, match="pip install xgrammar"):
        list(engine.ask([ask("x", schema={"type": "object"})]))


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("transformers:/no/such/folder", {}, "no such folder"),
        ("transformers:", {}, "no such folder"),
        ("transformers:{empty}", {}, "no config.json"),
        ("transformers:{weightless}", {}, "no weights"),
        ("transformers:{model}", {"dtype": "int8"}, "give float32"),
        ("transformers:{model}", {"batch": 0}, "batch 0"),
        ("transformers:some-org/some-model", {}, "is the name right"),
        ("transformer:x", {}, "did you mean 'transformers'"),
        ("tiny:x", {}, "it is just `tiny`"),
    ],
)
def test_what_cannot_be_opened_says_why_in_one_line(
    exported_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: str,
    options: dict[str, Any],
    said: str,
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "config.json").write_text("{}")
    named = spec.format(empty=tmp_path / "empty", weightless=tmp_path / "weightless", model=exported_model)
    with pytest.raises(ValueError, match=said) as raised:
        open_engine(named, "cpu", **options)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_that_lacks_weights_is_refused(exported_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = changed(exported_model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "projector" in name)
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights"):
        open_hf(str(folder), "cpu")
