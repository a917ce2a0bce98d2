"""Packing: every sample once, no row over its limits, and rows nearly full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.packing import fewest, pack

LIMITS = (100, 10)
SIZES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 10)), max_size=60).map(
    lambda pairs: np.array(pairs, np.int64).reshape(-1, 2)
)


@given(SIZES)
def test_every_sample_is_in_one_row_and_no_row_is_over(sizes: np.ndarray) -> None:
    rows = pack(sizes, LIMITS)
    assert sorted(sample for row in rows for sample in row) == list(range(len(sizes)))
    assert all((sizes[row].sum(axis=0) <= LIMITS).all() for row in rows)
    assert all(rows)
    assert fewest(sizes, LIMITS) <= len(rows)


@given(SIZES)
def test_no_two_rows_would_fit_in_one(sizes: np.ndarray) -> None:
    loads = [sizes[row].sum(axis=0) for row in pack(sizes, LIMITS)]
    assert all((a + b > LIMITS).any() for i, a in enumerate(loads) for b in loads[:i])


@given(SIZES)
def test_the_same_sizes_give_the_same_rows_in_order(sizes: np.ndarray) -> None:
    rows = pack(sizes, LIMITS)
    assert rows == pack(sizes.astype(np.int32), LIMITS)
    assert rows == sorted(sorted(row) for row in rows)


def test_what_fits_exactly_is_packed_exactly() -> None:
    sizes = np.array([[60, 1], [50, 1], [50, 1], [40, 1], [30, 9], [70, 1]])
    assert len(pack(sizes, LIMITS)) == 3
    assert len(pack(np.array([[1, 5]] * 20), LIMITS)) == 10
    assert len(pack(np.array([[0, 0]] * 20), LIMITS)) == 1


def test_rows_are_filled_evenly() -> None:
    """No rank waits for another that has the fuller row."""
    sizes = np.stack([np.random.default_rng(0).integers(20, 60, 16), np.ones(16, np.int64)], axis=1)
    rows = pack(sizes, (480, 16))
    loads = [int(sizes[row, 0].sum()) for row in rows]
    assert len(rows) == 2 and max(loads) - min(loads) < 20
    assert len(pack(np.array([[60, 1], [50, 1], [40, 1], [40, 1], [10, 1]]), LIMITS)) == 2


def test_samples_over_a_row_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"2 samples are larger.*: 1 \(101 tokens, 0 tiles\), 2 \(5 tokens, 11"
    ):
        pack(np.array([[5, 5], [101, 0], [5, 11]]), LIMITS)


def mixture(rng: np.random.Generator, n: int) -> np.ndarray:
    """Lengths like those of instruction data: captions, questions with a picture, long documents, texts.

    A picture is a base tile of 729 tokens and, for most, 2 to 9 tiles at about 600.
    """
    text = np.minimum(np.exp(rng.normal(5.3, 0.9, n)), 3000).astype(np.int64) + 20
    tiles = rng.choice([0, 1, 3, 5, 7, 10], n, p=[0.15, 0.25, 0.2, 0.2, 0.15, 0.05])
    return np.stack([text + np.minimum(tiles, 1) * 729 + np.maximum(tiles - 1, 0) * 600, tiles], axis=1)


@pytest.mark.parametrize(("samples", "limits"), [(512, (32768, 64)), (512, (16384, 32)), (128, (8192, 16))])
def test_rows_of_realistic_lengths_are_nine_tenths_full(samples: int, limits: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        sizes = mixture(rng, samples)
        rows = pack(sizes, limits)
        assert sizes[:, 0].sum() / (len(rows) * limits[0]) > 0.9
        assert len(rows) <= 1.06 * fewest(sizes, limits) + 1
