"""Lengths: what the data path will make, measured once, with a reason where there is none."""

import os
from pathlib import Path

import numpy as np
import pytest
from inputs import jpeg, record, samples
from talks import SAMPLES, chat, files, ingested, on_its_side, records

import trainers.lengths
import trainers.llava.lengths as lengths_module
from infinity_mm.image_tokens import Geometry
from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.media.decode import decode_image
from infinity_mm.store import Store
from trainers.lengths import Lengths
from trainers.llava.documents import Encoding, Medium, lay_out
from trainers.llava.lengths import measure_lengths

CHAT = chat()
ENCODING = Encoding(
    chat=CHAT, geometry=Geometry(16, 4, ((16, 16), (16, 32), (32, 16), (32, 32)), 3), frames=3
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return ingested(tmp_path_factory.mktemp("lengths"), records(), files())


def table(lengths: Lengths, manifest: Manifest) -> np.ndarray:
    """Tokens, supervised tokens and tiles of the first shard's rows, int [N, 3]."""
    sha256 = manifest.shards[0].sha256
    return np.stack([lengths.column(sha256, name) for name in ("tokens", "supervised", "tiles")], axis=1)


def sidecars(store: Store) -> dict[str, bytes]:
    names = [n for family in ("lengths", "upright_size") for n in store.names(f"sidecars/{family}")]
    return {name: store.read(name) for name in names}


def test_lengths_are_those_of_the_samples_laid_out(raw: Manifest) -> None:
    found = table(measure_lengths([raw], ENCODING), raw)
    library = raw.library()
    assert len(found) == SAMPLES
    for row, sample in zip(found.tolist(), samples(raw), strict=True):
        media = []
        for medium in sample.media:
            info = library.info(medium)
            if info["kind"] == "video":
                media.append(Medium("video", 64, 64, info["frames"]))
            else:
                height, width, _ = decode_image(library.read(medium)).pixels.shape
                media.append(Medium("image", width, height))
        laid = lay_out(sample.turns, media, ENCODING)
        tiles = sum(ENCODING.geometry.tiles(visual) for visual in laid.visuals)
        assert row == [len(laid.tokens), laid.supervised.sum(), tiles]


def test_they_are_measured_once(raw: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = table(measure_lengths([raw], ENCODING), raw)
    kept = sidecars(raw.store)
    monkeypatch.setattr(lengths_module, "lay_out", None)
    assert (table(measure_lengths([raw], ENCODING), raw) == first).all()
    assert sidecars(raw.store) == kept


def test_another_geometry_has_lengths_of_its_own(raw: Manifest) -> None:
    plain = Encoding(chat=CHAT, geometry=Geometry(16, 4), frames=3)
    one, two = (table(measure_lengths([raw], encoding), raw) for encoding in (ENCODING, plain))
    assert (one[:, 0] != two[:, 0]).any()
    assert (one[:, 1] == two[:, 1]).all()


def test_the_same_bytes_for_any_workers(raw: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers.lengths, "PIECE", 7)
    found = []
    for workers in (0, 2):
        for name in sidecars(raw.store):
            raw.store.delete(name)
        measure_lengths([raw], ENCODING, workers=workers)
        found.append(sidecars(raw.store))
    assert found[0] == found[1]


def test_what_has_no_lengths_says_why(tmp_path: Path) -> None:
    told = [
        record("a.jpg", "whole"),
        {"conversations": [{"from": "human", "value": "<image>\nnone"}, {"from": "gpt", "value": "a"}]},
        record("not.jpg", "no picture"),
    ]
    manifest = ingested(tmp_path, told, {"a.jpg": jpeg(1), "not.jpg": b"GIF89 is no picture"})
    lengths = measure_lengths([manifest], ENCODING)
    sha256 = manifest.shards[0].sha256
    assert lengths.failed(sha256).tolist() == [False, True, True]
    assert lengths.error(sha256, 0) is None
    assert (lengths.error(sha256, 1) or "").startswith("bad_conversation: turn 1 marks a medium")
    assert (lengths.error(sha256, 2) or "").split(":")[0] in ("not_an_image", "unsupported")
    assert table(lengths, manifest)[1:].tolist() == [[0, 0, 0]] * 2


def test_a_picture_that_is_not_there_today_is_measured_again(tmp_path: Path) -> None:
    manifest = ingested(tmp_path, [record("side.jpg")], {"side.jpg": on_its_side(1)}, mode="reference")
    sha256 = manifest.shards[0].sha256
    os.rename(tmp_path / "raw", tmp_path / "away")
    lost = measure_lengths([manifest], ENCODING)
    assert (lost.error(sha256, 0) or "").startswith("missing_media")
    os.rename(tmp_path / "away", tmp_path / "raw")
    assert not measure_lengths([manifest], ENCODING).failed(sha256).any()


def test_a_changed_shard_is_refused(tmp_path: Path) -> None:
    manifest = ingested(tmp_path, records()[:3], files())
    path = Path(manifest.store.path(manifest.shards[0].file))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(path, 0o644)
    path.write_bytes(data)
    with pytest.raises(ManifestError, match="sha256"):
        measure_lengths([manifest], ENCODING)
