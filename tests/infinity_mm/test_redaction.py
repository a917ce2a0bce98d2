"""`imm gc` after `imm forget`: no measure and no ledger quotes a withdrawn sample any more."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from inputs import jpeg, ledger, record, samples

from infinity_mm.manifest import Manifest
from infinity_mm.store import Store, read_table
from infinity_mm.transfer import copy
from infinity_mm.verify import verify
from infinity_mm.withdraw import forget, gc
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

SECRET = "the hidden treasure lies below the old oak"


@pytest.fixture
def kept(tmp_path: Path) -> Manifest:
    """Two samples that quote a secret, in an answer leaked and in meta, and one that does not."""
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "b.jpg").write_bytes(jpeg(2))
    records = [
        record("a.jpg", f"Where is it? Answer: {SECRET}", SECRET, note=SECRET, source="told"),
        record(None, "Where is it?", f"Sorry, I cannot say that {SECRET}.", note=SECRET, source="told"),
        record("b.jpg", "What is this?", "Noise.", note="nothing", source="other"),
    ]

    (tmp_path / "data.json").write_text(json.dumps(records))
    url = str(tmp_path / "store")
    run_ingest(
        IngestConfig(
            inputs=[str(tmp_path / "data.json")], store=url, out="raw", workers=0, source_field="source"
        )
    )
    where = ["answer_leaked = 'none'", "refusal = 'none'", "note: meta.note <> 'x'"]
    run_filter(FilterConfig(store=url, manifest="raw", out="kept", where=where, workers=0))
    return Manifest.open(Store.open(url), "kept")


def quoting(store: Store) -> set[str]:
    """The folders of the store in which some file of values quotes the secret."""
    found = set()
    for path in Path(store.root).rglob("*.parquet"):
        folder = path.relative_to(store.root).parts[0]
        if folder in ("sidecars", "ledgers"):
            table = read_table(store, str(path.relative_to(store.root)))
            if "treasure" in str(table.to_pylist()):
                found.add(folder)
    return found


def by_source(manifest: Manifest) -> None:
    forget(manifest.store, "told", "asked to")


def by_sample(manifest: Manifest) -> None:
    for sample in samples(Manifest.open(manifest.store, "raw")):
        if sample.source == "told":
            forget(manifest.store, sample.sample_id.hex(), "asked to")


@pytest.mark.parametrize("withdraw", [by_source, by_sample])
def test_nothing_quotes_what_is_withdrawn(
    kept: Manifest, withdraw: Callable[[Manifest], None], tmp_path: Path
) -> None:
    store = kept.store
    assert quoting(store) == {"sidecars", "ledgers"}
    withdraw(kept)
    assert gc(store, dry_run=True)["measures_erased"] > 0
    assert quoting(store) == {"sidecars", "ledgers"}
    gc(store)
    assert quoting(store) == set()
    for name in ("raw", "kept"):
        assert verify(store, name, media=True)["ok"]
    assert gc(store)["measures_erased"] == 0
    assert [row["reason"] for row in ledger(kept)] == ["answer_leaked", "refusal"]
    other = Store.create(tmp_path / "copy")
    copy(kept, other, "kept", False)
    assert verify(other, "kept", media=True)["ok"]


def test_what_is_not_withdrawn_stays(kept: Manifest) -> None:
    first = samples(Manifest.open(kept.store, "raw"))[0]
    before = {row["origin"]: row["value"] for row in ledger(kept)}
    forget(kept.store, first.sample_id.hex(), "")
    gc(kept.store)
    after = {row["origin"]: row["value"] for row in ledger(kept)}
    assert after == before | {first.origin: None}
    again = FilterConfig(
        store=kept.store.url, manifest="raw", out="again", where=["refusal = 'none'"], workers=0
    )
    result = run_filter(again)
    assert result["reasons"] == {"withdrawn": 1, "refusal": 1}
    assert result["measured_shards"] == 0


def test_a_measure_of_a_withdrawn_medium_goes(kept: Manifest) -> None:
    medium = samples(Manifest.open(kept.store, "raw"))[0].media[0]
    forget(kept.store, medium.hex(), "")
    gc(kept.store)
    [name] = kept.store.names("sidecars/photometry")
    rows = {row["media_id"]: row for row in read_table(kept.store, name).to_pylist()}
    assert rows[medium]["brightness"] is None
    assert rows[medium]["error"].startswith("withdrawn: ")
    assert all(row["brightness"] is not None for identity, row in rows.items() if identity != medium)


def test_an_error_and_a_worked_out_limit_quote_no_more_either(tmp_path: Path) -> None:
    records = [
        record(None, "One?", loss="treasure", a="x", b="y", source="told"),
        record(None, "Two?", a="x", b="treasure", source="told"),
        record(None, "Three?", a="x", b="x", source="other"),
        record("treasure.jpg", source="told"),
    ]
    (tmp_path / "data.json").write_text(json.dumps(records))
    url = str(tmp_path / "store")
    data = str(tmp_path / "data.json")
    run_ingest(IngestConfig(inputs=[data], store=url, out="raw", workers=0, source_field="source"))
    where = ["meta.a = meta.b", "loss < 3"]
    run_filter(FilterConfig(store=url, manifest="raw", out="kept", where=where, workers=0))
    store = Store.open(url)
    assert quoting(store) == {"sidecars", "ledgers"}
    forget(store, "told", "")
    gc(store)
    assert quoting(store) == set()
    assert verify(store, "kept", media=True)["ok"]
    assert gc(store)["measures_erased"] == 0
