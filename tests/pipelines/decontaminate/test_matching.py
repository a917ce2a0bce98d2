"""Texts and joins against the plain way of doing the same."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.fingerprints import COMMON, telling
from infinity_mm.shingles import shingle_sets, text_key
from pipelines.decontaminate.items import distinct_of
from pipelines.decontaminate.joining import (
    Having,
    Matches,
    asking,
    pair,
    showing_and_asking,
)
from pipelines.decontaminate.texts import TextIndex

WORDS = st.lists(st.sampled_from(["ab", "cd", "ef", "gh"]), max_size=12).map(" ".join)


def index(texts: list[str], shingle: int = 3) -> TextIndex:
    sets = telling(shingle_sets(texts, shingle), np.arange(len(texts)))
    return TextIndex.made(sets, [text_key(t) for t in texts], shingle)


@given(st.lists(WORDS, min_size=1, max_size=8, unique=True), st.lists(WORDS, max_size=6))
def test_texts_are_found_as_by_comparing_all(texts: list[str], said: list[str]) -> None:
    own = telling(shingle_sets(texts, 3), np.arange(len(texts)))
    expected = {}
    for i, text in enumerate(said):
        there = set(shingle_sets([text], 3).values.tolist())
        for n, other in enumerate(texts):
            mine = own.values[own.offsets[n] : own.offsets[n + 1]].tolist()
            share = len(there & set(mine)) / len(mine) if mine else float(bool(text) and text == other)
            if share >= 0.5:
                expected[i, n] = np.float32(share)
    found = index(texts).find(said, 0.5)
    assert {(i, n): v for i, n, v in zip(*found, strict=True)} == expected
    assert len(found.sample) == len(expected)


def test_a_short_text_equals_a_line() -> None:
    made = index(["What is it?", "Why?"], 5)
    said = ["What is it?\nAnswer in one word.", "what is it", "So what is it?", "", "\n\nWhy\n"]
    found = made.find(said, 0.8)
    assert list(zip(found.sample, found.number, strict=True)) == [(0, 0), (1, 0), (4, 1)]
    assert (found.value == 1).all()


def test_what_the_whole_benchmark_says_is_compared_exactly() -> None:
    ending = "tell me what you can see in this one picture"
    texts = [f"{ending} {i}" for i in range(COMMON + 1)]
    made = index([*texts, ending], 5)
    found = made.find([ending, f"{ending} 3", f"{ending} 99"], 0.8)
    assert list(zip(found.sample, found.number, strict=True)) == [(1, 3), (0, COMMON + 1)]


def test_an_empty_index_finds_nothing() -> None:
    made = TextIndex.made(shingle_sets([]), [], 5)
    assert not len(made.find(["a b c d e f", ""], 0.8).sample)


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=12, unique=True)


def matches(pairs: list[tuple[int, int]]) -> Matches:
    rows = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return Matches(rows[:, 0], rows[:, 1], np.arange(len(rows), dtype=np.float32))


@given(
    PAIRS, PAIRS, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 5)), max_size=12)
)
def test_joins_are_those_of_comparing_all(
    shown: list[tuple[int, int]], asked: list[tuple[int, int]], has: list[tuple[int, int, int]]
) -> None:
    items = np.array([i for i, _, _ in has], np.int64)
    one, other = (np.array([h[k] for h in has], np.int64) for k in (1, 2))
    having = Having.made(items, pair(one, other))
    owners = defaultdict(set)
    for item, p, q in has:
        owners[p, q].add(item)
    hits = showing_and_asking(matches(shown), matches(asked), having, "bits")
    expected = sorted(
        (s, min(owners[p, q])) for s, p in shown for t, q in asked if s == t and (p, q) in owners
    )
    assert sorted(zip(hits.sample.tolist(), hits.item.tolist(), strict=True)) == expected
    found = {frozenset(having.all(np.array([place])).tolist()) for place in hits.place}
    assert found == {
        frozenset(owners[p, q]) for s, p in shown for t, q in asked if s == t and (p, q) in owners
    }
    assert not (np.isnan(hits.bits) | np.isnan(hits.share)).any() and np.isnan(hits.cosine).all()
    alone = Having.made(items, one)
    got = asking(matches(shown), alone)
    assert sorted(got.sample.tolist()) == sorted(s for s, p in shown if p in one)


def test_the_best_of_equal_pairs() -> None:
    given_ = Matches(np.array([2, 1, 2, 1]), np.array([0, 3, 0, 3]), np.float32([0.8, 0.9, 1, 0.1]))
    high, low = given_.best(high=True), given_.best(high=False)
    assert high.sample.tolist() == low.sample.tolist() == [1, 2]
    assert high.value.tolist() == [np.float32(0.9), 1] and low.value.tolist() == pytest.approx([0.1, 0.8])


def test_how_many_different_values() -> None:
    numbers, values = np.array([0, 0, 2, 0, 2]), np.array([5, 5, 5, 7, 5], np.uint64)
    assert distinct_of(numbers, values, 4).tolist() == [2, 0, 1, 0]
