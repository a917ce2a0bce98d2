"""Copies are what they say of an original that is itself clean; leaks are the benchmark's."""

import json

import numpy as np
import pytest
from PIL import Image

from infinity_mm.scenes.copies import COPIES
from infinity_mm.scenes.draw import decode


def pairs(drawn, defect):
    """(entry, truth, its picture, original's entry, original's truth, original's picture)."""
    found = drawn.of(defect)
    assert len(found) >= 5
    for entry, truth in found:
        at = truth["original"]["index"]
        source = drawn.truths[at]
        assert at < truth["index"] and source["defects"] == [] and truth["group"] == source["group"]
        assert truth["original"]["id"] == source["id"] and [truth["original"]["file"]] == source["files"]
        data, before = drawn.bytes_of(truth), drawn.bytes_of(source)
        yield entry, truth, decode(data), drawn.entries[at], source, decode(before), (data, before)


def test_every_original_is_copied_once(drawn):
    originals = [t["original"]["index"] for t in drawn.truths if t["original"]]
    assert len(originals) == len(set(originals))


@pytest.mark.parametrize("defect", list(COPIES))
def test_copies_keep_the_conversation_under_another_name(drawn, defect):
    for entry, truth, _, source_entry, source, _, _ in pairs(drawn, defect):
        assert entry["conversations"] == source_entry["conversations"]
        assert truth["files"] != source["files"] and entry["id"] != source_entry["id"]
        assert truth["kind"] == source["kind"] and truth["language"] == source["language"]
        assert truth["answers"] == source["answers"]


def test_exact_copies_have_the_same_bytes(drawn):
    assert all(after == before for *_, (after, before) in pairs(drawn, "exact_copy"))


@pytest.mark.parametrize("defect", [d for d in COPIES if d != "exact_copy"])
def test_other_copies_have_other_bytes(drawn, defect):
    assert all(after != before for *_, (after, before) in pairs(drawn, defect))


def test_flipped_is_the_mirrored_original(drawn):
    for _, _, image, _, _, before, _ in pairs(drawn, "flipped"):
        assert np.array_equal(np.asarray(image), np.asarray(before)[:, ::-1])


def test_cropped_is_a_part_of_the_original(drawn):
    for _, truth, image, _, _, before, _ in pairs(drawn, "cropped"):
        box = truth["detail"]
        assert image.width == image.height == box["side"] < before.width
        cut = before.crop((box["left"], box["top"], box["left"] + box["side"], box["top"] + box["side"]))
        assert np.abs(np.asarray(image, float) - np.asarray(cut, float)).mean() < 4


def test_rescaled_recompressed_and_watermarked_look_like_the_original(drawn):
    for _, truth, image, _, _, before, _ in pairs(drawn, "rescaled"):
        assert image.width == round(before.width * truth["detail"]["scale"]) != before.width
        back = image.resize(before.size, Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(back, float) - np.asarray(before, float)).mean() < 15
    for name, most in (("recompressed", 15), ("watermarked", 25)):
        for _, _, image, _, _, before, _ in pairs(drawn, name):
            difference = np.abs(np.asarray(image, float) - np.asarray(before, float))
            assert image.size == before.size and 0 < difference.mean() < most
            if name == "watermarked":
                assert difference.max() > 15


@pytest.mark.parametrize("defect", ["flipped", "cropped", "rescaled"])
def test_objects_of_a_copy_lie_where_its_truth_says(drawn, defect):
    for _, truth, image, _, source, before, _ in pairs(drawn, defect):
        for now, then in zip(truth["scenes"][0]["objects"], source["scenes"][0]["objects"], strict=True):
            here = np.asarray(image, int)[int(now["y"]), min(int(now["x"]), image.width - 1)]
            there = np.asarray(before, int)[int(then["y"]), int(then["x"])]
            assert np.abs(here - there).max() < 70


def test_other_questions_share_the_file_and_nothing_else(drawn):
    found = drawn.of("same_image_other_questions")
    assert len(found) >= 5
    for entry, truth in found:
        source = drawn.entries[truth["original"]["index"]]
        assert entry["image"] == source["image"] == truth["original"]["file"]
        asked, before = (
            {t["value"].removeprefix("<image>\n") for t in e["conversations"] if t["from"] == "human"}
            for e in (entry, source)
        )
        assert not asked & before
        assert truth["scenes"] == drawn.truths[truth["original"]["index"]]["scenes"]


def test_leaks_are_items_of_the_benchmark(drawn):
    items = {i["id"]: i for i in json.loads((drawn.folder / "benchmark.json").read_text(encoding="utf-8"))}
    assert len(items) == 20
    how = set()
    for entry, truth in drawn.of("benchmark_leak"):
        item = items[truth["detail"]["item"]]
        assert entry["conversations"] == item["conversations"] and truth["group"] == item["id"]
        held_out = (drawn.folder / item["image"]).read_bytes()
        same = drawn.bytes_of(truth) == held_out
        assert same == (truth["detail"]["sub_kind"] == "same_bytes")
        difference = np.asarray(decode(drawn.bytes_of(truth)), float) - np.asarray(decode(held_out), float)
        assert np.abs(difference).mean() < 15
        how.add(truth["detail"]["sub_kind"])
    assert how == {"same_bytes", "recompressed"}
    clean = {drawn.bytes_of(t) for _, t in drawn.clean() if t["medium"] == "image"}
    assert not clean & {(drawn.folder / i["image"]).read_bytes() for i in items.values()}
