"""vLLM's engine beside transformers', on the same exported folder in float32: replies, choices, refusals.

Random weights answer with near-ties, which rounding could decide: the least margin is asserted.
"""

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from vllm_python import run_vllm, vllm_python

from infinity_mm.engines.base import Answer, Failure, Message, Picture, Reply, Request, open_engine
from infinity_mm.engines.checks import checked
from infinity_mm.image_tokens import Geometry
from trainers.llava.compose import compose
from trainers.llava.export import export

TOWER = {
    "model_type": "siglip_vision_model",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
LANGUAGE = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,  # of size 32, the least that vLLM has on a CPU
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
GRIDS = Geometry(32, 8, ((32, 32), (32, 64), (64, 32), (64, 64)))  # a recipe's grid of 2
OPTIONS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "pictures": 2}
MARGIN = 2e-3  # by which each token is ahead of the next likeliest at least, in nats
CLOSE = 2e-4  # log-probabilities
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}


@pytest.fixture
def python() -> str:
    return vllm_python()


def picture(width: int, height: int, seed: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(
        file, "png"
    )
    return Picture(f"{seed:032x}", file.getvalue())


def ask(*parts: str | Picture, **options: Any) -> Request:
    return Request(messages=(Message("user", parts),), **{"max_tokens": 8, **options})


TURNS = (
    Message("system", ("Be brief.",)),
    Message("user", (picture(33, 40, 3), "What is it?")),
    Message("assistant", ("Noise.",)),
    Message("user", ("Which ", "colour?")),
)
GREEDY = [
    ask("What?", top_logprobs=3),
    ask(picture(60, 40, 0), "How many are there?", top_logprobs=3),
    ask(picture(32, 32, 1), "哪个更大？", top_logprobs=3),
    ask(picture(64, 64, 2), "Which colour?", top_logprobs=3, max_tokens=3),
    Request(messages=TURNS, max_tokens=8, top_logprobs=3),
]
DIGITS = tuple("123456789")  # a token each: there is but one spelling
CHOSEN = [ask(f"How many? {n}", choices=DIGITS, top_logprobs=9) for n in range(4)]
DRAWN = [ask("Draw.", temperature=1.0, seed=seed) for seed in (1, 1, 2)]
SPELLED = [ask("Which?", choices=("a red circle", "a red square"))]
BAD = [
    ask(Picture("f" * 32, picture(9, 9, 4).data[:-30]), "What?"),
    ask("word " * 1100),
    ask("word " * 1010, max_tokens=100),
    ask("A text with <image> in it."),
]
MANY = [ask(picture(9, 9, 5), picture(9, 9, 6), picture(9, 9, 7), "Which?")]
PARTS = {"greedy": GREEDY, "chosen": CHOSEN, "drawn": DRAWN, "spelled": SPELLED, "bad": BAD, "many": MANY}
FITTING = [ask(f"Describe it. {n}", schema=SCHEMA, max_tokens=60) for n in range(3)]


def flat(reply: Reply) -> list[float]:
    return [v for t in reply.tokens for v in (t.logprob, *(log for _, log in t.top))]


def test_vllm_answers_as_transformers_do(python: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = compose(TOWER, LANGUAGE, tokenizer="tiny", feature_layer=-1)
    model = made.build(seed=1)
    model.geometry = GRIDS
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter.mul_(3)
    folder = export(model, made, tmp_path / "model", card="")
    requests = [request for part in PARTS.values() for request in part]
    (tmp_path / "requests").write_bytes(pickle.dumps((folder, OPTIONS, requests, FITTING)))
    run_vllm(
        python, "vllm_engines.py", tmp_path / "requests", tmp_path / "answers",
        work=tmp_path, VLLM_ENABLE_V1_MULTIPROCESSING="1",
    )  # fmt: skip
    told = pickle.loads((tmp_path / "answers").read_bytes())

    mine = open_engine(f"transformers:{folder}", "cpu")
    ours = dict(mine.ask(requests))
    for found in (told["answers"], told["again"]):
        assert [place for place, _ in found] == list(range(len(requests)))
    theirs = dict(told["answers"])
    places = iter(range(len(requests)))
    of = {name: [next(places) for _ in part] for name, part in PARTS.items()}

    # greedy replies, and what is told of their tokens
    for place in of["greedy"]:
        one, other = ours[place], theirs[place]
        assert isinstance(one, Reply) and isinstance(other, Reply), (one, other)
        assert min(t.top[0][1] - t.top[1][1] for t in one.tokens) > MARGIN
        assert one[:4] == other[:4]
        assert flat(one) == pytest.approx(flat(other), abs=CLOSE)
        assert [t.text for t in one.tokens] == [t.text for t in other.tokens]
        assert dict(told["again"])[place] == other or flat(dict(told["again"])[place]) == pytest.approx(
            flat(other)
        )

    # choices: the same, and with log-probabilities among what is allowed
    for place in (*of["chosen"], *of["spelled"]):
        one, other = ours[place], theirs[place]
        assert isinstance(one, Reply) and isinstance(other, Reply), (one, other)
        assert checked(requests[place], other) == other
        assert place not in of["chosen"] or one.text == other.text
        if other.tokens:
            assert sum(math.exp(log) for _, log in other.tokens[0].top) == pytest.approx(1, abs=1e-3)

    # seeds
    first, second, third = (theirs[place].text for place in of["drawn"])
    assert first == second != third

    # refusals
    assert [reason(ours[p]) for p in of["bad"]] == [reason(theirs[p]) for p in of["bad"]]
    assert [reason(theirs[p]) for p in of["bad"]] == [
        "bad_picture", "prompt_too_long", "prompt_too_long", "refused",
    ]  # fmt: skip
    assert [reason(theirs[p]) for p in of["many"]] == ["refused"]

    # schemas, which transformers follow by xgrammar where it is
    assert [a.text for _, a in told["fitting"]] == [a.text for _, a in told["by transformers"]]

    assert told["identity"].model == mine.identity.model
    assert "vLLM" in told["killed"]


def reason(answer: Answer) -> str:
    assert isinstance(answer, Failure), answer
    return answer.reason
