"""One folder of scenes with planted defects, drawn once for all tests here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infinity_mm.scenes import ScenesConfig, make_scenes


@dataclass(frozen=True)
class Drawn:
    folder: Path
    summary: dict[str, Any]
    entries: list[dict[str, Any]]
    truths: list[dict[str, Any]]

    def of(self, defect: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """The (entry, truth) of every record with that defect."""
        return [(e, t) for e, t in zip(self.entries, self.truths, strict=True) if t["defects"] == [defect]]

    def clean(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [(e, t) for e, t in zip(self.entries, self.truths, strict=True) if not t["defects"]]

    def bytes_of(self, truth: dict[str, Any]) -> bytes:
        (name,) = truth["files"]
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp("scenes") / "out"
    config = ScenesConfig(out=folder, count=900, seed=5, defects=0.4, video_share=0.06)
    summary = make_scenes(config)
    entries = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return Drawn(folder, summary, entries, [json.loads(line) for line in lines])
