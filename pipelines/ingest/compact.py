"""Decide step 3 of ingest: a medium is stored once, though its bytes came under many names.

Within one unit repeated bytes are kept once as they are read. Across units, and against what earlier
ingests stored, repeats are found here by id; a shard that holds any is written again without them.
"""

from collections.abc import Sequence

import numpy as np

from infinity_mm.columns import id_rows
from infinity_mm.media.shards import CopyWriter, MediaInfo, Shard, write_reference_shard
from infinity_mm.spill import KEY, Spill, first_of_run
from infinity_mm.store import Store
from pipelines.ingest.places import Resolved

ENTRY = np.dtype([KEY, ("shard", "i4"), ("row", "i4"), ("used", "?")])


def drop_repeated_media(store: Store, made: Sequence[str], mode: str, resolved: Resolved) -> list[str]:
    """The shards this ingest needs, by digest; its own are rewritten without what others have."""
    made = list(dict.fromkeys(made))
    older = [n.split("/", 1)[1].removesuffix(".arrow") for n in store.names("media")]
    older = [s for s in older if s not in made and _serves(store, s, mode)]
    shards = [*older, *made]
    keep = {s: np.ones(0, bool) for s in made}
    needed: set[int] = set()
    with Spill(ENTRY) as spill:
        for number, digest in enumerate(shards):
            table = store.open_arrow(f"media/{digest}.arrow").read_all()
            spill.add(
                key=id_rows(table.column("media_id")), shard=number, row=np.arange(table.num_rows), used=False
            )
            if number >= len(older):
                keep[digest] = np.ones(table.num_rows, bool)
        used = np.flatnonzero(resolved.ok)
        for start in range(0, len(used), 65_536):
            spill.add(key=resolved.media[used[start : start + 65_536]], shard=0, row=0, used=True)
        for rows in spill.buckets():
            first = first_of_run(rows)
            for i in np.flatnonzero((first != np.arange(len(rows))) & ~rows["used"]):
                if rows["shard"][i] >= len(older):
                    keep[shards[rows["shard"][i]]][rows["row"][i]] = False
            needed.update(rows["shard"][first[rows["used"]]].tolist())
    out = [s for i, s in enumerate(older) if i in needed]
    for digest in made:
        mask = keep[digest]
        if mask.all():
            out.append(digest)
        elif mask.any():
            out.append(_rewrite(store, digest, np.flatnonzero(mask)))
    superseded = [s for s in made if not keep[s].all() and s not in out]
    with store.nobody_else() as alone:
        for digest in superseded if alone else ():
            for folder in ("media", "bytes", "locations"):
                store.delete(f"{folder}/{digest}.arrow")
    return sorted(out)


def _serves(store: Store, shard: str, mode: str) -> bool:
    """In copy mode a medium counts as stored only where the store has its bytes."""
    return mode == "reference" or store.exists(f"bytes/{shard}.arrow")


def _rewrite(store: Store, digest: str, rows: np.ndarray) -> str:
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
