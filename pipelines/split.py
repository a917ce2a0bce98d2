"""`imm split`: parts that share no picture.

Samples that share a medium, directly or through others, form a component and go to one part: the one its
draw falls into, a hash of (seed, its smallest media id) compared with the cumulated shares. So parts come
close to the shares asked for, and a component stays where it is when the data set grows, unless it joins
another. Memory: about 60 bytes a use of a medium.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from infinity_mm.columns import id_rows, media_of
from infinity_mm.executor import Report
from infinity_mm.ledger import Ledger
from infinity_mm.manifest import Manifest, check_name, name_is_free, publish
from infinity_mm.order import mix as scramble
from infinity_mm.spill import halves
from infinity_mm.store import Store
from pipelines.config import StageConfig
from pipelines.mix import assignment
from pipelines.selection import Verdict, row_of, select


class SplitConfig(StageConfig):
    """Split a manifest so that no picture is in two parts."""

    manifest: str = Field(
        description="Manifest to split: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    out: str = Field(description="Parts are named OUT-PART.")
    part: list[str] = Field(["train=0.9", "val=0.1"], description="PART=SHARE (repeatable); shares sum to 1.")
    seed: int = Field(0, description="Seed of the draw.")

    @field_validator("part")
    @classmethod
    def _shares(cls, values: list[str]) -> list[str]:
        parts = [assignment(value) for value in values]
        if len(parts) < 2 or len({name for name, _ in parts}) < len(parts):
            raise ValueError("name two or more parts, each once: --part train=0.9 --part val=0.1")
        if abs(sum(share for _, share in parts) - 1) > 1e-9:
            raise ValueError(f"the shares sum to {sum(s for _, s in parts):g}, not to 1")
        return values


def components(owners: np.ndarray, media: np.ndarray, samples: int) -> np.ndarray:
    """The component of each sample (int64, the smallest sample number in it).

    `owners`, `media`: for each use of a medium, the sample and a dense medium number. Label propagation
    with pointer jumping: O(uses · log(longest chain)).
    """
    label = np.arange(samples)
    if len(owners) == 0:
        return label
    first = np.full(int(media.max()) + 1, samples)
    np.minimum.at(first, media, owners)
    left, right = owners, first[media]
    while True:
        a, b = label[left], label[right]
        if (a == b).all():
            return label
        low = np.minimum(a, b)
        np.minimum.at(label, a, low)
        np.minimum.at(label, b, low)
        while True:
            jumped = label[label]
            if (jumped == label).all():
                break
            label = jumped


def draws(manifest: Manifest, seed: int) -> tuple[np.ndarray, dict[str, int]]:
    """A number in [0, 1) for each selected sample, equal within a component; and what was found."""
    owners, ids, own = [], [], []
    start = 0
    for number, shard in enumerate(manifest.shards):
        table = manifest.table(number).select(["sample_id", "media"]).take(pa.array(shard.selected.rows))
        rows, media = media_of(table)
        owners.append(rows + start)
        ids.append(media)
        own.append(id_rows(table.column("sample_id")))
        start += table.num_rows
        manifest.release(number)
    flat = np.concatenate(ids) if ids else np.empty((0, 16), np.uint8)
    keys = np.ascontiguousarray(flat).view("V16").ravel()
    distinct, numbers = np.unique(keys, return_inverse=True) if len(keys) else (keys, np.empty(0, np.int64))
    owner = np.concatenate(owners) if owners else np.empty(0, np.int64)
    label = components(owner, numbers, start)
    hashed = _hash(np.concatenate(own) if own else np.empty((0, 16), np.uint8), seed)
    if len(owner):
        with_media = np.unique(owner)
        hashed[with_media] = np.iinfo(np.uint64).max
        np.minimum.at(hashed, owner, _hash(flat, seed))
    smallest = np.full(start, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, label, hashed)
    sizes = np.bincount(label, minlength=start) if start else np.zeros(1, np.int64)
    found = {"components": int((sizes > 0).sum()), "largest": int(sizes.max()), "media": len(distinct)}
    return (smallest[label] >> np.uint64(11)).astype(np.float64) / float(1 << 53), found


def _hash(ids: np.ndarray, seed: int) -> np.ndarray:
    high, low = halves(ids)
    return scramble(high ^ scramble(low, seed), seed)


def run(config: SplitConfig, report: Report | None = None) -> dict[str, Any]:
    """Split a manifest; the account and the manifests made."""
    store = Store.open(config.store)
    parts = [assignment(value) for value in config.part]
    for name, _ in parts:
        check_name(name)
        name_is_free(store, f"{config.out}-{name}", config.replace, "split", _recorded(config, name))
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        draw, found = draws(manifest, config.seed)
        ends = np.cumsum([share for _, share in parts])
        ends[-1] = 1.0
        part_of = np.searchsorted(ends, draw, side="right")
        made = {
            name: _publish_part(store, config, manifest, number, [n for n, _ in parts], part_of)
            for number, (name, _) in enumerate(parts)
        }
    counts = {name: part.samples for name, part in made.items()}
    return {
        "stage": "split",
        "in": manifest.samples,
        "kept": sum(counts.values()),
        "dropped": manifest.samples - sum(counts.values()),
        "failed": 0,
        "made": 0,
        "parts": {n: {"manifest": p.file, "digest": p.digest, "samples": p.samples} for n, p in made.items()},
        **found,
    }


def _recorded(config: SplitConfig, part: str) -> dict[str, Any]:
    return {**config.recorded(), "this_part": part}


def _publish_part(
    store: Store, config: SplitConfig, manifest: Manifest, part: int, names: list[str], part_of: np.ndarray
) -> Manifest:
    starts = np.cumsum([0] + [len(s.selected.rows) for s in manifest.shards])

    def decide(number: int, at: np.ndarray, table: pa.Table) -> Verdict:
        mine = part_of[starts[number] + at]
        keep = mine == part
        rows = [
            row_of(table, int(i), "dropped", "other_part", value=names[mine[i]], limit=names[part])
            for i in np.flatnonzero(~keep)
        ]
        return Verdict(keep, rows)

    with Ledger(store) as ledger:
        shards = select(manifest, ledger, decide)
        entry = ledger.close(sum(len(s.selected.rows) for s in shards))
    return publish(
        store,
        stage="split",
        config=_recorded(config, names[part]),
        shards=shards,
        media=manifest.document["media"],
        ledger=entry,
        counts=dict(ledger.counts),
        parents=[manifest],
        sources=manifest.document["sources"],
        origins=manifest.document["origins"],
        name=f"{config.out}-{names[part]}",
        replace=config.replace,
    )
