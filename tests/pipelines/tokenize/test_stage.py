"""`imm tokenize`: codes once a medium, failures named, the same for any workers and kills."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inputs import jpeg, ledger, picture, reasons, record, saved
from pydantic import ValidationError
from tiny_vq import write_vq

import pipelines.tokenize.stage
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.media.video import iter_frames
from infinity_mm.models.emu3_vq import find_tokenizer
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip
from infinity_mm.visual_tokens import VisualTokens
from infinity_mm.withdraw import forget
from pipelines.mix import MixConfig
from pipelines.mix import run as run_mix
from pipelines.split import SplitConfig
from pipelines.split import run as run_split
from pipelines.tokenize.stage import TokenizeConfig, run

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]
SIZES = ((64, 64), (96, 64), (64, 96), (200, 120))


@pytest.fixture(scope="module")
def vq(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_vq(tmp_path_factory.mktemp("vq")))


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    """Clips of 8 to 16 frames by their number of frames."""
    found: dict[str, bytes] = {}
    for seed in range(200):
        scene = draw_clip(np.random.default_rng(seed), 32)
        assert scene.motion is not None
        found.setdefault(f"{scene.motion.frames}.mp4", encode_clip(scene))
        if {"8.mp4", "12.mp4", "13.mp4"} <= set(found):
            break
    return found


@pytest.fixture
def mixed(dataset: Dataset, clips: dict[str, bytes]) -> Path:
    """Pictures of four sizes, clips, and all that may be wrong with either."""
    files = {f"{i}.png": saved(picture(i, SIZES[i % 4])) for i in range(8)}
    files |= {"12.mp4": clips["12.mp4"], "13.mp4": clips["13.mp4"]}
    files |= {"broken.jpg": jpeg(1, (64, 64))[:-200], "small.png": saved(picture(9, (12, 12)))}
    files |= {"large.png": saved(picture(10, (400, 400))), "narrow.png": saved(picture(11, (600, 2)))}
    records = [record(name) for name in files if not name.endswith("mp4")]
    for name in ("12.mp4", "13.mp4"):
        entry = record(None, "<video>\nWhat moves?") | {"video": name}
        records.append(entry)
    records += [record(None), record(["0.png", "broken.jpg"])]
    return dataset(records, files)


def tokenized(raw: Manifest, vq: str, **more: Any) -> dict[str, Any]:
    options = {"out": "tokens", "tokenizer": vq, "area": 64 * 64, "workers": 0, "device": "cpu", "batch": 3}
    reference = more.pop("manifest", raw.file)
    if "keep_size" in more:
        del options["area"]
    return run(TokenizeConfig(store=raw.store.url, manifest=reference, **options | more))


def opened(manifest: Manifest, result: dict[str, Any]) -> Manifest:
    return Manifest.open(manifest.store, result["manifest"])


def by_name(manifest: Manifest, raw: Manifest) -> dict[str, tuple[Any, str | None]]:
    """Codes and error of each medium of `raw`, by its file's name, as `manifest` has them."""
    tokens, found = VisualTokens(manifest), {}
    for number in range(len(raw.shards)):
        for sample in raw.table(number).select(["media", "names"]).to_pylist():
            for name, medium in zip(sample["names"], sample["media"], strict=True):
                codes = tokens.codes(medium) if tokens.grid(medium) else None
                found[name] = codes, tokens.error(medium)
    return found


def test_codes_are_the_tokenizer_s_and_failures_are_named(ingest: Ingest, mixed: Path, vq: str) -> None:
    raw = ingest(mixed)
    result = tokenized(raw, vq, min_area=200, max_area=150_000)
    made = opened(raw, result)
    found, tokenizer = by_name(made, raw), find_tokenizer(vq).load("cpu")
    for i in range(8):
        codes, error = found[f"{i}.png"]
        pixels = decode_image((mixed.parent / f"{i}.png").read_bytes()).pixels
        width, height = ((64, 64), (80, 56), (56, 80), (80, 48))[i % 4]
        resized = np.asarray(picture(i, SIZES[i % 4]).resize((width, height), 3))
        assert pixels.shape[1::-1] == SIZES[i % 4] and error is None
        assert codes.shape == (1, height // 8, width // 8) and codes.dtype == np.int32
        assert (codes[0] == tokenizer.encode_pictures(resized[None])[0]).mean() > 0.95  # another batch
    codes, error = found["12.mp4"]
    assert codes.shape == (3, 8, 8) and error is None
    bad = {name: error.partition(":")[0] for name, (_, error) in found.items() if error}
    assert bad == {
        "13.mp4": "odd_frames", "broken.jpg": "truncated", "small.png": "too_small",
        "large.png": "too_large", "narrow.png": "too_narrow",
    }  # fmt: skip
    assert found["13.mp4"][1] == (
        "odd_frames: 13 frames are no multiple of 4; --rest drop leaves the last 1 out"
    )
    assert (result["in"], result["kept"], result["failed"], result["dropped"]) == (16, 10, 6, 0)
    assert result["reasons"] == {
        "odd_frames": 1, "too_large": 1, "too_narrow": 1, "too_small": 1, "truncated": 2
    }  # fmt: skip
    assert (result["media"], result["tokenized"], result["media_failed"], result["clips"]) == (14, 9, 5, 1)
    assert len(ledger(made)) == 6 and "truncated" in reasons(made).values()
    assert result["codes"] == sum(codes.size for codes, _ in found.values() if codes is not None)


def test_the_reader_tells_what_was_made(ingest: Ingest, mixed: Path, vq: str) -> None:
    raw = ingest(mixed)
    tokens = VisualTokens(opened(raw, tokenized(raw, vq, min_area=1, rest="drop")))
    facts = find_tokenizer(vq).facts
    assert (tokens.tokenizer, tokens.codebook, tokens.factor, tokens.chunk) == (facts.digest, 64, 8, 4)
    library = raw.library()
    media = [library.shard(s).media_id(r) for s in library.shards() for r in range(len(library.shard(s)))]
    grids = tokens.grids(np.frombuffer(b"".join(media), np.uint8).reshape(-1, 16))
    seen = 0
    for medium, grid in zip(media, grids, strict=True):
        if not grid.any():
            assert tokens.grid(medium) is None
            with pytest.raises(ValueError, match="has no visual tokens: "):
                tokens.codes(medium)
            continue
        seen += 1
        codes = tokens.codes(medium)
        assert tokens.grid(medium) == tuple(grid.tolist()) == codes.shape
        assert 0 <= codes.min() <= codes.max() < 64
        if library.info(medium)["kind"] == "video":
            assert (tokens.fps(medium), tokens.duration(medium)) == (8, 12 / 8)
        else:
            assert tokens.fps(medium) is tokens.duration(medium) is None
    assert seen == 12
    assert tokens.grid(b"\0" * 16) is None
    assert "not_tokenized" in (tokens.error(b"\0" * 16) or "")


def test_every_and_rest_decide_which_frames_count(
    ingest: Ingest, dataset: Dataset, clips: dict[str, bytes], vq: str
) -> None:
    entry = record(None, "<video>\nWhat moves?") | {"video": "13.mp4"}
    raw = ingest(dataset([entry], {"13.mp4": clips["13.mp4"]}))
    dropped = by_name(opened(raw, tokenized(raw, vq, rest="drop")), raw)["13.mp4"][0]
    frames = np.stack(list(iter_frames(clips["13.mp4"])))
    assert len(frames) == 13
    assert dropped.shape == (3, 8, 8)
    other = by_name(opened(raw, tokenized(raw, vq, every=3, rest="drop", keep_size=True, out="b")), raw)
    ours = find_tokenizer(vq).load("cpu").encode_clip(frames[::3][:4])
    assert (other["13.mp4"][0] == ours).all()
    tokens = VisualTokens(Manifest.open(raw.store, "b"))
    [medium] = raw.table(0).column("media")[0].as_py()
    assert (tokens.fps(medium), tokens.duration(medium)) == (pytest.approx(8 / 3), pytest.approx(1.5))
    short = tokenized(raw, vq, every=5, out="c")
    assert short["reasons"] == {"too_short": 1}


def content(manifest: Manifest) -> dict[str, bytes]:
    store = manifest.store
    return {name: store.read(name) for name in store.names("sidecars/visual_tokens")}


def test_nothing_is_encoded_twice(ingest: Ingest, dataset: Dataset, vq: str) -> None:
    files = {f"{i}.png": saved(picture(i, (64, 64))) for i in range(10)}
    data = dataset([record(name) for name in files], files)
    raw = ingest(data)
    run_split(SplitConfig(store=raw.store.url, manifest="raw", out="part", part=["a=0.5", "b=0.5"], seed=1))
    part = Manifest.open(raw.store, "part-a")
    assert 0 < part.samples < 10
    first = tokenized(raw, vq, manifest="part-a", out="a")
    assert first["encoded"] == part.samples
    whole = tokenized(raw, vq)
    assert whole["encoded"] == 10 - part.samples
    a, both = VisualTokens(Manifest.open(raw.store, "a")), VisualTokens(opened(raw, whole))
    for sample in part.table(0).take(part.shards[0].selected.rows).column("media").to_pylist():
        assert (a.codes(sample[0]) == both.codes(sample[0])).all()
    before = content(raw)
    again = tokenized(raw, vq, manifest="part-b", out="b")
    assert (again["encoded"], again["kept"]) == (0, 10 - part.samples)
    assert "nothing was encoded" in again["note"]
    assert content(raw) == before
    smaller = {"area": 32 * 32}
    assert tokenized(raw, vq, **smaller, manifest="part-a", out="c")["encoded"] == part.samples
    assert tokenized(raw, vq, **smaller, manifest="part-b", out="d")["encoded"] == 10 - part.samples
    assert tokenized(raw, vq, **smaller, out="e")["encoded"] == 0
    assert len(content(raw)) == len(before) + 2
    assert tokenized(raw, vq, manifest="tokens", out="later")["encoded"] == 0


def test_tokens_are_found_behind_later_stages(
    ingest: Ingest, dataset: Dataset, vq: str, tmp_path: Path
) -> None:
    files = {f"{i}.png": saved(picture(i, (64, 64))) for i in range(6)}
    raw = ingest(dataset([record(name) for name in files], files))
    with pytest.raises(ValueError, match="has no visual tokens: run `imm tokenize`"):
        VisualTokens(raw)
    tokenized(raw, vq)
    url = raw.store.url
    run_split(SplitConfig(store=url, manifest="tokens", out="part", part=["a=0.5", "b=0.5"], seed=1))
    run_mix(MixConfig(store=url, manifests=["part-a", "part-b"], out="mixed"))
    mixed = VisualTokens(Manifest.open(raw.store, "mixed"))
    media = [medium for [medium] in raw.table(0).column("media").to_pylist()]
    assert all(mixed.grid(medium) == (1, 8, 8) for medium in media)
    other = str(write_vq(tmp_path / "other", seed=1))
    tokenized(raw, other, manifest="part-b", out="by_other")
    assert VisualTokens(Manifest.open(raw.store, "by_other")).tokenizer == find_tokenizer(other).facts.digest
    run_mix(MixConfig(store=url, manifests=["part-a", "by_other"], out="muddled"))
    with pytest.raises(ValueError, match="tokens of different tokenizers"):
        VisualTokens(Manifest.open(raw.store, "muddled"))


def test_what_was_withdrawn_has_no_codes(ingest: Ingest, dataset: Dataset, vq: str) -> None:
    files = {f"{i}.png": saved(picture(i, (64, 64))) for i in range(3)}
    raw = ingest(dataset([record(name) for name in files], files))
    tokenized(raw, vq)
    [medium] = raw.table(0).column("media")[0].as_py()
    forget(raw.store, medium.hex(), "asked")
    tokens = VisualTokens(Manifest.open(raw.store, "tokens"))
    assert tokens.grid(medium) is None and (tokens.error(medium) or "").startswith("withdrawn")
    result = tokenized(raw, vq, out="after")
    assert (result["kept"], result["dropped"], result["encoded"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"keep_size": True}, "would be ignored"), ({"min_area": 100, "max_area": 50}, "more than"),
     ({"area": 10}, "greater than or equal to 64")],
)  # fmt: skip
def test_options_that_contradict_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TokenizeConfig(**{"manifest": "a", "out": "b", "tokenizer": "c", "area": 4096} | options)


KILLABLE = """
import sys
import pipelines.tokenize.stage as stage
stage.PIECE = 4
if len(sys.argv) > 4:
    written = stage.write_tokens
    def write_tokens(*given, **more):
        name = written(*given, **more)
        print("one shard", flush=True)
        sys.stdin.read()
        return name
    stage.write_tokens = write_tokens
stage.run(stage.TokenizeConfig(
    store=sys.argv[1], manifest="raw", out="tokens", tokenizer=sys.argv[2], area=32 * 32, batch=3,
    workers=int(sys.argv[3]), device="cpu",
))
"""


def test_a_kill_changes_nothing_and_neither_do_workers(
    ingest: Ingest, dataset: Dataset, vq: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.tokenize.stage, "PIECE", 4)
    files = {f"{i}.png": saved(picture(i, SIZES[i % 4])) for i in range(24)}
    data = dataset([record(name) for name in files], files)
    calm = ingest(data, store="calm", shard_bytes=90_000)
    tokenized(calm, vq, manifest="raw", area=32 * 32)
    wanted = content(calm)
    assert len(wanted) > 2
    stormy = ingest(data, store="stormy", shard_bytes=90_000)
    script = [sys.executable, "-c", KILLABLE, stormy.store.url, vq]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([*script, "0", "telling"], start_new_session=True, **pipes)
    assert process.stdout is not None and process.stdout.readline() == b"one shard\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    half = content(stormy)
    assert len(half) == 1
    began = {name: os.stat(stormy.store.path(name)).st_mtime_ns for name in half}
    subprocess.run([*script, "2"], check=True)
    assert content(stormy) == wanted
    assert {name: os.stat(stormy.store.path(name)).st_mtime_ns for name in half} == began
