"""Questions of a manifest, asked of one that knows all answers; and the two commands that ask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_llava import composition

from infinity_mm.cli import main
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from trainers.batch import Document
from trainers.llava.evaluate import Asking, Item, evaluate, items, wrong_pictures
from trainers.llava.export import export
from trainers.llava.generate import Question


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    assert main(["scenes", "--out", str(folder / "drawn"), "--count", "60", "--seed", "3"]) == 0
    where = ["--store", str(folder / "store"), "--workers", "0"]
    assert main(["ingest", str(folder / "drawn" / "data.json"), "--out", "raw", *where]) == 0
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = composition()
    return export(made.build(seed=1), made, tmp_path_factory.mktemp("model") / "m", card="")


class Oracle:
    """Stands in for Answerer: says right answers, or "blind" where all that it is shown is gray.

    A document's id is the question's number; its length is the question's.
    """

    def __init__(self, asked: list[Item]) -> None:
        self.right = [item.right for item in asked]
        self.of = {item.turns: number for number, item in enumerate(asked)}
        self.chat = self

    def document(self, question: Question) -> Document:
        frames = [frame for frames in question.media for frame in frames if frame.size > 3]
        blind = bool(frames) and all((frame == 127).all() for frame in frames)
        tokens = np.zeros(len(str(question.turns)), np.int32)
        number = -1 if blind else self.of[question.turns]
        return Document(number.to_bytes(8, "big", signed=True), 0, tokens, tokens > 0, (), tokens)

    def tokens(self, documents: list[Document], sampling: Any) -> list[list[int]]:
        lengths = [len(document.tokens) for document in documents]
        assert lengths == sorted(lengths)
        return [[int.from_bytes(document.sample_id, "big", signed=True)] for document in documents]

    def decode(self, ids: list[int]) -> str:
        return "blind" if ids[0] < 0 else self.right[ids[0]]


def opened(scenes: Path) -> Manifest:
    return Manifest.open(Store.open(str(scenes / "store")), "raw")


def distinct(asked: list[Item]) -> list[Item]:
    """Without questions that are asked of several pictures, which the oracle could not tell apart."""
    return list({item.turns: item for item in asked}.values())


def test_all_assistant_turns_are_asked_with_the_turns_before_them(scenes: Path) -> None:
    asked = items(opened(scenes), truth=scenes / "drawn" / "truth.jsonl")
    truths = [json.loads(line) for line in (scenes / "drawn" / "truth.jsonl").read_text().splitlines()]
    want = sorted(answer["text"] for truth in truths for answer in truth["answers"])
    assert sorted(item.right for item in asked) == want
    assert all(item.turns[-1].role == "user" for item in asked)
    assert max(len(item.turns) for item in asked) >= 3
    assert all(item.truth is not None for item in asked)


def test_without_a_truth_the_type_is_a_field_or_the_source(scenes: Path) -> None:
    manifest = opened(scenes)
    sources = {item.type for item in items(manifest)}
    assert sources == set(manifest.document["sources"])
    assert "scene-3-0000007" in {item.type for item in items(manifest, by="id")}
    assert {item.type for item in items(manifest, by="nothing")} == {"other"}
    assert len(items(manifest, limit=5)) == 5


def test_a_model_that_knows_everything_is_right_and_blind_without_pictures(scenes: Path) -> None:
    manifest = opened(scenes)
    asked = distinct(items(manifest, truth=scenes / "drawn" / "truth.jsonl"))
    oracle: Any = Oracle(asked)
    result, outcomes = evaluate(oracle, manifest, asked, ["none"], Asking(batch=7))
    assert result["questions"] == len(asked)
    assert result["exact"] == result["normalised"] == result["value"] == 1
    assert sum(row["questions"] for row in result["types"].values()) == len(asked)
    assert result["failed"] == []
    blind = result["controls"]["none"]
    assert blind["questions"] == sum(bool(item.media) for item in asked) < len(asked)
    assert blind["exact"] == 0
    assert len(outcomes) == len(asked) + blind["questions"]


def test_wrong_pictures_have_another_answer(scenes: Path) -> None:
    asked = items(opened(scenes), truth=scenes / "drawn" / "truth.jsonl")
    wrong = wrong_pictures(asked, 0)
    assert len(wrong) > 20
    by_media: dict[tuple[bytes, ...], list[Item]] = {}
    for item in asked:
        by_media.setdefault(item.media, []).append(item)
    for number, media in wrong.items():
        item = asked[number]
        assert media != item.media and len(media) == len(item.media) and item.truth is not None
        others = [other for other in by_media[media] if other.type == item.type and other.truth is not None]
        assert any(other.truth.value != item.truth.value for other in others if other.truth is not None)


def test_what_cannot_be_read_is_told(scenes: Path) -> None:
    manifest = opened(scenes)
    asked = distinct(items(manifest))
    gone = next(item.media[0] for item in asked if item.media)
    manifest.withdrawn = manifest.withdrawn._replace(ids=frozenset([gone]))
    oracle: Any = Oracle(asked)
    result, _ = evaluate(oracle, manifest, asked)
    lost = sum(gone in item.media for item in asked)
    assert len(result["failed"]) == lost > 0 and result["questions"] == len(asked) - lost


def test_withdrawn_samples_are_not_asked(scenes: Path) -> None:
    manifest = opened(scenes)
    asked = items(manifest)
    gone = asked[0].sample_id
    manifest.withdrawn = manifest.withdrawn._replace(ids=frozenset([gone]))
    left = items(manifest)
    assert gone not in {item.sample_id for item in left}
    assert len(left) == sum(item.sample_id != gone for item in asked)


def test_a_truth_of_other_scenes_is_refused(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.jsonl").write_text("")
    with pytest.raises(ValueError, match="knows none of the manifest's samples"):
        items(opened(scenes), truth=tmp_path / "truth.jsonl")


def test_on_the_command_line(
    scenes: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    common = ["--model", str(model), "--max-tokens", "4"]
    wanted = ["--manifest", "raw", "--store", str(scenes / "store"), "--limit", "12"]
    truth = ["--truth", str(scenes / "drawn" / "truth.jsonl"), "--control", "none", "--control", "wrong"]
    file = tmp_path / "answers.jsonl"
    assert main(["eval", *common, *wanted, *truth, "--answers", str(file), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {
        *("model", "manifest", "digest", "questions", "exact", "normalised", "value", "types"),
        *("controls", "failed"),
    }
    assert result["questions"] == 12 and set(result["controls"]) == {"none", "wrong"}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == sum([12, *(blind["questions"] for blind in result["controls"].values())])
    assert main(["eval", *common, *wanted]) == 0
    assert "all questions" in capsys.readouterr().out

    picture = next((scenes / "drawn" / "images").rglob("*.png"))
    assert main(["generate", *common, "--image", str(picture), "--prompt", "What is it?", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"model", "answer", "tokens", "prompt_tokens", "image_tokens", "complete"}
    assert result["tokens"] <= 4 and result["image_tokens"] == 16 + 8 * 9  # 64 by 64 pixels: four tiles
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:-40])
    assert main(["generate", *common, "--image", str(tmp_path / "cut.png"), "--prompt", "?"]) == 1
    assert "cut.png can't be read as image" in capsys.readouterr().err
    assert main(["generate", "--model", str(tmp_path), "--prompt", "?"]) == 1
    assert "is no exported model" in capsys.readouterr().err
