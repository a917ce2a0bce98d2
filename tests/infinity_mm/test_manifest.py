"""Manifests: digests name the data, opening checks, selections and orders are exact."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.columns import id_array
from infinity_mm.ledger import AccountError, Ledger, Row
from infinity_mm.manifest import (
    Manifest,
    ManifestError,
    Order,
    Selected,
    ShardEntry,
    data_digest,
    name_is_free,
    pack_selection,
    publish,
    unpack_selection,
)
from infinity_mm.schema import SAMPLES
from infinity_mm.store import Store, write_table


@given(
    st.integers(0, 60).flatmap(
        lambda n: st.lists(st.sampled_from([None, 1.0, 0.5, 3.0]), min_size=n, max_size=n)
    )
)
def test_selections_come_back(weights: list[float | None]) -> None:
    rows = np.array([i for i, w in enumerate(weights) if w is not None], np.int64)
    chosen = Selected(rows, np.array([w for w in weights if w is not None]))
    packed = json.loads(json.dumps(pack_selection(chosen, len(weights))))
    again = unpack_selection(packed, len(weights))
    assert again.rows.tolist() == chosen.rows.tolist()
    assert again.weights.tolist() == chosen.weights.tolist()


def test_the_digest_is_over_ids_and_weights_in_order_and_is_frozen() -> None:
    ids = np.arange(48, dtype=np.uint8).reshape(3, 16)
    ones = np.ones(3)
    whole = data_digest([(ids, ones)])
    assert whole == "11d0ea40ce483e98925ac9ea604dc2c95c3fe5751f2239480436b339a4acaf3d"
    assert data_digest([(ids[:1], ones[:1]), (ids[1:], ones[1:])]) == whole
    assert data_digest([(ids[::-1], ones)]) != whole
    assert data_digest([(ids, np.array([1, 1, 2.0]))]) != whole


def make(store: Store, shards: int = 2, rows: int = 5, name: str = "m", replace: bool = False) -> Manifest:
    """A manifest of text-only samples that need no ingest."""
    entries = []
    for shard in range(shards):
        ids = np.full((rows, 16), shard, np.uint8)
        ids[:, 15] = np.arange(rows)
        empty = [[] for _ in range(rows)]
        columns = {
            "sample_id": id_array(ids), "turns": empty, "media": empty, "source": ["s"] * rows,
            "meta": ["{}"] * rows, "rejected": [None] * rows, "names": empty, "origin": ["o"] * rows,
        }  # fmt: skip
        file = write_table(store, "samples", pa.table(columns, schema=SAMPLES))
        everything = Selected(np.arange(rows), np.ones(rows))
        sha256 = file.split("/")[1].removesuffix(".arrow")
        entries.append(ShardEntry(file, sha256, store.size(file), rows, everything))
    with Ledger(store) as ledger:
        ledger.came("s", shards * rows)
        ledger.kept("s", shards * rows)
        entry = ledger.close(shards * rows)
    return publish(
        store, stage="ingest", config={"a": 1}, shards=entries, media=[], ledger=entry,
        counts=dict(ledger.counts), sources={"s": {}}, name=name, replace=replace,
    )  # fmt: skip


def test_a_manifest_opens_by_name_digest_beginning_and_path(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    manifest = make(store)
    for reference in ("m", manifest.digest, manifest.digest[:8], manifest.file, f"x/{manifest.file}.json"):
        assert Manifest.open(store, reference).digest == manifest.digest
    with pytest.raises(ManifestError, match=r"no manifest 'n' in .*; names there: m"):
        Manifest.open(store, "n")


def test_names_are_checked_and_kept(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    make(store)
    make(store)
    with pytest.raises(ManifestError, match="--replace"):
        make(store, rows=6)
    assert make(store, rows=6, replace=True).samples == 12
    with pytest.raises(ManifestError, match=r"letters, digits"):
        make(store, name="../evil")
    name_is_free(store, "m", False, "ingest", {"a": 1})
    with pytest.raises(ManifestError, match="taken by a manifest of ingest"):
        name_is_free(store, "m", False, "filter", {"a": 1})


def damage_document(manifest: Manifest) -> None:
    path = Path(manifest.store.path(f"manifests/{manifest.file}.json"))
    path.write_text(path.read_text().replace('"samples": 10', '"samples": 11'))


def remove_shard(manifest: Manifest) -> None:
    Path(manifest.store.path(manifest.shards[0].file)).unlink()


def truncate_shard(manifest: Manifest) -> None:
    path = Path(manifest.store.path(manifest.shards[0].file))
    path.write_bytes(path.read_bytes()[:-9])


def newer_version(manifest: Manifest) -> None:
    path = Path(manifest.store.path(f"manifests/{manifest.file}.json"))
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_document, "was changed"),
        (remove_shard, r"samples/.* is missing"),
        (truncate_shard, "truncated or overwritten"),
        (newer_version, "upgrade"),
    ],
)
def test_opening_finds_damage(tmp_path: Path, damage: object, message: str) -> None:
    manifest = make(Store.create(tmp_path))
    damage(manifest)  # type: ignore[operator]
    with pytest.raises(ManifestError, match=message):
        Manifest.open(manifest.store, "m")


def test_a_flipped_bit_in_a_shard_is_seen_when_it_is_first_read(tmp_path: Path) -> None:
    manifest = make(Store.create(tmp_path))
    path = Path(manifest.store.path(manifest.shards[1].file))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    opened = Manifest.open(manifest.store, "m")
    assert opened.table(0).num_rows == 5
    with pytest.raises(ManifestError, match="its content was changed"):
        opened.table(1)


def test_the_order_covers_every_place_once(tmp_path: Path) -> None:
    manifest = make(Store.create(tmp_path), shards=3, rows=7)
    places = list(manifest.order(seed=1))
    assert sorted(places) == [(s, r) for s in range(3) for r in range(7)]
    assert places != list(manifest.order(seed=2))
    assert places != list(manifest.order(seed=1, epoch=1))
    middle = manifest.order(seed=1).places(np.array([10, 3]))
    assert [tuple(p) for p in middle.tolist()] == [places[10], places[3]]


@pytest.mark.parametrize("epoch", [0, 3])
def test_a_sample_is_found_at_each_of_its_positions(epoch: int) -> None:
    """Weights of a half and a quarter come in some epochs, of two and a half two or three times."""
    selected = [
        Selected(np.array([1, 4, 5]), np.array([1.0, 2.5, 0.25])),
        Selected(np.array([0, 2]), np.array([0.5, 3.0])),
    ]
    shards = [ShardEntry("", "", 0, 9, one) for one in selected]
    order = Order(shards, 7, epoch)
    places = list(order)
    for shard in range(2):
        for row in range(9):
            at = [i for i, place in enumerate(places) if place == (shard, row)]
            assert order.positions(shard, row).tolist() == at


def test_an_account_that_does_not_close_is_refused(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    with Ledger(store) as ledger:
        ledger.came("s", 3)
        ledger.kept("s", 1)
        ledger.add(Row(None, "o", "s", "dropped", "rule"))
        with pytest.raises(AccountError, match="in = kept"):
            ledger.check(1)
        ledger.add(Row(None, "o", "s", "failed", "rule"))
        ledger.check(1)
        with pytest.raises(AccountError, match="out = kept"):
            ledger.check(2)
        ledger.came("t")
        ledger.kept("s")
        with pytest.raises(AccountError):
            ledger.check(2)
    assert store.names("tmp") == []
