"""Losses: against each model's own loss and the trainer's, what is scored, batches, and what has none."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vlms
import torch
from inputs import jpeg
from PIL import Image

from infinity_mm.engines import scoring
from infinity_mm.engines.base import EngineError, Failure
from infinity_mm.engines.scoring import Loss, Sample, Scorer, find_scorer, open_scorer
from infinity_mm.media.decode import decode_image
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.schema import Part, Turn
from trainers.batch import Document
from trainers.llava.documents import Encoding, Medium, join, lay_out
from trainers.llava.generate import open_answerer
from trainers.llava.tiles import tiles

EXACT = ((32, 32), (64, 64))  # sizes that no processor resizes for their grid
MAKERS: dict[str, Callable[[Path], Path]] = {"llava": tiny_vlms.llava, "qwen2_vl": tiny_vlms.qwen2_vl}


def png(seed: int, size: tuple[int, int]) -> bytes:
    return jpeg(seed, size, "PNG")


def talk(*said: str, pictures: Sequence[bytes] = (), system: str = "") -> Sample:
    """User and assistant in turn; the user shows the pictures first."""
    shown = tuple(Part("image", None, number) for number in range(len(pictures)))
    turns = [
        Turn(("user", "assistant")[at % 2], (*(shown if at == 0 else ()), Part("text", text)))
        for at, text in enumerate(said)
    ]
    return [*([Turn("system", (Part("text", system),))] if system else []), *turns], pictures


TALKS: dict[str, Sample] = {
    "words": talk("What is it?", "A circle."),
    "a picture": talk("What is it?", "A red circle.", pictures=[png(1, (32, 32))]),
    "a resized picture": talk("What is it?", "A wave.", pictures=[png(2, (90, 30))]),
    "several turns": talk(
        "What is it?", "A star.", "Which colour?", "It is blue, I think.", pictures=[png(3, (64, 64))]
    ),
    "system": talk("How many?", "Three.", system="Answer in a word."),
    "two pictures": talk("Which is larger?", "The second.", pictures=[png(4, (32, 32)), png(5, (32, 32))]),
    "Chinese": talk("图里有几个圆？", "有三个红色的圆形。", pictures=[png(6, (32, 32))]),
    "markers": talk("Is <image> a word? <|im_end|>", "<image> is one.", pictures=[png(7, (64, 64))]),
    "long": talk("Tell me all.", "It goes on and on. " * 12),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vlms")
    return {name: make(root / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="session")
def scorers(folders: dict[str, Path]) -> dict[str, Scorer]:
    torch.set_num_threads(1)
    return {name: open_scorer(str(folder), "cpu") for name, folder in folders.items()}


@pytest.fixture(params=list(MAKERS))
def scorer(request: pytest.FixtureRequest, scorers: dict[str, Scorer]) -> Scorer:
    return scorers[request.param]


def only(scored: Sequence[scoring.Scored]) -> Loss:
    [loss] = scored
    assert isinstance(loss, Loss), loss
    return loss


def by_hand(scorer: Scorer, sample: Sample) -> Loss:
    """The loss that transformers itself gives, its labels found by a search for the answers' tokens."""
    turns, pictures = sample
    processor = scorer.layout.processor
    messages = [
        {"role": turn.role, "content": [{"type": part.type, "text": part.text} for part in turn.parts]}
        for turn in turns
    ]
    text = processor.apply_chat_template(messages, tokenize=False)
    shown = [[Image.fromarray(decode_image(one).pixels) for one in pictures]] if pictures else None
    inputs = processor(text=[text], images=shown, return_tensors="pt", add_special_tokens=False)
    ids = inputs["input_ids"][0].tolist()
    opening = processor.tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    labels = torch.full((1, len(ids)), -100)
    for at in range(len(ids)):
        if ids[at : at + len(opening)] == opening:
            start = at + len(opening)
            stop = ids.index(end, start) + 1
            labels[0, start:stop] = inputs["input_ids"][0, start:stop]
    with torch.inference_mode():
        loss = scorer.model(**inputs, labels=labels).loss
    return Loss(float(loss), int((labels != -100).sum()))


@pytest.mark.parametrize("name", [name for name in TALKS if name != "markers"])
def test_a_loss_is_that_of_the_models_own_forward(scorer: Scorer, name: str) -> None:
    found, right = only(scorer.losses([TALKS[name]])), by_hand(scorer, TALKS[name])
    assert found.tokens == right.tokens
    assert found.mean == pytest.approx(right.mean, abs=1e-5)
    assert found.sum == pytest.approx(right.mean * right.tokens, rel=1e-5)


@pytest.mark.parametrize("name", list(TALKS))
def test_what_is_scored_is_what_the_assistant_says_and_its_end(scorer: Scorer, name: str) -> None:
    turns, pictures = TALKS[name]
    laid = scorer.layout.lay_out(turns, pictures)
    end = scorer.layout.chat.end_id
    scored = laid.tokens[laid.supervised]
    said = [turn.parts[0].text for turn in turns if turn.role == "assistant"]
    *answers, rest = np.split(scored, np.flatnonzero(scored == end) + 1)
    assert [scorer.layout.chat.decode(ids.tolist()) for ids in answers] == said
    assert not len(rest)


def test_what_is_shown_moves_a_loss(scorer: Scorer) -> None:
    asked = ("Which is larger?", "The first.")
    one, other = png(1, (32, 32)), png(2, (64, 64))
    talks = [talk(*asked, pictures=two) for two in ([one, other], [other, one], [one, one])]
    assert len({round(only([loss]).mean, 4) for loss in scorer.losses(talks)}) == 3


@pytest.mark.parametrize("name", [n for n in TALKS if n not in ("a resized picture",)])
def test_llava_losses_are_the_trainers(
    folders: dict[str, Path], scorers: dict[str, Scorer], name: str
) -> None:
    answerer = open_answerer(folders["llava"], "cpu")
    turns, pictures = TALKS[name]
    pixels = [decode_image(one).pixels for one in pictures]
    media = [Medium("image", one.shape[1], one.shape[0]) for one in pixels]
    geometry = answerer.model.geometry
    laid = lay_out(turns, media, Encoding(chat=answerer.chat, geometry=geometry))
    cut = [
        tiles([pixels[n]], v, geometry, answerer.fill) for v, n in zip(laid.visuals, laid.media, strict=True)
    ]
    nothing = np.zeros((0, 3, geometry.side, geometry.side), np.uint8)
    document = Document(b"", 0, laid.tokens, laid.supervised, laid.visuals, np.concatenate([nothing, *cut]))
    with torch.inference_mode():
        losses_S = answerer.model(join([document], geometry.side))
    found = only(scorers["llava"].losses([TALKS[name]]))
    assert found.tokens == len(losses_S)
    assert found.mean == pytest.approx(float(losses_S.mean()), abs=1e-5)


def test_neighbours_move_a_loss_by_rounding_alone(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [only(scorer.losses([sample])) for sample in TALKS.values()]
    together = scorer.losses(list(TALKS.values()))
    backward = scorer.losses(list(TALKS.values())[::-1])[::-1]
    monkeypatch.setattr(scoring, "WINDOW", 4)
    monkeypatch.setattr(scoring, "SCORED", 20)
    monkeypatch.setattr(scoring, "CHUNK", 3)
    apart = scorer.losses(list(TALKS.values()))
    for found in (together, backward, apart):
        for one, right in zip(found, alone, strict=True):
            assert isinstance(one, Loss)
            assert one.tokens == right.tokens
            assert one.mean == pytest.approx(right.mean, abs=1e-5)
    assert scorer.losses(list(TALKS.values())) == apart


def test_a_sample_without_a_loss_says_why_and_costs_itself(scorer: Scorer) -> None:
    good = TALKS["a picture"]
    lacking = [Turn("user", (Part("image", None, None), Part("text", "?"))), Turn("assistant", ())]
    clip = [Turn("user", (Part("video", None, 0),)), Turn("assistant", (Part("text", "A wave."),))]
    bad: list[tuple[Sample, str]] = [
        (talk("What?", "It.", pictures=[png(1, (64, 64))[:-40]]), "truncated"),
        (talk("What?", "It.", pictures=[b"<html></html>"]), "html"),
        (talk("What?", "many words " * 300), "too_long"),
        (talk("What?"), "no_answer"),
        ((lacking, []), "bad_conversation"),
        ((clip, [b""]), "video"),
    ]
    found = scorer.losses([good, *(sample for sample, _ in bad), good])
    assert [one.reason for one in found if isinstance(one, Failure)] == [reason for _, reason in bad]
    assert isinstance(found[0], Loss)
    assert found[0] == found[-1]
    [long] = [one for one in found if isinstance(one, Failure) and one.reason == "too_long"]
    assert str(tiny_vlms.CONTEXT) in long.detail


def test_a_template_that_refuses_fails_the_sample(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["qwen2_vl"], tmp_path / "strict")
    refusing = (
        "{% if messages|length > 4 %}{{ raise_exception('no more') }}{% endif %}" + tiny_vlms.QWEN_TEMPLATE
    )
    (folder / "chat_template.jinja").write_text(refusing, encoding="utf-8")
    found = open_scorer(str(folder), "cpu").losses(
        [talk("?", "No."), talk("?", "No.", "?", "No.", "?", "No.")]
    )
    assert isinstance(found[0], Loss)
    assert isinstance(found[1], Failure)
    assert found[1].reason == "bad_conversation"
    assert "no more" in found[1].detail


def test_a_loss_that_is_no_number_is_a_failure(scorers: dict[str, Scorer]) -> None:
    scorer = scorers["qwen2_vl"]
    weight = scorer.model.get_output_embeddings().weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[5] = float("nan")
    try:
        [found] = scorer.losses([TALKS["words"]])
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert isinstance(found, Failure)
    assert found.reason == "not_finite"


class Fussy:
    """A model that takes rows of at most so many, or none."""

    def __init__(self, model: Any, error: Exception, most: int) -> None:
        self.model, self.error, self.most, self.sizes = model, error, most, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **inputs: Any) -> Any:
        self.sizes.append(len(inputs["input_ids"]))
        if self.sizes[-1] > self.most:
            raise self.error
        return self.model(**inputs)


def test_what_needs_more_memory_than_there_is_is_halved(
    scorers: dict[str, Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorers["llava"]
    samples = [talk("What?", f"It is number {number}.") for number in range(6)]
    right = scorer.losses(samples)
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
    fussy = Fussy(scorer.model, full, 2)
    monkeypatch.setattr(scorer, "model", fussy)
    found = scorer.losses(samples)
    assert fussy.sizes[0] == 6
    assert max(fussy.sizes[1:]) == 3
    for one, other in zip(found, right, strict=True):
        assert isinstance(one, Loss) and isinstance(other, Loss)
        assert one.mean == pytest.approx(other.mean, abs=1e-5)
    monkeypatch.setattr(scorer, "model", Fussy(fussy.model, full, 0))
    assert {one.reason for one in scorer.losses(samples) if isinstance(one, Failure)} == {"out_of_memory"}
    monkeypatch.setattr(scorer, "model", Fussy(fussy.model, RuntimeError("shapes differ"), 0))
    assert {one.reason for one in scorer.losses(samples) if isinstance(one, Failure)} == {"refused"}
    monkeypatch.setattr(scorer, "model", Fussy(fussy.model, RuntimeError("CUDA error: device-side"), 0))
    with pytest.raises(EngineError, match="device-side"):
        scorer.losses(samples)


def test_batches_hold_as_many_tokens_as_they_may(
    scorers: dict[str, Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorers["llava"]
    fussy = Fussy(scorer.model, ValueError(), 99)
    monkeypatch.setattr(scorer, "model", fussy)
    samples = [talk("?", "word " * (number % 7 + 1)) for number in range(20)]
    lengths = sorted(len(scorer.layout.lay_out(*sample).tokens) for sample in samples)
    monkeypatch.setattr(scorer, "batch", 5 * lengths[-1])
    assert len(scorer.losses(samples)) == 20
    assert sum(fussy.sizes) == 20
    assert 3 <= len(fussy.sizes) <= 4
    assert scorer.losses([]) == []


def test_the_small_model_finds_what_is_wrong_less_likely(tmp_path: Path) -> None:
    kinds = ("caption", "colour", "shape", "count", "exists")
    make_scenes(
        ScenesConfig(
            out=tmp_path / "scenes", count=80, seed=5, kinds=kinds, multi_turn_share=0, video_share=0,
            multi_image_share=0, text_only_share=0,
        )
    )  # fmt: skip
    records = json.loads((tmp_path / "scenes/data.json").read_text())
    truth = [json.loads(line) for line in (tmp_path / "scenes/truth.jsonl").read_text().splitlines()]
    said: list[Sample] = []
    for record, of in zip(records, truth, strict=True):
        own = of["answers"][0]
        others = [
            t["answers"][0]["text"]
            for t in truth
            if (t["kind"], t["language"]) == (of["kind"], of["language"])
            and t["answers"][0]["value"] != own["value"]
        ]
        question = record["conversations"][-2]["value"].removeprefix("<image>\n")
        picture = (tmp_path / "scenes" / record["image"]).read_bytes()
        for answer in (own["text"], *others[:1]) if others else ():
            said.append(talk(question, answer, pictures=[picture]))
    found = open_scorer("tiny", "cpu").losses(said)
    assert all(isinstance(one, Loss) for one in found)
    right, wrong = (np.array([one.mean for one in found[at::2] if isinstance(one, Loss)]) for at in (0, 1))
    assert (wrong > right).mean() > 0.9
    assert np.median(wrong) > 3 * np.median(right)


def test_pictures_are_shrunk_where_that_is_asked_for(folders: dict[str, Path]) -> None:
    folder = folders["qwen2_vl"]
    small = open_scorer(f"{folder}?pixels=1024", "cpu")
    sample = talk("What?", "It.", pictures=[png(1, (128, 64))])
    plain = open_scorer(str(folder), "cpu")
    assert len(small.layout.lay_out(*sample).tokens) < len(plain.layout.lay_out(*sample).tokens)
    assert small.identity != plain.identity


def test_identity_is_of_the_files_wherever_they_lie(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders["llava"], tmp_path / "copy")
    one, other = find_scorer(str(folders["llava"]), "cpu").identity, find_scorer(str(copy), "cpu").identity
    assert one == other
    assert (one.dtype, one.device) == ("float32", "cpu")
    assert "transformers" in one.libraries
    (copy / "chat_template.jinja").write_text("another")
    assert find_scorer(str(copy), "cpu").identity.key != one.key


def test_what_is_no_scorer_is_said(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scorer /no/where: there is no such folder"):
        find_scorer("/no/where")
    with pytest.raises(ValueError, match="its one option is"):
        find_scorer(f"{folders['llava']}?size=3")
    with pytest.raises(ValueError, match="give 1 token or more"):
        open_scorer(str(folders["llava"]), "cpu", batch=0)
    bare = shutil.copytree(folders["qwen2_vl"], tmp_path / "bare")
    (bare / "chat_template.jinja").write_text("{{ messages[0]['role'] }}")
    with pytest.raises(ValueError, match=f"scorer {bare}: "):
        open_scorer(str(bare), "cpu")
    odd = shutil.copytree(folders["qwen2_vl"], tmp_path / "odd")
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(ValueError, match="transformers can't load"):
        open_scorer(str(odd), "cpu")
