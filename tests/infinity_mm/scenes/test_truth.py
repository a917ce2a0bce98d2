"""The truth is true: answers follow from the objects, and the objects are in the pixels."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from infinity_mm.scenes.world import COLOURS, SHAPES


def nearest_colour(pixel: np.ndarray) -> str:
    return min(COLOURS, key=lambda c: float(np.abs(pixel.astype(float) - COLOURS[c]).sum()))


def derived(answer: dict, scenes: list[dict]) -> object:
    """The answer's value, worked out again from the objects, the text or the bars alone."""
    about, kind = answer["about"], answer["kind"]
    scene = scenes[0]
    things = scene["objects"]
    part = about.get("part", "")
    if kind in ("colour", "shape", "size"):
        return things[about["object"]][kind]
    if kind in ("count", "exists"):
        number = sum(all(t[k] == v for k, v in about["wanted"].items()) for t in things)
        return number if kind == "count" else number > 0
    if kind == "relation":
        a, b = things[about["object"]], things[about["other"]]
        asked = about.get("asked", answer["value"])
        holds = {
            "left": a["x"] < b["x"],
            "right": a["x"] > b["x"],
            "above": a["y"] < b["y"],
            "below": a["y"] > b["y"],
        }
        distance = abs(a["x"] - b["x"]) if asked in ("left", "right") else abs(a["y"] - b["y"])
        assert distance > scene["side"] / 10
        return asked if about["open"] and holds[asked] else holds[asked]
    if kind == "read_text":
        text, colour = scene["text"]["text"], scene["text"]["colour"]
        values = {"text": text, "text_first": text[0], "text_last": text[-1]}
        return {**values, "text_length": len(text), "text_colour": colour}[part]
    if kind == "chart":
        bars = {b["label"]: b["value"] for b in scene["chart"]}
        if part == "chart_value":
            return bars[about["label"]]
        if part == "chart_difference":
            return abs(bars[about["labels"][0]] - bars[about["labels"][1]])
        if part == "chart_bars":
            return len(bars)
        return (max if part == "chart_largest" else min)(bars, key=lambda k: bars[k])
    if kind == "motion":
        return scene["motion"]["thing" if part == "mover" else "direction"]
    assert kind == "compare"
    first, second = (s["objects"] for s in scenes)
    if part == "more":
        return "same" if len(first) == len(second) else "first" if len(first) > len(second) else "second"
    name = part.removeprefix("same_")
    return first[0][name] == second[0][name]


def test_answers_follow_from_the_objects(drawn):
    checked = set()
    for entry, truth in drawn.clean():
        for answer in truth["answers"]:
            assert entry["conversations"][answer["turn"]] == {"from": "gpt", "value": answer["text"]}
            if answer["kind"] in ("caption", "text_only") or "judge" in answer["kind"]:
                continue
            if answer["kind"] in ("score_answer", "write_question"):
                continue
            value = derived(answer, truth["scenes"])
            assert type(value) is type(answer["value"]) and value == answer["value"], (answer, truth["id"])
            checked.add(answer["kind"])
    assert len(checked) == 10


def test_english_answers_say_their_value(drawn):
    numbers = ("zero|no", "one", "two", "three", "four")
    for _, truth in drawn.clean():
        for answer in truth["answers"]:
            if truth["language"] != "en":
                continue
            text, value = answer["text"].lower(), answer["value"]
            if isinstance(value, bool) and answer["kind"] in ("exists", "relation", "compare"):
                assert text.startswith("yes" if value else "no")
            elif answer["kind"] == "count":
                assert re.search(rf"\b({value}|{numbers[value]})\b", text)
            elif answer["kind"] in ("colour", "shape", "size"):
                assert value in text


def test_captions_name_every_object(drawn):
    for _, truth in drawn.clean():
        for answer in truth["answers"]:
            if answer["kind"] != "caption" or truth["language"] != "en" or not truth["scenes"][0]["objects"]:
                continue
            told = sum(
                {"an": 1, "a": 1, "two": 2, "three": 3, "four": 4}[number.lower()]
                for number in re.findall(r"\b(an?|two|three|four) (?:small|large)", answer["text"], re.I)
            )
            assert told == truth["scenes"][0]["count"], answer["text"]
            for thing in truth["scenes"][0]["objects"]:
                assert f"{thing['size']} {thing['colour']} {thing['shape']}" in answer["text"].lower()


def test_english_questions_point_at_one_object(drawn):
    """A phrase such as "the large star" fits exactly the object that the truth names."""
    for entry, truth in drawn.clean():
        for answer in truth["answers"]:
            if answer["kind"] not in ("colour", "shape", "size") or truth["language"] != "en":
                continue
            question = entry["conversations"][answer["turn"] - 1]["value"].lower()
            words = set(re.findall(r"[a-z]+", question))
            known = {"colour": set(COLOURS), "shape": set(SHAPES), "size": {"small", "large"}}
            del known[answer["kind"]]
            fits = [
                i
                for i, thing in enumerate(truth["scenes"][0]["objects"])
                if all(not words & known[part] or thing[part] in words for part in known)
            ]
            assert fits == [answer["about"]["object"]], question


def test_objects_are_in_the_pixels(drawn):
    seen = 0
    for _, truth in drawn.clean():
        if truth["medium"] not in ("image", "images"):
            continue
        for name, scene in zip(truth["files"], truth["scenes"], strict=True):
            pixels = np.asarray(Image.open(drawn.folder / name).convert("RGB"))
            assert pixels.shape == (scene["side"], scene["side"], 3)
            for thing in scene["objects"]:
                middle = pixels[int(thing["y"]), int(thing["x"])]
                assert nearest_colour(middle) == thing["colour"], (name, thing)
                assert np.abs(middle.astype(int) - COLOURS[thing["colour"]]).max() < 60
                seen += 1
    assert seen > 500


def test_relations_are_those_of_the_positions(drawn):
    for _, truth in drawn.clean():
        for scene in truth["scenes"]:
            things, told = scene["objects"], {tuple(r) for r in scene["relations"]}
            for a, relation, b in told:
                dx, dy = things[a]["x"] - things[b]["x"], things[a]["y"] - things[b]["y"]
                assert {"left": dx < 0, "right": dx > 0, "above": dy < 0, "below": dy > 0}[relation]
                mirrored = {"left": "right", "right": "left", "above": "below", "below": "above"}[relation]
                assert (b, mirrored, a) in told


def test_text_only_answers(drawn):
    for entry, truth in drawn.clean():
        if truth["kind"] != "text_only":
            continue
        (answer,) = truth["answers"]
        about = answer["about"]
        a, b = about.get("a", 0), about.get("b", 0)
        right = {
            "sum": a + b,
            "minus": a - b,
            "larger": max(a, b),
            "sides": 3 * a + 4 * b,
            "spell": about.get("text", "-")[about.get("n", 0)],
        }
        if about["part"] == "sort":
            numbers = [int(n) for n in re.findall(r"\d+", about["numbers"])]
            assert [int(n) for n in re.findall(r"\d+", answer["value"])] == sorted(numbers)
        else:
            assert answer["value"] == right[about["part"]]
        assert str(answer["value"]) in answer["text"]
        assert "image" not in entry and "video" not in entry


def test_clips_move_as_the_truth_says(drawn):
    av = pytest.importorskip("av")
    seen = set()
    for _, truth in drawn.clean():
        if truth["medium"] != "video":
            continue
        (scene,) = truth["scenes"]
        motion = scene["motion"]
        mover = scene["objects"][motion["thing"]]
        with av.open(io.BytesIO(drawn.bytes_of(truth))) as container:
            assert container.streams.video[0].average_rate == motion["fps"]
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert len(frames) == motion["frames"] and frames[0].shape == (scene["side"], scene["side"], 3)
        dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[motion["direction"]]
        for k in (0, len(frames) - 1):
            x, y = mover["x"] + dx * motion["step"] * k, mover["y"] + dy * motion["step"] * k
            assert mover["radius"] <= x <= scene["side"] - mover["radius"]
            assert mover["radius"] <= y <= scene["side"] - mover["radius"]
            assert nearest_colour(frames[k][int(y), int(x)]) == mover["colour"]
        for i, thing in enumerate(scene["objects"]):
            if i != motion["thing"]:
                assert nearest_colour(frames[-1][int(thing["y"]), int(thing["x"])]) == thing["colour"]
        seen.add(motion["direction"])
    assert seen == {"left", "right", "up", "down"}
