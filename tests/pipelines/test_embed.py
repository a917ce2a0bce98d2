"""Embedding: once a medium, failed rows apart, the same bytes for any workers and kills, mapped when read."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from inputs import jpeg, record
from onnx_file import mean_of_rows

import pipelines.embed
from infinity_mm.executor import Guard
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.media.video import iter_frames
from infinity_mm.models.embedder import open_embedder
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip
from infinity_mm.store import Store
from infinity_mm.withdraw import forget, gc
from pipelines.embed import EmbedConfig, Embeddings, Piece, embed, middle_frame, open_step

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """An embedder that takes milliseconds: the means of a picture's columns."""
    (tmp_path / "means.onnx").write_bytes(mean_of_rows(["n", 3, 8, 8]))
    return f"onnx:{tmp_path / 'means.onnx'}"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pipelines.embed, "BATCH", 3)
    monkeypatch.setattr(pipelines.embed, "PIECE", 6)
    yield


def embedded(manifest: Manifest, spec: str, **more: Any) -> dict[str, str]:
    return embed(manifest.store, manifest, spec, **{"workers": 0, "device": "cpu", **more})


def content(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names("sidecars/embedding")}


def by_medium(manifest: Manifest, files: dict[str, str]) -> dict[str, tuple[np.ndarray, str | None]]:
    """Vector and error of each medium, by the name of its first sample's file."""
    found, library = Embeddings(manifest.store, files), manifest.library()
    rows = {}
    for number in range(len(manifest.shards)):
        for sample in manifest.table(number).select(["media", "names"]).to_pylist():
            for name, medium in zip(sample["names"], sample["media"], strict=True):
                shard, row = library.find(medium)
                rows[name] = (found.vectors(shard)[row], found.errors(shard)[row])
    return rows


def test_vectors_are_the_embedder_s(ingest: Ingest, plain: Path, spec: str) -> None:
    manifest = ingest(plain)
    files = embedded(manifest, spec)
    embedder = open_embedder(spec, "cpu")
    found = by_medium(manifest, files)
    assert len(found) == 20
    for name, (vector, error) in found.items():
        pixels = decode_image((plain.parent / name).read_bytes()).pixels
        assert error is None
        assert np.allclose(vector, embedder.images([pixels])[0], atol=1e-3)
    [file] = files.values()
    assert file.endswith(".arrow")
    schema = manifest.store.open_arrow(file).schema
    assert schema.names == ["media_id", "vector", "error"]
    assert schema.field("vector").type == pa.list_(pa.float16(), embedder.dim)
    assert schema.metadata[b"imm.schema"] == b"sidecar:embedding"


def test_vectors_are_mapped_and_not_copied(ingest: Ingest, plain: Path, spec: str) -> None:
    manifest = ingest(plain)
    files = embedded(manifest, spec)
    before = pa.total_allocated_bytes()
    found = Embeddings(manifest.store, files)
    [vectors] = [found.vectors(shard) for shard in files]
    assert (vectors.shape, vectors.dtype) == ((20, 24), np.float16)
    assert pa.total_allocated_bytes() == before
    assert not vectors.flags.owndata
    assert not vectors.flags.writeable


def test_a_bad_medium_is_one_failed_row(
    ingest: Ingest, dataset: Dataset, spec: str, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = jpeg(0)
    files = {f"{i}.jpg": jpeg(i, (90, 60)) for i in range(10)}
    sound = by_medium(whole := ingest(dataset([record(f) for f in files], files)), embedded(whole, spec))
    bad = files | {"2.jpg": files["2.jpg"][:-300], "5.jpg": b"no picture", "6.jpg": grey}
    mixed = ingest(dataset([record(f) for f in bad], bad, name="bad"), out="bad")

    def blank(data: bytes, *args: Any, **more: Any) -> Any:
        found = decode_image(data, *args, **more)
        if data == grey:
            found.pixels[:] = 128
        return found

    monkeypatch.setattr(pipelines.embed, "decode_image", blank)
    found = by_medium(mixed, embedded(mixed, spec))
    errors = {name: error for name, (_, error) in found.items() if error is not None}
    assert errors["2.jpg"].startswith("truncated: ")
    assert errors["5.jpg"].startswith("not_an_image: ")
    assert errors["6.jpg"] == "embedding_failed: the model gave zeros or NaN"
    assert len(errors) == 3
    for name, (vector, _) in found.items():
        assert (not vector.any()) if name in errors else np.array_equal(vector, sound[name][0])


def test_pieces_and_workers_change_nothing(ingest: Ingest, plain: Path, small_pieces: None) -> None:
    stores = {}
    for store, workers in (("a", 0), ("b", 2)):
        manifest = ingest(plain, store=store)
        embedded(manifest, "tiny", workers=workers)
        stores[store] = content(manifest.store)
    assert stores["a"] == stores["b"]
    assert stores["a"]


def test_only_shards_that_are_used_and_missing_are_embedded(
    ingest: Ingest, plain: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.filter import FilterConfig
    from pipelines.filter import run as run_filter

    manifest = ingest(plain, shard_bytes=4000)
    shards = list(manifest.library().shards())
    assert len(shards) > 3
    config = FilterConfig(
        store=manifest.store.url, manifest="raw", out="few", workers=0, where=["draw < 0.1"]
    )
    few = Manifest.open(manifest.store, run_filter(config)["manifest"])
    some = embedded(few, spec)
    assert 0 < len(some) < len(shards)
    written: list[str] = []
    write = pipelines.embed._write

    def counting(*args: Any) -> str:
        written.append(write(*args))
        return written[-1]

    monkeypatch.setattr(pipelines.embed, "_write", counting)
    files = embedded(manifest, spec)
    assert set(files) == set(shards)
    assert sorted(written) == sorted(set(files.values()) - set(some.values()))
    assert embedded(manifest, spec) == files
    assert len(written) == len(shards) - len(some)


def test_another_model_or_limit_is_another_file(
    ingest: Ingest, plain: Path, spec: str, tmp_path: Path
) -> None:
    manifest = ingest(plain)
    first = embedded(manifest, spec)
    assert embedded(manifest, f"{spec}?std=64") != first
    assert embedded(manifest, spec, max_pixels=100) != first
    moved = tmp_path / "moved.onnx"
    moved.write_bytes((tmp_path / "means.onnx").read_bytes())
    assert embedded(manifest, f"onnx:{moved}") == first


def test_media_that_went_away_are_embedded_when_they_are_back(ingest: Ingest, plain: Path, spec: str) -> None:
    manifest = ingest(plain, mode="reference")
    folder, hidden = plain.parent / "images", plain.parent / "hidden"
    folder.rename(hidden)
    [gone] = embedded(manifest, spec).values()
    assert ".without-" in gone
    assert {
        error.partition(":")[0]
        for _, error in by_medium(manifest, embedded(manifest, spec)).values()
        if error
    } == {"missing_media"}
    hidden.rename(folder)
    [back] = embedded(manifest, spec).values()
    assert ".without-" not in back


def test_a_clip_is_its_middle_frame(ingest: Ingest, dataset: Dataset, spec: str) -> None:
    clip = encode_clip(draw_clip(np.random.default_rng(5), 64))
    frames = list(iter_frames(clip))
    middle = middle_frame(clip)
    assert np.array_equal(middle, frames[len(frames) // 2])
    assert not np.array_equal(middle, frames[0])
    clipped = record("a.mp4")
    clipped["video"] = clipped.pop("image")
    for turn in clipped["conversations"]:
        turn["value"] = turn["value"].replace("<image>", "<video>")
    manifest = ingest(dataset([clipped], {"a.mp4": clip}))
    [(vector, error)] = by_medium(manifest, embedded(manifest, spec)).values()
    assert error is None
    assert np.allclose(vector, open_embedder(spec, "cpu").images([middle])[0], atol=1e-3)


def test_what_is_withdrawn_has_no_vector_and_gc_erases_it(ingest: Ingest, plain: Path, spec: str) -> None:
    manifest = ingest(plain)
    files = embedded(manifest, spec)
    [shard] = files
    gone = manifest.library().shard(shard).media_id(3)
    forget(manifest.store, gone.hex(), "a wish")
    after = Embeddings(manifest.store, files)
    assert (after.errors(shard)[3] or "").startswith("withdrawn: ")
    before = np.array(after.vectors(shard))
    assert before[3].any()
    assert gc(manifest.store)["measures_erased"] == 1
    erased = Embeddings(manifest.store, files)
    assert not erased.vectors(shard)[3].any()
    kept = np.arange(20) != 3
    assert np.array_equal(erased.vectors(shard)[kept], before[kept])
    assert [error is None for error in erased.errors(shard)] == kept.tolist()
    assert gc(manifest.store)["measures_erased"] == 0
    again = embedded(Manifest.open(manifest.store, "raw"), f"{spec}?std=64")
    assert (Embeddings(manifest.store, again).errors(shard)[3] or "").startswith("withdrawn: ")


def test_an_item_that_kills_workers_is_refused(ingest: Ingest, plain: Path, spec: str) -> None:
    manifest = ingest(plain)
    [shard] = manifest.library().shards()
    digest = open_embedder(spec, "cpu").digest
    work = open_step(EmbedConfig(manifest.store.url, spec, "cpu", digest, 1 << 28, True))
    done = work(Piece(shard, 0, 6), Guard(frozenset({2})))
    assert [error and error.partition(":")[0] for error in done.errors] == [
        *(None, None, "crashed_worker", None, None, None)
    ]


def test_a_model_that_changed_meanwhile_is_refused(ingest: Ingest, plain: Path, spec: str) -> None:
    manifest = ingest(plain)
    with pytest.raises(ValueError, match="has changed since the command began"):
        open_step(EmbedConfig(manifest.store.url, spec, "cpu", "0" * 16, 1 << 28, False))


def test_a_damaged_file_is_said(ingest: Ingest, plain: Path, spec: str) -> None:
    manifest = ingest(plain)
    files = embedded(manifest, spec)
    [(shard, file)] = files.items()
    Path(manifest.store.path(file)).write_bytes(b"ARROW1\0\0 no more")
    with pytest.raises(ValueError, match=r"is damaged: .*delete it, and it is made again"):
        Embeddings(manifest.store, files).vectors(shard)


def test_an_empty_manifest_has_no_files(ingest: Ingest, dataset: Dataset, spec: str) -> None:
    assert embedded(ingest(dataset([record(None)], {})), spec) == {}


KILLABLE = """
import sys
import pipelines.embed
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
pipelines.embed.BATCH, pipelines.embed.PIECE = 3, 6
store = Store.open(sys.argv[1])
pipelines.embed.embed(store, Manifest.open(store, "raw"), sys.argv[2], workers=2, device="cpu")
"""


def test_a_kill_at_any_moment_changes_nothing(
    ingest: Ingest, dataset: Dataset, spec: str, small_pieces: None
) -> None:
    files = {f"{i}.jpg": jpeg(i, (90, 60)) for i in range(40)}
    data = dataset([record(name) for name in files], files)
    calm = ingest(data, store="calm", shard_bytes=60_000)
    embedded(calm, spec)
    wanted = content(calm.store)
    assert len(wanted) > 2
    stormy = ingest(data, store="stormy", shard_bytes=60_000)
    command = [sys.executable, "-c", KILLABLE, stormy.store.url, spec]
    draw = random.Random(3)
    for _ in range(4):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.4, 1.8))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    assert content(stormy.store) == wanted


def test_mobilenet_on_a_few_photographs(
    ingest: Ingest, shared_data: Path, shared_weights: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (shared_data / "flickr8k_alt.jsonl").read_text().splitlines()[:6]]
    names = [row[key] for row in rows for key in ("image", "duplicate_of")]
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, name in enumerate(names):
        (folder / f"{i}.jpg").write_bytes((shared_data / name).read_bytes())
    (folder / "data.json").write_text(json.dumps([record(f"{i}.jpg") for i in range(len(names))]))
    manifest = ingest(folder / "data.json")
    file = shared_weights / "derived" / "mobilenet_v1_0.25_128_quant.derived.onnx"
    found = by_medium(manifest, embedded(manifest, f"onnx:{file}"))
    vectors = np.stack([found[f"{i}.jpg"][0] for i in range(len(names))]).astype(np.float32)
    twins = np.einsum("nd,nd->n", vectors[::2], vectors[1::2])
    assert twins.min() > 0.9 > 0.87 > (vectors[::2] @ vectors[1::2].T - 2 * np.eye(len(rows))).max()
