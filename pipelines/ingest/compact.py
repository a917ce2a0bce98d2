"""Decide step 3 of ingest: a medium is stored once, though its bytes came under many names.

Within one unit repeated bytes are kept once as they are read. Across units, and against what the store had
before, repeats are found here by id; a shard of this ingest that holds any is written again without them. A
shard that any manifest stands on is never touched, but for where its media lie: in reference mode a medium
found again gets the place where it was found. Memory: one bucket of ids and 1
byte a medium of this ingest.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.columns import id_rows
from infinity_mm.media.shards import (
    LOCATIONS,
    CopyWriter,
    MediaInfo,
    Shard,
    publish_table,
    write_reference_shard,
)
from infinity_mm.spill import KEY, Spill, first_of_run
from infinity_mm.store import Store
from pipelines.ingest.places import Resolved

ENTRY = np.dtype([KEY, ("shard", "i4"), ("row", "i4"), ("used", "?")])
Moves = dict[str, list[tuple[int, str, int]]]


class Needed(NamedTuple):
    """`shards`: what this ingest stands on, those with bytes first; `media`, `formats`: what it shows."""

    shards: list[str]
    media: int
    formats: dict[str, int]


def drop_repeated_media(store: Store, made: Sequence[str], mode: str, resolved: Resolved) -> Needed:
    """The shards this ingest needs: older ones, and its own without what older ones have.

    `made`: what the media step published; parts of it may have been in the store before.
    """
    held = _held(store)
    made = [s for s in dict.fromkeys(made) if s not in held]
    every = [n.split("/", 1)[1].removesuffix(".arrow") for n in store.names("media")]
    older = [s for s in every if s not in made and _serves(store, s, mode)]
    keep = {s: np.ones(0, bool) for s in made}
    copied = {s: store.exists(f"bytes/{s}.arrow") for s in [*older, *made]}
    # Bytes in the store serve better than a place, and what was there better than what is new.
    shards = sorted(copied, key=lambda s: (not copied[s], s in keep))
    used_rows: dict[int, list[np.ndarray]] = defaultdict(list)
    again: Moves = defaultdict(list)
    with Spill(ENTRY) as spill:
        for number, digest in enumerate(shards):
            ids = id_rows(store.open_arrow(f"media/{digest}.arrow").read_all().column("media_id"))
            spill.add(key=ids, shard=number, row=np.arange(len(ids)), used=False)
            if digest in keep:
                keep[digest] = np.ones(len(ids), bool)
        used = np.flatnonzero(resolved.ok)
        for start in range(0, len(used), 65_536):
            spill.add(key=resolved.media[used[start : start + 65_536]], shard=0, row=0, used=True)
        for rows in spill.buckets():
            first = first_of_run(rows)
            for i in np.flatnonzero((first != np.arange(len(rows))) & ~rows["used"]):
                shard, row = shards[rows["shard"][i]], int(rows["row"][i])
                if shard in keep:
                    keep[shard][row] = False
                    one = rows[first[i]]
                    if not copied[shards[one["shard"]]] and shards[one["shard"]] not in keep:
                        again[shards[one["shard"]]].append((int(one["row"]), shard, row))
            answers = rows[np.unique(first[rows["used"]])]
            assert not answers["used"].any(), "a medium was taken in, but no shard has it"
            for number in np.unique(answers["shard"]):
                used_rows[int(number)].append(answers["row"][answers["shard"] == number])
    _move(store, again)
    formats = _formats(store, {shards[n]: np.concatenate(parts) for n, parts in used_rows.items()})
    out = [s for i, s in enumerate(shards) if i in used_rows and s not in keep]
    for digest in made:
        if keep[digest].all():
            out.append(digest)
        elif keep[digest].any():
            out.append(_rewrite(store, digest, np.flatnonzero(keep[digest])))
    with store.nobody_else() as alone:
        superseded = [s for s in made if not keep[s].all() and s not in out] if alone else []
        held = _held(store) if superseded else set()
        for digest in [s for s in superseded if s not in held]:
            for folder in ("media", "bytes", "locations"):
                store.delete(f"{folder}/{digest}.arrow")
    out.sort(key=lambda digest: (not store.exists(f"bytes/{digest}.arrow"), digest))
    return Needed(out, sum(formats.values()), dict(formats.most_common()))


def _formats(store: Store, used: dict[str, np.ndarray]) -> Counter[str]:
    """The formats of the media that this ingest's samples show."""
    formats: Counter[str] = Counter()
    for digest, rows in used.items():
        column = store.open_arrow(f"media/{digest}.arrow").read_all().column("format")
        formats.update(column.take(pa.array(rows)).to_pylist())
    return formats


def _held(store: Store) -> set[str]:
    """The media shards that some manifest stands on."""
    held: set[str] = set()
    for name in store.names("manifests"):
        for index in json.loads(store.read(name))["media"]:
            held.update(index["shards"])
    return held


def _serves(store: Store, shard: str, mode: str) -> bool:
    """In copy mode a medium counts as stored only where the store has its bytes."""
    return mode == "reference" or store.exists(f"bytes/{shard}.arrow")


def _move(store: Store, again: Moves) -> None:
    """Give media of older reference shards the place they were found at, and read from, just now."""
    for digest, pairs in again.items():
        older = Shard(store, digest)
        moved = {row: Shard(store, shard).location(new_row) for row, shard, new_row in pairs}
        rows = [moved.get(row) or older.location(row) for row in range(len(older))]
        columns = zip(*rows, strict=True)
        arrays = [pa.array(list(c), f.type) for c, f in zip(columns, LOCATIONS, strict=True)]
        publish_table(store, f"locations/{digest}.arrow", pa.table(arrays, schema=LOCATIONS))


def _rewrite(store: Store, digest: str, rows: np.ndarray) -> str:
    """Publish a shard again with some of its rows only."""
    shard = Shard(store, digest)
    infos = [MediaInfo(*list(row.values())[:8]) for row in shard.table.take(rows).to_pylist()]
    if shard.offsets[0] < 0:
        return write_reference_shard(store, infos, [shard.location(int(r)) for r in rows], {})
    writer = CopyWriter(store)
    try:
        for row, info in zip(rows, infos, strict=True):
            view = writer.borrow(info.length)
            view[:] = shard.read(int(row))
            writer.put(view, [info], [0])
    except BaseException:
        writer.abort()
        raise
    finally:
        shard.close()
    made = writer.close()
    assert made is not None
    return made
