"""`imm eval` asks an Emu3: the same prompts and answers as `imm generate --image`."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_painter import exported

from infinity_mm.cli import main
from infinity_mm.schema import Part, Turn
from trainers.emu3.generate import Painter, open_painter
from trainers.emu3.questions import Answers
from trainers.llava.generate import Question, Sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def painter(folder: Path) -> Painter:
    return open_painter(folder, "cpu")


def question(text: str, pixels: np.ndarray) -> Question:
    parts = (Part("image", None, 0), Part("text", text))
    return Question((Turn("system", (Part("text", "Look."),)), Turn("user", parts)), ([pixels],), ("image",))


def test_answers_are_those_of_one_question_at_a_time(painter: Painter) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (16, 32, 3), np.uint8) for _ in range(3)]
    words = ["What is it?", "Which colour does it have?", "How many?"]
    asked = Answers(painter)
    documents = [asked.document(question(*pair)) for pair in zip(words, pictures, strict=True)]
    said = [asked.chat.decode(ids).strip() for ids in asked.tokens(documents, Sampling(most=8))]
    alone = [painter.ask(w, [p], system="Look.", most=8) for w, p in zip(words, pictures, strict=True)]
    assert said == [one.text for one in alone] and len(set(said)) > 1
    assert [len(document.tokens) for document in documents] == [one.prompt_tokens for one in alone]


def test_a_clip_is_not_asked_about(painter: Painter) -> None:
    turns = (Turn("user", (Part("video", None, 0),)),)
    with pytest.raises(ValueError, match="an Emu3 is asked about pictures, and this shows a clip"):
        Answers(painter).document(Question(turns, ([np.zeros((16, 16, 3), np.uint8)] * 4,), ("video",)))


def test_the_command_scores_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn, store = tmp_path / "drawn", str(tmp_path / "store")
    still = ["--multi-image-share=0", "--text-only-share=0", "--video-share=0", "--multi-turn-share=0"]
    assert main(["scenes", "--out", str(drawn), "--count=12", "--size=32", *still, "--kinds", "colour"]) == 0
    assert main(["ingest", str(drawn / "data.json"), "--out", "raw", "--store", store, "--workers", "0"]) == 0
    capsys.readouterr()
    asked = ["eval", "--model", str(folder), "--manifest", "raw", "--store", store, "--max-tokens", "4"]
    assert main([*asked, "--truth", str(drawn / "truth.jsonl"), "--control", "none", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["questions"] == 12 and not told["failed"] and told["controls"]["none"]["questions"] == 12
