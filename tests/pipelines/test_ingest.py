"""Ingest: what comes in is in the store or in the ledger, whatever the input, the workers and the kills."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from inputs import imm, jpeg, ledger, reasons, record, samples

from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.schema import Part, samples_from
from infinity_mm.store import Store
from infinity_mm.verify import verify
from infinity_mm.withdraw import gc

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


def test_all_is_accounted_for(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain, licence="CC0")
    assert manifest.document["counts"] == {"in": 40, "kept": 39, "dropped": 1, "failed": 0, "made": 0}
    assert reasons(manifest) == {"data.json:39": "repeat"}
    [row] = ledger(manifest)
    assert row["witness"] in {s.sample_id for s in samples(manifest)}
    assert manifest.document["media"][0]["count"] == 20
    assert manifest.document["sources"] == {"data": {"licence": "CC0", "uri": None, "citation": None}}
    first = samples(manifest)[0]
    assert first.turns[0].parts == (Part("image", None, 0), Part("text", "Question 0?"))
    assert (first.origin, first.names, json.loads(first.meta)) == (
        "data.json:0",
        ("images/0.jpg",),
        {"id": 0},
    )
    assert manifest.library().read(first.media[0]) == (plain.parent / "images/0.jpg").read_bytes()


def test_a_repeat_keeps_its_own_source_and_meta(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    [entry] = manifest.document["origins"]
    [origin] = samples_from(manifest.store.open_arrow(entry["file"]).read_all())
    assert (origin.origin, json.loads(origin.meta)) == ("data.json:39", {"id": "again"})


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_change_nothing(ingest: Ingest, plain: Path, workers: int) -> None:
    options = {"unit_bytes": 700, "shard_bytes": 4000}
    alone = ingest(plain, store="a", **options)
    many = ingest(plain, store="b", workers=workers, **options)
    assert many.file == alone.file
    assert len(many.document["media"][0]["shards"]) > 1


def test_a_copy_and_a_reference_are_one_data_set(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    copied = ingest(plain, store="copy")
    referred = ingest(plain, store="here/reference", mode="reference")
    assert copied.digest == referred.digest
    assert not referred.store.exists("bytes")
    os.rename(tmp_path / "copy", tmp_path / "moved")
    assert verify(Store.open(tmp_path / "moved"), "raw", media=True)["ok"]
    os.rename(tmp_path / "here", tmp_path / "there")
    assert verify(Store.open(tmp_path / "there/reference"), "raw", media=True)["ok"]


def test_a_store_moved_with_its_pictures_still_finds_them(
    ingest: Ingest, plain: Path, tmp_path: Path
) -> None:
    ingest(plain, store="data/store", mode="reference")
    os.rename(tmp_path / "data", tmp_path / "elsewhere")
    assert verify(Store.open(tmp_path / "elsewhere/store"), "raw", media=True)["ok"]


def test_bad_records_cost_a_row_each_and_nothing_else(
    ingest: Ingest, dataset: Dataset, tmp_path: Path
) -> None:
    good = jpeg(1)
    (tmp_path / "outside.jpg").write_bytes(good)
    path = dataset(
        [
            record("a.jpg"),
            "not an object",
            {"image": "a.jpg"},
            record("a.jpg") | {"conversations": [{"from": "human", "value": 5}]},
            record("a.jpg") | {"conversations": [{"from": "wizard", "value": "x"}]},
            record("nowhere.jpg"),
            record("empty.jpg"),
            record("folder"),
            record("pipe"),
            record("../outside.jpg"),
            record(str(tmp_path / "outside.jpg")),
            record("link.jpg"),
            record("a.jpg/b.jpg"),
            record("nul\0.jpg"),
            record("n" * 300 + ".jpg"),
            record("https://example.org/a.jpg"),
            record("a.jpg", "lone \ud800 surrogate"),
            record(["a.jpg", "nowhere.jpg"]),
            record("page.jpg"),
            record(None),
        ],
        {"a.jpg": good, "empty.jpg": b"", "folder/x": b"x", "page.jpg": b"<!DOCTYPE html><p>404"},
    )
    os.mkfifo(path.parent / "pipe")
    os.symlink(tmp_path / "outside.jpg", path.parent / "link.jpg")
    manifest = ingest(path)
    assert reasons(manifest) == {
        "data.json:1": "not_an_object",
        "data.json:2": "no_conversation",
        "data.json:3": "bad_type",
        "data.json:4": "unknown_role",
        "data.json:5": "missing_file",
        "data.json:6": "empty_file",
        "data.json:7": "not_a_file",
        "data.json:8": "not_a_file",
        "data.json:9": "path_outside",
        "data.json:10": "path_outside",
        "data.json:11": "path_outside",
        "data.json:12": "missing_file",
        "data.json:13": "bad_path",
        "data.json:14": "bad_path",
        "data.json:15": "remote_media",
        "data.json:16": "bad_encoding",
        "data.json:17": "missing_file",
    }
    assert manifest.document["counts"] == {"in": 20, "kept": 3, "dropped": 0, "failed": 17, "made": 0}
    followed = ingest(path, store="two", follow_links=True)
    assert "data.json:11" not in reasons(followed) or reasons(followed)["data.json:11"] == "repeat"


def test_names_in_any_encoding(ingest: Ingest, dataset: Dataset) -> None:
    path = dataset([record("猫.jpg"), record("b\udcff.jpg")], {"猫.jpg": jpeg(1)})
    with open(os.fsencode(path.parent) + b"/b\xff.jpg", "wb") as file:
        file.write(jpeg(2))
    manifest = ingest(path)
    assert manifest.document["counts"]["kept"] == 2
    assert [s.names for s in samples(manifest)] == [("猫.jpg",), ("b\\xff.jpg",)]


def test_bytes_under_many_names_are_stored_once(ingest: Ingest, dataset: Dataset) -> None:
    files = {f"{i}.jpg": jpeg(i % 7) for i in range(40)}
    path = dataset([record(f"{i}.jpg", f"q{i}") for i in range(40)], files)
    for mode in ("copy", "reference"):
        manifest = ingest(path, store=mode, mode=mode, shard_bytes=3000)
        assert manifest.document["media"][0]["count"] == 7
        held = [s.removesuffix(".arrow")[6:] for s in manifest.store.names("media")]
        assert sorted(held) == sorted(manifest.document["media"][0]["shards"])
        assert sum(manifest.library().shard(s).table.num_rows for s in held) == 7
        assert verify(manifest.store, "raw", media=True)["ok"]


def test_a_grown_source_is_read_where_it_is_new(ingest: Ingest, dataset: Dataset, tmp_path: Path) -> None:
    files = {f"{i}.jpg": jpeg(i) for i in range(6)}
    path = dataset([record(f"{i}.jpg") for i in range(4)], files, lines=True)
    before = ingest(path)
    # The bytes of a known file change behind an unchanged size and time: only reading it again could tell.
    status = os.stat(path.parent / "0.jpg")
    (path.parent / "0.jpg").write_bytes(bytes(status.st_size))
    os.utime(path.parent / "0.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    dataset([record(f"{i}.jpg") for i in range(6)], {}, lines=True)
    after = ingest(path, replace=True)
    assert samples(after)[0].media == samples(before)[0].media
    assert after.document["counts"]["kept"] == 6
    assert verify(after.store, "raw", media=True)["ok"]


def test_a_changed_picture_is_noticed(ingest: Ingest, dataset: Dataset) -> None:
    path = dataset([record("a.jpg")], {"a.jpg": jpeg(1)})
    before = ingest(path)
    (path.parent / "a.jpg").write_bytes(jpeg(2))
    after = ingest(path, replace=True)
    assert samples(after)[0].media != samples(before)[0].media


def test_a_taken_name_is_said_before_the_work(ingest: Ingest, plain: Path) -> None:
    ingest(plain)
    with pytest.raises(ManifestError, match="--replace"):
        ingest(plain, licence="other")
    assert ingest(plain).document["counts"]["kept"] == 39


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(["nowhere.json"], "does not exist"), (["empty.json"], "empty"), (["odd.jsonl"], "--map")],
)
def test_inputs_that_cannot_be_read_are_named(
    ingest: Ingest, tmp_path: Path, inputs: list[str], message: str
) -> None:
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "odd.jsonl").write_text('{"q": "a", "a": "b", "img": "c.jpg"}\n')
    with pytest.raises(ValueError, match=message):
        ingest(*[tmp_path / name for name in inputs])


def test_prepended_markers(ingest: Ingest, dataset: Dataset) -> None:
    bare = record("a.jpg")
    bare["conversations"][0]["value"] = "What is it?"
    path = dataset([bare], {"a.jpg": jpeg(1)})
    kept = samples(ingest(path, store="a"))[0]
    assert kept.turns[0].parts == (Part("text", "What is it?"),)
    assert len(kept.media) == 1
    put = samples(ingest(path, store="b", markers="prepend"))[0]
    assert put.turns[0].parts == (Part("image", None, 0), Part("text", "What is it?"))


# Kills, crashes, two at once, no room


def many(dataset: Dataset) -> Path:
    files = {f"images/{i}.jpg": jpeg(i, (64, 64)) for i in range(150)}
    records = [record(f"images/{i % 150}.jpg", f"Question {i}?") for i in range(600)]
    return dataset(records, files)


OPTIONS = ["--unit-bytes", "9000", "--shard-bytes", "60000"]


def command(path: Path, store: Path, *more: str) -> list[str]:
    return ["ingest", str(path), "--store", str(store), "--out", "raw", "--workers", "2", *OPTIONS, *more]


def test_killed_anywhere_it_goes_on_to_the_same_manifest(dataset: Dataset, tmp_path: Path) -> None:
    path = many(dataset)
    started = time.monotonic()
    assert imm(*command(path, tmp_path / "undisturbed")).wait() == 0
    whole = time.monotonic() - started
    expected = Store.open(tmp_path / "undisturbed").refs()["raw"]
    draw = random.Random(4)
    killed = 0
    for attempt in range(5):
        store = tmp_path / f"store{attempt}"
        process = imm(*command(path, store))
        time.sleep(whole * draw.uniform(0.3, 0.95))
        os.killpg(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        again = imm(*command(path, store))
        assert again.wait() == 0, again.communicate()[1].decode()
        assert Store.open(store).refs()["raw"] == expected
        assert verify(Store.open(store), "raw", media=True)["ok"]
    assert killed > 0


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def test_a_worker_that_is_killed_is_replaced(dataset: Dataset, tmp_path: Path) -> None:
    path = many(dataset)
    assert imm(*command(path, tmp_path / "undisturbed")).wait() == 0
    process = imm(*command(path, tmp_path / "store"))
    shot = 0
    while process.poll() is None:
        workers = [p for server in children(process.pid) for p in children(server)]
        if workers and shot < 2:
            os.kill(workers[0], signal.SIGKILL)
            shot += 1
        time.sleep(0.02)
    assert process.returncode == 0, process.communicate()[1].decode()
    assert shot > 0
    assert Store.open(tmp_path / "store").refs() == Store.open(tmp_path / "undisturbed").refs()


def test_two_at_once_in_one_store(dataset: Dataset, tmp_path: Path) -> None:
    path = many(dataset)
    both = [imm(*command(path, tmp_path / "store", "--out", name)) for name in ("one", "two")]
    assert [p.wait() for p in both] == [0, 0]
    store = Store.open(tmp_path / "store")
    assert Manifest.open(store, "one").digest == Manifest.open(store, "two").digest
    assert verify(store, "one", media=True)["ok"]
    assert verify(store, "two", media=True)["ok"]


def test_no_room_is_said_and_the_next_run_goes_on(dataset: Dataset, tmp_path: Path) -> None:
    path = many(dataset)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    process = imm(*command(path, tmp_path / "store", "--workers", "0"), preexec_fn=limit)
    error = process.communicate()[1].decode()
    assert process.returncode == 1
    assert "error: " in error and "Traceback" not in error
    assert Store.open(tmp_path / "store").names("tmp") == []
    assert imm(*command(path, tmp_path / "store")).wait() == 0
    assert imm(*command(path, tmp_path / "other")).wait() == 0
    assert Store.open(tmp_path / "store").refs() == Store.open(tmp_path / "other").refs()


def test_ingesting_again_never_takes_what_another_manifest_stands_on(
    ingest: Ingest, dataset: Dataset
) -> None:
    files = {f"{i}.jpg": jpeg(i) for i in range(6)}
    a = dataset([record(f"{i}.jpg") for i in range(6)], files, "a")
    b = dataset([record("x.jpg"), record("y.jpg")], {"x.jpg": jpeg(2), "y.jpg": jpeg(77)}, "b")
    first = ingest(a, out="a", mode="reference")
    gc(first.store)  # forgets which places were taken
    ingest(b, out="b")
    gc(first.store)
    ingest(a, out="c", mode="reference")
    for name in ("a", "b", "c"):
        assert verify(first.store, name, media=True)["ok"]


def test_moved_pictures_are_found_by_ingesting_again(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    before = ingest(plain, mode="reference")
    os.rename(plain.parent, tmp_path / "moved")
    assert not verify(before.store, "raw", media=True)["ok"]
    (tmp_path / "moved/images/new.jpg").write_bytes(jpeg(1234))
    records = json.loads((tmp_path / "moved/data.json").read_text())
    (tmp_path / "moved/data.json").write_text(json.dumps([record("images/new.jpg"), *records]))
    after = ingest(tmp_path / "moved/data.json", mode="reference", out="again", source="data")
    assert after.samples == before.samples + 1
    assert verify(before.store, "again", media=True)["ok"]
    assert verify(before.store, "raw", media=True)["ok"]


def test_a_stray_file_in_a_folder_costs_a_row(ingest: Ingest, plain: Path) -> None:
    (plain.parent / "empty.jsonl").write_bytes(b"")
    (plain.parent / "notes.json").write_text('{"written": "by hand"}')
    manifest = ingest(plain.parent)
    assert manifest.document["counts"] == {"in": 42, "kept": 39, "dropped": 1, "failed": 2, "made": 0}
    assert reasons(manifest)["data/empty.jsonl:0"] == "unrecognised_file"
    assert reasons(manifest)["data/notes.json:0"] == "unrecognised_file"
