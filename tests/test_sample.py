"""The committed sample stands, and says of its records what the truth says."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infinity_mm.cli.demo import compare
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from infinity_mm.verify import verify

SAMPLE = Path(__file__).resolve().parents[1] / "manifests/sample"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy: reading takes locks, and locks are files."""
    folder = tmp_path_factory.mktemp("sample")
    shutil.copytree(SAMPLE / "store", folder / "store")
    return Store.open(folder / "store")


@pytest.mark.parametrize(("name", "samples"), [("raw", 292), ("sound", 266)])
def test_it_verifies(store: Store, name: str, samples: int) -> None:
    found = verify(store, name, media=True)
    assert found["ok"], found["problems"]
    assert found["samples"] == samples


def test_it_is_small() -> None:
    assert sum(p.stat().st_size for p in SAMPLE.rglob("*") if p.is_file()) < 2_000_000


def test_every_structural_defect_is_found_and_nothing_else(store: Store) -> None:
    found = compare(Path(store.url), SAMPLE / "truth.jsonl")
    assert (found["precision"], found["recall"], found["missed"]) == (1.0, 1.0, {})
    assert found["planted"] == 34


@pytest.mark.parametrize(
    ("defect", "reasons"),
    [
        ("missing_file", {"missing_file"}),
        ("exact_copy", {"repeat"}),
        ("truncated", {"undecodable_media"}),
        ("bit_flipped", {"undecodable_media"}),
        ("corrupt_bytes", {"undecodable_media"}),
        ("html_as_jpg", {"undecodable_media"}),
        ("zero_bytes", {"undecodable_media", "empty_file"}),
        ("wrong_extension", {"wrong_format"}),
        ("empty_turn", {"empty_turn"}),
        ("broken_roles", {"role_order", "unknown_role"}),
        ("marker_mismatch", {"marker_without_media", "media_without_marker"}),
    ],
)
def test_each_defect_has_its_reason(store: Store, defect: str, reasons: set[str]) -> None:
    given: dict[int, str] = {}
    for name in ("raw", "sound"):
        file = Manifest.open(store, name).document["ledger"]["file"]
        for row in pq.read_table(store.path(file)).to_pylist():
            given[int(row["origin"].rsplit(":", 1)[1])] = row["reason"]
    truth = [json.loads(line) for line in (SAMPLE / "truth.jsonl").read_text().splitlines()]
    planted = [
        r["index"]
        for r in truth
        if r["defects"] == [defect] and r["detail"].get("sub_kind") != "empty_question"
    ]
    assert planted
    assert {given[i] for i in planted} <= reasons
