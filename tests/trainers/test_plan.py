"""The plan: steps are consecutive samples, packs hold them all once, and what is left out is told."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import record
from talks import SAMPLES, chat, files, ingested, records

from infinity_mm.image_tokens import Geometry
from infinity_mm.manifest import Manifest
from infinity_mm.withdraw import forget
from trainers.lengths import Lengths
from trainers.llava.documents import Encoding
from trainers.llava.lengths import measure_lengths
from trainers.mixture import Mixture
from trainers.plan import Batching, Plan, PlannedStep

ENCODING = Encoding(chat=chat(), geometry=Geometry(16, 4, ((16, 16), (32, 16)), 3), frames=3)
BATCHING: dict[str, Any] = {"batch": 8, "length": 250, "tiles": 12}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mixture, Lengths]:
    manifest = ingested(tmp_path_factory.mktemp("plan"), records(), files())
    return Mixture([manifest], [1.0]), measure_lengths([manifest], ENCODING)


def plan(raw: tuple[Mixture, Lengths], **more: Any) -> Plan:
    return Plan(*raw, Batching(**{**BATCHING, **more}))


def steps(one: Plan) -> list[PlannedStep]:
    return [one.step(number) for number in range(one.steps)]


def taken(step: PlannedStep) -> list[tuple[int, ...]]:
    return sorted(tuple(place) for places in step.packs for place in places.tolist())


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 9))
def test_a_step_is_consecutive_samples_of_the_order(
    raw: tuple[Mixture, Lengths], batch: int, epochs: int, seed: int
) -> None:
    one = plan(raw, batch=batch, epochs=epochs, seed=seed)
    stream = [(*place, epoch) for epoch in range(epochs) for place in raw[0].order(seed, epoch)]
    assert one.total == len(stream) == epochs * SAMPLES
    assert one.steps == -(-len(stream) // batch)
    for number, step in enumerate(steps(one)):
        assert taken(step) == sorted(stream[number * batch : (number + 1) * batch])
        assert step.consumed == min((number + 1) * batch, len(stream))
        assert step.number == number


@given(st.integers(1, 9), st.integers(1, 5))
def test_packs_hold_what_they_may_and_their_sums_are_the_steps(
    raw: tuple[Mixture, Lengths], batch: int, group: int
) -> None:
    mixture, lengths = raw
    columns = {c: lengths.column(mixture.shards[0].sha256, c) for c in ("tokens", "supervised", "tiles")}
    one = plan(raw, batch=batch, group=group)
    for step in steps(one):
        rows = [places[:, 1] for places in step.packs]
        assert all(columns["tokens"][r].sum() <= 250 and columns["tiles"][r].sum() <= 12 for r in rows)
        for column in ("tokens", "supervised", "tiles"):
            assert sum(int(columns[column][r].sum()) for r in rows) == getattr(step, column)


@given(st.integers(1, 8), st.integers(2, 7), st.integers(1, 2))
def test_a_group_takes_its_samples_whole(
    raw: tuple[Mixture, Lengths], batch: int, group: int, epochs: int
) -> None:
    one = plan(raw, batch=batch, group=group, epochs=epochs)
    all_steps = steps(one)
    assert one.steps == -(-one.total // batch)
    cursor = 0
    for start in range(0, one.steps, group):
        members = all_steps[start : start + group]
        stream = one.turns(start * batch, (start + group) * batch)
        assert sorted(p for step in members for p in taken(step)) == sorted(map(tuple, stream.tolist()))
        for step in members:
            assert step.packs
            cursor += len(taken(step))
            assert step.consumed == cursor
        assert one.at_boundary(cursor)
    assert cursor == one.total


def test_a_group_fills_packs_that_small_batches_cannot(raw: tuple[Mixture, Lengths]) -> None:
    alone, together = (plan(raw, batch=6, group=group, epochs=2).figures() for group in (1, 10))
    assert together.packs < alone.packs
    assert (alone.taken, alone.tokens, alone.steps) == (together.taken, together.tokens, together.steps)
    assert together.fill > alone.fill


@given(st.integers(1, 9), st.integers(1, 5))
def test_a_cursor_says_which_step_is_next(raw: tuple[Mixture, Lengths], batch: int, group: int) -> None:
    one = plan(raw, batch=batch, group=group, epochs=2)
    cursors = {0: 0, **{step.consumed: step.number + 1 for step in steps(one)}}
    for cursor in range(one.total + 1):
        if cursor in cursors:
            assert one.number(cursor) == cursors[cursor]
        else:
            with pytest.raises(ValueError, match="no step begins after"):
                one.number(cursor)
    for cursor in (-1, one.total + 1):
        with pytest.raises(ValueError, match="no step begins after"):
            one.number(cursor)


def test_figures_are_sums_over_all_steps(raw: tuple[Mixture, Lengths]) -> None:
    one = plan(raw, epochs=2)
    figures, all_steps = one.figures(), steps(one)
    assert (figures.steps, figures.samples, figures.taken) == (8, 2 * SAMPLES, 2 * SAMPLES)
    for name in ("tokens", "supervised", "tiles"):
        assert getattr(figures, name) == sum(getattr(step, name) for step in all_steps)
    assert figures.packs == sum(len(step.packs) for step in all_steps)
    assert figures.fill == figures.tokens / (figures.packs * 250)
    assert figures.tile_fill == figures.tiles / (figures.packs * 12)
    assert figures.largest[0] <= 250 and figures.largest[1] <= 12
    assert figures.sources == {"raw": [2 * SAMPLES, figures.supervised]}
    assert not figures.left_out and figures.unsupervised == 0
    mixture, lengths = raw
    tokens = lengths.column(mixture.shards[0].sha256, "tokens")
    assert [s["tokens"] for s in figures.longest] == sorted(tokens.tolist(), reverse=True)[:10]
    longest = mixture.ids(np.array([[0, int(tokens.argmax())]]))[0].hex()
    assert longest in [s["sample_id"] for s in figures.longest if s["tokens"] == tokens.max()]


def test_overlong_samples_are_refused_by_id_or_skipped(raw: tuple[Mixture, Lengths]) -> None:
    mixture, lengths = raw
    tokens = lengths.column(mixture.shards[0].sha256, "tokens")
    limit = int(np.sort(tokens)[-4])
    ids = {mixture.ids(np.array([[0, row]]))[0].hex() for row in np.flatnonzero(tokens > limit)}
    with pytest.raises(ValueError, match=f"{len(ids)} samples are longer than a pack of {limit}") as error:
        plan(raw, length=limit)
    assert all(identity in str(error.value) for identity in ids)
    assert "overlong: skip" in str(error.value)
    one = plan(raw, length=limit, overlong="skip")
    rows = list(one.left_out())
    assert {row["sample_id"] for row in rows} == ids
    assert {(row["outcome"], row["reason"]) for row in rows} == {("dropped", "overlong")}
    assert all(row["limit"] == f"{limit} tokens, 12 tiles" for row in rows)
    assert one.figures().left_out == Counter(overlong=len(ids))
    assert one.figures().taken == SAMPLES - len(ids)
    assert sum(len(step.left_out) for step in steps(one)) == len(ids)
    with pytest.raises(ValueError, match="longer than a pack of 250 tokens and 1 tiles"):
        plan(raw, tiles=1)


def test_withdrawn_and_failed_samples_are_left_out_where_they_stood(tmp_path: Path) -> None:
    told = [*records(), record("not.jpg", "no picture")]
    manifest = ingested(tmp_path, told, {**files(), "not.jpg": b"no picture"})
    lengths = measure_lengths([manifest], ENCODING)
    before = Plan(Mixture([manifest], [1.0]), lengths, Batching(**BATCHING))
    gone = manifest.ids(0)[5].tobytes()
    forget(manifest.store, gone.hex(), "a test")
    again = Manifest.open(manifest.store, "raw")
    after = Plan(Mixture([again], [1.0]), lengths, Batching(**BATCHING))
    assert after.total == before.total == SAMPLES + 1
    assert after.figures().left_out["withdrawn"] == 1
    reasons = {row["sample_id"]: (row["outcome"], row["reason"]) for row in after.left_out()}
    assert reasons[gone.hex()] == ("dropped", "withdrawn")
    assert {outcome for outcome, _ in reasons.values()} == {"dropped", "failed"}
    for one, two in zip(steps(before), steps(after), strict=True):
        assert one.consumed == two.consumed
        assert set(taken(two)) == set(taken(one)) - {(0, 5, 0)}


def test_a_mixture_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    manifest = ingested(tmp_path, [record("not.jpg")], {"not.jpg": b"no picture"})
    with pytest.raises(ValueError, match="no sample is left to train on: "):
        Plan(Mixture([manifest], [1.0]), measure_lengths([manifest], ENCODING), Batching(**BATCHING))
