"""The measures of a manifest's samples as Polars frames, a shard at a time.

`samples` has a row a sample; `uses` a row for each medium of each sample, and one for a sample without media,
in which every measure of media is null: an image measure of a text-only sample is not applicable. Beside the
measures there is a column `error:FAMILY` for each family read, which says why the row's measures of that
family failed. Only the columns asked for are read. Memory: a sample shard's columns, and those of the media
shards it uses; up to CACHED_ROWS rows of media are kept for the next shard.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import id_rows, media_of
from infinity_mm.manifest import Manifest
from infinity_mm.media.probe import EXTENSIONS
from infinity_mm.order import mix
from infinity_mm.spill import halves
from infinity_mm.store import read_table
from pipelines.measures.registry import ARRIVED, DERIVED, FAMILIES, families
from pipelines.rules import widened

CACHED_ROWS = 4_000_000
ERROR = "error:"
NO_MEDIUM = "missing_media: a medium is in no media index of this manifest"
# What a sample's rows are read from its shard for, beside measures.
COLUMNS = ["sample_id", "media", "source", "names", "origin"]


class Uses:
    """The media of some samples, a row of `frame` each. `owners`: the place of each row's sample, rising.

    `medium`: which of its sample's media a row is, -1 for the one row of a sample without media.
    """

    def __init__(self, owners: np.ndarray, medium: np.ndarray, frame: pl.DataFrame) -> None:
        self.owners, self.medium, self.frame = owners, medium, frame


class Frames:
    """The columns of `measures` for a manifest. `files`: the sidecars by family and shard."""

    def __init__(
        self,
        manifest: Manifest,
        measures: Collection[str],
        files: Mapping[str, Mapping[str, str]],
        seed: int = 0,
    ) -> None:
        self.manifest, self.store, self.files, self.seed = manifest, manifest.store, files, seed
        self.measures = list(measures)
        self.library = manifest.library()
        self.media_shards = list(self.library.shards())
        by_family = families(measures)
        self._of_samples = {f: c for f, c in by_family.items() if f == ARRIVED or FAMILIES[f].of == "samples"}
        self._of_media = {f: c for f, c in by_family.items() if f not in self._of_samples}
        self._cache: OrderedDict[str, pl.DataFrame] = OrderedDict()
        self._arrived = self._types()

    def samples(self, number: int, table: pa.Table, rows: np.ndarray) -> pl.DataFrame:
        """Measures of samples for `rows` of sample shard `number`; `table` has their COLUMNS, row for row."""
        frame = self.sample_columns(number, rows)
        if "source" in self.measures:
            frame = frame.with_columns(pl.from_arrow(table.column("source")).alias("source"))  # type: ignore[union-attr]
        if "draw" in self.measures:
            bits = mix(halves(id_rows(table.column("sample_id")))[0], self.seed) >> np.uint64(11)
            frame = frame.with_columns(pl.Series("draw", bits / float(1 << 53)))
        return frame

    def sample_columns(self, number: int, rows: np.ndarray) -> pl.DataFrame:
        """The measures of samples that have sidecars, for `rows` of sample shard `number`."""
        shard = self.manifest.shards[number]
        frame = self._sidecars(self._of_samples, shard.sha256)
        if frame is None:
            return pl.DataFrame({"": np.zeros(len(rows), np.int8)})
        return self._typed(frame if len(rows) == shard.rows else frame[rows])

    def uses(self, table: pa.Table, samples: pl.DataFrame, beside: Sequence[str] = ()) -> Uses:
        """Measures of media for the samples of `table`, with the columns `beside` of `samples`."""
        owners, ids = media_of(table)
        counts = np.bincount(owners, minlength=table.num_rows)
        bare = np.flatnonzero(counts == 0)
        medium = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        where, row = self.library.find_many(ids)
        frame = self.media_rows(where, row)
        if DERIVED.keys() & set(self.measures):
            frame = self._in_sample(frame, table, samples)
        if len(bare):
            frame = pl.concat([frame, frame.clear(len(bare))])
            owners, medium = np.concatenate([owners, bare]), np.concatenate([medium, np.full(len(bare), -1)])
            order = np.argsort(owners, kind="stable")
            owners, medium, frame = owners[order], medium[order], frame[order]
        if beside:
            frame = pl.concat([frame, samples.select(beside)[owners]], how="horizontal")
        return Uses(owners, medium, frame)

    def media(self, digest: str) -> pl.DataFrame:
        """Measures of all media of a media shard."""
        if digest not in self._cache:
            frame = self._sidecars(self._of_media, digest)
            if frame is None:
                frame = pl.DataFrame({"": np.zeros(len(self.library.shard(digest)), np.int8)})
            self._cache[digest] = frame
            while len(self._cache) > 1 and sum(map(len, self._cache.values())) > CACHED_ROWS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(digest)
        return self._cache[digest]

    def forget(self) -> None:
        """Let go of the media measures held for the next shard."""
        self._cache.clear()

    def media_rows(self, where: np.ndarray, row: np.ndarray) -> pl.DataFrame:
        """Measures of the media at `row` of media shards `where` (numbers in media_shards; -1 is nowhere)."""
        pieces = [self.media(self.media_shards[n])[row[where == n]] for n in np.unique(where[where >= 0])]
        lost = np.flatnonzero(where < 0)
        frame = pl.concat(pieces) if pieces else self._nothing()
        if len(lost):
            errors = [pl.lit(NO_MEDIUM).alias(f"{ERROR}{f}") for f in self._of_media]
            frame = pl.concat([frame, frame.clear(len(lost)).with_columns(errors)])
        if len(pieces) + bool(len(lost)) < 2:
            return frame
        order = np.argsort(np.where(where < 0, len(self.media_shards), where), kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return frame[back]

    def _nothing(self) -> pl.DataFrame:
        """No rows, with the columns that media have."""
        columns: dict[str, pa.DataType] = {}
        for name, measures in self._of_media.items():
            columns |= {m: FAMILIES[name].measures[m].type for m in measures} | {ERROR + name: pa.string()}
        return _frame(pa.table({n: pa.array([], t) for n, t in (columns or {"": pa.int8()}).items()}))

    def _in_sample(self, frame: pl.DataFrame, table: pa.Table, samples: pl.DataFrame) -> pl.DataFrame:
        """What is said of media in their samples, as columns beside theirs."""
        known = pl.col("media_kind") != "unknown"
        if "shown_as" in self.measures:
            counts = pc.list_value_length(table.column("media")).to_pylist()
            letters = zip(samples["media_shown_as"].to_list(), counts, strict=True)
            shown = pl.Series(
                "shown_as", list("".join(said or "-" * count for said, count in letters)), pl.String
            )
            shown = shown.replace_strict({"i": "image", "v": "video"}, default=None, return_dtype=pl.String)
            frame = frame.with_columns(shown).with_columns(
                pl.when(known).then(pl.col("shown_as")).alias("shown_as")
            )
        if "name_format" in self.measures:
            names = pl.Series("name", table.column("names").combine_chunks().flatten())
            frame = frame.with_columns(name_formats(names, frame["media_format"]))
            frame = frame.with_columns(pl.when(known).then(pl.col("name_format")).alias("name_format"))
        return frame

    def _sidecars(self, wanted: Mapping[str, list[str]], shard: str) -> pl.DataFrame | None:
        frames = []
        for name, columns in wanted.items():
            read = _frame(read_table(self.store, self.files[name][shard], [*columns, "error"]))
            frames.append(widened(read).rename({"error": ERROR + name}))
        return pl.concat(frames, how="horizontal") if frames else None

    def _types(self) -> dict[str, Any]:
        """The type of each measure that arrived with the data: what all its values in the manifest are, whole
        numbers, numbers, booleans or texts; null if there is none; else None, and it stays JSON text."""
        names = self._of_samples.get(ARRIVED, [])
        kinds: dict[str, set[Any]] = {name: set() for name in names}
        for shard in self.manifest.shards if names else ():
            table = _frame(read_table(self.store, self.files[ARRIVED][shard.sha256], names))
            for name in names:
                values = table[name].gather(shard.selected.rows).drop_nulls()
                if len(values):
                    kinds[name].add(_json_kind(values))
        found = {}
        for name, of in kinds.items():
            if of == {pl.Int64, pl.Float64}:
                of = {pl.Float64}
            found[name] = pl.Null if not of else of.pop() if len(of) == 1 else None
        return found

    def _typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The arrived measures, JSON text until now, as what they are."""
        for name, kind in self._arrived.items():
            column = pl.col(name)
            if kind in (pl.Int64, pl.Float64):
                frame = frame.with_columns(column.cast(kind))
            elif kind is pl.Boolean:
                frame = frame.with_columns(column == "true")
            elif kind is pl.Null:
                frame = frame.with_columns(pl.lit(None, pl.Null).alias(name))
            elif kind is pl.String:
                frame = frame.with_columns(column.str.json_decode(pl.String))
        return frame


def _json_kind(values: pl.Series) -> Any:
    """What JSON texts all are; None for several things, lists or objects."""
    if values.str.contains(r"^-?[0-9]+$").all() and values.cast(pl.Int64, strict=False).null_count() == 0:
        return pl.Int64
    if values.cast(pl.Float64, strict=False).null_count() == 0:
        return pl.Float64
    if values.is_in(["true", "false"]).all():
        return pl.Boolean
    return pl.String if values.str.starts_with('"').all() else None


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def name_formats(names: pl.Series, formats: pl.Series) -> pl.Series:
    """The format each file name says: the true one where its ending may mean that, else the first it may."""
    endings = names.fill_null("").str.to_lowercase().str.extract(r"[^/]\.([a-z0-9]+)$").rename("ending")
    pairs = pl.DataFrame([endings, formats.rename("format")])
    table = pairs.unique()
    said = [_said(ending, form) for ending, form in zip(table["ending"], table["format"], strict=True)]
    table = table.with_columns(pl.Series("name_format", said, pl.String))
    joined = pairs.join(table, on=["ending", "format"], how="left", maintain_order="left", nulls_equal=True)
    return joined["name_format"]


def _said(ending: str | None, form: str | None) -> str | None:
    if ending is None or form is None:
        return None
    if ending in EXTENSIONS.get(form, ()):
        return form
    return next((name for name, endings in EXTENSIONS.items() if ending in endings), None)


def shard_table(manifest: Manifest, number: int, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Columns of the selected rows of a sample shard."""
    selected = manifest.shards[number].selected.rows
    table = manifest.table(number).select(list(columns))
    return table if len(selected) == table.num_rows else table.take(pa.array(selected))
