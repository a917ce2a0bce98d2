"""Lengths: how many tokens, supervised tokens and tiles each sample of a manifest's shards has.

A sidecar a sample shard (Arrow, mapped where it is read) is named by what lengths depend on: how a trainer
lays samples out. It has all rows, whichever are selected, so that it serves every manifest and epoch; `Row`
is what a trainer's step makes of one. A sample that can't be laid out has an error in place of lengths. Time
is that of the tokenizer, about 100 µs a sample and core. Memory: a piece's rows a worker, and 12 bytes a
sample, mapped.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.executor import Report, Step, Work, run
from infinity_mm.manifest import Manifest, check_shard
from infinity_mm.schema import ID, Sample, samples_from
from infinity_mm.sidecars import UNAVAILABLE
from infinity_mm.store import Store
from trainers.mixture import Mixture

VERSION = 1
PIECE = 4096  # rows of a piece
BATCH = 512  # rows read at once
COLUMNS = ("tokens", "supervised", "tiles")
SCHEMA = pa.schema(
    [("sample_id", ID), *((name, pa.int32()) for name in COLUMNS), ("error", pa.string())],
    metadata={"imm.schema": "sidecar:lengths", "imm.version": str(VERSION)},
)
Row = tuple[Any, ...]  # of a schema


class Piece(NamedTuple):
    """Rows `start` to `end` of a sample shard; `manifest`: the number of the one whose media it uses."""

    file: str
    manifest: int
    start: int
    end: int


class Lengths:
    """The lengths of sample shards, by their sha256, as numpy arrays mapped from their files."""

    def __init__(
        self, store: Store, files: Mapping[str, str], sizes: Mapping[str, str] | None = None
    ) -> None:
        """`sizes`: the sidecar of each media shard that they were worked out from."""
        self.store, self.files, self.sizes = store, dict(files), dict(sizes or {})
        self._batches: dict[str, pa.RecordBatch] = {}

    def column(self, shard: str, name: str) -> np.ndarray:
        """A column of a shard's rows, such as `tokens`, int32 [N]; 0 where there is an error."""
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

    def of(self, mixture: Mixture, turns: np.ndarray) -> np.ndarray:
        """Tokens, supervised tokens and tiles of turns (N×3: shard, row, epoch), int64 [N, 3]."""
        return self.columns(mixture, turns, COLUMNS)

    def columns(self, mixture: Mixture, turns: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Columns of turns, int64 [N, names]."""
        found = np.empty((len(turns), len(names)), np.int64)
        for number in np.unique(turns[:, 0]):
            of = turns[:, 0] == number
            for place, name in enumerate(names):
                found[of, place] = self.column(mixture.shards[number].sha256, name)[turns[of, 1]]
        return found

    def _batch(self, shard: str) -> pa.RecordBatch:
        if shard not in self._batches:
            self._batches[shard] = mapped(self.store, self.files[shard])
        return self._batches[shard]


def measure(
    manifests: Sequence[Manifest],
    names: Mapping[str, str],
    open_step: Callable[[Any], Work],
    config: Any,
    *,
    workers: int = 0,
    report: Report | None = None,
) -> dict[str, str]:
    """The sidecar of each sample shard of manifests of one store, made where it is missing.

    `names`: what each shard's is to be called, by its sha256; `open_step(config)`: the map step, Piece -> a
    table of its rows. Every sample shard is checked against its sha256 first. Raises ManifestError for one
    that does not match.
    """
    store = manifests[0].store
    files = dict(names)
    shards = shards_of(manifests)
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

    step = Step(name="lengths", open=open_step, config=config)
    run(step, pieces, workers=workers, report=report, each=arrived)
    return files


def shards_of(manifests: Sequence[Manifest]) -> dict[str, tuple[int, Any]]:
    """The sample shards of manifests by sha256, each once, with the number of the first that has it."""
    return {s.sha256: (n, s) for n, m in reversed([*enumerate(manifests)]) for s in m.shards}


def samples_of(store: Store, piece: Piece) -> Iterator[list[Sample]]:
    """The samples of a piece, some at a time."""
    table: pa.Table = store.open_arrow(piece.file).read_all()
    for start in range(piece.start, piece.end, BATCH):
        yield samples_from(table.slice(start, min(BATCH, piece.end - start)))


def table_of(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table."""
    columns = [*zip(*rows, strict=True)] or [()] * len(schema)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def publish_rows(store: Store, name: str, table: pa.Table) -> str:
    """Publish a sidecar as one mapped record batch; the name, which differs if media were unavailable, so
    that it is made again when they are there."""
    errors = [error for error in table.column("error").to_pylist() if error is not None]
    gone = [error for error in errors if error.split(":")[0] in UNAVAILABLE]
    if gone:
        lost = hashlib.sha256(repr(gone).encode()).hexdigest()[:12]
        name = name.replace(".arrow", f".without-{lost}.arrow")
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(table.num_rows, 1))
        store.publish(temporary, name)
    return name


def mapped(store: Store, name: str) -> pa.RecordBatch:
    """A sidecar that `publish_rows` wrote. Raises ValueError for a damaged one."""
    try:
        reader = store.open_arrow(name)
        if not reader.num_record_batches:
            return pa.RecordBatch.from_pylist([], reader.schema)
        return reader.get_batch(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{store.url}/{name} is damaged or gone: {' '.join(str(error).split())}; "
            "delete it, and it is made again"
        ) from None
