"""Pairs of captions: one true of its scene, one false, in the same words but for one thing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.scenes.captions import corner, groups
from infinity_mm.scenes.questions import words_of
from trainers.scene_facts import facts
from trainers.scene_pairs import KINDS, OPPOSITE, SIDE, draw_pair, pixels, planted

SEEDS = st.integers(0, 1 << 32)


@given(SEEDS, st.sampled_from(sorted(KINDS)), st.sampled_from(["en", "zh"]))
def test_a_pair_differs_and_draws_the_same_again(seed: int, kind: str, lang: str) -> None:
    scene, pair = draw_pair(kind, np.random.default_rng(seed), lang)
    assert pair.true != pair.false
    assert draw_pair(kind, np.random.default_rng(seed), lang) == (scene, pair)


@given(SEEDS, st.sampled_from(["colour", "size"]))
def test_one_word_tells_them_apart(seed: int, kind: str) -> None:
    _, pair = draw_pair(kind, np.random.default_rng(seed), "en")
    true, false = pair.true.split(), pair.false.split()
    different = [(a, b) for a, b in zip(true, false, strict=True) if a.lower() not in ("a", "an")]
    assert sum(a != b for a, b in different) == 1


@given(SEEDS, st.sampled_from(["colour", "shape", "size", "count", "owners"]))
def test_the_true_one_says_what_is_there_and_the_false_one_does_not(seed: int, kind: str) -> None:
    scene, pair = draw_pair(kind, np.random.default_rng(seed), "en")
    said = [words_of("en", thing) for _, thing in groups(scene.things)]
    assert all(words in pair.true.lower() for words in said)
    assert kind == "count" or any(words not in pair.false.lower() for words in said)


@given(SEEDS)
def test_a_relation_is_turned_round(seed: int) -> None:
    scene, pair = draw_pair("relation", np.random.default_rng(seed), "en")
    one, two = scene.things
    if " left of " in pair.true or " right of " in pair.true:
        assert (" left of " in pair.true) == (one.x < two.x) != (" left of " in pair.false)
    else:
        assert (" above " in pair.true) == (one.y < two.y) != (" above " in pair.false)


@given(SEEDS, st.sampled_from(sorted(set(KINDS) - {"answer"})))
def test_what_the_two_tell_differs(seed: int, kind: str) -> None:
    scene, pair = draw_pair(kind, np.random.default_rng(seed), "en")
    assert pair.scenes is not None and pair.scenes[0] == scene
    true, false = ({fact for fact in facts(s) if fact[0] in pair.tells} for s in pair.scenes)
    assert true and false and true != false


@given(SEEDS)
def test_the_scene_of_a_false_relation_is_the_other_way_round(seed: int) -> None:
    _, pair = draw_pair("relation", np.random.default_rng(seed), "en")
    assert pair.scenes is not None
    axis = pair.tells[-1]
    true, false = ({fact[1:] for fact in facts(s) if fact[0] == axis} for s in pair.scenes)
    assert false == {(what, OPPOSITE[str(side)]) for what, side in true}
    assert ((" left of " in pair.true) or (" right of " in pair.true)) == (axis == "across")


@given(SEEDS)
def test_the_scene_of_a_false_corner_is_in_that_corner(seed: int) -> None:
    _, pair = draw_pair("corner", np.random.default_rng(seed), "en")
    assert pair.scenes is not None
    for text, scene in zip(pair[:2], pair.scenes, strict=True):
        place = corner(scene)
        assert place is not None and all(word in text.lower() for word in place.split()), (text, place)


@given(SEEDS, st.sampled_from(["text", "text colour"]))
def test_a_text_is_quoted_as_it_is(seed: int, kind: str) -> None:
    scene, pair = draw_pair(kind, np.random.default_rng(seed), "en")
    assert scene.lettering is not None
    quoted = f'"{scene.lettering.text}"'
    assert quoted in pair.true
    assert (quoted in pair.false) == (kind == "text colour")


@pytest.mark.parametrize("kind", ["shapes", "text", "chart"])
def test_what_false_caption_plants(kind: str) -> None:
    told = {planted(kind, np.random.default_rng(seed), "en")[2] for seed in range(40)}
    assert told == ({"colour", "shape", "count"} if kind == "shapes" else {kind})


def test_pictures_are_of_one_size() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        scene, _ = draw_pair(kind, rng, "zh")
        assert (pixels(scene, rng).shape, pixels(scene, rng).dtype) == ((SIDE, SIDE, 3), np.uint8)
