"""The seeded order is a permutation, differs by seed, and stands across releases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.order import permute, unpermute


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**62))
def test_every_index_comes_once(n: int, seed: int) -> None:
    assert sorted(permute(np.arange(n), n, seed).tolist()) == list(range(n))


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**62))
def test_it_can_be_undone(n: int, seed: int) -> None:
    assert unpermute(permute(np.arange(n), n, seed), n, seed).tolist() == list(range(n))


def test_an_index_alone_has_the_same_image() -> None:
    whole = permute(np.arange(1000), 1000, 5)
    assert [int(permute(np.array([i]), 1000, 5)[0]) for i in (0, 17, 999)] == whole[[0, 17, 999]].tolist()


def test_seeds_give_unlike_orders() -> None:
    a, b = (permute(np.arange(10_000), 10_000, seed) for seed in (0, 1))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
    assert abs(np.corrcoef(a, np.arange(10_000))[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("n", "seed", "start"),
    [(10, 0, [1, 4, 7, 0, 9]), (1_000_000, 7, [616563, 17960, 946601, 342072, 701647])],
    ids=["small", "million"],
)
def test_the_order_is_frozen(n: int, seed: int, start: list[int]) -> None:
    assert permute(np.arange(5), n, seed).tolist() == start
