"""Which checkpoints saw a sample, against counting the order out."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infinity_mm.cli import main
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from trainers.mixture import Mixture
from trainers.seen import seen


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Manifests of 10 and of 6 texts, of which 4 are in both."""
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
    return Store.open(folder / "s")


def write(folder: Path, stage: str, step: int, segments: list[dict[str, Any]]) -> None:
    path = folder / stage / "checkpoints" / f"step-{step:08}"
    path.mkdir(parents=True)
    (path / "state.json").write_text(json.dumps({"stage": stage, "step": step, "segments": segments}))
    complete = {"format": "imm-checkpoint", "version": 1, "files": {}}
    (path / "complete.json").write_text(json.dumps(complete))


def segment(
    store: Store, stage: str, data: dict[str, float], seed: int, start: int, end: int
) -> dict[str, Any]:
    mixture = Mixture.open(store, data)
    samples = sum(len(mixture.order(seed, epoch)) for epoch in range(9))
    return {
        "stage": stage,
        "data": {m.file: w for m, w in zip(mixture.manifests, mixture.weights, strict=True)},
        "digest": mixture.digest,
        "seed": seed,
        "epochs": 9,
        "group": 4,
        "samples": samples,
        "from": start,
        "to": end,
    }


def counted(store: Store, data: dict[str, float], seed: int, start: int, end: int) -> Counter[str]:
    """The ids (hex) from one position to another, epoch after epoch."""
    mixture = Mixture.open(store, data)
    every = [
        identity.hex()
        for epoch in range(9)
        for identity in mixture.ids(np.array(list(mixture.order(seed, epoch)), np.int64))
    ]
    return Counter(every[start:end])


ALONE, BOTH = {"a": 1.0}, {"a": 1.5, "b": 1.0}


def every_id(store: Store) -> list[bytes]:
    return sorted(
        {i for n in ("a", "b") for i in Manifest.open(store, n).table(0).column("sample_id").to_pylist()}
    )


def test_every_sample_is_told_as_often_as_it_came(store: Store, tmp_path: Path) -> None:
    first = segment(store, "one", ALONE, 3, 0, 8)
    write(tmp_path, "one", 3, [first])
    second = [segment(store, "two", BOTH, 4, 0, 32), segment(store, "two", ALONE, 4, 32, 90)]
    write(tmp_path, "two", 9, [{**first, "to": 12}, *second])
    ids = every_id(store)
    one, two = seen(store, [tmp_path], ids)
    assert (one["stage"], one["step"], two["stage"], two["step"]) == ("one", 3, "two", 9)
    assert one["saw"] == {i: {"one": n} for i, n in counted(store, ALONE, 3, 0, 8).items()}
    assert len(one["saw"]) == 8 < len(ids) == 12
    in_one = counted(store, ALONE, 3, 0, 12)
    in_two = counted(store, BOTH, 4, 0, 32) + counted(store, ALONE, 4, 32, 90)  # the last step is short
    for i in (identity.hex() for identity in ids):
        told = {"one": in_one[i], "two": in_two[i]}
        assert two["saw"].get(i, {}) == {stage: n for stage, n in told.items() if n}
    assert "perhaps" not in one and "perhaps" not in two


def test_within_a_group_it_is_told_that_it_may_be(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "one", 3, [segment(store, "one", ALONE, 3, 0, 6)])
    (told,) = seen(store, [tmp_path], every_id(store))
    assert told["saw"] == {i: {"one": n} for i, n in counted(store, ALONE, 3, 0, 4).items()}
    assert told["perhaps"] == {i: {"one": n} for i, n in counted(store, ALONE, 3, 4, 8).items()}


def test_what_was_left_out_and_what_is_not_known_is_told(store: Store, tmp_path: Path) -> None:
    identity = every_id(store)[0]
    known = segment(store, "one", ALONE, 0, 0, 10)
    gone = {**known, "data": {"0" * 64 + "-" + "1" * 16: 1.0}, "digest": "0"}
    write(tmp_path, "one", 2, [known, gone])
    row = {"step": 1, "sample_id": identity.hex(), "reason": "undecodable"}
    again = [row, row, {**row, "step": 3}]  # step 1 was taken again after a kill, step 3 comes later
    (tmp_path / "one" / "skipped.rank0.jsonl").write_text("".join(json.dumps(r) + "\n" for r in again))
    (told,) = seen(store, [tmp_path], [identity])
    assert told["left_out"] == {identity.hex(): "undecodable"}
    assert told["saw"] == {}
    (tmp_path / "one" / "skipped.rank0.jsonl").write_text(json.dumps({**row, "step": 3}) + "\n")
    assert seen(store, [tmp_path], [identity])[0]["saw"] == {identity.hex(): {"one": 1}}
    assert told["unknown"] == ["0" * 64 + "-" + "1" * 16]


def test_trace_tells_it(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = Manifest.open(store, "a").table(0).column("sample_id")[0].as_py().hex()
    write(tmp_path, "one", 2, [segment(store, "one", ALONE, 0, 0, 20)])
    broken = tmp_path / "one" / "checkpoints" / "step-00000009"
    broken.mkdir()
    assert main(["trace", identity, "--store", store.url, "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"step-00000002: saw {identity} 2× in one" in out
    assert "step-00000009: damaged: " in out
    assert main(["trace", identity, "--store", store.url, "--runs", str(tmp_path / "none")]) == 1
    assert "no checkpoint is in or below it" in capsys.readouterr().err
