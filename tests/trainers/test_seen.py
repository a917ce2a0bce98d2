"""Which checkpoints saw a sample, against counting the order out."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infinity_mm.cli import main
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from trainers.seen import seen


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Manifests of 10 and of 6 texts, and a mixture: those 10 at 1.5, of the 6 the four others."""
    folder = tmp_path_factory.mktemp("store")
    for name, first, last in (("a", 0, 10), ("b", 6, 12)):
        talks = [
            [{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": f"{n}!"}]
            for n in range(first, last)
        ]
        (folder / f"{name}.json").write_text(json.dumps([{"conversations": talk} for talk in talks]))
        assert (
            main(["ingest", str(folder / f"{name}.json"), "--store", str(folder / "s"), "--out", name]) == 0
        )
    assert main(["mix", "a=1.5", "b", "--store", str(folder / "s"), "--out", "both"]) == 0
    return Store.open(folder / "s")


def write(folder: Path, stage: str, step: int, segments: list[dict[str, Any]]) -> None:
    path = folder / stage / "checkpoints" / f"step-{step:08}"
    path.mkdir(parents=True)
    (path / "state.json").write_text(json.dumps({"stage": stage, "step": step, "segments": segments}))
    complete = {"format": "imm-checkpoint", "version": 1, "files": {}}
    (path / "complete.json").write_text(json.dumps(complete))


def counted(store: Store, name: str, seed: int, start: int, end: int) -> Counter[bytes]:
    """The ids from one position to another, epoch after epoch."""
    manifest = Manifest.open(store, name)
    ids = [manifest.table(n).column("sample_id").to_pylist() for n in range(len(manifest.shards))]
    every = [ids[s][r] for epoch in range(9) for s, r in manifest.order(seed, epoch)]
    return Counter(every[start:end])


def test_every_sample_is_told_as_often_as_it_came(store: Store, tmp_path: Path) -> None:
    files = {name: Manifest.open(store, name).file for name in ("a", "both")}
    first = {"stage": "one", "manifest": files["a"], "seed": 3, "from": 0}
    second = {"stage": "two", "manifest": files["both"], "seed": 4, "from": 0}
    changed = {"stage": "two", "manifest": files["a"], "seed": 4, "from": 33, "to": 37}
    write(tmp_path, "one", 3, [{**first, "to": 7}])
    write(tmp_path, "two", 9, [{**first, "to": 13}, {**second, "to": 33}, changed])
    manifest = Manifest.open(store, "both")
    ids = [
        one for n in range(len(manifest.shards)) for one in manifest.table(n).column("sample_id").to_pylist()
    ]
    one, two = seen(store, [tmp_path], ids)
    assert (one["stage"], one["step"], two["stage"], two["step"]) == ("one", 3, "two", 9)
    want = counted(store, "a", 3, 0, 7)
    assert one["saw"] == {i.hex(): {"one": n} for i, n in want.items()}
    assert len(one["saw"]) == 7 < len(ids)
    in_one, in_two = counted(store, "a", 3, 0, 13), counted(store, "both", 4, 0, 33)
    in_two += counted(store, "a", 4, 33, 37)
    for i in ids:
        told = {"one": in_one[i], "two": in_two[i]}
        assert two["saw"].get(i.hex(), {}) == {stage: n for stage, n in told.items() if n}


def test_what_was_left_out_and_what_is_not_known_is_told(store: Store, tmp_path: Path) -> None:
    manifest = Manifest.open(store, "a")
    identity = manifest.table(0).column("sample_id")[0].as_py()
    segment = {"stage": "one", "manifest": manifest.file, "seed": 0, "from": 0, "to": 10}
    write(tmp_path, "one", 2, [segment, {**segment, "manifest": "0" * 64 + "-" + "1" * 16}])
    row = {"step": 1, "sample_id": identity.hex(), "reason": "undecodable"}
    (tmp_path / "one" / "skipped.rank0.jsonl").write_text(json.dumps(row) + "\n")
    (told,) = seen(store, [tmp_path], [identity])
    assert told["left_out"] == {identity.hex(): "undecodable"}
    assert told["unknown"] == ["0" * 64 + "-" + "1" * 16]


def test_trace_tells_it(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.open(store, "a")
    identity = manifest.table(0).column("sample_id")[0].as_py().hex()
    write(tmp_path, "one", 2, [{"stage": "one", "manifest": manifest.file, "seed": 0, "from": 0, "to": 20}])
    broken = tmp_path / "one" / "checkpoints" / "step-00000009"
    broken.mkdir()
    assert main(["trace", identity, "--store", store.url, "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"step-00000002: saw {identity} 2× in one" in out
    assert "step-00000009: damaged: " in out
    assert main(["trace", identity, "--store", store.url, "--runs", str(tmp_path / "none")]) == 1
    assert "no checkpoint is in or below it" in capsys.readouterr().err
