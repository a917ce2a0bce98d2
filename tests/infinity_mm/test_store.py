"""The store: opening, publishing, locks, and the same on a file system that is not local."""

import json
import multiprocessing as mp
import os
from pathlib import Path

import pyarrow as pa
import pytest

from infinity_mm.store import Store, StoreError, read_table, write_table


def test_a_folder_that_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"not a store .*--store"):
        Store.open(tmp_path / "nothing")


def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"holiday\.jpg"):
        Store.create(tmp_path)


def test_a_newer_store_says_upgrade(tmp_path: Path) -> None:
    Store.create(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"format": "imm-store", "version": 99}))
    with pytest.raises(StoreError, match="upgrade infinity-mm"):
        Store.open(tmp_path)


def test_an_unpublished_file_leaves_nothing(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    with pytest.raises(OSError, match="disk full"), store.scratch() as temporary:
        Path(temporary).write_bytes(b"half")
        raise OSError("disk full")
    assert store.names("tmp") == []
    assert not store.exists("media")


@pytest.fixture(params=["local", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.create(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_tables_are_named_by_their_content(any_store: Store, suffix: str) -> None:
    table = pa.table({"a": [1, 2, 3]})
    name = write_table(any_store, "index", table, suffix)
    assert name == f"index/{any_store.digest(name)}{suffix}"
    assert write_table(any_store, "index", table, suffix) == name
    assert read_table(any_store, name).equals(table)
    assert any_store.names("index") == [name]


def test_ranges_and_sizes(any_store: Store) -> None:
    any_store.write("index/x", b"0123456789")
    assert any_store.read_range("index/x", 3, 4) == b"3456"
    assert any_store.read_range("index/x", 8, 9) == b"89"
    assert any_store.size("index/x") == 10
    any_store.delete("index/x")
    assert not any_store.exists("index/x")
    with pytest.raises(FileNotFoundError):
        any_store.size("index/x")


def test_a_damaged_table_is_said_to_be(any_store: Store) -> None:
    any_store.write("index/x.arrow", b"not arrow at all")
    with pytest.raises(ValueError, match=r"index/x\.arrow is damaged"):
        read_table(any_store, "index/x.arrow")


def _hold(path: str, ready: "mp.synchronize.Event", go: "mp.synchronize.Event") -> None:
    with Store.open(path).using():
        ready.set()
        go.wait(20)


def test_gc_waits_for_nobody_and_deletes_under_no_one(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    context = mp.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, go))
    other.start()
    assert ready.wait(20)
    with pytest.raises(StoreError, match="another imm command is using this store"), store.alone():
        pass
    with store.using(), store.nobody_else() as alone:
        assert not alone
    go.set()
    other.join()
    with store.using(), store.nobody_else() as alone:
        assert alone
    with store.alone(), pytest.raises(StoreError, match="imm gc is deleting"), Store.open(tmp_path).using():
        pass


def test_published_files_can_be_read_by_others(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.write("refs/a", b"x")
    assert os.stat(tmp_path / "refs/a").st_mode & 0o444 == 0o444
