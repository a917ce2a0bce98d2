"""Crops of a manifest's media, and a vision tokenizer trained on them by one command."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from inputs import picture, record, saved
from tiny_vq import NETWORK

from infinity_mm.manifest import Manifest
from infinity_mm.media.video import iter_frames
from infinity_mm.models.emu3_vq import find_tokenizer
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip
from infinity_mm.store import Store
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest
from trainers import train_vq
from trainers.vq_batches import Crops, MediaBatches, cropped


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and a clip of two, and a picture that does not decode apart."""
    folder = tmp_path_factory.mktemp("media")
    files = {f"{i}.png": saved(picture(i, (48 + 8 * i, 40))) for i in range(3)}
    files |= {f"{i}.mp4": encode_clip(draw_clip(np.random.default_rng(i), 64)) for i in range(2)}
    records = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        entry = record(name)
        if name.endswith("mp4"):
            entry["video"] = entry.pop("image")
            for turn in entry["conversations"]:
                turn["value"] = turn["value"].replace("<image>", "<video>")
        records.append(entry)
    (folder / "data.json").write_text(json.dumps(records))
    (folder / "broken.png").write_bytes(files["0.png"][:-100])
    (folder / "broken.json").write_text(json.dumps([record("broken.png")]))
    for name in ("data", "broken"):
        inputs = [str(folder / f"{name}.json")]
        ingest(IngestConfig(inputs=inputs, store=str(folder / "store"), out=name, workers=0))
    return folder / "store"


def opened(store: Path, name: str = "data") -> Manifest:
    return Manifest.open(Store.open(store), name)


def test_crops_are_of_the_media_and_the_same_for_a_step(store: Path) -> None:
    source = MediaBatches(opened(store), Crops(32, 5, 2, 4), 0)
    one, again, other = source.batch(3), source.batch(3), source.batch(4)
    assert one.pictures.shape == (5, 32, 32, 3) and one.clips.shape == (2, 4, 32, 32, 3)
    assert np.array_equal(one.pictures, again.pictures) and np.array_equal(one.clips, again.clips)
    assert not np.array_equal(one.pictures, other.pictures)
    assert np.array_equal(next(source.batches(4)).clips, other.clips)
    whole = [np.asarray(picture(i, (48 + 8 * i, 40))) for i in range(3)]
    for crop in one.pictures:
        places = [
            (of[y : y + 32, x : x + 32] == crop).all()
            for of in whole
            for y in range(of.shape[0] - 31)
            for x in range(of.shape[1] - 31)
        ]
        assert any(places)
    clips = [
        np.stack(list(iter_frames(encode_clip(draw_clip(np.random.default_rng(i), 64))))) for i in range(2)
    ]
    found = [
        (clip[first : first + 4, y : y + 32, x : x + 32] == one.clips[0]).all()
        for clip in clips
        for first in range(0, len(clip) - 3, 4)
        for y in range(33)
        for x in range(33)
    ]
    assert any(found)


def test_what_is_smaller_than_a_crop_is_enlarged() -> None:
    frames = [np.asarray(picture(0, (20, 30)))] * 2
    made = cropped(np.random.default_rng(0), frames, 32)
    assert made.shape == (2, 32, 32, 3) and np.array_equal(made[0], made[1])


def test_what_can_t_be_trained_on_is_named(store: Path) -> None:
    with pytest.raises(ValueError, match="has no videos to train on"):
        MediaBatches(opened(store, "broken"), Crops(32, 1, 1, 4), 0)
    with pytest.raises(ValueError, match=r"can't be trained on: .*; drop it first, with `imm filter`"):
        MediaBatches(opened(store, "broken"), Crops(32, 1, 0, 4), 0).batch(0)


def test_one_command_trains_and_goes_on(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "network.json").write_text(json.dumps(NETWORK))
    words = ["train_vq", "data", "--store", str(store), "--side", "32", "--pictures", "2", "--clips", "1"]
    words += ["--steps", "2", "--device", "cpu"]
    ours = [*words, "--out", str(tmp_path / "vq"), "--network", str(tmp_path / "network.json")]
    monkeypatch.setattr(sys, "argv", ours)
    train_vq.main()
    assert "step      2" in capsys.readouterr().out
    facts = find_tokenizer(tmp_path / "vq").facts
    assert (facts.codebook, facts.factor, facts.chunk) == (64, 8, 4)
    prepared = json.loads((tmp_path / "vq" / "preprocessor_config.json").read_text())
    assert prepared["image_mean"] == [0.5] * 3 and prepared["max_pixels"] == 32 * 32
    train_vq.main()
    assert "goes on after step 2" in capsys.readouterr().out
    assert find_tokenizer(tmp_path / "vq").facts == facts
    further = [*words, "--out", str(tmp_path / "more"), "--init", str(tmp_path / "vq")]
    monkeypatch.setattr(sys, "argv", further)
    train_vq.main()
    assert find_tokenizer(tmp_path / "more").facts.digest != facts.digest
    (tmp_path / "network.json").write_text(json.dumps({"chanels": 3}))
    monkeypatch.setattr(sys, "argv", ours)
    with pytest.raises(SystemExit, match="'chanels' is no field of Emu3VQVAEConfig"):
        train_vq.main()
