"""Lengths: how many tokens, supervised tokens and tiles each sample of a manifest's shards has.

A sidecar a sample shard (Arrow, mapped where it is read) is keyed by what lengths depend on: the tokenizer
and its template, and the geometry of pictures. It has all rows, whichever are selected, so that it serves
every manifest and epoch. No picture is decoded: sizes are `trainers.llava.sizes`. A sample that can't be laid
out has an error in place of lengths. Time is that of the tokenizer, about 100 µs a sample and core. Memory: a
piece's rows a worker, and 12 bytes a sample, mapped.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.executor import Guard, Report, Step, Work, run
from infinity_mm.manifest import Manifest, check_shard
from infinity_mm.media.index import Library
from infinity_mm.schema import ID, Sample, samples_from
from infinity_mm.store import Store
from trainers.llava.documents import Encoding, Medium, lay_out
from trainers.llava.sizes import Sizes, mapped, measure_sizes, publish_rows

VERSION = 1
PIECE = 4096  # rows of a piece
BATCH = 512  # rows read at once
SCHEMA = pa.schema(
    [
        ("sample_id", ID),
        ("tokens", pa.int32()),
        ("supervised", pa.int32()),
        ("tiles", pa.int32()),
        ("error", pa.string()),
    ],
    metadata={"imm.schema": "sidecar:lengths", "imm.version": str(VERSION)},
)
Row = tuple[bytes, int, int, int, str | None]


class LengthsConfig(NamedTuple):
    """`media`: the media indexes of each manifest; `sizes`: the sidecar of each media shard."""

    store: str
    encoding: Encoding
    media: tuple[tuple[dict[str, object], ...], ...]
    sizes: dict[str, str]


class Piece(NamedTuple):
    """Rows `start` to `end` of a sample shard; `manifest`: the number of the one whose media it uses."""

    file: str
    manifest: int
    start: int
    end: int


class Lengths:
    """The lengths of sample shards, by their sha256, as numpy arrays mapped from their files."""

    def __init__(self, store: Store, files: Mapping[str, str], sizes: Mapping[str, str]) -> None:
        self.store, self.files, self.sizes = store, dict(files), dict(sizes)
        self._batches: dict[str, pa.RecordBatch] = {}

    def column(self, shard: str, name: str) -> np.ndarray:
        """`tokens`, `supervised` or `tiles` of a shard's rows, int32 [N]; 0 where there is an error."""
        values: np.ndarray = self._batch(shard).column(name).to_numpy()
        return values

    def failed(self, shard: str) -> np.ndarray:
        """Which rows have an error, bool [N]."""
        column = self._batch(shard).column("error")
        return ~column.is_null().to_numpy(zero_copy_only=False)

    def error(self, shard: str, row: int) -> str | None:
        """Why a row has no lengths, as `reason: detail`."""
        error: str | None = self._batch(shard).column("error")[row].as_py()
        return error

    def _batch(self, shard: str) -> pa.RecordBatch:
        if shard not in self._batches:
            self._batches[shard] = mapped(self.store, self.files[shard])
        return self._batches[shard]


def measure_lengths(
    manifests: Sequence[Manifest], encoding: Encoding, *, workers: int = 0, report: Report | None = None
) -> Lengths:
    """Lengths for all sample shards of manifests of one store; only what is missing is measured.

    Every sample shard is checked against its sha256 first. Raises ManifestError for one that does not match.
    """
    store = manifests[0].store
    sizes = measure_sizes(store, media_shards(manifests), workers=workers, report=report)
    shards = {s.sha256: (n, s) for n, m in reversed([*enumerate(manifests)]) for s in m.shards}
    files = {shard: f"sidecars/lengths/{shard}-{encoding.key}.arrow" for shard in shards}
    pieces: list[Piece] = []
    for number, shard in shards.values():
        check_shard(store, shard._asdict())
        if not store.exists(files[shard.sha256]):
            starts = range(0, max(shard.rows, 1), PIECE)
            pieces += [Piece(shard.file, number, at, min(at + PIECE, shard.rows)) for at in starts]
    by_file = {shard.file: shard for _, shard in shards.values()}
    there: dict[str, dict[int, pa.Table]] = {}

    def arrived(number: int, table: pa.Table) -> None:
        piece = pieces[number]
        shard, parts = by_file[piece.file], there.setdefault(piece.file, {})
        parts[piece.start] = table
        if sum(part.num_rows for part in parts.values()) == shard.rows:
            del there[piece.file]
            whole = pa.concat_tables([parts[start] for start in sorted(parts)]).combine_chunks()
            files[shard.sha256] = publish_rows(store, files[shard.sha256], whole)

    media = tuple(tuple(manifest.document["media"]) for manifest in manifests)
    step = Step(name="lengths", open=open_step, config=LengthsConfig(store.url, encoding, media, sizes))
    run(step, pieces, workers=workers, report=report, each=arrived)
    return Lengths(store, files, sizes)


def media_shards(manifests: Iterable[Manifest]) -> list[str]:
    """The media shards of manifests, each once."""
    return list(dict.fromkeys(shard for manifest in manifests for shard in manifest.library().shards()))


def open_step(config: LengthsConfig) -> Work:
    """The map step: Piece -> a table of its rows."""
    store = Store.open(config.store)
    libraries = [Library(store, media, frozenset()) for media in config.media]
    sizes = Sizes(store, config.sizes)

    def work(piece: Piece, guard: Guard) -> pa.Table:
        table: pa.Table = store.open_arrow(piece.file).read_all()
        rows: list[Row] = []
        for start in range(piece.start, piece.end, BATCH):
            samples = samples_from(table.slice(start, min(BATCH, piece.end - start)))
            ids = [medium for sample in samples for medium in sample.media]
            places = iter(sizes.places(libraries[piece.manifest], ids))
            for sample in samples:
                media = [next(places).medium for _ in sample.media]
                rows.append(_row(sample, media, config.encoding))
        columns = [*zip(*rows, strict=True)] or [()] * len(SCHEMA)
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)

    return work


def _row(sample: Sample, media: Sequence[Medium | str], encoding: Encoding) -> Row:
    try:
        laid = lay_out(sample.turns, media, encoding)
    except ValueError as error:
        return sample.sample_id, 0, 0, 0, str(error)
    tiles = sum(encoding.geometry.tiles(visual) for visual in laid.visuals)
    return sample.sample_id, len(laid.tokens), int(laid.supervised.sum()), tiles, None
