"""Which checkpoints saw a sample: worked out from what each says of its data, with no list of samples kept.

A checkpoint names its segments: stretches of training that took samples `from` one position `to` another of a
mixture's seeded order, epoch after epoch. The order can be asked backwards (`Order.positions`), so that a
sample's positions cost one look at the manifests' ids, whatever the length of training. Where steps are
packed in groups and a checkpoint lies within one, the group's samples are told apart as those it may have
seen. What a stage left out while it ran, which `skipped.rank*.jsonl` beside its checkpoints says, it did not
see.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.manifest import Manifest, ManifestError, shard_ids
from infinity_mm.store import Store
from trainers.checkpoint import CheckpointError, paths, read_about
from trainers.mixture import Mixture

CHECKPOINTS = "checkpoints"


class Place(NamedTuple):
    """Where a sample is in a mixture."""

    shard: int
    row: int


def seen(store: Store, folders: Iterable[Path], identities: Iterable[bytes]) -> list[dict[str, Any]]:
    """What each checkpoint below some folders saw of samples, oldest first, a stage's in order.

    Each entry has `checkpoint`, `stage`, `step` and `saw`: of each sample (hex) that it saw, how often, by
    stage; and where there are any `perhaps`, those of the group it lies within, `left_out`, what could not be
    read when its turn came, and why, and `unknown`, mixtures of which a manifest is no longer in the store.
    One that is damaged has `error`. Raises FileNotFoundError for a folder without checkpoints.
    """
    identities = list(identities)
    known: dict[str, tuple[Mixture, list[tuple[str, Place]]] | None] = {}
    found: list[dict[str, Any]] = []
    for path in _checkpoints(folders):
        try:
            about = read_about(path)
        except CheckpointError as error:
            found.append({"checkpoint": str(path), "error": str(error)})
            continue
        saw: dict[str, Counter[str]] = {}
        perhaps: dict[str, Counter[str]] = {}
        unknown = []
        for segment in about["segments"]:
            digest = segment["digest"]
            if digest not in known:
                known[digest] = _look(store, segment["data"], identities)
            if (here := known[digest]) is None:
                unknown.append(", ".join(segment["data"]))
                continue
            for identity, place in here[1]:
                for certain in taken(here[0], place, segment):
                    stages = (saw if certain else perhaps).setdefault(identity, Counter())
                    stages[segment["stage"]] += 1
        left_out: dict[str, str] = {}
        for stage in {segment["stage"] for segment in about["segments"]}:
            until = about["step"] if stage == about["stage"] else math.inf
            for identity, whys in _left_out(path.parents[2] / stage, saw, until).items():
                saw[identity][stage] -= len(whys)
                left_out[identity] = whys[-1]
        told = {"checkpoint": str(path), "stage": about["stage"], "step": about["step"]}
        told["saw"] = {identity: dict(+stages) for identity, stages in saw.items() if +stages}
        more = {"perhaps": perhaps, "left_out": left_out, "unknown": unknown}
        found.append({**told, **{name: value for name, value in more.items() if value}})
    return found


def places(mixture: Mixture, identities: Iterable[bytes]) -> list[tuple[str, Place]]:
    """Where samples are in a mixture, by id (hex); one may be in two of its manifests."""
    wanted = [(identity.hex(), np.frombuffer(identity, np.uint8)) for identity in identities]
    found = []
    for number, shard in enumerate(mixture.shards):
        ids = shard_ids(mixture.store, shard.file)[shard.selected.rows]
        for identity, value in wanted:
            rows = shard.selected.rows[(ids == value).all(axis=1)]
            found += [(identity, Place(number, int(row))) for row in rows]
    return found


def taken(mixture: Mixture, place: Place, segment: Mapping[str, Any]) -> Iterator[bool]:
    """Each time that a sample came in a segment: True, or False where its end lies within the sample's group.

    Positions are counted over epochs.
    """
    end, group = segment["to"], segment["group"]
    complete = end if end == segment["samples"] else end - end % group
    within = complete if complete == end else complete + group
    start, epoch = 0, 0
    while start < within and epoch < segment["epochs"]:
        order = mixture.order(segment["seed"], epoch)
        for position in (start + order.positions(*place)).tolist():
            if segment["from"] <= position < within:
                yield position < complete
        start, epoch = start + len(order), epoch + 1


def _checkpoints(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        below = sorted({path.parent for path in folder.rglob(f"{CHECKPOINTS}/step-*")})
        if not below:
            raise FileNotFoundError(f"{folder}: no checkpoint is in or below it: give a run's folder")
        yield from sorted((path for one in below for path in paths(one)), key=lambda p: p.stat().st_mtime)


def _look(
    store: Store, data: Mapping[str, float], identities: Iterable[bytes]
) -> tuple[Mixture, list[tuple[str, Place]]] | None:
    """A mixture and where samples are in it; None where a manifest was collected, or is of another store."""
    try:
        manifests = [Manifest.open(store, file, check=False) for file in data]
    except ManifestError:
        return None
    mixture = Mixture(manifests, list(data.values()))
    return mixture, places(mixture, identities)


def _left_out(folder: Path, identities: Iterable[str], until: float) -> dict[str, list[str]]:
    """The samples that a stage could not read up to a step, and why, once for each step; a step that was
    taken again after a kill tells it again."""
    wanted = set(identities)
    rows: dict[str, dict[int, str]] = {}
    for path in sorted(folder.glob("skipped.rank*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["sample_id"] in wanted and row["step"] <= until:
                rows.setdefault(row["sample_id"], {})[row["step"]] = row["reason"]
    return {identity: list(whys.values()) for identity, whys in rows.items()}
