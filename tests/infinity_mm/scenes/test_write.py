"""The folder as a whole: same configuration, same bytes; well-formed where nothing was planted."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.scenes.defects import DEFECTS
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip

MARKER = {"image": "<image>", "images": "<image>", "video": "<video>", "text": ""}


def folder_digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def test_same_seed_same_bytes_in_another_process(tmp_path):
    make_scenes(ScenesConfig(out=tmp_path / "a", count=120, seed=7, defects=0.4))
    code = (
        "import sys, pathlib; from infinity_mm.scenes import *;"
        "make_scenes(ScenesConfig(out=pathlib.Path(sys.argv[1]), count=120, seed=7, defects=0.4))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True, env=environment)
    assert folder_digest(tmp_path / "a") == folder_digest(tmp_path / "b")


def test_a_clip_is_the_same_bytes_whatever_memory_held():
    rng = np.random.default_rng(0)
    clips = [draw_clip(np.random.default_rng(seed), 64) for seed in range(20)]
    first = [encode_clip(clip) for clip in clips]
    for _ in range(10):
        for clip, data in zip(clips, first, strict=True):
            sizes = rng.integers(100, (200_000, 256), (8, 2))
            litter = [np.full(size, fill, np.uint8) for size, fill in sizes]
            assert encode_clip(clip) == data
            del litter


def test_another_seed_differs(tmp_path):
    for seed in (1, 2):
        make_scenes(ScenesConfig(out=tmp_path / str(seed), count=20, seed=seed))
    first, second = (json.loads((tmp_path / s / "data.json").read_text()) for s in "12")
    assert all(a["conversations"] != b["conversations"] for a, b in zip(first, second, strict=True))


def test_more_records_keep_the_first_ones(tmp_path):
    for count in (40, 80):
        make_scenes(ScenesConfig(out=tmp_path / str(count), count=count, seed=3, defects=0.5))
    few, many = ((tmp_path / c / "truth.jsonl").read_text().splitlines() for c in ("40", "80"))
    assert many[:40] == few


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="empty"):
        make_scenes(ScenesConfig(out=tmp_path, count=1))
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_an_interrupted_run_shows(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scenes(ScenesConfig(out=tmp_path / "out", count=10), stop)
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"data.json.partial", "truth.jsonl.partial"} <= left
    assert not {"data.json", "truth.jsonl"} & left


def test_progress_reaches_the_count(tmp_path):
    seen: list[tuple[int, int]] = []
    make_scenes(ScenesConfig(out=tmp_path / "out", count=4), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_summary_counts_what_lies_there(drawn):
    files = [p for p in drawn.folder.rglob("*") if p.is_file()]
    assert drawn.summary["files"] == len(files)
    assert drawn.summary["bytes"] == sum(p.stat().st_size for p in files)
    assert sum(drawn.summary["kind"].values()) == drawn.summary["records"] == len(drawn.entries)
    assert json.loads(json.dumps(drawn.summary)) == drawn.summary


def test_every_defect_appears_as_often_as_any_other(drawn):
    counts = drawn.summary["defect"]
    assert set(counts) == set(DEFECTS)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert 0.35 <= sum(counts.values()) / len(drawn.entries) <= 0.45
    assert all(len(t["defects"]) <= 1 for t in drawn.truths)


def test_truth_is_in_the_order_of_the_data(drawn):
    assert [e["id"] for e in drawn.entries] == [t["id"] for t in drawn.truths]
    assert [t["index"] for t in drawn.truths] == list(range(len(drawn.truths)))
    assert len({e["id"] for e in drawn.entries}) == len(drawn.entries)


def test_clean_records_are_well_formed(drawn):
    for entry, truth in drawn.clean():
        turns = entry["conversations"]
        if turns[0]["from"] == "system":
            assert turns[0]["value"].strip()
            turns = turns[1:]
        assert [t["from"] for t in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert all(t["value"].strip() and t["value"] == t["value"].strip() for t in turns)
        media = entry.get("image") or entry.get("video") or []
        media = [media] if isinstance(media, str) else media
        assert media == truth["files"] and all((drawn.folder / name).is_file() for name in media)
        marker = MARKER[truth["medium"]]
        text = "\n".join(t["value"] for t in turns)
        assert text.count("<image>") + text.count("<video>") == len(media)
        assert turns[0]["value"].startswith((marker + "\n") * len(media))
        assert truth["detail"] == {} and truth["original"] is None and truth["group"] == entry["id"]


def test_no_other_file_than_those_named(drawn):
    named = {name for t in drawn.truths for name in t["files"]}
    there = {
        str(p.relative_to(drawn.folder))
        for k in ("images", "videos")
        for p in (drawn.folder / k).rglob("*.*")
    }
    assert there <= named
    missing = {t["detail"]["file"] for _, t in drawn.of("missing_file")}
    assert named - there == missing


def test_both_languages_all_media_and_kinds(drawn):
    languages = drawn.summary["language"]
    assert 0.2 < languages["zh"] / len(drawn.entries) < 0.4
    assert set(drawn.summary["medium"]) == {"image", "images", "video", "text"}
    assert len(drawn.summary["kind"]) == 17
    for entry, truth in drawn.clean():
        turns = [t["value"] for t in entry["conversations"] if t["from"] == "human"]
        chinese = [any("\u4e00" <= c <= "\u9fff" for c in turn) for turn in turns]
        if truth["language"] == "en":
            assert not any(chinese)
        elif truth["kind"] != "text_only":
            assert all(chinese)


def test_conversations_vary(drawn):
    captions = [e["conversations"][-1]["value"] for e, t in drawn.clean() if t["kind"] == "caption"]
    assert len(set(captions)) > 0.9 * len(captions)
    assert any(t["kind"] == "conversation" and len(t["answers"]) >= 3 for _, t in drawn.clean())
    assert any(e["conversations"][0]["from"] == "system" for e, _ in drawn.clean())


def test_no_defects_no_benchmark(tmp_path):
    summary = make_scenes(ScenesConfig(out=tmp_path / "out", count=5))
    assert summary["defect"] == {} and not (tmp_path / "out" / "benchmark.json").exists()
