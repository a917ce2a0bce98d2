"""Small real inputs: picture files, LLaVA JSON over them, and the stages on them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import jpeg, record

from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Path]:
    """`dataset(records, files)` writes a folder with data.json and files; the path of data.json."""

    def make(records: list[Any], files: dict[str, bytes], name: str = "data", lines: bool = False) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        if lines:
            target = folder / "data.jsonl"
            target.write_text("".join(json.dumps(r) + "\n" for r in records))
        else:
            target = folder / "data.json"
            target.write_text(json.dumps(records))
        return target

    return make


@pytest.fixture
def plain(dataset: Callable[..., Path]) -> Path:
    """40 records over 20 pictures, four of them text only, one repeated."""
    files = {f"images/{i}.jpg": jpeg(i) for i in range(20)}
    records = [record(f"images/{i % 20}.jpg", f"Question {i}?", f"Answer {i}.", id=i) for i in range(35)]
    records += [record(None, f"Text {i}?", "Yes.") for i in range(4)]
    records.append(records[3] | {"id": "again"})
    return dataset(records, files)


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., Manifest]:
    """`ingest(input…, store=…, out=…, **options)`: the manifest made, in this process."""

    def run(*inputs: Path, store: str = "store", out: str = "raw", **options: Any) -> Manifest:
        url = store if "://" in store else str(tmp_path / store)
        config = IngestConfig(
            inputs=[str(i) for i in inputs], store=url, out=out, **{"workers": 0, **options}
        )
        made = run_ingest(config)["manifest"]
        return Manifest.open(Store.open(url), made)

    return run
