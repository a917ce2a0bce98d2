"""`imm train llava` from manifests to a folder that transformers loads; interrupted, changed, damaged."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ranks import on_ranks
from safetensors.torch import load_file
from signalled import signalled

from infinity_mm.cli import main
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from trainers.checkpoint import paths, read_about
from trainers.monitor import Monitor, read_record

IMM = """import sys
from infinity_mm.cli import main
if __name__ == "__main__":  # not in the workers
    sys.exit(main())
"""
RECIPE: dict[str, Any] = {
    "model": {
        "vision_tower": {
            "model_type": "siglip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
        },
        "language_model": {
            "model_type": "qwen2",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "max_position_embeddings": 2048,
            "attention_dropout": 0.1,
        },
        "tokenizer": "tiny",
        "feature_layer": -1,
    },
    "compute": {"dtype": "float32", "recompute": False, "threads": 1, "peak_tflops": 0.05},
    "saving": {"every": 2, "keep": 3},
    "workers": 0,
    "export_dtype": "float32",
    "each": {"batch": 8, "length": 1024, "tiles": 64, "optimizer": {"lr": {"*": 1e-3}}},
    "stages": [
        {"name": "align", "data": {"scenes": 1}, "train": ["multi_modal_projector", "image_newline"]},
        {"name": "tune", "data": {"scenes": 1.5}, "train": ["*"], "grid": 2, "most_tiles": 4, "epochs": 2},
    ],
}


class Place:
    """A folder with a store of 24 scenes and recipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recipe(self, out: str, **changes: Any) -> Path:
        path = self.folder / f"{out}.yaml"
        places = {"store": str(self.folder / "store"), "out": str(self.folder / out)}
        path.write_text(yaml.safe_dump({**RECIPE, **places, **changes}))
        return path

    def weights(self, out: str, stage: str = "tune") -> dict[str, torch.Tensor]:
        return load_file(self.folder / out / stage / "export" / "model.safetensors")

    def record(self, out: str, stage: str = "tune") -> list[dict[str, Any]]:
        return read_record(self.folder / out / stage / "record.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("train")
    assert main(["scenes", "--out", str(folder / "scenes"), "--count", "24", "--size", "32"]) == 0
    ingest = ["ingest", str(folder / "scenes" / "data.json"), "--source", "scenes", "--licence", "CC0"]
    assert main([*ingest, "--store", str(folder / "store"), "--out", "scenes", "--workers", "0"]) == 0
    return Place(folder)


@pytest.fixture(scope="module")
def trained(place: Place) -> Place:
    """A run that nothing disturbed, in `whole`."""
    assert main(["train", "llava", "--config", str(place.recipe("whole"))]) == 0
    return place


def test_every_stage_is_trained_and_exported(trained: Place) -> None:
    align, tune = trained.weights("whole", "align"), trained.weights("whole")
    moved = {name.split(".")[0] for name, value in tune.items() if not torch.equal(value, align[name])}
    assert moved == {"vision_tower", "multi_modal_projector", "language_model", "image_newline"}
    assert [line["step"] for line in trained.record("whole", "align")] == [1, 2, 3]
    lines = trained.record("whole")
    assert [line["cursor"] for line in lines] == [8, 16, 24, 32, 40, 48, 56, 64, 72]  # 24 × 1.5 × 2
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert 0 < lines[0]["mfu_without_vision"] < lines[0]["mfu"]
    assert set(lines[0]["loss_by_source"]) == {"scenes"}


def test_transformers_loads_it_and_its_first_stage_is_where_the_second_began(trained: Place) -> None:
    from transformers import LlavaOnevisionForConditionalGeneration

    for stage in ("align", "tune"):
        folder = trained.folder / "whole" / stage / "export"
        _, report = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
    text = (trained.folder / "whole" / "tune" / "export" / "README.md").read_text()
    assert "# whole" in text and "| scenes | CC0 |" in text and "| align | 24 | 3 |" in text
    segments = read_about(paths(trained.folder / "whole" / "tune" / "checkpoints")[-1])["segments"]
    assert [(s["stage"], s["from"], s["to"], s["names"]) for s in segments] == [
        ("align", 0, 24, ["scenes"]),
        ("tune", 0, 72, ["scenes"]),
    ]


def test_a_finished_model_is_gone_on_with(trained: Place) -> None:
    """With a learning rate of nothing, what comes out is what went in."""
    checkpoint = trained.folder / "whole" / "tune" / "export"
    each = {**RECIPE["each"], "optimizer": {"lr": {"*": 0.0}}, "grid": 2, "most_tiles": 4}
    stages = [{"name": "more", "data": {"scenes": 0.5}, "train": ["*"]}]
    path = trained.recipe("more", model={"checkpoint": str(checkpoint)}, each=each, stages=stages)
    assert main(["train", "llava", "--config", str(path)]) == 0
    before, after = trained.weights("whole"), trained.weights("more", "more")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    losses = [line["loss"] for line in trained.record("more", "more") if "loss" in line]
    first = next(line["loss"] for line in trained.record("whole", "align") if "loss" in line)
    assert losses and max(losses) < first


def test_what_ended_is_not_run_again(trained: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained.folder / "whole" / "tune" / "record.jsonl").read_bytes()
    assert main(["train", "llava", "--config", str(trained.folder / "whole.yaml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [stage["skipped"] for stage in told["stages"]] == [True, True]
    assert (trained.folder / "whole" / "tune" / "record.jsonl").read_bytes() == before


def test_killed_in_its_second_epoch_it_ends_with_the_same_bits(
    trained: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice: by SIGKILL, and by SIGTERM, which lets it end its step and save."""
    train = ["train", "llava", "--config", str(trained.recipe("killed"))]
    script = trained.folder / "kill.py"
    script.write_text(f"from signalled import signalled\nsignalled(6, {signal.SIGKILL:d})\n{IMM}")
    killed = on_ranks(1, script, *train)  # after 48 of 72 samples: the second epoch began at 36
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", Monitor.step)  # put back at the end
        trained.recipe("killed", workers=1)  # which changes nothing
        signalled(6, signal.SIGTERM)  # when a step has ended, so that one more is taken
        assert main(train) == 1
    assert "stage tune: stopped by SIGTERM after step 7 of 9, 56 samples" in capsys.readouterr().out
    assert paths(trained.folder / "killed" / "tune" / "checkpoints")[-1].name == "step-00000007"
    trained.recipe("killed")
    assert main(train) == 0
    want = trained.weights("whole")
    assert all(torch.equal(value, want[name]) for name, value in trained.weights("killed").items())
    losses = [[line["loss"] for line in trained.record(out)] for out in ("whole", "killed")]
    assert losses[0] == losses[1]


def test_two_ranks_take_the_same_samples_to_the_same_loss(trained: Place) -> None:
    recipe = trained.recipe("two", model={**RECIPE["model"], "language_model": NO_DROPOUT}, workers=0)
    other = trained.recipe("one", model={**RECIPE["model"], "language_model": NO_DROPOUT})
    script = trained.folder / "imm.py"
    script.write_text(IMM)
    done = on_ranks(2, script, "train", "llava", "--config", recipe, "--stage", "align", "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1  # one object, of the first rank
    assert main(["train", "llava", "--config", str(other), "--stage", "align"]) == 0
    one, two = (trained.record(out, "align") for out in ("one", "two"))
    same = ("cursor", "documents", "tokens", "tiles", "supervised")
    assert [[line[n] for n in same] for line in one] == [[line[n] for n in same] for line in two]
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    for name, value in trained.weights("one", "align").items():
        torch.testing.assert_close(trained.weights("two", "align")[name], value, rtol=1e-3, atol=1e-5)


def test_two_ranks_then_one_then_two_take_the_same_samples(
    trained: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after step 5 and step 7 of 9, by SIGTERM."""
    train = ["train", "llava", "--config", str(trained.recipe("ranks"))]
    until, on = trained.folder / "until.py", trained.folder / "on.py"
    until.write_text(f"from signalled import signalled\nsignalled(4, {signal.SIGTERM:d})\n{IMM}")
    on.write_text(IMM)
    done = on_ranks(2, until, *train)
    assert done.returncode != 0 and "stopped by SIGTERM after step 5 of 9" in done.stdout, done.stderr
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", Monitor.step)  # put back at the end
        signalled(6, signal.SIGTERM)
        assert main(train) == 1
    done = on_ranks(2, on, *train)
    assert done.returncode == 0, done.stderr
    worlds = [read_about(path)["world"] for path in paths(trained.folder / "ranks" / "tune" / "checkpoints")]
    assert worlds == [1, 2, 2]  # steps 7, 8 and 9
    taken = ("step", "cursor", "documents", "tokens", "tiles", "supervised")
    whole, ranks = (trained.record(out) for out in ("whole", "ranks"))
    assert [[line[n] for n in taken] for line in ranks] == [[line[n] for n in taken] for line in whole]


NO_DROPOUT = {**RECIPE["model"]["language_model"], "attention_dropout": 0.0}


def test_a_plan_tells_what_it_will_take(trained: Place, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(trained.folder / "whole.yaml")
    assert main(["train", "llava", "--config", config, "--plan", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(s["stage"], s["steps"], s["samples"]) for s in told["forecast"]] == [
        ("align", 3, 24),
        ("tune", 9, 72),
    ]
    for stage in told["forecast"]:
        lines = trained.record("whole", stage["stage"])
        for name in ("tokens", "supervised", "tiles"):
            assert stage[name] == sum(line[name] for line in lines)  # to the token
        saved = paths(trained.folder / "whole" / stage["stage"] / "checkpoints")[-1]
        written = sum(file.stat().st_size for file in saved.iterdir())
        assert (
            stage["checkpoint_bytes"] <= written < stage["checkpoint_bytes"] + 1_000_000
        )  # DCP's own of each tensor
        assert 0 < stage["memory"][0] < stage["memory"][1]
        assert stage["hours"] * 3600 * stage["tokens_per_second"] == pytest.approx(stage["tokens"])
    assert main(["train", "llava", "--config", config, "--plan", "--stage", "tune"]) == 0
    out = capsys.readouterr().out
    assert "stage tune" in out and "stage align" not in out and "nothing was run" in out


def failed(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The error of a run that must fail."""
    capsys.readouterr()
    assert main(["train", "llava", *map(str, args)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "a defect in infinity-mm" not in error
    return error


def test_a_change_is_refused_and_then_begins_a_segment(
    trained: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    first = RECIPE["stages"][0]
    recipe = trained.recipe("changed", stages=[{**first, "epochs": 2}])
    assert main(["train", "llava", "--config", str(recipe)]) == 0
    grown = {**first, "epochs": 3, "data": {"scenes": 2}, "optimizer": {"lr": {"*": 5e-4}}}
    recipe = trained.recipe("changed", stages=[grown])
    error = failed(capsys, "--config", recipe)
    assert "stage.epochs: 2, now 3" in error and "stage.optimizer.lr.*: 0.001, now 0.0005" in error
    assert "the samples of scenes: " in error and "--changed" in error
    assert main(["train", "llava", "--config", str(recipe), "--changed"]) == 0
    about = read_about(paths(trained.folder / "changed" / "align" / "checkpoints")[-1])
    assert [(s["from"], s["to"], list(s["data"].values())) for s in about["segments"]] == [
        (0, 48, [1.0]),
        (48, 144, [2.0]),
    ]
    assert [line["step"] for line in trained.record("changed", "align")] == list(range(1, 19))
    events = [
        json.loads(x)
        for x in (trained.folder / "changed" / "align" / "record.jsonl").read_text().splitlines()
    ]
    (resumed,) = [event for event in events if event.get("event") == "resume"]
    assert any(change.startswith("the samples of scenes") for change in resumed["changes"])


def test_a_damaged_checkpoint_is_set_aside(trained: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """The one before is used, and the weights are the same again."""
    recipe = trained.recipe("damaged", stages=RECIPE["stages"][:1])
    assert main(["train", "llava", "--config", str(recipe)]) == 0
    folder = trained.folder / "damaged" / "align"
    want = trained.weights("damaged", "align")
    newest = paths(folder / "checkpoints")[-1]
    (newest / "__0_0.distcp").write_bytes(b"")
    capsys.readouterr()
    assert main(["train", "llava", "--config", str(recipe)]) == 0
    assert "checkpoint refused: " in (err := capsys.readouterr().err) and "the one before is used" in err
    assert (newest.with_name(f"refused-{newest.name}")).is_dir()
    assert [path.name for path in paths(folder / "checkpoints")] == ["step-00000002", "step-00000003"]
    assert all(torch.equal(value, want[n]) for n, value in trained.weights("damaged", "align").items())


def test_what_is_withdrawn_is_left_out_and_told(
    trained: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest's digest stands, so that the run goes on; the sample has no place in a pack."""
    shutil.copytree(trained.folder / "store", tmp_path / "store")
    store = str(tmp_path / "store")
    manifest = Manifest.open(Store.open(store), "scenes")
    identity = manifest.table(0).column("sample_id")[0].as_py().hex()
    assert main(["forget", identity, "--store", store, "--why", "asked to"]) == 0
    recipe = trained.recipe("less", stages=RECIPE["stages"][:1])
    given = ["--store", store, "--out", str(tmp_path / "less")]
    assert main(["train", "llava", "--config", str(recipe), *given]) == 0
    (row,) = (tmp_path / "less" / "align" / "skipped.rank0.jsonl").read_text().splitlines()
    assert json.loads(row)["sample_id"] == identity and json.loads(row)["reason"] == "withdrawn"
    lines = read_record(tmp_path / "less" / "align" / "record.jsonl")
    assert sum(line["documents"] for line in lines) == 23 and sum(line["skipped"] for line in lines) == 1
    assert lines[-1]["cursor"] == 24
    assert main(["trace", identity, "--store", store, "--runs", str(tmp_path / "less")]) == 0
    assert f"step-00000003: left {identity} out: withdrawn" in capsys.readouterr().out


def test_an_earlier_checkpoint_can_be_chosen(trained: Place) -> None:
    recipe = trained.recipe("chosen", stages=RECIPE["stages"][:1])
    train = ["train", "llava", "--config", str(recipe)]
    assert main(train) == 0
    folder = trained.folder / "chosen" / "align" / "checkpoints"
    assert main([*train, "--stage", "align", "--resume", str(folder / "step-00000002")]) == 0
    assert (folder / "aside-step-00000003").is_dir() and (folder / "step-00000003").is_dir()


def test_what_cannot_be_is_told_in_a_line(trained: Place, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = RECIPE["stages"]

    def error(*args: object, **changes: Any) -> str:
        return failed(capsys, "--config", trained.recipe("wrong", **changes), *args)

    assert "no manifest 'none'" in error(stages=[{**first, "data": {"none": 1}}])
    assert "'vision_towr' matches no parameter" in error(stages=[first, {**second, "train": ["vision_towr"]}])
    assert not (trained.folder / "wrong" / "align").exists()  # told before the first stage began
    assert "longer than a pack of 40 tokens" in error(stages=[{**first, "length": 40}])
    assert "stage 'align' must end before the next begins" in error("--stage", "tune")
    assert "there is none; there are align, tune" in error("--stage", "tine")
    assert "name its stage too" in error("--resume", "x")
