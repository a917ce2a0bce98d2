"""Batches: what a stage draws, the same for the same seed, in order whichever process draws them."""

import numpy as np
import pytest

from infinity_mm.models.tokenizer import decode
from trainers.scene_batches import BATCH, Batch, Stage, batches, draw_batch
from trainers.scene_facts import FACTS, OF_THINGS, UNSAID
from trainers.tiny_clip import STAGES

TEXTS, PICTURES, BINDING, ALL = STAGES


def same(one: Batch, two: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_batch_is_the_same_for_the_same_seed(stage: Stage) -> None:
    one = draw_batch(stage, (3, 1, 5))
    assert same(one, draw_batch(stage, (3, 1, 5)))
    for other in ((3, 1, 6), (3, 2, 5), (4, 1, 5)):
        assert not same(one, draw_batch(stage, other))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_batch_holds_what_its_stage_learns(stage: Stage) -> None:
    images, shown, tokens, told = draw_batch(stage, (1,))
    assert (len(images), len(shown)) == ((BATCH, BATCH) if stage.pictures else (0, 0))
    assert len(tokens) == len(told) == BATCH * stage.pairs * 2
    if stage.pictures:
        assert (images.shape, shown.shape) == ((BATCH, 64, 64, 3), (BATCH, len(FACTS)))
    if stage.pairs:
        assert told.shape[1] == len(FACTS)


@pytest.mark.parametrize("stage", [TEXTS, BINDING], ids=lambda stage: stage.name)
def test_the_first_captions_are_of_two_things_and_need_not_tell_sizes_and_numbers(stage: Stage) -> None:
    told = draw_batch(stage, (2,)).told
    groups = {group: [at for fact, at in FACTS.items() if fact[0] == group] for group in OF_THINGS}
    assert (told[:, groups["size"] + groups["number"]] == UNSAID).all()
    pairs = (told[:, groups["colour with shape"]] == 1).sum(axis=1)
    assert set(pairs) == {2}
    sides = {group: (told[:, groups[group]] != UNSAID).any(axis=1) for group in ("across", "upright")}
    assert sides["across"].any() and sides["upright"].any()
    assert not (sides["across"] & sides["upright"]).any()  # a caption tells one of them at most


def test_the_last_stage_tells_sizes_and_numbers() -> None:
    told = draw_batch(ALL, (2,)).told
    assert all(
        (told[:, [at for fact, at in FACTS.items() if fact[0] == group]] == 1).any()
        for group in {group for group, *_ in FACTS}
    )


def test_captions_and_what_they_tell_stay_together() -> None:
    batch = draw_batch(TEXTS, (4,))
    texts = [decode(row.tolist()).lower() for row in batch.tokens]
    for text, row in zip(texts, batch.told, strict=True):
        there = {fact[1:] for fact, at in FACTS.items() if fact[0] == "colour with shape" and row[at] == 1}
        if text.isascii():
            assert all(str(word) in text for pair in there for word in pair), (text, there)


def test_another_process_draws_the_same_in_order() -> None:
    stages = (TEXTS._replace(steps=2), PICTURES._replace(steps=1), ALL._replace(steps=10))
    drawn = list(batches(stages, 7))
    wanted = [draw_batch(s, (7, n, step)) for n, s in enumerate(stages) for step in range(s.steps)]
    assert len(drawn) == len(wanted)
    assert all(map(same, drawn, wanted))
