"""Hamming radius search: exactly the pairs that comparing all finds, whatever the plan and the data."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity_mm import hamming
from infinity_mm.hamming import Hashes, Neighbours, neighbours

Triple = tuple[int, int, int]  # row, distance, other


def clustered(count: int, seed: int, *, free_bits: int = 64) -> Hashes:
    """Distinct hashes in clusters of 1 to 20 with up to 12 flipped bits; bits above `free_bits` are 0."""
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, 1 << 64, count, np.uint64)
    hashes = np.repeat(hashes, draw.integers(1, 21, count))[:count]
    flips = draw.integers(0, 13, count)
    for flip in range(12):
        bit = np.uint64(1) << draw.integers(0, 64, count, np.uint64)
        hashes ^= np.where(flips > flip, bit, np.uint64(0))
    hashes = np.unique(hashes & np.uint64((1 << free_bits) - 1))
    draw.shuffle(hashes)
    return hashes


def by_comparing(hashes: Hashes, radius: int, against: Hashes | None = None) -> list[Triple]:
    others = hashes if against is None else against
    return sorted(
        (row, (a ^ b).bit_count(), other)
        for row, a in enumerate(hashes.tolist())
        for other, b in enumerate(others.tolist())
        if (a ^ b).bit_count() <= radius and (against is not None or row != other)
    )


def triples(found: Neighbours) -> list[Triple]:
    """The pairs in the order in which they are given."""
    return [
        (row, int(found.distances[place]), int(found.others[place]))
        for row, (start, end) in enumerate(pairwise(found.starts.tolist()))
        for place in range(start, end)
    ]


@pytest.fixture
def always_banded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands, tiles, batches and descents at the size of a test, so that each edge is met."""
    banded(monkeypatch)


def banded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hamming, "_FEW", 200)
    patch.setattr(hamming, "_LARGE", 150)
    patch.setattr(hamming, "_TILE", 64)
    patch.setattr(hamming, "_COLUMNS", 7)
    patch.setattr(hamming, "_BATCH", 5)
    patch.setattr(hamming, "_WORTHWHILE", 1.0)
    patch.setattr(hamming, "_BUCKET", 0.0)
    patch.setattr(hamming, "_SLICE", 0.0)
    patch.setattr(hamming, "_ROW", 0.0)


@pytest.mark.parametrize("radius", range(13))
@pytest.mark.parametrize("free_bits", [64, 20])
def test_it_finds_what_comparing_all_finds(radius: int, free_bits: int, always_banded: None) -> None:
    hashes = clustered(150, seed=radius, free_bits=free_bits)
    assert hamming._plan(hashes, None, radius) or (free_bits == 20 and radius > 8)
    assert triples(neighbours(hashes, radius)) == by_comparing(hashes, radius)
    others = np.concatenate([clustered(60, seed=radius + 50, free_bits=free_bits), hashes[:30]])
    others = np.unique(others ^ np.uint64(3))
    assert triples(neighbours(hashes, radius, others)) == by_comparing(hashes, radius, others)


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.integers(0, 2**64 - 1), max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=13)), max_size=40),
    st.integers(0, 12),
    st.integers(0, 40),
)
def test_any_set_of_any_order(
    centres: set[int], near: list[tuple[int, set[int]]], radius: int, cut: int
) -> None:
    ordered = sorted(centres)
    made = [ordered[place % len(ordered)] ^ sum(1 << bit for bit in bits) for place, bits in near if ordered]
    hashes = np.array(list(dict.fromkeys([*made, *ordered])), np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        banded(patch)
        patch.setattr(hamming, "_FEW", 4)
        assert triples(neighbours(hashes, radius)) == by_comparing(hashes, radius)
        left, right = hashes[:cut], hashes[cut // 2 :]
        assert triples(neighbours(left, radius, right)) == by_comparing(left, radius, right)


def test_small_sets_are_compared_outright() -> None:
    hashes = clustered(300, seed=1)
    assert hamming._plan(hashes, None, 8) == []
    assert triples(neighbours(hashes, 8)) == by_comparing(hashes, 8)


def test_a_large_set_by_its_own_plan() -> None:
    hashes = clustered(24_000, seed=2)
    assert len(hamming._plan(hashes, None, 8)) > 1
    found = neighbours(hashes, 8)
    assert found.starts.dtype == np.int64 and found.others.dtype == np.int32
    assert found.distances.dtype == np.uint8 and found.starts.size == hashes.size + 1
    for row in range(0, hashes.size, 400):
        apart = np.array([(int(hashes[row]) ^ other).bit_count() for other in hashes.tolist()])
        within = np.flatnonzero(apart <= 8)
        within = within[within != row]
        expected = within[np.argsort(apart[within], kind="stable")]
        own = slice(found.starts[row], found.starts[row + 1])
        assert found.others[own].tolist() == expected.tolist()
        assert found.distances[own].tolist() == apart[expected].tolist()


def test_both_directions_and_never_itself(always_banded: None) -> None:
    pairs = {(row, other) for row, _, other in triples(neighbours(clustered(200, seed=3), 9))}
    assert pairs and pairs == {(other, row) for row, other in pairs}
    assert all(row != other for row, other in pairs)


def test_the_order_of_the_input_changes_no_pair(always_banded: None) -> None:
    hashes = clustered(200, seed=4)
    seen = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(hashes.size)
        found = triples(neighbours(hashes[order], 8))
        seen.append({(int(order[row]), apart, int(order[other])) for row, apart, other in found})
    assert seen[0] and seen[0] == seen[1] == seen[2]


def test_a_value_shared_by_half_is_searched_in_bounded_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    banded(monkeypatch)
    draw = np.random.default_rng(5)
    half = draw.integers(0, 1 << 20, 120, np.uint64) | np.uint64(0xABCDE << 44)
    hashes = np.unique(np.concatenate([half, draw.integers(0, 1 << 64, 120, np.uint64)]))
    compared = []
    count_bits = hamming.popcount

    def counting(numbers: Hashes) -> np.ndarray:
        if numbers.ndim == 2:
            compared.append(numbers.size)
        return count_bits(numbers)

    monkeypatch.setattr(hamming, "popcount", counting)
    assert triples(neighbours(hashes, 6)) == by_comparing(hashes, 6)
    assert max(compared) <= 64
    assert sum(compared) < hashes.size**2 / 2


def test_thresholds_are_tight_and_bits_disjoint(always_banded: None) -> None:
    hashes = clustered(400, seed=6)
    for radius in range(13):
        bands = hamming._plan(hashes, None, radius)
        bits = [bit for band in bands for bit in band.bits]
        assert len(set(bits)) == len(bits)
        assert sum(band.flips + 1 for band in bands) == radius + 1


def test_a_large_bucket_is_searched_by_a_plan_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    banded(monkeypatch)
    hashes = clustered(150, seed=4, free_bits=20)
    plans = []
    plan = hamming._plan

    def planning(left: Hashes, right: Hashes | None, radius: int) -> list[hamming._Band]:
        plans.append(left.size)
        return plan(left, right, radius)

    monkeypatch.setattr(hamming, "_plan", planning)
    assert triples(neighbours(hashes, 4)) == by_comparing(hashes, 4)
    assert plans[0] == hashes.size and len(plans) > 1 and max(plans[1:]) < hashes.size


def test_finds_are_looked_at_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "_BATCH", 5)
    blocks = [(np.full(2, row, np.int32), np.arange(2, dtype=np.int32)) for row in range(7)]
    batches = list(hamming._batches(iter(blocks)))
    assert [rows.size for rows, _ in batches] == [6, 6, 2]
    assert np.concatenate([rows for rows, _ in batches]).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
        6,
        6,
    ]


def test_empty_and_single_inputs() -> None:
    none, one = np.empty(0, np.uint64), np.array([7], np.uint64)
    assert neighbours(none, 8).starts.tolist() == [0]
    assert triples(neighbours(one, 64)) == []
    assert triples(neighbours(none, 8, one)) == []
    assert triples(neighbours(one, 8, none)) == []
    assert triples(neighbours(one, 0, one)) == [(0, 0, 0)]


def test_the_whole_range_of_distances() -> None:
    hashes = np.array([0, 2**64 - 1, 1], np.uint64)
    assert triples(neighbours(hashes, 64)) == by_comparing(hashes, 64)
    assert triples(neighbours(hashes, 63)) == by_comparing(hashes, 63)
    assert (0, 64, 1) in triples(neighbours(hashes, 64))


def test_equal_hashes_are_refused() -> None:
    hashes = np.array([5, 9, 2, 9, 9], np.uint64)
    with pytest.raises(ValueError, match=r"places 1 and 3 are both 0x0{15}9, and 2 places repeat"):
        neighbours(hashes, 3)
    with pytest.raises(ValueError, match="against must be distinct"):
        neighbours(hashes[:3], 3, hashes)


def test_what_cannot_be_searched_is_refused() -> None:
    hashes = np.array([5, 9], np.uint64)
    for radius in (-1, 65):
        with pytest.raises(ValueError, match=f"radius {radius}"):
            neighbours(hashes, radius)
    with pytest.raises(ValueError, match=r"hashes is int64 of shape \(2,\)"):
        neighbours(hashes.astype(np.int64), 3)
    with pytest.raises(ValueError, match=r"against is uint64 of shape \(1, 2\)"):
        neighbours(hashes, 3, hashes[None])


def test_popcount_without_numpy_2() -> None:
    numbers = np.random.default_rng(7).integers(0, 1 << 64, (5, 6), np.uint64)
    numbers[0, :2] = 0, 2**64 - 1
    expected = [[number.bit_count() for number in row] for row in numbers.tolist()]
    assert hamming._table_popcount(numbers).tolist() == expected
    assert hamming._table_popcount(numbers[:, 1]).tolist() == [row[1] for row in expected]
