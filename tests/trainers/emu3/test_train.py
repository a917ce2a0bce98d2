"""`imm train emu3` from tokenised manifests to a folder; killed, on two ranks, and given what can't be."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from inputs import picture, record, saved
from ranks import on_ranks
from safetensors.torch import load_file
from talks import ingested
from tiny_emu3 import LANGUAGE
from tiny_vq import write_vq

from infinity_mm.cli import main
from infinity_mm.manifest import Manifest
from infinity_mm.models.tokenizer import FILE, tokenizer
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip
from infinity_mm.store import Store
from trainers.checkpoint import paths, read_about
from trainers.emu3.compose import Composition
from trainers.emu3.config import CAPTIONS, read
from trainers.emu3.documents import Encoding
from trainers.emu3.layouts import Weights
from trainers.emu3.lengths import measure_lengths
from trainers.emu3.prepare import sketch
from trainers.emu3.vocabulary import scaled
from trainers.mixture import Mixture
from trainers.monitor import read_record
from trainers.plan import Batching, Plan

IMM = """import sys
from infinity_mm.cli import main
if __name__ == "__main__":  # not in the workers
    sys.exit(main())
"""
STAGES: list[dict[str, Any]] = [
    {"name": "draw", "data": {"coded": 1}, "null_prompt": 0.3, "epochs": 2, "group": 2},
    {"name": "answer", "data": {"coded": 1}, "answers_only": True},
]


class Place:
    """A folder with a store of captions, questions, texts, two pictures and a clip, and recipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vq = str(write_vq(folder / "vq"))
        told = [record(f"{n}.png", "Describe the picture.", f"A picture of {n}.") for n in range(12)]
        told += [record(f"{n}.png", f"Is this {n}?", "Yes." * (n % 3 + 1)) for n in range(6)]
        told += [record(None, f"What is {n}?", "A number.") for n in range(4)]
        told.append(record(["0.png", "1.png"], "Which is first?", "This one."))
        clip = draw_clip(np.random.default_rng(3), 32)
        told.append({**record(None, "<video>\nDescribe the clip.", "It moves."), "video": "clip.mp4"})
        files = {f"{n}.png": saved(picture(n, (32, 24))) for n in range(12)}
        ingested(folder, told, {**files, "clip.mp4": encode_clip(clip)})
        self.store = str(folder / "store")
        tokenize = ["tokenize", "raw", "--store", self.store, "--tokenizer", self.vq, "--out", "coded"]
        assert main([*tokenize, "--workers", "0", *SIZE]) == 0

    def recipe(self, out: str, **changes: Any) -> Path:
        model = {"language_model": dict(LANGUAGE), "tokenizer": "tiny", "vision_tokenizer": self.vq}
        model["language_model"]["attention_dropout"] = changes.pop("dropout", 0.1)
        values: dict[str, Any] = {
            "model": {**model, **changes.pop("model", {})},
            "store": self.store,
            "out": str(self.folder / out),
            "compute": {"dtype": "float32", "recompute": False, "threads": 1},
            "saving": {"every": 2, "keep": 3},
            "workers": 0,
            "export_dtype": "float32",
            "each": {"batch": 8, "length": 256, "train": ["*"], "optimizer": {"lr": {"*": 3e-3}}},
            "stages": STAGES,
            **changes,
        }
        path = self.folder / f"{out}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def weights(self, out: str, stage: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / out / stage / "export" / "model.safetensors")

    def record(self, out: str, stage: str) -> list[dict[str, Any]]:
        return read_record(self.folder / out / stage / "record.jsonl")


SIZE = ("--keep-size", "--min-area", "64", "--rest", "drop")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def trained(place: Place) -> Place:
    assert main(["train", "emu3", "--config", str(place.recipe("whole"))]) == 0
    return place


def test_both_stages_are_trained_and_exported(trained: Place) -> None:
    draw, answer = (trained.record("whole", stage) for stage in ("draw", "answer"))
    assert [line["cursor"] for line in draw][-1] == 48 and [line["cursor"] for line in answer] == [8, 16, 24]
    assert draw[-1]["loss"] < draw[0]["loss"]
    assert set(draw[0]["loss_by_source"]) == {"raw text", "raw codes", "raw marks"}
    kinds = [line["supervised_by_source"] for line in answer]
    assert not any(kind["raw codes"] for kind in kinds) and all(kind["raw text"] for kind in kinds)
    assert sum(kind["raw marks"] for kind in kinds) == 24  # an EOS an answer
    before, after = (trained.weights("whole", stage) for stage in ("draw", "answer"))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name in after if not name.startswith("vqmodel.")}
    text = (trained.folder / "whole" / "answer" / "export" / "README.md").read_text()
    assert "# whole" in text and "| draw | 48 |" in text
    processor = trained.folder / "whole" / "answer" / "export" / "preprocessor_config.json"
    told = json.loads(processor.read_text())
    assert told["min_pixels"] == told["max_pixels"] == 32 * 24  # as large as the pictures it was trained on


def test_a_plan_tells_to_the_token_what_is_trained(
    trained: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(trained.folder / "whole.yaml")
    assert main(["train", "emu3", "--config", config, "--plan", "--json"]) == 0
    for stage in json.loads(capsys.readouterr().out)["forecast"]:
        lines = trained.record("whole", stage["stage"])
        for name in ("tokens", "supervised"):
            assert stage[name] == sum(line[name] for line in lines)
        assert stage["steps"] == len(lines) and 0.3 < stage["fill"] <= 1
        assert stage["longest"][0]["tokens"] <= 256 and 0 < stage["memory"][0] < stage["memory"][1]
        assert stage["hours"] and stage["checkpoint_bytes"] > 0
    assert main(["train", "emu3", "--config", config, "--plan"]) == 0
    assert "stage draw" in (out := capsys.readouterr().out) and "tiles" not in out


def test_killed_it_ends_with_the_same_bits(trained: Place) -> None:
    train = ["train", "emu3", "--config", str(trained.recipe("killed")), "--stage", "draw"]
    script = trained.folder / "kill.py"
    script.write_text(f"from signalled import signalled\nsignalled(3, {signal.SIGKILL:d})\n{IMM}")
    killed = on_ranks(1, script, *train)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert main(train) == 0
    want = trained.weights("whole", "draw")
    assert all(torch.equal(value, want[name]) for name, value in trained.weights("killed", "draw").items())
    losses = [[line["loss"] for line in trained.record(out, "draw")] for out in ("whole", "killed")]
    assert losses[0] == losses[1]


def test_two_ranks_take_the_same_samples_to_the_same_weights(trained: Place) -> None:
    one, two = (trained.recipe(out, dropout=0.0, stages=STAGES[:1]) for out in ("one", "two"))
    script = trained.folder / "imm.py"
    script.write_text(IMM)
    done = on_ranks(2, script, "train", "emu3", "--config", two)
    assert done.returncode == 0, done.stderr
    assert main(["train", "emu3", "--config", str(one)]) == 0
    lines = [trained.record(out, "draw") for out in ("one", "two")]
    for name in ("cursor", "documents", "tokens", "supervised", "supervised_by_source"):
        assert [line[name] for line in lines[0]] == [line[name] for line in lines[1]]
    assert [x["loss"] for x in lines[1]] == pytest.approx([x["loss"] for x in lines[0]], rel=1e-4)
    for name, value in trained.weights("one", "draw").items():
        torch.testing.assert_close(trained.weights("two", "draw")[name], value, rtol=1e-3, atol=1e-4)


def test_an_exported_model_is_trained_on(trained: Place) -> None:
    folder = trained.folder / "whole" / "answer" / "export"
    model = dict.fromkeys(("language_model", "tokenizer", "vision_tokenizer"), str(folder))
    recipe = trained.recipe("on", model=model, stages=STAGES[:1])
    assert main(["train", "emu3", "--config", str(recipe)]) == 0
    assert trained.record("on", "draw")[0]["loss"] < trained.record("whole", "draw")[0]["loss"]


def test_a_model_with_normed_heads_has_checkpoints_alone(
    trained: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = trained.recipe("normed", model={"qk_norm": True, "z_loss": 1e-4}, stages=STAGES[:1])
    assert main(["train", "emu3", "--config", str(recipe), "--json"]) == 0
    told = capsys.readouterr()
    assert "has no layer for model.qk_norm" in told.err
    assert json.loads(told.out)["stages"][0]["export"] is None
    about = read_about(paths(trained.folder / "normed" / "draw" / "checkpoints")[-1])
    assert about["finished"] and about["settings"]["model"]["qk_norm"]


def failed(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The error of a plan that must fail."""
    capsys.readouterr()
    assert main(["train", "emu3", "--plan", *map(str, args)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "a defect in infinity-mm" not in error
    return error


def test_what_cannot_be_is_told_by_the_plan(
    trained: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = STAGES[0]

    def error(**changes: Any) -> str:
        return failed(capsys, "--config", trained.recipe("wrong", **changes))

    other = str(write_vq(tmp_path / "other", seed=1))
    assert "were made by vision tokenizer" in error(model={"vision_tokenizer": other})
    assert "has no visual tokens: run `imm tokenize`" in error(stages=[{**first, "data": {"raw": 1}}])
    short = error(stages=[{**first, "length": 20}])
    assert "a context of 20 tokens is too short for one picture: sample " in short
    long = error(stages=[{**first, "length": 60}])
    assert "longer than a pack of 60 tokens: " in long and "tiles" not in long
    assert "more than the model's context of 1,024" in error(stages=[{**first, "length": 2048}])
    assert "drawn: 1.5: give from 0 to 1" in error(stages=[{**first, "drawn": 1.5}])


def test_codes_out_of_range_are_left_out_and_told(trained: Place) -> None:
    """Tokens that a smaller codebook has no ids for; only texts are left."""
    manifest = Manifest.open(Store.open(trained.store), "coded")
    encoding = Encoding(
        tokenizer=str(FILE),
        vocabulary=scaled(tokenizer(), 1),
        weights=Weights(),
        answers_only=False,
        captions=CAPTIONS,
        drawn=0.5,
        null_prompt=0.0,
        seed=0,
    )
    lengths = measure_lengths([manifest], encoding)
    plan = Plan(Mixture([manifest], [1.0]), lengths, Batching(batch=8, length=256, tiles=1))
    rows = list(plan.left_out())
    assert {(row["outcome"], row["reason"]) for row in rows} == {("failed", "bad_codes")}
    assert "there are 1" in rows[0]["detail"] and len(rows) == 20
    assert plan.figures().taken == 4


def test_the_shipped_recipes_are_what_they_say() -> None:
    for name, millions in (("tiny", (2, 2.6)), ("emu3_8b", (8_492, 8_493))):
        recipe = read(Path(name))
        config = configured(recipe.model.language_model, 4617 if name == "tiny" else 184_622)
        composition: Any = Composition(config=config, folder=None, tokenizer="", vocabulary=None, vision=None)  # type: ignore[arg-type]
        model = sketch(composition, recipe.stages[0])
        assert millions[0] < sum(p.numel() for p in model.parameters()) / 1e6 < millions[1]
        lengths = [stage.length for stage in recipe.stages]
        assert max(lengths) <= config.max_position_embeddings
    assert [stage.name for stage in recipe.stages][:2] == ["pretrain", "pretrain_video"]
    assert lengths[:2] == [5120, 131_072] and recipe.stages[0].weights.vision == 0.5
    assert recipe.stages[-1].answers_only


def configured(fields: Any, size: int) -> Any:
    from transformers import Emu3TextConfig

    given = dict(fields)
    given["rope_parameters"] = {"rope_type": "default", "rope_theta": float(given.pop("rope_theta"))}
    return Emu3TextConfig(vocab_size=size, pad_token_id=size - 1, bos_token_id=0, eos_token_id=1, **given)
