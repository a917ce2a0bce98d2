import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.minhash import Bands, band_keys, bands_for, signatures
from infinity_mm.shingles import ShingleSets, shingle_sets


def sets_of(rows: list[list[int]]) -> ShingleSets:
    values = [np.unique(np.array(row, np.uint64)) for row in rows]
    offsets = np.cumsum([0, *(len(row) for row in values)])
    return ShingleSets(np.concatenate(values), offsets)


@pytest.mark.parametrize(
    ("threshold", "permutations", "bands"),
    [
        (0.8, 128, Bands(21, 6)),
        (0.5, 128, Bands(42, 3)),
        (1.0, 128, Bands(1, 128)),
        (0.9, 256, Bands(18, 14)),
    ],
)
def test_bands(threshold: float, permutations: int, bands: Bands) -> None:
    assert bands_for(threshold, permutations) == bands


@given(st.floats(0.05, 1), st.integers(1, 300), st.sampled_from([0.5, 0.9, 0.99]))
def test_bands_hold_the_recall_and_more_rows_would_not(
    threshold: float, permutations: int, recall: float
) -> None:
    bands = bands_for(threshold, permutations, recall)
    assert bands.number * bands.rows <= permutations
    assert bands.recall(threshold) >= recall or bands.rows == 1
    for rows in range(bands.rows + 1, permutations + 1):
        assert Bands(permutations // rows, rows).recall(threshold) < recall


def test_the_formula() -> None:
    assert Bands(20, 5).recall(0.8) == pytest.approx(0.99964, abs=1e-5)  # Mining of massive datasets, 3.4.2


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"threshold": 0.0, "permutations": 8}, "threshold"),
        ({"threshold": 1.1, "permutations": 8}, "threshold"),
        ({"threshold": 0.5, "permutations": 0}, "permutations"),
        ({"threshold": 0.5, "permutations": 8, "recall": 1.0}, "recall"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        bands_for(**settings)  # type: ignore[arg-type]


def test_an_empty_set_has_no_signature() -> None:
    with pytest.raises(ValueError, match="set 1 is empty"):
        signatures(shingle_sets(["a b c d e", "too short"]))


def test_no_sets() -> None:
    assert signatures(shingle_sets([])).shape == (0, 128)


@pytest.mark.parametrize("shared", [0, 2, 10, 18, 20])
def test_places_agree_as_often_as_sets_are_similar(shared: int) -> None:
    """Pairs of sets of 20 random elements; the mean of 400 x 128 places is within 4 standard errors."""
    random = np.random.default_rng(shared)
    elements = random.integers(0, 2**64, (400, 40 - shared), np.uint64)
    left, right = elements[:, :20], elements[:, 20 - shared :]
    signature = signatures(sets_of([*left.tolist(), *right.tolist()]))
    jaccard = shared / (40 - shared)
    agreed = (signature[:400] == signature[400:]).mean()
    assert agreed == pytest.approx(jaccard, abs=4 * (jaccard * (1 - jaccard) / 51_200) ** 0.5 + 1e-6)


def test_the_least_hash_by_hand() -> None:
    """Of one set and of many at once, whatever block a set falls into."""
    random = np.random.default_rng(5)
    rows = [random.integers(0, 2**64, count, np.uint64).tolist() for count in (1, 3, 20_000, 2, 17_000, 1)]
    whole = signatures(sets_of(rows), permutations=4, seed=3)
    for i, row in enumerate(rows):
        assert (signatures(sets_of([row]), permutations=4, seed=3)[0] == whole[i]).all()
        singles = signatures(sets_of([[value] for value in row[:50]]), permutations=4, seed=3)
        assert (whole[i] <= singles.min(axis=0)).all()
    assert (whole[1] == signatures(sets_of([[v] for v in rows[1]]), permutations=4, seed=3).min(axis=0)).all()
    assert (whole != signatures(sets_of(rows), permutations=4, seed=4)).any()


def test_keys_are_equal_where_bands_are() -> None:
    random = np.random.default_rng(6)
    signature = random.integers(0, 3, (300, 10), np.uint32)
    keys = band_keys(signature, Bands(4, 2))
    assert keys.shape == (300, 4)
    for band in range(4):
        rows = signature[:, 2 * band : 2 * band + 2]
        equal = (rows[:, None] == rows[None]).all(axis=2)
        assert ((keys[:, None, band] == keys[None, :, band]) == equal).all()
