"""Measuring: the map step that fills the sidecars a stage wants, and only those that are missing.

`FAMILIES` is the registry; a new measure is a function and a line. Memory: one shard's rows a worker, and
one medium's bytes and pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from infinity_mm.executor import Guard, Report, Step, Work, run
from infinity_mm.manifest import Manifest, check_shard
from infinity_mm.media.index import Unavailable, read_checked
from infinity_mm.media.shards import Shard
from infinity_mm.schema import samples_from
from infinity_mm.sidecars import Family, sidecar_name, write_sidecar
from infinity_mm.store import Store
from infinity_mm.tombstones import read_tombstones
from pipelines.structure import STRUCTURE
from pipelines.validity import VALIDITY

FAMILIES: dict[str, Family] = {family.name: family for family in (STRUCTURE, VALIDITY)}
SAMPLE_BATCH = 1024


class MeasureConfig(NamedTuple):
    store: str
    family: str
    settings: dict[str, Any]


class Shape(NamedTuple):
    """A shard to measure: its name in the sidecar's, and for samples its manifest entry."""

    shard: str
    entry: dict[str, Any] | None = None


class Measured(NamedTuple):
    shard: str
    file: str


def open_step(config: MeasureConfig) -> Work:
    """The map step: Shape -> Measured."""
    store = Store.open(config.store)
    family = FAMILIES[config.family]
    measure = family.open(config.settings)
    withdrawn = read_tombstones(store).ids

    def work(shape: Shape, guard: Guard) -> Measured:
        rows: list[tuple[Any, ...]] = []
        if family.of == "media":
            shard = Shard(store, shape.shard)
            try:
                for row in range(len(shard)):
                    rows.append(_media_row(shard, row, withdrawn, measure, family, guard))
            finally:
                shard.close()
        else:
            assert shape.entry is not None
            check_shard(store, shape.entry)
            table = store.open_arrow(shape.entry["file"]).read_all()
            for start in range(0, table.num_rows, SAMPLE_BATCH):
                for i, sample in enumerate(samples_from(table.slice(start, SAMPLE_BATCH))):
                    if guard(start + i):
                        rows.append(_row(sample.sample_id, lambda s=sample: measure(s), family))
                        guard.done()
                    else:
                        rows.append(_failed(sample.sample_id, "crashed_worker", family))
        name = sidecar_name(family, config.settings, shape.shard)
        return Measured(shape.shard, write_sidecar(store, name, family, rows))

    return work


def _media_row(
    shard: Shard, row: int, withdrawn: frozenset[bytes], measure: Any, family: Family, guard: Guard
) -> tuple[Any, ...]:
    medium = shard.media_id(row)
    if not guard(row):
        return _failed(medium, "crashed_worker: measuring it killed three workers", family)
    try:
        data = read_checked(shard, row, withdrawn)
    except Unavailable as error:
        return _failed(medium, str(error), family)
    row_values = _row(medium, lambda: measure(data), family)
    guard.done()
    return row_values


def _row(identity: bytes, measure: Any, family: Family) -> tuple[Any, ...]:
    try:
        return (identity, *measure(), None)
    except (ValueError, ArithmeticError, LookupError, OSError, MemoryError, RecursionError) as error:
        return _failed(identity, f"{type(error).__name__}: {error}", family)


def _failed(identity: bytes, error: str, family: Family) -> tuple[Any, ...]:
    return (identity, *[None] * len(family.measures), error)


def measure(
    store: Store,
    manifest: Manifest,
    family: Family,
    settings: dict[str, Any],
    *,
    workers: int,
    report: Report | None = None,
) -> tuple[dict[str, str], int]:
    """The sidecar file of every shard of a manifest, by shard; and how many had to be measured now."""
    shapes: Sequence[Shape]
    if family.of == "media":
        shapes = [Shape(digest) for digest in manifest.library().shards()]
    else:
        shapes = [
            Shape(e.sha256, {"file": e.file, "sha256": e.sha256, "bytes": e.bytes, "rows": e.rows})
            for e in manifest.shards
        ]
    files = {s.shard: sidecar_name(family, settings, s.shard) for s in shapes}
    missing = [s for s in shapes if not store.exists(files[s.shard])]
    step = Step(
        name=f"measure {family.name}",
        open=open_step,
        config=MeasureConfig(store.url, family.name, settings),
    )
    for measured in run(step, missing, workers=workers, report=report):
        files[measured.shard] = measured.file
    return files, len(missing)
