"""What the card of every model tells: how it was trained, on what, and whose that is.

It is written from the run itself: the segments that its checkpoints name, the record of each stage, and the
manifests' sources with their licences.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.store import Store
from trainers.monitor import RECORD, read_record

LAST = 100  # steps whose loss is told as the loss at the end


def history(out: Path, about: Mapping[str, Any], store: Store) -> list[str]:
    """The sections on training and data. `out`: the run's folder, with a folder a stage; `about`: what the
    last stage's last checkpoint says of it, its `segments` all that was trained on, in order."""
    segments = about["segments"]
    stages = list(dict.fromkeys(segment["stage"] for segment in segments))
    manifests = [opened(store, file) for segment in segments for file in segment["data"]]
    return [
        "## Training\n\n" + training_table(out, stages, segments),
        "## Data\n\n" + data_table(segments) + "\n\n" + sources_table(m for m in manifests if m is not None),
    ]


def settings(about: Mapping[str, Any]) -> list[str]:
    """The sections on settings and software."""
    return [
        "## Settings of the last stage\n\n```json\n" + json.dumps(about["settings"], indent=1) + "\n```",
        "## Software\n\n" + ", ".join(f"{name} {version}" for name, version in about["software"].items()),
    ]


def training_table(out: Path, stages: Sequence[str], segments: Sequence[Mapping[str, Any]]) -> str:
    """A line a stage, from its record."""
    head = ["stage", "samples", "steps", "tokens", "supervised", "loss at its end", "hours"]
    rows = []
    for stage in stages:
        file = out / stage / RECORD
        record = read_record(file) if file.exists() else []
        last = record[-LAST:]
        supervised = sum(line["supervised"] for line in last)
        loss = sum(line["loss"] * line["supervised"] for line in last) / max(1, supervised)
        planned = sum(segment["samples"] for segment in segments if segment["stage"] == stage)
        rows.append(
            [
                stage,
                f"{record[-1]['cursor'] if record else planned:,}",
                f"{len(record):,}",
                f"{sum(line['tokens'] for line in record):,}",
                f"{sum(line['supervised'] for line in record):,}",
                f"{loss:.4f}",
                f"{sum(line['seconds'] for line in record) / 3600:.2f}",
            ]
        )
    return table(head, rows)


def data_table(segments: Sequence[Mapping[str, Any]]) -> str:
    """A line a manifest of a segment."""
    rows = []
    for segment in segments:
        for (file, weight), name in zip(segment["data"].items(), segment["names"], strict=True):
            rows.append([segment["stage"], f"{segment['from']:,}", name, f"`{file}`", f"{weight:g}"])
    return table(["stage", "from sample", "manifest", "digest and provenance", "weight"], rows)


def sources_table(manifests: Iterable[Manifest]) -> str:
    """A line a source of the data."""
    found: dict[str, Mapping[str, Any]] = {}
    for manifest in manifests:
        found |= manifest.document["sources"]
    rows = [
        [name, *(str(told.get(key) or "not stated") for key in ("licence", "uri", "citation"))]
        for name, told in sorted(found.items())
    ]
    return table(["source", "licence", "URI", "citation"], rows)


def opened(store: Store, file: str) -> Manifest | None:
    """A manifest, if it is still there: a model may outlive its data."""
    try:
        return Manifest.open(store, file, check=False)
    except ManifestError:
        return None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
