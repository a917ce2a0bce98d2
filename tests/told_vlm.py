"""A small model that was taught what an engine of the tests says, and the store it was taught on.

Every request of a synthesis is taught with its reply, so that the model's own synthesis has accepted pairs
and refused ones, and every token it says is far ahead of the next likeliest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from engine_requests import synthesized
from talking import Scripted
from tiny_llava import composition
from tokenizers import Tokenizer

from infinity_mm.cli import main
from infinity_mm.engines.base import ENGINES, Answer, Message, Picture, Reply, Request
from infinity_mm.image_tokens import Geometry
from infinity_mm.media.decode import decode_image
from infinity_mm.models.tokenizer import FILE
from infinity_mm.schema import Part, Turn
from trainers.batch import Document
from trainers.llava.documents import join
from trainers.llava.export import export
from trainers.llava.generate import Answerer, Question

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
TOWER = {
    "model_type": "siglip_vision_model",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
GRIDS = Geometry(32, 8, ((32, 32), (32, 64), (64, 32), (64, 64)))
PICTURES = 8
STEPS, AT_ONCE = 150, 24


class Told(NamedTuple):
    """The exported folder, and the store with a manifest `raw` of PICTURES pictures."""

    folder: Path
    store: Path


class Teacher(Scripted):
    """Says of every other picture that replies about it are bad; remembers what it said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, tuple[Request, Reply]] = {}

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for place, request in enumerate(requests):
            reply = self.reply(request)
            self.said[request.key] = (request, reply)
            yield place, reply

    def reply(self, request: Request) -> Reply:
        shown = [part for message in request.messages for part in message.parts if isinstance(part, Picture)]
        good = not shown or int(shown[-1].id, 16) % 2 == 0
        told = self.say(request)
        assert isinstance(told, Reply)
        if request.choices:
            return told._replace(text=request.choices[0], tokens=())
        if told.text == "9":
            return told._replace(text="9" if good else "2", tokens=())
        return told if told.text not in ("Red", "Blue") else told._replace(text="Red" if good else "Blue")


def told_vlm(folder: Path) -> Told:
    """Draw pictures, have them talked about, and teach a model what was said."""
    store = folder / "store"
    drawn = ["--count", str(PICTURES), "--size", "32", "--video-share", "0", "--multi-image-share", "0"]
    shares = ["--text-only-share", "0", "--chinese-share", "0", "--png-share", "1", "--seed", "3"]
    assert main(["scenes", "--out", str(folder / "scenes"), *drawn, *shares]) == 0
    ingest = ["ingest", str(folder / "scenes" / "data.json"), "--out", "raw", "--store", str(store)]
    assert main([*ingest, "--source", "scenes", "--workers", "0"]) == 0
    teacher = Teacher()
    ENGINES["teacher"] = lambda rest, device, options: teacher
    try:
        synthesized(store, "by_teacher", "teacher")
    finally:
        del ENGINES["teacher"]
    return Told(taught(list(teacher.said.values()), folder / "model"), store)


def taught(said: Sequence[tuple[Request, Reply]], folder: Path) -> Path:
    made = replace(composition(tower=TOWER, language=LANGUAGE, feature_layer=-1), geometry=GRIDS)
    model = made.build(seed=0)
    answerer = Answerer(model, made)
    end = made.tokens.chat.end_id
    documents = [answered(answerer, request, reply, end) for request, reply in said]
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=3e-3)
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, 2 * (1 - step / STEPS))
        some = rng.choice(len(documents), min(AT_ONCE, len(documents)), replace=False)
        loss = model(join([documents[i] for i in some], GRIDS.side)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return export(model, made, folder, card="")


def answered(answerer: Answerer, request: Request, reply: Reply, end: int) -> Document:
    """A request with its reply, which alone is supervised."""
    pictures = [part for message in request.messages for part in message.parts if isinstance(part, Picture)]
    media = iter(range(len(pictures)))
    turns = tuple(turn(message, media) for message in request.messages)
    shown = tuple([decode_image(picture.data).pixels] for picture in pictures)
    document = answerer.document(Question(turns, shown, ("image",) * len(shown)))
    ids = [*Tokenizer.from_file(str(FILE)).encode(reply.text, add_special_tokens=False).ids, end]
    tokens = np.concatenate([document.tokens, np.array(ids, np.int32)])
    return document._replace(tokens=tokens, supervised=np.arange(len(tokens)) >= len(document.tokens))


def turn(message: Message, media: Iterator[int]) -> Turn:
    parts = tuple(
        Part("image", None, next(media)) if isinstance(part, Picture) else Part("text", part)
        for part in message.parts
    )
    return Turn(message.role, parts)
