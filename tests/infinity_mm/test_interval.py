import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.interval import share


@pytest.mark.parametrize(
    ("found", "of", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 1, 0.0, 0.975),
        (0, 10, 0.0, 0.3084971),
        (10, 10, 0.6915029, 1.0),
        (5, 10, 0.1870860, 0.8129140),
        (3, 7, 0.0989883, 0.8159484),
        (299, 300, 0.9815687, 0.9999156),
        (300, 300, 0.9877790, 1.0),
        (999_000, 1_000_000, 0.9989361, 0.9990610),
    ],
)
def test_known_values(found: int, of: int, low: float, high: float) -> None:
    """As scipy.stats.beta.ppf gives them."""
    assert share(found, of) == pytest.approx((low, high), abs=1e-7)


@given(st.integers(1, 10**6).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_share_lies_inside_and_the_other_share_mirrors_it(counts: tuple[int, int]) -> None:
    found, of = counts
    low, high = share(found, of)
    assert 0 <= low <= found / of <= high <= 1
    assert share(of - found, of) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("found", "of"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts(found: int, of: int) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        share(found, of)
