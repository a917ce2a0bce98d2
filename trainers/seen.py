"""Which checkpoints saw a sample: worked out from what each says of its data, with no list of samples kept.

A checkpoint names its segments: stretches of training that took samples `from` one position `to` another of
a manifest's seeded order, epoch after epoch. The order can be asked backwards (`Order.positions`), so that a
sample's positions cost one look at the manifest's ids, whatever the length of training. What a stage left out
while it ran is in its `skipped.rank*.jsonl`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.store import Store
from trainers.checkpoint import CheckpointError, paths, read_about

CHECKPOINTS = "checkpoints"


class Place(NamedTuple):
    """Where a sample is in a manifest."""

    shard: int
    row: int


def seen(store: Store, folders: Iterable[Path], identities: Iterable[bytes]) -> list[dict[str, Any]]:
    """What each checkpoint below some folders saw of samples, oldest first, a stage's in order.

    Each entry has `checkpoint`, `stage`, `step` and `saw`: of each sample (hex) that it saw, how often, in
    which stages. `unknown` names manifests that are no longer in the store, so that nothing is known of their
    part; `left_out` the samples that could not be read when their turn came. One that is damaged has `error`.
    Raises FileNotFoundError for a folder without checkpoints.
    """
    identities = list(identities)
    known: dict[str, tuple[Manifest, dict[bytes, Place]] | None] = {}
    found: list[dict[str, Any]] = []
    for path in _checkpoints(folders):
        try:
            about = read_about(path)
        except CheckpointError as error:
            found.append({"checkpoint": str(path), "error": str(error)})
            continue
        saw: dict[str, dict[str, int]] = {}
        unknown = []
        for segment in about["segments"]:
            file = segment["manifest"]
            if file not in known:
                known[file] = _look(store, file, identities)
            if (here := known[file]) is None:
                unknown.append(file)
                continue
            for identity, place in here[1].items():
                times = sum(1 for _ in taken(here[0], place, segment))
                if times:
                    stages = saw.setdefault(identity.hex(), {})
                    stages[segment["stage"]] = stages.get(segment["stage"], 0) + times
        told = {"checkpoint": str(path), "stage": about["stage"], "step": about["step"], "saw": saw}
        told |= {"unknown": unknown} if unknown else {}
        found.append({**told, **_left_out(path.parent.parent, identities, about["step"])})
    return found


def places(manifest: Manifest, identities: Iterable[bytes]) -> dict[bytes, Place]:
    """Where samples are in a manifest, those that are."""
    wanted = {identity: np.frombuffer(identity, np.uint8) for identity in identities}
    found = {}
    for number, shard in enumerate(manifest.shards):
        ids = manifest.ids(number)
        for identity, value in wanted.items():
            for at in np.flatnonzero((ids == value).all(axis=1)):
                found[identity] = Place(number, int(shard.selected.rows[at]))
    return found


def taken(manifest: Manifest, place: Place, segment: Mapping[str, Any]) -> Iterator[int]:
    """The positions of a segment, counted over epochs, at which a sample came."""
    start, epoch = 0, 0
    while start < segment["to"]:
        order = manifest.order(segment["seed"], epoch)
        for position in (start + order.positions(*place)).tolist():
            if segment["from"] <= position < segment["to"]:
                yield position
        start, epoch = start + len(order), epoch + 1


def _checkpoints(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        below = sorted({path.parent for path in folder.rglob(f"{CHECKPOINTS}/step-*")})
        if not below:
            raise FileNotFoundError(f"{folder}: no checkpoint is in or below it: give a run's folder")
        yield from sorted((path for one in below for path in paths(one)), key=lambda p: p.stat().st_mtime)


def _look(store: Store, file: str, identities: Iterable[bytes]) -> tuple[Manifest, dict[bytes, Place]] | None:
    """A manifest and where samples are in it; None where it was collected, or is of another store."""
    try:
        manifest = Manifest.open(store, file, check=False)
    except ManifestError:
        return None
    return manifest, places(manifest, identities)


def _left_out(stage: Path, identities: Iterable[bytes], step: int) -> dict[str, Any]:
    """The samples that a stage could not read up to a step, and why."""
    wanted = {identity.hex() for identity in identities}
    rows = {}
    for path in sorted(stage.glob("skipped.rank*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["sample_id"] in wanted and row["step"] <= step:
                rows[row["sample_id"]] = row["reason"]
    return {"left_out": rows} if rows else {}
