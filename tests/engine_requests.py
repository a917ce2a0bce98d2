"""What engines are compared on: requests, each part of which tells another thing, and a synthesis."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infinity_mm.engines.base import Message, Picture, Request
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.stage import run

SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}
DIGITS = tuple("123456789")  # a token each: there is but one spelling


def picture(width: int, height: int, seed: int) -> Picture:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return Picture(f"{seed:032x}", file.getvalue())


def ask(*parts: str | Picture, **options: Any) -> Request:
    return Request(messages=(Message("user", parts),), **{"max_tokens": 8, **options})


TURNS = (
    Message("system", ("Be brief.",)),
    Message("user", (picture(33, 40, 3), "What is it?")),
    Message("assistant", ("Noise.",)),
    Message("user", ("Which ", "colour?")),
)
PARTS: dict[str, list[Request]] = {
    "greedy": [
        ask("What?", top_logprobs=3),
        ask(picture(60, 40, 0), "How many are there?", top_logprobs=3),
        ask(picture(32, 32, 1), "哪个更大？", top_logprobs=3),
        ask(picture(64, 64, 2), "Which colour?", top_logprobs=3, max_tokens=3),
        Request(messages=TURNS, max_tokens=8, top_logprobs=3),
    ],
    "chosen": [ask(f"How many? {n}", choices=DIGITS, top_logprobs=9) for n in range(4)],
    "drawn": [ask("Draw.", temperature=2.0, seed=seed) for seed in (1, 1, 2)],
    "spelled": [ask("Which?", choices=("a red circle", "a red square"))],
    "fitting": [ask(f"Describe it. {n}", schema=SCHEMA, max_tokens=60) for n in range(3)],
    "bad": [
        ask(Picture("f" * 32, picture(9, 9, 4).data[:-30]), "What?"),
        ask("word " * 1100),
        ask("word " * 1010, max_tokens=100),
        ask("A text with <image> in it."),
    ],
    "many": [ask(picture(9, 9, 5), picture(9, 9, 6), picture(9, 9, 7), "Which?")],
}
REQUESTS = [request for part in PARTS.values() for request in part]
PLACES = {
    name: range(start, start + len(part))
    for (name, part), start in zip(
        PARTS.items(), np.cumsum([0, *map(len, PARTS.values())]).tolist(), strict=False
    )
}
SETTINGS: dict[str, Any] = {
    "prompts": "scenes", "types": "scenes", "blind": "text", "questions": 2, "max_answer": 24,
}  # fmt: skip


def synthesized(store: Path, name: str, engine: str, **settings: Any) -> dict[str, Any]:
    """`imm synthesize` on the store."""
    given = {**SETTINGS, "store": str(store), "manifest": "raw", "out": name, "engine": engine, **settings}
    return run(SynthesizeConfig(**given))
