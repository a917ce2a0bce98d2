"""Facts of scenes: which hold, which are left unsaid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.scenes.world import Background, Bar, Lettering, Scene, Thing
from trainers.scene_facts import FACTS, GROUPS, MOST, OF_THINGS, UNSAID, facts, groups_of, targets
from trainers.scene_pairs import draw_scene

GREY = Background("plain", (90, 90, 90), (90, 90, 90))
CIRCLE, STAR = Thing("red", "circle", "small", 8, 40, 4.5), Thing("blue", "star", "large", 40, 40, 7)
SCENE = Scene("shapes", 64, GREY, (CIRCLE, STAR))


def test_the_facts_of_two_things() -> None:
    assert set(facts(SCENE)) == {
        ("number", "things", 2),
        ("colour with shape", "red", "circle"), ("colour with shape", "blue", "star"),
        ("size", "red", "small"), ("size", "circle", "small"),
        ("size", "blue", "large"), ("size", "star", "large"),
        ("across", "red", "left"), ("across", "circle", "left"),
        ("across", "blue", "right"), ("across", "star", "right"),
        ("half", "red", "left half"), ("half", "circle", "left half"),
        ("half", "blue", "right half"), ("half", "star", "right half"),
        ("half", "red", "lower half"), ("half", "circle", "lower half"),
        ("half", "blue", "lower half"), ("half", "star", "lower half"),
    }  # fmt: skip


def test_more_things_than_are_counted() -> None:
    assert ("number", "things", MOST) in facts(Scene("shapes", 64, GREY, (CIRCLE,) * (MOST + 1)))


def test_the_facts_of_a_text_and_of_a_chart() -> None:
    text = Scene("text", 64, GREY, lettering=Lettering("A7", "red", 32, 32, 20))
    assert set(facts(text)) == {
        ("text", 0, "A"), ("text", 1, "7"), ("text", "colour", "red"), ("text", "length", 2),
    }  # fmt: skip
    chart = Scene("chart", 64, GREY, bars=(Bar("B", 9, "red"), Bar("C", 1, "blue")))
    assert set(facts(chart)) == {("chart", "B", 9), ("chart", "C", 1), ("chart", "bars", 2)}
    assert (groups_of(text), groups_of(chart), groups_of(SCENE)) == (("text",), ("chart",), OF_THINGS)


@given(st.integers(0, 1 << 32), st.sampled_from(["shapes", "two", "text", "chart", "clip"]))
def test_every_fact_of_a_scene_has_its_place(seed: int, kind: str) -> None:
    scene = draw_scene(kind, np.random.default_rng(seed))
    row = targets(scene, groups_of(scene))
    assert {fact for fact, place in FACTS.items() if row[place] == 1} == set(facts(scene))
    said = {fact[0] for fact, place in FACTS.items() if row[place] != UNSAID}
    assert said == set(groups_of(scene))


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_is_not_told_is_left_unsaid(group: str) -> None:
    row = targets(SCENE, [group])
    assert all((row[place] == UNSAID) == (fact[0] != group) for fact, place in FACTS.items())
    assert {fact for fact, place in FACTS.items() if row[place] == 1} == {
        fact for fact in facts(SCENE) if fact[0] == group
    }
