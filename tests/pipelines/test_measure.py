"""Measuring: one decode for all, pieces of shards, kills, workers, what could not be had."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import jpeg, ledger, record

import pipelines.measure
import pipelines.measures.medium_look
from infinity_mm.manifest import Manifest
from infinity_mm.media.photometry import Photometry
from infinity_mm.store import Store, read_table
from infinity_mm.withdraw import gc
from pipelines.config import MeasuringConfig
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.measure import measure, settings_of
from pipelines.measures.photometry import SEEN
from pipelines.measures.registry import DERIVED, FAMILIES, FAMILY_OF, UNASKED, listed
from pipelines.measuring import MeasureConfig
from pipelines.measuring import run as run_measure

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]
EVERY = [name for family in UNASKED for name in FAMILIES[family].measures]


def measured(manifest: Manifest, *names: str, workers: int = 0) -> dict[str, dict[str, str]]:
    settings = settings_of(MeasuringConfig(), names or EVERY)
    return measure(manifest.store, manifest, settings, workers=workers)[0]


def content(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for f in FAMILIES for name in store.names(f"sidecars/{f}")}


def filtered(manifest: Manifest, out: str = "x", **options: Any) -> dict[str, Any]:
    return run_filter(
        FilterConfig(store=manifest.store.url, manifest="raw", out=out, **{"workers": 0, **options})
    )


def test_names_are_unique_and_described() -> None:
    names = [entry.name for entry in listed()]
    assert len(names) == len(set(names)) == len(FAMILY_OF) + len(DERIVED)
    assert all(entry.meaning for entry in listed())
    assert set(SEEN) == set(Photometry._fields)


def test_a_medium_is_decoded_once_in_colour_and_once_in_gray(
    ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ingest(plain)
    seen: Counter[tuple[bytes, int]] = Counter()
    decode = pipelines.measures.medium_look.decode_image

    def counting(data: bytes, **options: Any) -> Any:
        seen[data, options["channels"]] += 1
        return decode(data, **options)

    monkeypatch.setattr(pipelines.measures.medium_look, "decode_image", counting)
    filtered(manifest)  # reads validity alone
    filtered(manifest, out="y", where=["brightness > 0", "sharpness > 1"])
    assert {channels for _, channels in seen} == {4}
    measured(manifest)
    assert len(seen) == 2 * 20 and {channels for _, channels in seen} == {1, 4}
    assert set(seen.values()) == {1}


def test_what_the_header_tells_reads_no_medium(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain, mode="reference")
    for path in (plain.parent / "images").iterdir():
        path.unlink()
    files = measured(manifest, "width")
    [file] = files["header"].values()
    assert set(read_table(manifest.store, file).column("width").to_pylist()) == {24}


def test_pieces_and_workers_change_nothing(
    ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ingest(plain, store="a")
    measured(whole)
    for store, workers in (("b", 0), ("c", 2)):
        monkeypatch.setattr(pipelines.measure, "PIECES", {"media": 3, "samples": 7})
        pieces = ingest(plain, store=store)
        measured(pieces, workers=workers)
        assert content(pieces.store) == content(whole.store)


def test_finished_shards_are_not_measured_again(
    ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.measure, "PIECES", {"media": 3, "samples": 7})
    manifest = ingest(plain, shard_bytes=4000)
    shards = list(manifest.library().shards())
    assert len(shards) > 2
    written: list[str] = []
    write = pipelines.measure.write_sidecar

    def killed_at_the_third(store: Store, name: str, table: Any) -> str:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(store, name, table))
        return written[-1]

    monkeypatch.setattr(pipelines.measure, "write_sidecar", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        measured(manifest, "width")
    monkeypatch.setattr(pipelines.measure, "write_sidecar", write)
    settings = settings_of(MeasuringConfig(), ["width"])
    _, missing = measure(manifest.store, manifest, settings, workers=0)
    assert missing == {"header": len(shards) - 2}


KILLABLE = """
import sys
import pipelines.measure
from infinity_mm.cli import main
pipelines.measure.PIECES = {"media": 4, "samples": 5}
sys.exit(main())
"""


def test_a_kill_at_any_moment_changes_nothing(ingest: Ingest, dataset: Dataset, tmp_path: Path) -> None:
    files = {f"{i}.jpg": jpeg(i, (90, 60)) for i in range(40)}
    data = dataset([record(f"{i % 40}.jpg", f"Question {i}?") for i in range(60)], files)
    calm = ingest(data, store="calm")
    wanted = filtered(calm, where=["brightness >= 0.4", "chars > 5"])
    stormy = ingest(data, store="stormy")
    command = [sys.executable, "-c", KILLABLE, "filter", "raw", "--out", "x", "--store", stormy.store.url]
    command += ["--workers", "2", "--where", "brightness >= 0.4", "--where", "chars > 5"]
    draw = random.Random(7)
    for _ in range(6):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.5, 2.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["manifest"] == wanted["manifest"]
    assert content(stormy.store) == content(calm.store)


def test_one_corrupt_file_costs_one_row(ingest: Ingest, dataset: Dataset) -> None:
    files = {f"{i}.jpg": jpeg(i) for i in range(501)}
    files["250.jpg"] = files["250.jpg"][:-300]
    manifest = ingest(dataset([record(f"{i}.jpg") for i in range(501)], files))
    where = ["brightness >= 0", "width >= 1", "phash_margin >= 0", "chars >= 1"]
    made = Manifest.open(manifest.store, filtered(manifest, where=where, workers=2)["manifest"])
    [row] = ledger(made)
    assert (row["origin"], row["reason"], row["value"]) == ("data.json:250", "undecodable_media", "truncated")
    assert row["detail"].startswith("250.jpg: the JPEG ends")
    [failed] = ledger(
        Manifest.open(
            manifest.store, filtered(manifest, out="y", where=where, allow=["undecodable_media"])["manifest"]
        )
    )
    assert (failed["outcome"], failed["reason"], failed["limit"]) == (
        "failed",
        "truncated",
        "brightness >= 0",
    )


def test_media_that_went_away_are_measured_when_they_are_back(
    ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.measure, "PIECES", {"media": 3, "samples": 7})
    manifest = ingest(plain, mode="reference")
    folder, hidden = plain.parent / "images", plain.parent / "hidden"
    folder.rename(hidden)
    gone = filtered(manifest, where=["brightness >= 0"])
    assert gone["reasons"] == {"missing_media": 35}
    hidden.rename(folder)
    assert filtered(manifest, out="y", where=["brightness >= 0"])["kept"] == 39


def test_measures_outlive_gc(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    measured(manifest)
    before = content(manifest.store)
    gc(manifest.store)
    assert content(manifest.store) == before


def test_imm_measure_counts_the_three_states(ingest: Ingest, dataset: Dataset) -> None:
    files = {"a.jpg": jpeg(1, (30, 20)), "b.jpg": jpeg(2, (50, 40)), "cut.jpg": jpeg(3)[:-99]}
    records = [
        *(record("a.jpg", f"Question {i}?", loss=float(i)) for i in range(3)),
        record("b.jpg", loss="x"),
        record("cut.jpg"),
        record(None),
    ]
    manifest = ingest(dataset(records, files))
    result = run_measure(MeasureConfig(store=manifest.store.url, manifest="raw", workers=0))
    assert (result["in"], result["media"]) == (6, 3)
    assert set(result["measures"]) == set(EVERY)
    found = result["measures"]
    assert [found["brightness"][k] for k in ("n", "not_applicable", "failed")] == [2, 0, 1]
    assert [found["loss"][k] for k in ("n", "not_applicable", "failed")] == [3, 2, 1]
    assert [found["width"][k] for k in ("min", "median", "max")] == [24, 30, 50]
    assert found["media_error"]["top"] == {"none": 2, "truncated": 1}
    again = run_measure(
        MeasureConfig(
            store=manifest.store.url, manifest="raw", workers=0, **{"with": ["photometry", "width"]}
        )
    )
    assert again["note"] == "every measure was there already: nothing was decoded"
    assert set(again["measures"]) == {*FAMILIES["photometry"].measures, "width"}


def test_what_can_not_be_measured_is_said(ingest: Ingest, plain: Path) -> None:
    url = ingest(plain).store.url
    with pytest.raises(ValueError, match="no measure 'brigthness'; did you mean 'brightness'"):
        MeasureConfig(store=url, manifest="raw", **{"with": ["brigthness"]})
    with pytest.raises(ValueError, match="'draw' is known without measuring"):
        run_measure(MeasureConfig(store=url, manifest="raw", **{"with": ["draw"]}))
    with pytest.raises(ValueError, match="name the manifest to measure, or give --list"):
        run_measure(MeasureConfig(store=url))
    with pytest.raises(ValueError, match="nowhere"):
        filtered(
            Manifest.open(Store.open(url), "raw"), where=["tokens < 9"], tokenizer="/nowhere/tokenizer.json"
        )


def test_one_record_that_is_no_unicode_is_one_failed_row(ingest: Ingest, dataset: Dataset) -> None:
    path = dataset([record(None, f"{i}?", tags=["a"], note=f"n{i}") for i in range(5)], {})
    path.write_text(path.read_text().replace('"n3"', '"\\ud800"'))
    manifest = ingest(path)
    result = filtered(manifest, where=["meta.note <> 'n1'"])
    assert (result["dropped"], result["failed"]) == (1, 1)
    assert "arrived_failed" in result["reasons"]
    assert filtered(manifest, out="y", where=["tag_count > 0"])["failed"] == 1


def test_a_key_does_not_depend_on_where_a_tokenizer_lies(ingest: Ingest, plain: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    one, two = tmp_path / "one.json", tmp_path / "two.json"
    made = Tokenizer(WordLevel({"?": 0, "[UNK]": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.save(str(one))
    two.write_bytes(one.read_bytes())
    manifest = ingest(plain)
    first = filtered(manifest, where=["tokens > 0"], tokenizer=str(one))
    assert filtered(manifest, out="y", where=["tokens > 1"], tokenizer=str(two))["measured_shards"] == 0
    document = Manifest.open(manifest.store, first["manifest"]).document
    assert set(document["measures"]["tokens"]) == {"tokenizer_sha256"}
