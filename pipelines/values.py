"""All values of one measure over a manifest: of its samples, or of its media, each medium once.

Memory: one column of one measure, and 9 bytes a sample and medium for which of them count.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from infinity_mm.columns import media_of
from infinity_mm.manifest import Manifest
from pipelines.frames import ERROR, Frames, shard_table
from pipelines.measure import Files
from pipelines.measures.registry import META, family_name, is_media, measure_of

TOP = 5


class Column(NamedTuple):
    """`values`: those that are there; of the rest some are not applicable and some failed."""

    values: pl.Series
    not_applicable: int
    failed: int


class Values:
    """`column(name)`, one measure after another; without what is withdrawn, and media only that shows."""

    def __init__(self, manifest: Manifest, files: Files) -> None:
        self.manifest, self.files = manifest, files

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """The rows of each sample shard that are selected and not withdrawn."""
        return self._rows_and_used[0]

    @cached_property
    def used(self) -> dict[str, np.ndarray]:
        """The rows of each media shard that some sample shows."""
        return self._rows_and_used[1]

    @property
    def samples(self) -> int:
        """How many samples count."""
        return sum(map(len, self.rows))

    @property
    def media(self) -> int:
        """How many media count, each once."""
        return sum(map(len, self.used.values()))

    @cached_property
    def _rows_and_used(self) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        library = self.manifest.library()
        shards = list(library.shards())
        masks = {digest: np.zeros(len(library.shard(digest)), bool) for digest in shards}
        rows = []
        for number, shard in enumerate(self.manifest.shards):
            table = shard_table(self.manifest, number)
            there = ~self.manifest.withdrawn.rows(table)
            rows.append(shard.selected.rows[there])
            owners, ids = media_of(table)
            where, row = library.find_many(ids[there[owners]])
            for n in np.unique(where[where >= 0]):
                masks[shards[n]][row[where == n]] = True
            self.manifest.release(number)
        return rows, {digest: np.flatnonzero(mask) for digest, mask in masks.items()}

    def column(self, name: str) -> Column:
        """The values of a measure that has a sidecar."""
        frames = Frames(self.manifest, [name], self.files)
        error = f"{ERROR}{family_name(name)}"
        values, failed, total = [], 0, 0
        for frame in self._pieces(frames, name):
            total += len(frame)
            failed += len(frame) - frame[error].null_count()
            values.append(frame[name].drop_nulls())
        joined = pl.concat(values) if values else self._empty(name)
        return Column(joined, total - failed - len(joined), failed)

    def _empty(self, name: str) -> pl.Series:
        if name.startswith(META):
            return pl.Series(name, [], pl.Null)
        return pl.DataFrame(pa.table({name: pa.array([], measure_of(name).type)}))[name]

    def _pieces(self, frames: Frames, name: str) -> Any:
        if is_media(name):
            for digest, rows in self.used.items():
                yield frames.media(digest)[rows]
                frames.forget()
        else:
            for number, rows in enumerate(self.rows):
                yield frames.sample_columns(number, rows)


def summary(column: Column) -> dict[str, Any]:
    """Counts of the three states, and what the values are: quantiles of numbers, the commonest of others."""
    values, found = column.values, {"n": len(column.values)}
    found |= {"not_applicable": column.not_applicable, "failed": column.failed}
    if not len(values) or values.dtype in (pl.UInt64, pl.Binary):  # a hash is no quantity
        return found
    if values.dtype.is_numeric():
        ranks = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
        return found | {k: values.quantile(q, "nearest") for k, q in ranks.items()}
    if values.dtype.is_nested():
        values = values.explode().drop_nulls()
    top = values.cast(pl.String).value_counts().sort(["count", values.name], descending=[True, False])
    return found | {
        "distinct": len(top),
        "top": dict(zip(*top[:TOP].to_dict(as_series=False).values(), strict=True)),
    }
