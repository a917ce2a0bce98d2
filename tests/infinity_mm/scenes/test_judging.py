"""Scores follow the stated rule; verdicts follow the truth."""

import re
from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.scenes.judging import score, score_answer
from infinity_mm.scenes.world import draw_shapes

few = st.integers(0, 30)


@given(few, few, few)
def test_score_is_the_stated_rule(right, wrong, missing):
    facts = right + wrong + missing
    if facts == 0:
        return
    got = score(right, wrong, missing)
    assert (got == 10) == (right == facts)
    assert (got == 1) == (right == 0)
    if 0 < right < facts:
        exact = 1 + 9 * (Fraction(right) - Fraction(wrong, 2)) / facts
        assert got == min(9, max(2, floor(exact + Fraction(1, 2))))


def test_score_by_example():
    assert [score(3, 0, 0), score(2, 0, 1), score(2, 1, 0), score(1, 2, 0), score(0, 3, 0)] == [
        10,
        7,
        6,
        2,
        1,
    ]


def test_written_scores_are_those_of_their_tallies(drawn):
    for entry, truth in drawn.clean():
        if truth["kind"] != "score_answer":
            continue
        (answer,) = truth["answers"]
        about = answer["about"]
        assert entry["conversations"][answer["turn"]]["value"] == str(answer["value"]) == answer["text"]
        assert answer["value"] == score(**about["facts"])
        assert about["reply"] in entry["conversations"][answer["turn"] - 1]["value"]
        if about["asked_kind"] == "describe":
            tally = {"right": 0, "wrong": 0, "missing": 0}
            for thing, said in zip(truth["scenes"][0]["objects"], about["said"], strict=True):
                for part, word in said.items():
                    tally["missing" if word is None else "right" if word == thing[part] else "wrong"] += 1
            assert tally == about["facts"]
        else:
            assert (about["said"] == about["right"]) == (answer["value"] == 10)


def test_scores_reach_high_middle_and_low():
    rng = np.random.default_rng(0)
    scores = [score_answer(draw_shapes(rng, 64, 2), "en", rng)[2]["value"] for _ in range(200)]
    assert {1, 10} < set(scores) and len(set(scores)) >= 7
    assert 0.2 < sum(2 <= s <= 9 for s in scores) / 200 < 0.6


def test_verdicts_are_right(drawn):
    verdicts = set()
    for entry, truth in drawn.clean():
        if truth["kind"] != "judge_answer":
            continue
        (answer,) = truth["answers"]
        about = answer["about"]
        assert answer["value"] == (about["said"] == about["right"])
        said = entry["conversations"][answer["turn"]]["value"]
        assert (
            said
            == {("en", True): "Right.", ("en", False): "Wrong.", ("zh", True): "对。", ("zh", False): "错。"}[
                (truth["language"], answer["value"])
            ]
        )
        verdicts.add(answer["value"])
    assert verdicts == {True, False}


def test_relevance_is_about_what_is_shown(drawn):
    needs = {"chart": "chart", "read_text": "text"}
    verdicts = set()
    for entry, truth in drawn.clean():
        if truth["kind"] != "judge_relevance":
            continue
        (answer,), (scene,) = truth["answers"], truth["scenes"]
        shown, question = answer["about"]["asked_kind"], answer["about"]["question"]
        assert question in entry["conversations"][answer["turn"] - 1]["value"]
        verdicts.add(answer["value"])
        if shown in needs:
            assert answer["value"] == (scene["kind"] == needs[shown])
        elif truth["language"] == "en":
            words = set(re.findall(r"[a-z]+", question.lower()))
            told = {v for o in scene["objects"] for v in (o["colour"], o["shape"], o["shape"] + "s")}
            vocabulary = {"red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan"}
            vocabulary |= {"circle", "square", "triangle", "star", "cross"}
            if not answer["value"]:
                assert words & vocabulary and not words & told
            elif shown not in ("count", "exists"):
                assert words & vocabulary <= told
    assert verdicts == {True, False}


def test_written_questions_are_of_the_asked_kind(drawn):
    kinds = set()
    for entry, truth in drawn.clean():
        if truth["kind"] == "write_question":
            (answer,) = truth["answers"]
            kinds.add(answer["about"]["asked_kind"])
            assert entry["conversations"][answer["turn"]]["value"] == answer["value"]
            assert "answer" in answer["about"]
    assert len(kinds) >= 4
