"""Verify finds what is damaged; forget, export and gc do what they say; copies stand on their own."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import jpeg, ledger, record, samples

from infinity_mm.compare import diff
from infinity_mm.manifest import Manifest
from infinity_mm.media.index import Unavailable
from infinity_mm.media.shards import Shard, publish_table
from infinity_mm.store import Store
from infinity_mm.tombstones import tombstones
from infinity_mm.trace import trace
from infinity_mm.transfer import copy
from infinity_mm.verify import verify
from infinity_mm.withdraw import forget, gc
from pipelines.export import ExportConfig
from pipelines.export import run as run_export
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


@pytest.fixture
def sound(ingest: Ingest, plain: Path) -> Manifest:
    """`raw` ingested and `sound` filtered, both sources known."""
    raw = ingest(plain, source="mine", uri="https://example.org/mine")
    config = FilterConfig(store=raw.store.url, manifest="raw", out="sound", workers=0)
    return Manifest.open(raw.store, run_filter(config)["manifest"])


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)


def first(manifest: Manifest, folder: str) -> Path:
    return Path(manifest.store.path(manifest.store.names(folder)[0]))


def bytes_flip(m: Manifest) -> None:
    digest = m.document["media"][0]["shards"][0]
    flip(Path(m.store.path(f"bytes/{digest}.arrow")), int(Shard(m.store, digest).offsets[2]) + 3)


def bytes_missing(m: Manifest) -> None:
    first(m, "bytes").unlink()


def bytes_truncated(m: Manifest) -> None:
    path = first(m, "bytes")
    path.write_bytes(path.read_bytes()[:4000])


def media_table_changed(m: Manifest) -> None:
    name = m.store.names("media")[0]
    table = m.store.open_arrow(name).read_all()
    swapped = table.set_column(7, "length", table.column("length").take([*range(1, table.num_rows), 0]))
    publish_table(m.store, name, swapped)


def sample_flip(m: Manifest) -> None:
    flip(first(m, "samples"))


def sample_missing(m: Manifest) -> None:
    first(m, "samples").unlink()


def sidecar_changed(m: Manifest) -> None:
    flip(Path(m.store.path(m.document["sidecars"][0]["file"])))


def ledger_swapped(m: Manifest) -> None:
    own = m.document["ledger"]["file"]
    other = next(name for name in m.store.names("ledgers") if name != own)
    shutil.copy(m.store.path(other), m.store.path(own))


def index_truncated(m: Manifest) -> None:
    path = first(m, "index")
    path.write_bytes(path.read_bytes()[:-1])


def origins_missing(m: Manifest) -> None:
    first(m, "origins").unlink()


@pytest.mark.parametrize(
    ("damage", "media", "message"),
    [
        (bytes_flip, True, "now reads as"),
        (bytes_missing, False, "missing_media"),
        (bytes_truncated, False, "truncated"),
        (media_table_changed, False, "does not have the digest it is named by"),
        (sample_flip, False, "its content was changed"),
        (sample_missing, False, r"samples/.* is missing"),
        (sidecar_changed, False, r"sidecars/.*content was changed"),
        (ledger_swapped, False, r"ledgers/"),
        (index_truncated, False, r"index/.*bytes instead of"),
        (origins_missing, False, r"origins/.* is missing"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_found(
    sound: Manifest, damage: Callable[[Manifest], None], media: bool, message: str, workers: int
) -> None:
    assert verify(sound.store, "sound", media=True)["ok"]
    damage(sound)
    found = verify(sound.store, "sound", media=media, workers=workers)
    assert not found["ok"]
    assert any(re.search(message, p) for p in found["problems"]), found["problems"]


def test_a_swapped_file_is_found_in_reference_mode(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain, mode="reference")
    one, two = (plain.parent / f"images/{i}.jpg" for i in (1, 2))
    data = one.read_bytes(), two.read_bytes()
    one.write_bytes(data[1][: len(data[0])].ljust(len(data[0]), b"\0"))
    assert verify(manifest.store, "raw", media=False)["ok"]
    found = verify(manifest.store, "raw", media=True)
    assert found["problem_count"] == 1
    assert "now reads as" in found["problems"][0]
    two.unlink()
    assert "missing_media" in "".join(verify(manifest.store, "raw", media=False)["problems"])


# forget and gc


def exported(manifest: Manifest, folder: Path, name: str = "sound", **options: Any) -> dict[str, Any]:
    config = ExportConfig(store=manifest.store.url, manifest=name, to=folder, workers=0, **options)
    return run_export(config)


def test_a_forgotten_medium_is_skipped_and_its_bytes_deleted(sound: Manifest, tmp_path: Path) -> None:
    store, gone = sound.store, samples(sound)[5].media[0]
    other = samples(sound)[6].media[0]
    assert forget(store, gone.hex(), "asked to") == {"kind": "medium", "values": [gone.hex()], "samples": 2}
    found = verify(store, "sound", media=True)
    assert found["ok"]
    assert found["withdrawn"]["media"] == 1
    assert exported(sound, tmp_path / "out")["reasons"] == {"withdrawn": 2}
    secret = (tmp_path / "data/images/5.jpg").read_bytes()
    held = first(sound, "bytes")
    assert secret in held.read_bytes()
    size = held.stat().st_size
    assert gc(store)["media_erased"] == 1
    assert secret not in held.read_bytes()
    assert held.stat().st_size == size
    assert gc(store)["media_erased"] == 0
    again = Manifest.open(store, "sound")
    assert again.digest == sound.digest
    assert verify(store, "sound", media=True)["ok"]
    assert again.library().read(other)
    with pytest.raises(Unavailable, match="withdrawn"):
        again.library().read(gone)


def test_a_forgotten_sample_loses_its_text_and_a_picture_only_it_shows(
    sound: Manifest, tmp_path: Path
) -> None:
    store = sound.store
    shared, alone = samples(sound)[0], samples(sound)[17]
    assert shared.media[0] in samples(sound)[20].media
    for sample in (shared, alone):
        assert forget(store, sample.sample_id.hex(), "")["kind"] == "sample"
    # Another process reads a manifest afresh: nothing here may hold the old file.
    erased = gc(store)
    assert (erased["samples_erased"], erased["media_erased"]) == (2, 1)
    shard = first(sound, "samples").read_bytes()
    assert b"Question 17?" not in shard
    assert b"Question 18?" in shard
    found = verify(store, "sound", media=True)
    assert found["ok"], found["problems"]
    assert found["withdrawn"] == {"samples": 2, "media": 1}
    assert exported(sound, tmp_path / "out")["reasons"] == {"withdrawn": 2}
    assert Manifest.open(store, "sound").library().read(shared.media[0])
    again = run_filter(FilterConfig(store=store.url, manifest="raw", out="later", workers=0))
    assert again["reasons"] == {"withdrawn": 2}


@pytest.mark.parametrize("named", ["mine", "https://example.org/mine"])
def test_a_forgotten_source_takes_all_of_it(sound: Manifest, tmp_path: Path, named: str) -> None:
    assert forget(sound.store, named, "licence withdrawn")["values"] == ["mine"]
    assert exported(sound, tmp_path / "out")["kept"] == 0
    assert gc(sound.store)["samples_erased"] >= 39
    assert tombstones(sound.store)[0]["why"] == "licence withdrawn"
    assert verify(sound.store, "sound", media=True)["ok"]


def test_what_is_nowhere_cannot_be_forgotten(sound: Manifest) -> None:
    with pytest.raises(ValueError, match="32 hex digits"):
        forget(sound.store, "abcdef12", "")
    with pytest.raises(ValueError, match="nothing in"):
        forget(sound.store, "ab" * 16, "")
    assert tombstones(sound.store) == []


def test_gc_keeps_what_a_name_needs_and_deletes_the_rest(sound: Manifest, dataset: Dataset) -> None:
    store = sound.store
    more = dataset([record("x.jpg")], {"x.jpg": jpeg(99)}, "more")
    run_ingest(IngestConfig(inputs=[str(more)], store=store.url, out="extra", workers=0))
    before = sum(len(store.names(f)) for f in ("bytes", "samples", "manifests"))
    store.delete("refs/extra")
    planned = gc(store, dry_run=True)
    assert sum(len(store.names(f)) for f in ("bytes", "samples", "manifests")) == before
    done = gc(store)
    assert (planned["files_deleted"], planned["bytes_freed"]) == (done["files_deleted"], done["bytes_freed"])
    assert sum(len(store.names(f)) for f in ("bytes", "samples", "manifests")) == before - 3
    assert store.names("work/records") == []
    for name in ("raw", "sound"):
        assert verify(store, name, media=True)["ok"]
    assert trace(store, samples(sound)[0].sample_id.hex())["samples"][0]["life"][0]["stage"] == "ingest"
    run_ingest(IngestConfig(inputs=[str(more)], store=store.url, out="extra", workers=0))
    assert verify(store, "extra", media=True)["ok"]


# trace, diff, copy


def test_trace_tells_the_whole_life(ingest: Ingest, dataset: Dataset) -> None:
    good = jpeg(1)
    records = [record("a.jpg"), record("cut.jpg"), record("gone.jpg"), record("a.jpg")]
    raw = ingest(dataset(records, {"a.jpg": good, "cut.jpg": good[:-100]}))
    made = run_filter(FilterConfig(store=raw.store.url, manifest="raw", out="sound", workers=0))
    store = raw.store
    kept, cut = samples(raw)
    life = trace(store, cut.sample_id.hex()[:9])["samples"][0]["life"]
    assert [(step["stage"], step["outcome"]) for step in life] == [("ingest", "kept"), ("filter", "dropped")]
    assert life[1]["reason"] == "undecodable_media"
    assert life[1]["manifest"] == made["manifest"][:12]
    by_medium = trace(store, kept.media[0].hex())["samples"]
    assert [s["sample_id"] for s in by_medium] == [kept.sample_id.hex()]
    assert [s["outcome"] for s in by_medium[0]["life"]] == ["kept", "dropped", "kept"]
    lost = trace(store, "data.json:2")
    assert lost["samples"] == []
    assert lost["rejected_records"][0]["reason"] == "missing_file"
    with pytest.raises(ValueError, match="nothing in"):
        trace(store, "data.json:77")


def test_diff_counts_both_sides(ingest: Ingest, dataset: Dataset) -> None:
    files = {f"{i}.jpg": jpeg(i) for i in range(9)}
    a = ingest(dataset([record(f"{i}.jpg") for i in range(6)], files, "a"), out="a")
    b = ingest(dataset([record(f"{i}.jpg") for i in range(4, 9)], files, "b"), out="b")
    found = diff(a, b)
    assert (found["same"], found["only_in_a"]["samples"], found["only_in_b"]["samples"]) == (2, 4, 3)
    assert found["only_in_a"]["sources"] == {"data": 4}
    assert set(found["only_in_b"]["first"]) == {s.sample_id.hex() for s in samples(b)[2:]}
    assert diff(a, a)["equal"]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_copy_stands_alone(sound: Manifest, tmp_path: Path, kind: str) -> None:
    target = Store.create(tmp_path / "other" if kind == "local" else f"memory://copy-{tmp_path.name}")
    copy(sound, target, "got", False)
    os.rename(sound.store.root, f"{sound.store.root}-away")
    assert verify(target, "got", media=True)["ok"]
    assert ledger_rows(target) == ledger_rows(Store.open(f"{sound.store.root}-away"))
    life = trace(target, samples(Manifest.open(target, "got"))[0].sample_id.hex())["samples"][0]["life"]
    assert [step["stage"] for step in life] == ["ingest", "filter"]


def ledger_rows(store: Store) -> int:
    return len(store.names("ledgers"))


def test_a_whole_way_on_a_remote_store(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    raw = ingest(plain, store=f"memory://whole-{tmp_path.name}")
    made = run_filter(FilterConfig(store=raw.store.url, manifest="raw", out="sound", workers=0))
    manifest = Manifest.open(raw.store, made["manifest"])
    assert manifest.samples == 39
    assert verify(raw.store, "sound", media=True)["ok"]
    assert exported(manifest, tmp_path / "out", format="webdataset")["kept"] == 39
    assert len(ledger(raw)) == 1
