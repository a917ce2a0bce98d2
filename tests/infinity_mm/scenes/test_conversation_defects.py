"""Each spoiled conversation is spoiled as its truth says, and its truth still tells what is right."""

from itertools import pairwise

import numpy as np
import pytest

from infinity_mm.scenes.captions import caption, caption_value, spoiled
from infinity_mm.scenes.conversation_defects import CONVERSATION_DEFECTS, broken_roles
from infinity_mm.scenes.conversations import assemble
from infinity_mm.scenes.world import draw_chart, draw_shapes, draw_text


def cases(drawn, defect):
    found = drawn.of(defect)
    assert len(found) >= 5
    return found


def markers(entry):
    text = "\n".join(t["value"] for t in entry["conversations"])
    return text.count("<image>") + text.count("<video>")


def media(entry):
    named = entry.get("image") or entry.get("video") or []
    return 1 if isinstance(named, str) else len(named)


@pytest.mark.parametrize("defect", list(CONVERSATION_DEFECTS))
def test_only_the_marker_defect_breaks_markers(drawn, defect):
    for entry, _ in cases(drawn, defect):
        assert (markers(entry) == media(entry)) == (defect != "marker_mismatch")


def test_marker_mismatch_sub_kinds(drawn):
    for entry, truth in cases(drawn, "marker_mismatch"):
        difference = markers(entry) - media(entry)
        kind = truth["detail"]["sub_kind"]
        assert difference == {"missing_marker": -1, "extra_marker": 1}.get(kind, difference)
        if kind == "no_media":
            assert "image" not in entry and "video" not in entry and difference > 0


@pytest.mark.parametrize("seed", range(12))
def test_broken_roles_and_the_turns_of_their_answers(seed):
    scene = draw_shapes(np.random.default_rng(1), 64, 1)
    exchanges = [(f"q{i}", f"a{i}", {"kind": "colour", "value": i, "about": {}}) for i in range(3)]
    content = assemble("image", "en", [scene], exchanges, system="Be brief.")
    detail = broken_roles(content, np.random.default_rng(seed))
    roles = [t["from"] for t in content.turns if t["from"] != "system"]
    if detail["sub_kind"] == "two_humans":
        assert any(a == b == "human" for a, b in pairwise(roles))
    elif detail["sub_kind"] == "starts_with_gpt":
        assert content.turns[0]["from"] == "gpt"
    else:
        assert "narrator" in roles
    assert [content.turns[a["turn"]]["value"] for a in content.answers] == ["a0", "a1", "a2"]


def test_broken_roles_appear(drawn):
    for entry, _ in cases(drawn, "broken_roles"):
        roles = [t["from"] for t in entry["conversations"] if t["from"] != "system"]
        assert roles != ["human", "gpt"] * (len(roles) // 2)


def test_empty_turns(drawn):
    for entry, truth in cases(drawn, "empty_turn"):
        value = entry["conversations"][truth["detail"]["turn"]]["value"]
        assert not value.replace("<image>", "").replace("<video>", "").strip()


def test_missing_files(drawn):
    for _, truth in cases(drawn, "missing_file"):
        gone = [name for name in truth["files"] if not (drawn.folder / name).exists()]
        assert gone == [truth["detail"]["file"]]


def test_leaked_answers(drawn):
    for entry, truth in cases(drawn, "answer_leaked"):
        turn = truth["detail"]["turn"]
        question = entry["conversations"][turn]["value"]
        (answer,) = [a["text"] for a in truth["answers"] if a["turn"] == turn + 1]
        assert question.endswith(answer) and ("nswer" in question or "答案" in question)


@pytest.mark.parametrize("defect", ["refusal", "repeated_phrase", "wrong_language", "false_caption"])
def test_a_spoiled_answer_differs_from_the_right_one(drawn, defect):
    for entry, truth in cases(drawn, defect):
        turn = truth["detail"]["turn"]
        (right,) = [a["text"] for a in truth["answers"] if a["turn"] == turn]
        said = entry["conversations"][turn]["value"]
        assert said != right
        if defect == "repeated_phrase":
            assert said.count(right) >= truth["detail"]["times"] >= 8


def test_wrong_language_is_another_one(drawn):
    for entry, truth in cases(drawn, "wrong_language"):
        said = entry["conversations"][truth["detail"]["turn"]]["value"]
        language = truth["detail"]["answered_in"]
        assert language != truth["language"]
        han = any("\u4e00" <= c <= "\u9fff" for c in said)
        assert han == (language in ("zh", "japanese"))


@pytest.mark.parametrize("seed", range(30))
def test_a_false_caption_contradicts_the_scene(seed):
    rng = np.random.default_rng(seed)
    scene = (draw_text(rng, 64), draw_chart(rng, 64), draw_shapes(rng, 64, 1 + seed % 4, seed % 2 == 0))[
        seed % 3
    ]
    other, detail = spoiled(scene, rng)
    assert caption_value(other) != caption_value(scene)
    said = caption(other, "en", rng)
    if detail["sub_kind"] in ("colour", "shape", "text"):
        assert detail["said"] in said


def test_false_captions_are_one_picture_captions(drawn):
    for _, truth in cases(drawn, "false_caption"):
        assert truth["medium"] == "image" and truth["kind"] == "caption"
        assert truth["answers"][0]["kind"] == "caption"
