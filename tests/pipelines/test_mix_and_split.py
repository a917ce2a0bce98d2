"""Mixing keeps weights, caps and repeats exact; splitting shares no picture."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import jpeg, ledger, record, samples
from pydantic import ValidationError

from infinity_mm.manifest import Manifest
from infinity_mm.verify import verify
from infinity_mm.withdraw import forget
from pipelines.mix import MixConfig
from pipelines.mix import run as run_mix
from pipelines.split import SplitConfig, components
from pipelines.split import run as run_split

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


@pytest.fixture
def pair(ingest: Ingest, dataset: Dataset) -> tuple[Manifest, Manifest]:
    """Two manifests in one store: a has 30 samples, b has 20, ten of them a's."""
    files = {f"{i}.jpg": jpeg(i) for i in range(40)}
    a = dataset([record(f"{i}.jpg") for i in range(30)], files, "a")
    b = dataset([record(f"{i}.jpg") for i in range(20, 40)], files, "b")
    return ingest(a, out="a", source="one", licence="MIT"), ingest(b, out="b", source="two")


def mixed(manifest: Manifest, *names: str, out: str = "mixed", **options: Any) -> Manifest:
    config = MixConfig(store=manifest.store.url, manifests=list(names), out=out, **options)
    return Manifest.open(manifest.store, run_mix(config)["manifest"])


def weights(manifest: Manifest) -> dict[float, int]:
    return dict(Counter(np.concatenate([s.selected.weights for s in manifest.shards]).tolist()))


def test_a_mix_is_a_union_by_id(pair: tuple[Manifest, Manifest]) -> None:
    manifest = mixed(pair[0], "a=2", "b=0.5")
    assert manifest.samples == 40
    assert weights(manifest) == {2.0: 30, 0.5: 10}
    assert manifest.document["counts"] == {"in": 50, "kept": 40, "dropped": 10, "failed": 0, "made": 0}
    assert {row["reason"] for row in ledger(manifest)} == {"repeat"}
    kept = {s.sample_id for s in samples(manifest)}
    assert all(row["witness"] in kept for row in ledger(manifest))
    assert manifest.document["sources"]["one"]["licence"] == "MIT"
    assert verify(manifest.store, "mixed", media=True)["ok"]


def test_weights_of_sources_multiply_and_zero_drops(pair: tuple[Manifest, Manifest]) -> None:
    assert weights(mixed(pair[0], "a=2", "b", source=["one=3"])) == {6.0: 30, 1.0: 10}
    dropped = mixed(pair[0], "a", "b", out="m2", source=["one=0"])
    assert Counter(row["reason"] for row in ledger(dropped)) == {"weight_zero": 30}
    assert dropped.samples == 20


@pytest.mark.parametrize("options", [{"cap": ["a=1"]}, {"source": ["one=0"]}, {"names": ["a=0", "b"]}])
def test_a_repeat_has_a_witness_that_is_kept(
    pair: tuple[Manifest, Manifest], options: dict[str, Any]
) -> None:
    manifest = mixed(pair[0], *options.pop("names", ["a", "b"]), **options)
    kept = {s.sample_id for s in samples(manifest)}
    assert {s.sample_id for s in samples(pair[1])} <= kept
    assert all(row["witness"] in kept for row in ledger(manifest) if row["reason"] == "repeat")


def test_what_is_withdrawn_makes_no_repeat(pair: tuple[Manifest, Manifest]) -> None:
    forget(pair[0].store, "two", "")
    assert mixed(pair[0], "b", "a").samples == 30


def test_a_weight_no_epoch_can_hold_is_refused(pair: tuple[Manifest, Manifest]) -> None:
    with pytest.raises(ValueError, match="the most is 1e"):
        mixed(pair[0], "a=1e300", source=["one=1e300"])


@pytest.mark.parametrize("cap", ["a=7", "one=7"])
def test_caps_are_exact_seeded_and_nested(pair: tuple[Manifest, Manifest], cap: str) -> None:
    small = mixed(pair[0], "a", "b", out="s", cap=[cap])
    both = {s.sample_id for s in samples(pair[0])} & {s.sample_id for s in samples(pair[1])}
    ones = {s.sample_id for s in samples(small) if s.source == "one"}
    assert len(ones) == 7
    assert small.samples == 7 + 20 - len(ones & both)
    large = mixed(pair[0], "a", "b", out="l", cap=[cap.replace("7", "12")])
    other = mixed(pair[0], "a", "b", out="o", cap=[cap], seed=1)
    ids = [{s.sample_id for s in samples(m)} for m in (small, large, other)]
    assert ids[0] <= ids[1]
    assert ids[0] != ids[2]


def test_a_cap_above_the_count_keeps_all(pair: tuple[Manifest, Manifest]) -> None:
    assert mixed(pair[0], "a", cap=["a=30"]).samples == 30
    assert mixed(pair[0], "a", out="n", cap=["a=0"]).samples == 0


def test_shards_of_one_parent_are_joined(pair: tuple[Manifest, Manifest]) -> None:
    config = SplitConfig(store=pair[0].store.url, manifest="a", out="a", part=["x=0.5", "y=0.5"])
    run_split(config)
    whole = mixed(pair[0], "a-y", "a-x")
    assert whole.digest == pair[0].digest
    assert len(whole.shards) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"manifests": ["a=x"]}, "not a number"),
        ({"manifests": ["a=-1"]}, "0 or more"),
        ({"manifests": ["a"], "cap": ["a"]}, "NAME=COUNT"),
        ({"manifests": ["a"], "cap": ["a=1.5"]}, "whole number"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MixConfig(out="x", **options)


def test_an_unknown_source_is_named(pair: tuple[Manifest, Manifest]) -> None:
    with pytest.raises(ValueError, match="no source 'three' in these manifests; there are one"):
        mixed(pair[0], "a", source=["three=2"])


def test_sources_that_contradict_each_other_are_refused(ingest: Ingest, dataset: Dataset) -> None:
    files = {"0.jpg": jpeg(0), "1.jpg": jpeg(1)}
    a = ingest(dataset([record("0.jpg")], files, "a"), out="a", source="s", licence="MIT")
    ingest(dataset([record("1.jpg")], files, "b"), out="b", source="s", licence="GPL")
    with pytest.raises(ValueError, match="licence 'MIT' in one manifest and 'GPL'"):
        mixed(a, "a", "b")


def test_an_epoch_has_each_sample_as_often_as_its_weight_says(pair: tuple[Manifest, Manifest]) -> None:
    manifest = mixed(pair[0], "a=2", "b=0.25")
    count: Counter[tuple[int, int]] = Counter()
    orders = []
    for epoch in range(8):
        order = manifest.order(seed=3, epoch=epoch)
        places = list(order)
        assert len(places) == len(order)
        here = Counter(places)
        assert all(here[place] == 2 for place, c in here.items() if c > 1)
        count += here
        orders.append(places)
    assert Counter(count.values()) == {16: 30, 2: 10}
    assert orders[0] != orders[1]
    assert orders[0] == list(manifest.order(seed=3, epoch=0))


# split


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=60))
def test_components_are_those_of_a_plain_search(uses: list[tuple[int, int]]) -> None:
    owners, media = (np.array([u[i] for u in uses], np.int64) for i in (0, 1))
    label = components(owners, media, 31)
    neighbours: dict[int, set[int]] = {i: {i} for i in range(31)}
    for a, m in uses:
        neighbours[a] |= {b for b, n in uses if n == m}
    expected = []
    for start in range(31):
        seen, todo = {start}, [start]
        while todo:
            new = neighbours[todo.pop()] - seen
            seen |= new
            todo += new
        expected.append(min(seen))
    assert label.tolist() == expected


@pytest.fixture
def linked(ingest: Ingest, dataset: Dataset) -> Manifest:
    """300 samples over 200 pictures, some in pairs, so that components of several samples are common."""
    files = {f"{i}.jpg": jpeg(i) for i in range(200)}
    records = [record(f"{i % 200}.jpg", f"q{i}") for i in range(270)]
    records += [record([f"{i}.jpg", f"{i + 40}.jpg"], f"pair {i}") for i in range(20)]
    records += [record(None, f"text {i}") for i in range(10)]
    return ingest(dataset(records, files))


def split(manifest: Manifest, seed: int = 0, out: str = "set") -> list[Manifest]:
    config = SplitConfig(
        store=manifest.store.url, manifest="raw", out=out, part=["train=0.8", "val=0.2"], seed=seed
    )
    parts = run_split(config)["parts"]
    return [Manifest.open(manifest.store, parts[name]["manifest"]) for name in ("train", "val")]


def test_no_picture_is_in_two_parts_and_no_sample_is_lost(linked: Manifest) -> None:
    train, val = split(linked)
    media = [{m for s in samples(part) for m in s.media} for part in (train, val)]
    assert not media[0] & media[1]
    ids = [{s.sample_id for s in samples(part)} for part in (train, val)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {s.sample_id for s in samples(linked)}
    assert 0.12 < val.samples / linked.samples < 0.28
    assert train.document["counts"]["dropped"] == val.samples
    assert {m.document["stage"] for m in (train, val)} == {"split"}


def test_a_split_is_seeded_and_stays_as_the_set_grows(
    linked: Manifest, ingest: Ingest, dataset: Dataset
) -> None:
    first = [{s.sample_id for s in samples(p)} for p in split(linked)]
    other = [{s.sample_id for s in samples(p)} for p in split(linked, seed=1, out="other")]
    assert first != other
    files = {f"new{i}.jpg": jpeg(1000 + i) for i in range(50)}
    dataset([record(f"new{i}.jpg") for i in range(50)], files, "more")
    folder = linked.store.root.rsplit("/", 1)[0]
    grown = ingest(Path(folder, "data/data.json"), Path(folder, "more/data.json"), replace=True)
    assert grown.samples == linked.samples + 50
    later = [{s.sample_id for s in samples(p)} for p in split(grown, out="later")]
    assert first[0] <= later[0]
    assert first[1] <= later[1]


@pytest.mark.parametrize(
    ("part", "message"),
    [(["a=1"], "two or more"), (["a=0.5", "b=0.4"], "sum to 0.9"), (["a=0.5", "a=0.5"], "each once")],
)
def test_bad_shares_are_named(part: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SplitConfig(manifest="raw", out="x", part=part)
