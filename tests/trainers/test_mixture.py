"""Mixtures: a manifest alone is its own order, several have weights, and none is an error."""

import numpy as np
import pytest
from inputs import record
from talks import ingested

from infinity_mm.manifest import Manifest, ManifestError
from trainers.mixture import Mixture


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Manifest]:
    """Manifests `a` of 10 texts and `b` of 6, in one store."""
    folder = tmp_path_factory.mktemp("mixture")
    a = ingested(folder, [record(None, f"a{n}") for n in range(10)], {}, "a")
    return a, ingested(folder, [record(None, f"b{n}") for n in range(6)], {}, "b")


def test_one_manifest_is_taken_in_its_own_order(two: tuple[Manifest, Manifest]) -> None:
    mixture = Mixture.open(two[0].store, {"a": 1})
    assert list(mixture.order(3, 1)) == list(two[0].order(3, 1))
    assert mixture.sources == ("a",)


def test_weights_say_how_often_a_sample_comes(two: tuple[Manifest, Manifest]) -> None:
    mixture = Mixture.open(two[0].store, {"a": 0.5, "b": 2})
    assert mixture.sources == ("a", "b")
    counts = np.zeros(2, np.int64)
    for epoch in range(2):
        order = np.array(list(mixture.order(0, epoch)))
        counts += np.bincount(order[:, 0], minlength=2)
    assert counts.tolist() == [10, 24]


def test_places_have_ids_sources_and_ledger_rows(two: tuple[Manifest, Manifest]) -> None:
    a, b = two
    mixture = Mixture.open(a.store, {"a": 1, "b": 1})
    assert mixture.ids(np.array([[1, 4], [0, 2]])) == [b.ids(0)[4].tobytes(), a.ids(0)[2].tobytes()]
    assert mixture.source_numbers(1).tolist() == [1] * 6
    row = mixture.ledger_row((1, 4), "failed", "corrupt: it: broke", value=3)
    assert row == {
        "sample_id": b.ids(0)[4].tobytes().hex(), "source": "b", "origin": row["origin"], "outcome": "failed",
        "reason": "corrupt", "detail": "it: broke", "value": 3,
    }  # fmt: skip
    assert row["origin"].startswith("data.json")


def test_the_digest_is_of_manifests_and_weights(two: tuple[Manifest, Manifest]) -> None:
    store = two[0].store
    digests = {Mixture.open(store, data).digest for data in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": 1})}
    assert len(digests) == 4
    assert Mixture.open(store, {two[0].digest: 1.0}).digest == Mixture.open(store, {"a": 1}).digest


def test_an_empty_mixture_is_refused(two: tuple[Manifest, Manifest]) -> None:
    with pytest.raises(ValueError, match="the mixture is empty"):
        Mixture.open(two[0].store, {})
    with pytest.raises(ValueError, match="no sample is in a"):
        Mixture.open(two[0].store, {"a": 0})
    with pytest.raises(ManifestError, match="no manifest 'c'"):
        Mixture.open(two[0].store, {"c": 1})
