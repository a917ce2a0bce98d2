"""Answers: alone and in batches, greedy and drawn."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_llava import composition

from infinity_mm.schema import Part, Turn
from trainers.attention import NAME
from trainers.llava.generate import Answerer, Question, Sampling, choose


def question(text: str, *sizes: tuple[int, int]) -> Question:
    rng = np.random.default_rng(len(text))
    pictures = tuple([rng.integers(0, 256, (h, w, 3), np.uint8)] for w, h in sizes)
    parts = [*(Part("image", None, n) for n in range(len(sizes))), Part("text", text)]
    return Question((Turn("user", tuple(parts)),), pictures, ("image",) * len(sizes))


QUESTIONS = [
    question("What?"),
    question("How many are there?", (60, 40)),
    question("哪个更大？", (20, 20), (50, 30)),
    question("A much longer question, without any picture, so that others are padded to it."),
]


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    made = composition()
    model = made.build(seed=1)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter.mul_(3)
    return Answerer(model, made)


def without_cache(answerer: Answerer, question: Question, most: int) -> list[int]:
    """Greedy tokens with the whole row run again for each."""
    from trainers.llava.documents import join

    document = answerer.document(question)
    for _ in range(most):
        row = join([document], 32)
        with torch.no_grad():
            best = int(answerer.model.logits(row)[-1].argmax())
        if best in answerer.ends:
            break
        document = document._replace(
            tokens=np.append(document.tokens, np.int32(best)),
            supervised=np.append(document.supervised, False),
        )
    return [int(t) for t in document.tokens[len(answerer.document(question).tokens) :]]


def test_a_batch_answers_as_each_alone_and_as_without_a_cache(answerer: Answerer) -> None:
    documents = [answerer.document(asked) for asked in QUESTIONS]
    together = answerer.tokens(documents, Sampling(most=10))
    assert together == [without_cache(answerer, asked, 10) for asked in QUESTIONS]
    assert len({tuple(ids) for ids in together}) == len(QUESTIONS)
    assert answerer.model.language_model.config._attn_implementation == NAME  # as for packs again


def test_an_answer_ends_at_its_end_token(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    (ids,) = answerer.tokens([answerer.document(QUESTIONS[0])], Sampling(most=10))
    monkeypatch.setattr(answerer, "ends", {ids[3]})
    (shorter,) = answerer.tokens([answerer.document(QUESTIONS[0])], Sampling(most=10))
    assert shorter == ids[: ids.index(ids[3])]


def test_a_seed_draws_the_same_and_another_does_not(answerer: Answerer) -> None:
    drawn = [answerer.answer(QUESTIONS, Sampling(temperature=2.0, most=10, seed=s)) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_top_p_leaves_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]]).expand(500, 4)
    generator = torch.Generator().manual_seed(0)
    drawn = choose(logits, Sampling(temperature=1.0, top_p=0.8), generator)
    assert set(drawn.tolist()) == {1, 3}  # 0.64 and 0.24 of the probability
    assert set(choose(logits, Sampling(temperature=1.0), generator).tolist()) == {0, 1, 2, 3}
    assert set(choose(logits, Sampling(), generator).tolist()) == {1}


def test_frames_of_a_long_clip_are_its_middles(answerer: Answerer) -> None:
    frames = [np.full((20, 20, 3), n, np.uint8) for n in range(64)]
    asked = Question((Turn("user", (Part("video", None, 0),)),), (frames,), ("video",))
    document = answerer.document(asked)
    assert document.visuals[0].frames == 32
    assert document.tiles[:, 0, 0, 0].tolist() == list(range(1, 64, 2))


@pytest.mark.parametrize(
    ("given", "said"),
    [({"temperature": -1.0}, "temperature"), ({"top_p": 0.0}, "top_p"), ({"most": 0}, "most")],
)
def test_sampling_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sampling(**given)
