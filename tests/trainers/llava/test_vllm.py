"""Exported folders served by real vLLM: the same greedy answers as ours and transformers', and what vLLM sees
otherwise.

Random weights answer with near-ties, which rounding decides: their logits lie a few hundredths apart, and a
resized pixel is one step of 255 more in one library than in another. So the model is taught an answer of
random tokens to each question first, in seconds: then every token of an answer is ahead of the next likeliest
by a margin that is asserted, and what tells questions apart are their pictures. Log probabilities are
compared too: what is seen otherwise moves them long before it moves an answer.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from vllm_python import run_vllm, vllm_python

from infinity_mm.image_tokens import Geometry, Visual
from infinity_mm.models.shipped import TINY_VLM
from infinity_mm.scenes.draw import picture as draw
from infinity_mm.scenes.questions import ask
from infinity_mm.scenes.world import draw_shapes
from infinity_mm.schema import Part, Turn
from trainers.batch import Document
from trainers.llava.compose import Composition, compose
from trainers.llava.documents import join
from trainers.llava.export import export
from trainers.llava.generate import Answerer, Question, Sampling, open_answerer
from trainers.llava.model import Llava
from trainers.llava.tiles import tiles

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
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
GRIDS = Geometry(32, 8, ((32, 32), (32, 64), (64, 32), (64, 64)))  # a recipe's grid of 2
EXACT = ((32, 32), (64, 64))  # width and height of pictures that no processor resizes for their grid
RESIZED = ((90, 30), (40, 77), (200, 150), (17, 9))
MARGIN = 2.0  # by which each token of an answer is ahead of the next likeliest, in nats
CLOSE = (
    1e-4  # log probabilities; zeros as newlines or pixels off by 2 of 255 move them by more, rounding by 2e-5
)


@pytest.fixture
def python() -> str:
    return vllm_python()


def picture(size: tuple[int, int]) -> np.ndarray:
    """Waves of three colours, other ones for each size."""
    down, across = np.mgrid[: size[1], : size[0]]
    waves = np.random.default_rng(size).uniform(0.02, 0.3, (3, 3))
    shown = [np.sin(right * across + below * down + 20 * shift) for right, below, shift in waves]
    return np.stack([(127.5 + 127.5 * wave).round().astype(np.uint8) for wave in shown], axis=-1)


def frame(number: int) -> np.ndarray:
    return picture((40 + number, 30))[:, :40]


def pictured(text: str, *sizes: tuple[int, int]) -> Question:
    parts = (*(Part("image", None, number) for number in range(len(sizes))), Part("text", text))
    return Question((Turn("user", parts),), tuple([picture(s)] for s in sizes), ("image",) * len(sizes))


def clip(frames: int) -> Question:
    parts = (Part("video", None, 0), Part("text", "What happens?"))
    return Question((Turn("user", parts),), ([frame(number) for number in range(frames)],), ("video",))


SAME = {
    **{f"{w}×{h}": pictured("What is it?", (w, h)) for w, h in (*EXACT, *RESIZED)},
    "words alone": pictured("What is it?"),
    "Chinese": pictured("图里有几个圆？它们是什么颜色的？", (50, 50)),
    "several turns": Question(
        (
            Turn("user", (Part("image", None, 0), Part("text", "What is it?"))),
            Turn("assistant", (Part("text", "A wave."),)),
            Turn("user", (Part("text", "Which colour?"),)),
        ),
        ([picture((64, 32))],),
        ("image",),
    ),
    "clip": clip(5),
}
SEVERAL = pictured("Which is larger?", (32, 32), (64, 32), (64, 64))


def about_scenes(count: int) -> dict[str, tuple[Question, str]]:
    """Questions that want a word, about scenes, and the right words."""
    rng = np.random.default_rng(950_000)
    found = {}
    for number in range(count):
        scene = draw_shapes(rng, 64, 1 + number % 4)
        made = ask(scene, ("colour", "shape", "count")[number % 3], "en", rng)
        if made is not None:
            parts = (Part("image", None, 0), Part("text", f"{made.question} Answer with one word."))
            question = Question((Turn("user", parts),), ([np.asarray(draw(scene))],), ("image",))
            found[f"{number}: {made.question}"] = (question, made.brief(made.value))
    return found


def each_alone(answerer: Answerer, question: Question) -> Document:
    """A question whose pictures are each cut as if they were alone in their sample."""
    geometry = answerer.model.geometry
    encoded = answerer.chat.encode(question.turns, prompt=True)
    visuals = tuple(
        Visual("single", frames[0].shape[1], frames[0].shape[0])
        for frames in (question.media[n] for _, n in encoded.media)
    )
    repeats = np.ones(len(encoded.tokens), np.int64)
    repeats[[place for place, _ in encoded.media]] = [geometry.tokens(visual) for visual in visuals]
    cut = [tiles(f, v, geometry, answerer.fill) for f, v in zip(question.media, visuals, strict=True)]
    tokens = np.repeat(encoded.tokens, repeats)
    return Document(b"", 0, tokens, np.zeros(len(tokens), bool), visuals, np.concatenate(cut))


def answered(document: Document, ids: Sequence[int]) -> Document:
    """A question with an answer, which alone is supervised."""
    return document._replace(
        tokens=np.concatenate([document.tokens, np.array(ids, np.int32)]),
        supervised=np.arange(len(document.tokens) + len(ids)) >= len(document.tokens),
    )


def taught(made: Composition, end: int) -> Llava:
    """A model that answers each question with random tokens of its own."""
    model = made.build(seed=0)
    answerer = Answerer(model, made)
    asked = [*(answerer.document(q) for q in (*SAME.values(), SEVERAL)), each_alone(answerer, SEVERAL)]
    answers = np.random.default_rng(0).integers(300, 4000, (len(asked), 6)).tolist()
    pack = join([answered(d, [*ids, end]) for d, ids in zip(asked, answers, strict=True)], GRIDS.side)
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=2e-3)
    for _ in range(40):
        loss = model(pack).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def told(answerer: Answerer, document: Document) -> tuple[list[int], list[float], float]:
    """Our greedy answer with its end, the log probability of each token, and the least margin."""
    (ids,) = answerer.tokens([document], Sampling(most=12))
    pack = join([answered(document, [*ids, answerer.chat.end_id])], GRIDS.side)
    with torch.inference_mode():
        logs_SV = answerer.model.logits(pack)[pack.target_at_S].log_softmax(-1)
    best = logs_SV.topk(2).values
    chosen = logs_SV.gather(1, pack.targets_S[:, None])[:, 0]
    return pack.targets_S.tolist(), chosen.tolist(), float((best[:, 0] - best[:, 1]).min())


def approx(values: Sequence[float]) -> Any:
    return pytest.approx(values, abs=CLOSE)


def url(kind: str, frames: Sequence[np.ndarray]) -> str:
    """Pictures as a data URL: one, or a clip's frames, which vLLM takes under the name of JPEG alone."""
    pieces = []
    for pixels in frames:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        pieces.append(base64.b64encode(file.getvalue()).decode())
    return f"data:{'image/png' if kind == 'image' else 'video/jpeg'};base64,{','.join(pieces)}"


def message(turn: Turn, question: Question) -> dict[str, Any]:
    """A turn as OpenAI's API has it."""
    content: list[dict[str, Any]] = []
    for part in turn.parts:
        if part.media is None:
            content.append({"type": "text", "text": part.text})
        else:
            name = f"{part.type}_url"
            content.append({"type": name, name: {"url": url(part.type, question.media[part.media])}})
    return {"role": turn.role, "content": content}


def ask_vllm(python: str, asked: Mapping[Path, Sequence[Question]], work: Path) -> list[list[Any]]:
    """Each folder's prompts, answers and their log probabilities, by vLLM."""
    said = [
        {"folder": str(folder), "batches": [[[message(t, q) for t in q.turns] for q in b] for b in questions]}
        for folder, questions in asked.items()
    ]
    (work / "questions.json").write_text(json.dumps(said), encoding="utf-8")
    run_vllm(python, "vllm_answers.py", work / "questions.json", work / "answers.json", work=work)
    found: list[list[Any]] = json.loads((work / "answers.json").read_text(encoding="utf-8"))
    return found


def ask_transformers(folder: Path, questions: Mapping[str, Question]) -> dict[str, list[int]]:
    """Greedy answers with their ends, by transformers."""
    from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    found = {}
    for name, question in questions.items():
        messages = [
            {"role": turn.role, "content": [{"type": part.type, "text": part.text} for part in turn.parts]}
            for turn in question.turns
        ]
        prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
        media: dict[str, Any] = {}
        if "image" in question.kinds:
            media = {"images": [[Image.fromarray(frames[0]) for frames in question.media]]}
        elif "video" in question.kinds:
            media = {"videos": [np.stack(frames) for frames in question.media]}
        inputs = processor(text=[prompt], return_tensors="pt", **media)
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]
        found[name] = ids[inputs["input_ids"].shape[1] :].tolist()
    return found


def test_vllm_serves_an_exported_folder(python: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = replace(compose(TOWER, LANGUAGE, tokenizer="tiny", feature_layer=-1), geometry=GRIDS)
    model = taught(made, made.tokens.chat.end_id)
    folder = export(model, made, tmp_path / "model", card="")
    model.geometry = GRIDS._replace(limit=1)
    shrunk = export(model, made, tmp_path / "shrunk", card="")
    within, beyond = SAME["32×32"], SAME["64×64"]  # the limit of one tile
    batches = [[*SAME.values(), SEVERAL], [clip(32)], [clip(33)]]  # clips of several lengths in one stop vLLM
    scenes = about_scenes(24)
    (*same, several, whole, long), others, words = ask_vllm(
        python,
        {folder: batches, shrunk: [[within, beyond]], TINY_VLM: [[q for q, _ in scenes.values()]]},
        tmp_path,
    )

    # what is the same: prompts, greedy answers, their probabilities
    ours = open_answerer(folder, "cpu")
    asked = {name: ours.document(question) for name, question in SAME.items()}
    mine = {name: told(ours, document) for name, document in asked.items()}
    assert min(margin for _, _, margin in mine.values()) > MARGIN
    answers = {name: ids for name, (ids, _, _) in mine.items()}
    assert len(set(map(tuple, answers.values()))) == len(SAME)
    theirs = dict(zip(SAME, same, strict=True))
    assert {name: ids for name, (_, ids, _) in theirs.items()} == answers
    assert ask_transformers(folder, SAME) == answers
    tokens = {name: document.tokens.tolist() for name, document in asked.items()}
    alias = {made.tokens.video: made.tokens.image}  # a clip's features have a token of their own there
    assert {name: [alias.get(t, t) for t in prompt] for name, (prompt, _, _) in theirs.items()} == tokens
    assert {name: logs for name, (_, _, logs) in theirs.items()} == {
        name: approx(logs) for name, (_, logs, _) in mine.items()
    }

    # each of several pictures is seen as if it were alone
    document = each_alone(ours, SEVERAL)
    assert several == [document.tokens.tolist(), *map(approx, told(ours, document)[:2])]
    assert several[1] != told(ours, ours.document(SEVERAL))[0]

    # of a clip longer than 32 frames others are seen
    assert whole[2] == approx(told(ours, ours.document(clip(32)))[1])
    assert len(long[0]) == len(ours.document(clip(33)).tokens)
    assert long[2] != approx(told(ours, ours.document(clip(33)))[1])

    # pictures are cut and shrunk as with most_tiles 9, whatever it is
    assert [other[:2] for other in others] == [theirs[name][:2] for name in ("32×32", "64×64")]
    limited = open_answerer(shrunk, "cpu")
    assert len(limited.document(within).tokens) == len(others[0][0])
    assert len(limited.document(beyond).tokens) < len(others[1][0])

    # the model that ships answers the same everywhere, and mostly right
    tiny = open_answerer(TINY_VLM, "cpu")
    ids = [told(tiny, tiny.document(question))[0] for question, _ in scenes.values()]
    assert [one[1] for one in words] == ids
    assert list(ask_transformers(TINY_VLM, {name: q for name, (q, _) in scenes.items()}).values()) == ids
    spoken = [tiny.chat.decode(one[:-1]).strip() for one in ids]
    right = sum(said == word for said, (_, word) in zip(spoken, scenes.values(), strict=True))
    assert right >= 0.9 * len(scenes)
