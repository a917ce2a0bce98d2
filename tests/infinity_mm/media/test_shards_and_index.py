"""Media shards give back what was put in, the index finds it, and damage is seen."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import infinity_mm.media.index as index_module
import infinity_mm.media.shards as shards_module
from infinity_mm.media.index import Library, MediaIndex, Unavailable, build_index
from infinity_mm.media.shards import CopyWriter, Location, MediaInfo, Shard, write_reference_shard
from infinity_mm.schema import media_id
from infinity_mm.store import Store

SIZES = (10, 70_000, 3, 1, 65_536, 200_000, 5)


def some_media(seed: int, sizes: tuple[int, ...] = SIZES) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size) for size in sizes]


def info(data: bytes) -> MediaInfo:
    return MediaInfo(media_id(data), "image", "jpeg", 4, 3, 1, None, len(data))


def copy_shard(store: Store, media: list[bytes]) -> str:
    """Put media two at a time, each after seven bytes that are not kept."""
    writer = CopyWriter(store)
    for i in range(0, len(media), 2):
        pair = media[i : i + 2]
        view = writer.borrow(sum(7 + len(data) for data in pair))
        view[:] = b"".join(b"dropped" + data for data in pair)
        writer.put(view, [info(data) for data in pair], [7, 14 + len(pair[0])][: len(pair)])
        writer.put(writer.borrow(5), [], [])
    digest = writer.close()
    assert digest is not None
    return digest


def reference_shard(store: Store, folder: Path, media: list[bytes]) -> str:
    folder.mkdir()
    locations = []
    for i, data in enumerate(media):
        (folder / f"{i}.bin").write_bytes(b"head" + data)
        locations.append(Location("pictures", f"{i}.bin".encode(), 4, len(data)))
    return write_reference_shard(store, [info(d) for d in media], locations, {"pictures": str(folder)})


@pytest.mark.parametrize("buffer_bytes", [1, 1 << 16, 1 << 22])
def test_bytes_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer_bytes: int) -> None:
    monkeypatch.setattr(shards_module, "BUFFER_BYTES", buffer_bytes)
    store, media = Store.create(tmp_path), some_media(0)
    shard = Shard(store, copy_shard(store, media))
    assert [shard.read(i) for i in range(len(media))] == media
    with pa.memory_map(store.path(f"bytes/{shard.digest}.arrow")) as source:
        assert pa.ipc.open_file(source).read_all().column("data").to_pylist() == media


@pytest.mark.parametrize("most", [0, 2, 3, 70_000, 300_000])
def test_the_first_bytes_come_alone(tmp_path: Path, most: int) -> None:
    store, media = Store.create(tmp_path / "store"), some_media(1)
    for digest in (copy_shard(store, media), reference_shard(store, tmp_path / "files", media)):
        shard = Shard(store, digest)
        assert [shard.read(row, most) for row in range(len(media))] == [data[:most] for data in media]


def test_a_shard_without_media_is_not_written(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    assert CopyWriter(store).close() is None
    assert store.names("bytes") == store.names("tmp") == []


def test_a_digest_is_one_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, media = Store.create(tmp_path / "a"), some_media(1)
    pairs = copy_shard(store, media)
    assert copy_shard(store, media) == pairs
    writer = CopyWriter(store)
    for data in media:
        view = writer.borrow(len(data))
        view[:] = data
        writer.put(view, [info(data)], [0])
    single = writer.close()
    referred = reference_shard(store, tmp_path / "pictures", media)
    assert len({pairs, single, referred}) == 3
    for digest in (pairs, single, referred):
        assert [Shard(store, str(digest)).read(i) for i in range(len(media))] == media


def test_a_moved_root_is_one_line_and_a_wrong_one_is_seen(tmp_path: Path) -> None:
    store, media = Store.create(tmp_path / "s"), some_media(2)
    digest = reference_shard(store, tmp_path / "pictures", media)
    os.rename(tmp_path / "pictures", tmp_path / "elsewhere")
    entry = build_index(store, [digest])
    with pytest.raises(Unavailable, match=r"missing_media.*roots\.json"):
        Library(store, [entry], frozenset()).read(media_id(media[0]))
    roots = (tmp_path / "s/roots.json").read_text()
    (tmp_path / "s/roots.json").write_text(
        roots.replace('pictures"', 'elsewhere"').replace('elsewhere": {', 'pictures": {')
    )
    assert Library(store, [entry], frozenset()).read(media_id(media[0])) == media[0]
    (tmp_path / "elsewhere/0.bin").write_bytes(b"head" + b"another 10")
    with pytest.raises(Unavailable, match="changed_media"):
        Library(store, [entry], frozenset()).read(media_id(media[0]))


def test_a_location_may_not_leave_its_root(tmp_path: Path) -> None:
    store, data = Store.create(tmp_path / "s"), b"secret"
    (tmp_path / "secret").write_bytes(data)
    (tmp_path / "pictures").mkdir()
    for path in (b"../secret", os.fsencode(tmp_path / "secret")):
        digest = write_reference_shard(
            store, [info(data)], [Location("pictures", path, 0, -1)], {"pictures": str(tmp_path / "pictures")}
        )
        library = Library(store, [build_index(store, [digest])], frozenset())
        with pytest.raises(Unavailable, match="leaves its root"):
            library.read(media_id(data))


@pytest.mark.parametrize("part_rows", [3, 50, 16_384])
def test_the_index_finds_every_medium_in_its_first_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int
) -> None:
    monkeypatch.setattr(index_module, "PART_ROWS", part_rows)
    store = Store.create(tmp_path)
    media = some_media(3, tuple(range(1, 300)))
    shards = [copy_shard(store, media[:200]), copy_shard(store, media[150:])]
    entry = build_index(store, shards)
    assert entry["count"] == 299
    assert sum(p["rows"] for p in entry["parts"]) == 299
    assert len(entry["parts"]) == 1 << entry["bits"]
    ids = np.array([np.frombuffer(media_id(d), np.uint8) for d in media])
    found, rows = MediaIndex(store, entry).find_many(ids)
    assert found.tolist() == [0] * 200 + [1] * 99
    assert rows.tolist() == [*range(200), *range(50, 149)]
    assert MediaIndex(store, entry).find_many(ids[:5] ^ 255)[0].tolist() == [-1] * 5


def test_a_flipped_bit_is_seen_when_a_medium_is_read(tmp_path: Path) -> None:
    store, media = Store.create(tmp_path), some_media(4)
    digest = copy_shard(store, media)
    entry = build_index(store, [digest])
    path = Path(store.path(f"bytes/{digest}.arrow"))
    data = bytearray(path.read_bytes())
    data[int(Shard(store, digest).offsets[1]) + 99] ^= 1
    path.write_bytes(data)
    library = Library(store, [entry], frozenset())
    with pytest.raises(Unavailable, match="changed_media"):
        library.read(media_id(media[1]))
    assert library.read(media_id(media[0])) == media[0]


def test_a_changed_index_part_is_refused(tmp_path: Path) -> None:
    store, media = Store.create(tmp_path), some_media(5)
    entry = build_index(store, [copy_shard(store, media)])
    path = Path(store.path(entry["parts"][0]["file"]))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its content was changed"):
        Library(store, [entry], frozenset()).read(media_id(media[0]))


def test_a_withdrawn_medium_is_not_read(tmp_path: Path) -> None:
    store, media = Store.create(tmp_path), some_media(6)
    entry = build_index(store, [copy_shard(store, media)])
    with pytest.raises(Unavailable, match="withdrawn"):
        Library(store, [entry], frozenset({media_id(media[2])})).read(media_id(media[2]))


def test_a_shard_is_read_by_ranges_on_a_remote_store(tmp_path: Path) -> None:
    store, media = Store.create(f"memory://{tmp_path.name}"), some_media(7)
    entry = build_index(store, [copy_shard(store, media)])
    library = Library(store, [entry], frozenset())
    assert [library.read(media_id(d)) for d in media] == media
