"""Answers: those of transformers, in any batch."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_painter import LAYOUTS, VOCABULARY, language

from trainers.emu3.answer import answer
from trainers.emu3.choose import Sampling
from trainers.emu3.layouts import Said, Visual

PICTURE = Visual(np.arange(12).reshape(1, 3, 4))
PROMPTS = [
    LAYOUTS.chat_prompt([Said("user", pieces)]).tolist()
    for pieces in ((PICTURE, "What color is it?"), ("哪个更大？",), (PICTURE, PICTURE, "Are they alike?"))
]


@pytest.fixture(scope="module")
def model() -> Any:
    return language()


def by_transformers(model: Any, prompt: list[int], most: int) -> list[int]:
    marks = sorted({*range(VOCABULARY.text, VOCABULARY.size)} - {VOCABULARY.eos})
    found = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=most,
        do_sample=False,
        suppress_tokens=marks,
    )
    return [int(i) for i in found[0, len(prompt) :] if i != VOCABULARY.eos]


def test_greedy_answers_are_those_of_transformers_in_any_batch(model: Any) -> None:
    together = answer(model, VOCABULARY, PROMPTS, most=8)
    assert together == [by_transformers(model, prompt, 8) for prompt in PROMPTS]
    assert together[1:] == answer(model, VOCABULARY, PROMPTS[1:], most=8)
    assert len({tuple(ids) for ids in together}) == 3


def test_an_answer_ends_at_eos(model: Any) -> None:
    (ids,) = answer(model, VOCABULARY, PROMPTS[:1], most=8)
    rows = model.lm_head.weight
    kept = rows[VOCABULARY.eos].detach().clone()
    with torch.no_grad():
        rows[VOCABULARY.eos] = rows[ids[3]] * 1.001
    try:
        assert answer(model, VOCABULARY, PROMPTS[:1], most=8) == [ids[: ids.index(ids[3])]]
    finally:
        with torch.no_grad():
            rows[VOCABULARY.eos] = kept


def test_an_answer_is_no_longer_than_the_context(model: Any) -> None:
    long = [*PROMPTS[0], *[5] * (253 - len(PROMPTS[0]))]
    (ids,) = answer(model, VOCABULARY, [long], most=8)
    assert ids == by_transformers(model, long, 3)


def test_drawn_answers_follow_their_seeds(model: Any) -> None:
    sampling = Sampling(temperature=2.0)
    first, again, other = answer(
        model, VOCABULARY, [PROMPTS[0]] * 3, sampling=sampling, most=8, seeds=[1, 1, 2]
    )
    assert first == again != other


def test_what_can_not_be_answered_is_told(model: Any) -> None:
    with pytest.raises(
        ValueError, match="a prompt of 256 tokens leaves no room in the model's context of 256"
    ):
        answer(model, VOCABULARY, [[*PROMPTS[0], *[5] * (256 - len(PROMPTS[0]))]])
    with pytest.raises(ValueError, match="guidance"):
        answer(model, VOCABULARY, PROMPTS, sampling=Sampling(guidance=2.0))
