"""Tags that came with the data, as the tags of its pictures: the family `tags` of samples, medium by
medium.

What a sample brought is about its picture where it shows one medium; with several it is not known of which,
and none gets them. A picture of several samples has the tags of all, each with its highest score, the
highest first; tags without scores keep their order and come last. Tags of one sample that can't be read are
passed over where another sample of the picture has some, else the medium fails with them.

Time: a pass over the samples. Memory: one sample shard's tags, and those of the media of one of BUCKETS
buckets; the rest lies on disk.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity_mm.columns import media_of
from infinity_mm.executor import Report
from infinity_mm.manifest import Manifest
from infinity_mm.sidecars import Family, Measure, sidecar_name, table_of, write_sidecar
from infinity_mm.store import Store
from pipelines.frames import ERROR, Frames, shard_table
from pipelines.measure import measure
from pipelines.measures.arrived import RELEASE, TAGS

BUCKETS = 64
BROUGHT = pa.schema(
    [
        ("where", pa.int32()),
        ("row", pa.int32()),
        ("tags", pa.list_(pa.string())),
        ("tag_scores", pa.list_(pa.float32())),
        ("error", pa.string()),
    ]
)


class Brought(NamedTuple):
    """What one sample says of its medium."""

    tags: list[str] | None
    scores: list[float | None] | None
    error: str | None


def arrived_settings(manifest: Manifest) -> dict[str, Any]:
    """What the tags depend on: the samples, what they brought (which no id covers), and what is withdrawn."""
    shards = [shard.sha256 for shard in manifest.shards]
    return {
        "samples": manifest.digest,
        "shards": shards,
        "withdrawn": manifest.store.names("tombstones"),
    }


def tag_as_arrived(
    store: Store, manifest: Manifest, *, workers: int, report: Report | None = None
) -> dict[str, str]:
    """The sidecars of the media shards that a manifest uses, made where they are missing.

    Raises ValueError where no sample brought any tags.
    """
    settings = arrived_settings(manifest)
    measured, _ = measure(store, manifest, {TAGS.name: {}}, workers=workers, report=report)
    shards = list(manifest.library().shards())
    files: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="imm-tags-") as folder:
        for path in _gathered(manifest, measured, len(shards), folder):
            bucket = pq.read_table(path, use_threads=False)
            for number in np.unique(bucket.column("where").to_numpy()):
                digest = shards[number]
                name = sidecar_name(ARRIVED_TAGS, settings, digest)
                if not store.exists(name):
                    of_shard = bucket.filter(pc.equal(bucket.column("where"), int(number)))
                    name = write_sidecar(store, name, _table(manifest, digest, of_shard))
                files[digest] = name
    if not files:
        raise ValueError(
            "no sample of this manifest brought tags (ram++_tags or tags in its meta): "
            "name a model that tags it, such as --with open_clip:ViT-B-32/laion2b_s34b_b79k"
        )
    return {digest: files[digest] for digest in shards if digest in files}


def _gathered(
    manifest: Manifest, measured: dict[str, dict[str, str]], shards: int, folder: str
) -> Iterator[str]:
    """Files of what samples brought, by medium; all of a media shard is in one, in the samples' order."""
    frames = Frames(manifest, ["tags", "tag_scores"], measured)
    writers: dict[int, pq.ParquetWriter] = {}
    library = manifest.library()
    with ExitStack() as stack:
        for number, shard in enumerate(manifest.shards):
            table = shard_table(manifest, number)
            owners, ids = media_of(table)
            alone = np.bincount(owners, minlength=table.num_rows)[owners] == 1
            owners, ids = owners[alone], ids[alone]
            where, row = library.find_many(ids)
            said = frames.sample_columns(number, shard.selected.rows)[owners].with_columns(
                pl.Series("where", where, pl.Int32), pl.Series("row", row, pl.Int32)
            )
            error = f"{ERROR}{TAGS.name}"
            there = ~manifest.withdrawn.rows(table)[owners] & (where >= 0)
            spoke = pl.col("tags").is_not_null() | pl.col(error).is_not_null()
            said = said.filter(pl.Series(there) & spoke)
            bucket = said["where"].to_numpy().astype(np.int64) * BUCKETS // max(shards, 1)
            for b in np.unique(bucket):
                if b not in writers:
                    path = os.path.join(folder, f"{b}.parquet")
                    writers[b] = stack.enter_context(pq.ParquetWriter(path, BROUGHT))
                part = said.filter(pl.Series(bucket == b)).rename({error: "error"})
                writers[b].write_table(part.select(BROUGHT.names).to_arrow().cast(BROUGHT))
            manifest.release(number)
    for b in sorted(writers):
        yield os.path.join(folder, f"{b}.parquet")


def _table(manifest: Manifest, digest: str, brought: pa.Table) -> pa.Table:
    """The sidecar of a media shard."""
    by_row: dict[int, list[Brought]] = {}
    for _, row, *said in zip(*brought.to_pydict().values(), strict=True):
        by_row.setdefault(row, []).append(Brought(*said))
    shard = manifest.library().shard(digest)
    rows = [(shard.media_id(i), *joined(by_row.get(i, ()))) for i in range(len(shard))]
    return table_of(ARRIVED_TAGS, rows)


def joined(brought: Sequence[Brought]) -> Brought:
    """What several samples say of one medium, as one."""
    readable = [one for one in brought if one.tags is not None]
    if not readable:
        return next(iter(brought), Brought(None, None, None))
    best: dict[str, float | None] = {}
    for one in readable:
        tags = one.tags or []
        for tag, score in zip(tags, one.scores or [None] * len(tags), strict=True):
            known = best.get(tag)
            best[tag] = score if known is None else max(known, known if score is None else score)
    ordered = sorted(best, key=lambda tag: _order(best[tag]))
    return Brought(ordered, [best[tag] for tag in ordered], None)


def _order(score: float | None) -> tuple[bool, float]:
    return score is None, -(score or 0.0)


ARRIVED_TAGS = Family(
    "tags_arrived",
    "media",
    1,
    {
        "tags": Measure(pa.list_(pa.string()), "", "tags that samples of the picture came with", RELEASE),
        "scores": Measure(pa.list_(pa.float32()), "", "their scores, as they came", RELEASE),
    },
    lambda settings: joined,
)
