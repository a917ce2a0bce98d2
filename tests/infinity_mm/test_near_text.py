from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity_mm.near_text import NearPairs, exact_pairs, measure_recall, near_pairs
from infinity_mm.recall import Recall
from infinity_mm.shingles import ShingleSets, shingle_sets

ENGLISH = (
    "A young man in a red jacket stands next to a wooden table . He holds a large bowl with both hands and "
    "looks out of the window"
)
CHINESE = "一个穿红色外套的年轻人站在木桌旁边。他双手捧着一个大碗，看着窗外的街道和行人。"
WORDS = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)


def sets_of(sets: ShingleSets) -> list[set[int]]:
    return [set(sets.values[a:b].tolist()) for a, b in zip(sets.offsets, sets.offsets[1:], strict=False)]


def by_hand(sets: ShingleSets, threshold: float) -> tuple[dict[tuple[int, int], float], list[int]]:
    rows = sets_of(sets)
    same = [rows.index(row) if row else i for i, row in enumerate(rows)]
    own = [i for i, row in enumerate(rows) if row and same[i] == i]
    pairs = {(i, j): len(rows[i] & rows[j]) / len(rows[i] | rows[j]) for i in own for j in own if i < j}
    return {pair: jaccard for pair, jaccard in pairs.items() if jaccard >= threshold}, same


def told(near: NearPairs) -> dict[tuple[int, int], float]:
    assert near.pairs.dtype == np.int64 and near.jaccard.dtype == np.float64 and near.same.dtype == np.int64
    pairs = [(i, j) for i, j in near.pairs.tolist()]
    assert pairs == sorted(set(pairs))
    return dict(zip(pairs, near.jaccard.tolist(), strict=True))


def varied(count: int, seed: int) -> list[str]:
    """Texts of 24 words of 400, each twice: as it is, and with up to two words changed."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 400, (count, 24))
    changed = words.copy()
    for row in range(count):
        changed[row, random.integers(0, 24, row % 3)] = 1000
    return [" ".join(map(str, row)) for row in [*words.tolist(), *changed.tolist()]]


@given(st.lists(WORDS, max_size=25), st.integers(1, 3), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_exact_search_is_brute_force(texts: list[str], size: int, threshold: float) -> None:
    sets = shingle_sets(texts, size)
    pairs, same = by_hand(sets, threshold)
    near = exact_pairs(sets, threshold)
    assert told(near) == pairs
    assert near.same.tolist() == same


@given(st.lists(WORDS, max_size=25), st.integers(1, 3), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_no_pair_is_false(texts: list[str], size: int, threshold: float) -> None:
    sets = shingle_sets(texts, size)
    pairs, same = by_hand(sets, threshold)
    near = near_pairs(sets, threshold)
    assert told(near).items() <= pairs.items()
    assert near.same.tolist() == same


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_near_pairs_are_found(threshold: float) -> None:
    sets = shingle_sets(varied(600, 1))
    pairs, _ = by_hand(sets, threshold)
    found = told(near_pairs(sets, threshold))
    assert len(pairs) > 60
    assert found.items() <= pairs.items()
    assert len(found) >= 0.98 * len(pairs)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (ENGLISH, ENGLISH.replace("wooden", "round")),
        (ENGLISH, ENGLISH.replace("hands", "arms").upper()),
        (ENGLISH, " . ".join(reversed(ENGLISH.split(" . ")))),
        (CHINESE, CHINESE.replace("木", "石")),
        (CHINESE, CHINESE.replace("。", "").replace("街道", "街头")),
        (CHINESE, "。".join(reversed(CHINESE.rstrip("。").split("。")))),
    ],
)
def test_a_word_changed_and_sentences_swapped(text: str, other: str) -> None:
    others = [
        "A dog runs in the park with a red ball in its mouth .",
        "两只狗在公园里的草地上追着一个红色的球跑。",
    ]
    near = near_pairs(shingle_sets([others[0], text, others[1], other]), 0.5)
    assert near.pairs.tolist() == [[1, 3]]


def test_texts_shorter_than_the_shingle_are_in_no_pair() -> None:
    texts = ["a red dog", "a red cat", "a red dog", "", "", "红狗", "红狗"]
    for near in (near_pairs(shingle_sets(texts), 0.5), exact_pairs(shingle_sets(texts), 0.5)):
        assert len(near.pairs) == 0
        assert near.same.tolist() == list(range(7))


def test_nothing() -> None:
    for near in (near_pairs(shingle_sets([]), 0.5), exact_pairs(shingle_sets([]), 0.5)):
        assert near.pairs.shape == (0, 2) and len(near.jaccard) == len(near.same) == 0


def test_equal_sets_are_told_once() -> None:
    texts = [
        "x y z a b c",
        "red dogs run in the park",
        "Red dogs run, in the park!",
        "red dogs run in the park x",
    ]
    near = near_pairs(shingle_sets([*texts, texts[1]]), 0.5)
    assert near.same.tolist() == [0, 1, 1, 3, 1]
    assert told(near) == {(1, 3): 2 / 3}


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_texts_changes_nothing(random: Random) -> None:
    texts = [template(i) for i in range(120)] + varied(20, 2)
    assert len(set(texts)) > 150
    order = list(range(len(texts)))
    random.shuffle(order)
    first, second = (near_pairs(shingle_sets(rows), 0.5) for rows in (texts, [texts[i] for i in order]))

    def contents(near: NearPairs, rows: list[str]) -> set[tuple[str, ...]]:
        return {tuple(sorted((rows[i], rows[j]))) for i, j in near.pairs.tolist()}

    assert contents(first, texts) == contents(second, [texts[i] for i in order])


def template(i: int) -> str:
    return f"there are many small shapes of one colour in this picture and their number is {i}"


def test_a_cluster_of_seventeen_is_found_whole() -> None:
    near = near_pairs(shingle_sets(template(i) for i in range(17)), 0.5)
    assert len(near.pairs) == 17 * 16 // 2


def test_a_huge_bucket_is_bounded_and_every_text_linked() -> None:
    near = near_pairs(shingle_sets(template(i) for i in range(3000)), 0.8)
    assert len(near.pairs) < 3000 * (32 + 32)
    assert set(near.pairs.ravel().tolist()) == set(range(3000))


def test_the_recall_is_stated() -> None:
    sets = shingle_sets(varied(900, 3))
    near = near_pairs(sets, 0.5)
    pairs, _ = by_hand(sets, 0.5)
    recall = measure_recall(sets, near, 0.5)
    assert (recall.found, recall.of) == (len(told(near)), len(pairs))
    assert recall.low <= recall.found / recall.of <= recall.high

    half = NearPairs(near.pairs[::2], near.jaccard[::2], near.same)
    lost = measure_recall(sets, half, 0.5)
    assert lost.of == recall.of and lost.found == len(half.pairs)
    assert not lost.claimed and "not shown to be 0.99" in str(lost)


def test_a_sample_sees_the_pairs_that_touch_it() -> None:
    sets = shingle_sets(varied(600, 4))
    near = exact_pairs(sets, 0.5)
    some = measure_recall(sets, near, 0.5, sample=100)
    assert 0 < some.found == some.of < len(near.pairs) / 3
    shuffled = sets.take(np.random.default_rng(1).permutation(1200))
    assert measure_recall(shuffled, exact_pairs(shuffled, 0.5), 0.5, sample=100) == some
    assert measure_recall(sets, near, 0.5, sample=0).of == 0


@pytest.mark.parametrize(
    ("recall", "claimed", "words"),
    [
        (Recall(12, 12, 0.735, 1.0, 0.99), False, "too few pairs: 12 of 12 found, 300 are needed"),
        (Recall(300, 300, 0.98778, 1.0, 0.99), False, "not shown to be 0.99"),
        (Recall(300, 300, 0.98778, 1.0, 0.98), True, "at least 0.98"),
        (Recall(0, 0, 0.0, 1.0, 0.99), False, "too few pairs"),
        (Recall(290, 290, 0.98736, 1.0, 0.9), False, "too few pairs"),
    ],
)
def test_what_is_claimed(recall: Recall, claimed: bool, words: str) -> None:
    assert recall.claimed is claimed
    assert words in str(recall)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01])
def test_a_threshold_out_of_range(threshold: float) -> None:
    for search in (near_pairs, exact_pairs):
        with pytest.raises(ValueError, match="threshold"):
            search(shingle_sets(["a b c d e"]), threshold)
