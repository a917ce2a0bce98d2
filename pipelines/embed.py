"""Embedding: the map step that gives every medium of some media shards its vector, once for each embedder.

A unit is a piece of a media shard. One thread decodes, in order, while the model works on the batch before; a
worker has a model of its own, with one thread on a CPU. A medium that can't be decoded keeps its place in the
batch as a black picture, so that no vector depends on what became of others, and each batch is the same
whatever the number of workers. Embedded is a picture upright (its first frame), or a clip's middle frame.

A shard's vectors are one Arrow file, written when its last piece is there, and mapped where they are read:
2 * dim bytes a medium. Time is that of the decodes or of the model, whichever is longer. Memory: a model and
two batches a worker, and the vectors of the shards under way.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infinity_mm.columns import among, id_rows, media_of, one_chunk
from infinity_mm.executor import Guard, Report, Resources, Step, Work, run
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import DEFAULT_MAX_PIXELS, MediaError, decode_image
from infinity_mm.media.index import Unavailable, read_checked
from infinity_mm.media.shards import Shard
from infinity_mm.media.sniff import sniff
from infinity_mm.media.video import iter_frames, read_header
from infinity_mm.models.embedder import Embedder, Found, find_embedder
from infinity_mm.schema import ID
from infinity_mm.sidecars import UNAVAILABLE, installed
from infinity_mm.store import Store, digest_of
from infinity_mm.tombstones import read_tombstones

VERSION = 1
BATCH = 64
PIECE = 4 * BATCH  # rows of a piece
OPEN_FILES = 64
THREADS = 8  # that decode, where no worker may crash of it
FAILURES = (ArithmeticError, LookupError, OSError, MemoryError, RuntimeError, ValueError)
DECODERS = ("pillow", "simplejpeg", "av", "numpy")
Vectors = npt.NDArray[np.float16]


class EmbedConfig(NamedTuple):
    """`digest`: the embedder's, as it was found; `worker`: whether a crash is survived (`Guard`)."""

    store: str
    spec: str
    device: str | None
    digest: str
    max_pixels: int
    worker: bool


class Piece(NamedTuple):
    """Rows `start` to `end` of a media shard."""

    shard: str
    start: int
    end: int


class Embedded(NamedTuple):
    """A piece's vectors, float16 [rows, dim], zeros where there is an error."""

    vectors: Vectors
    errors: list[str | None]


def embedding_key(found: Found, max_pixels: int) -> str:
    """What vectors depend on besides their media, as 16 hex digits."""
    return digest_of(["embedding", VERSION, found.key(), max_pixels, installed(DECODERS)])[:16]


def embedding_name(shard: str, key: str) -> str:
    return f"sidecars/embedding/{shard}-{key}.arrow"


def embed(
    store: Store,
    manifest: Manifest,
    spec: str,
    *,
    workers: int,
    report: Report | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    device: str | None = None,
) -> dict[str, str]:
    """Embed what is missing of the media shards that a manifest's samples use; each shard's file.

    A shard is embedded whole, whichever of its media are used, and the file serves every manifest. Raises
    ValueError for an embedder that can't be had.
    """
    found = find_embedder(spec, device)
    key = embedding_key(found, max_pixels)
    files = {shard: embedding_name(shard, key) for shard in used_shards(manifest)}
    library = manifest.library()
    missing = {shard: len(library.shard(shard)) for shard, file in files.items() if not store.exists(file)}
    pieces = [
        Piece(shard, at, min(at + PIECE, rows))
        for shard, rows in missing.items()
        for at in range(0, rows, PIECE)
    ]
    config = EmbedConfig(store.url, spec, device, found.digest, max_pixels, workers > 0)
    there: dict[str, dict[int, Embedded]] = {shard: {} for shard in missing}

    def arrived(number: int, done: Embedded) -> None:
        shard, start, _ = pieces[number]
        there[shard][start] = done
        if sum(len(part.errors) for part in there[shard].values()) == missing[shard]:
            parts = [part for _, part in sorted(there.pop(shard).items())]
            files[shard] = _write(store, library.shard(shard), files[shard], parts)

    step = Step(
        name="embed", open=open_step, config=config, resources=Resources(gpus=float(found.device != "cpu"))
    )
    run(step, pieces, workers=workers, report=report, each=arrived)
    return files


def used_shards(manifest: Manifest) -> list[str]:
    """The media shards that have a medium of a selected sample, in the library's order."""
    library = manifest.library()
    shards = list(library.shards())
    used = np.zeros(len(shards), bool)
    for number, shard in enumerate(manifest.shards):
        media = manifest.table(number).select(["media"])
        _, ids = media_of(media.take(pa.array(shard.selected.rows)))
        where, _ = library.find_many(ids)
        used[np.unique(where[where >= 0])] = True
        manifest.release(number)
    return [digest for digest, here in zip(shards, used, strict=True) if here]


def open_step(config: EmbedConfig) -> Work:
    """The map step: Piece -> Embedded."""
    store = Store.open(config.store)
    withdrawn = read_tombstones(store).ids
    found = find_embedder(config.spec, config.device)
    if found.digest != config.digest:
        raise ValueError(f"embedder {config.spec} has changed since the command began; run it again")
    with OneThread(found):
        embedder = found.load(threads=1 if found.device == "cpu" else None)
    # Several threads announce nothing that could be blamed for a crash: a worker decodes in one.
    threads = 1 if config.worker else min(THREADS, os.cpu_count() or 1)

    def work(piece: Piece, guard: Guard) -> Embedded:
        shard = Shard(store, piece.shard)
        kinds = shard.kinds

        def look(row: int) -> np.ndarray | str:
            if not guard(row - piece.start):
                return "crashed_worker: it killed three workers"
            try:
                data = read_checked(shard, row, withdrawn)
                return embedder.prepare(frame(data, kinds[row] == "video", config.max_pixels, found.min_side))
            except (MediaError, Unavailable) as error:
                return str(error)
            except FAILURES as error:
                return f"embedding_failed: {type(error).__name__}: {error}"
            finally:
                guard.done()

        vectors = np.zeros((piece.end - piece.start, embedder.dim), np.float16)
        errors: list[str | None] = []
        try:
            with OneThread(found), ThreadPoolExecutor(threads) as decoding:
                for start, looks in _batches(piece, look, decoding):
                    rows, told = _embedded(embedder, looks)
                    vectors[start - piece.start :][: len(rows)] = rows
                    errors += told
        finally:
            shard.close()
        return Embedded(vectors, errors)

    return work


class Placed(Protocol):
    """A model that is there: where it runs, and by which libraries."""

    @property
    def device(self) -> str: ...

    @property
    def libraries(self) -> Sequence[str]: ...


class OneThread:
    """Torch on one thread of a CPU meanwhile: sums come out the same for any number of workers."""

    def __init__(self, found: Placed) -> None:
        self.here = found.device == "cpu" and "torch" in found.libraries

    def __enter__(self) -> None:
        if self.here:
            import torch

            self.before = torch.get_num_threads()
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self.here:
            import torch

            torch.set_num_threads(self.before)


def _batches(
    piece: Piece, look: Callable[[int], np.ndarray | str], decoding: ThreadPoolExecutor
) -> Iterator[tuple[int, list[np.ndarray | str]]]:
    """First row and looks of each batch; while one is worked on, the next is decoded."""
    starts = range(piece.start, piece.end, BATCH)

    def begin(start: int) -> Iterator[np.ndarray | str]:
        return decoding.map(look, range(start, min(start + BATCH, piece.end)))

    ahead = begin(starts[0]) if starts else iter(())
    for number, start in enumerate(starts):
        looks = list(ahead)
        if number + 1 < len(starts):
            ahead = begin(starts[number + 1])
        yield start, looks


def _embedded(embedder: Embedder, looks: list[np.ndarray | str]) -> tuple[Vectors, list[str | None]]:
    """Vectors of a batch, float16 [n, dim], and what is wrong with each."""
    seen = next((one for one in looks if not isinstance(one, str)), None)
    errors = [one if isinstance(one, str) else None for one in looks]
    if seen is None:
        return np.zeros((len(looks), embedder.dim), np.float16), errors
    black = np.zeros_like(seen)
    found = embedder.vectors(np.stack([black if isinstance(one, str) else one for one in looks]))
    for row in np.flatnonzero(np.isnan(found[:, 0])):
        errors[row] = errors[row] or "embedding_failed: the model gave zeros or NaN"
    found[[error is not None for error in errors]] = 0
    return found.astype(np.float16), errors


def frame(data: bytes, is_video: bool, max_pixels: int, min_side: int) -> np.ndarray:
    """The picture that stands for a medium, uint8 [H, W, 3] RGB. Raises MediaError."""
    if is_video:
        return middle_frame(data)
    return decode_image(data, max_pixels=max_pixels, min_side=min_side).pixels


def middle_frame(data: bytes) -> np.ndarray:
    """Frame n // 2 of a clip's n, as announced, else as counted; uint8 [H, W, 3]. Raises MediaError.

    A clip that ends before the middle that it announces is refused.
    """
    n = read_header(data, sniff(memoryview(data))).frames or sum(1 for _ in iter_frames(data))
    middle = max(n // 2, 1)
    for number, pixels in enumerate(iter_frames(data, every=middle)):
        if number == (1 if n >= 2 else 0):
            return pixels
    raise MediaError("truncated", f"no frame {n // 2} of {n}")


def _write(store: Store, shard: Shard, name: str, parts: list[Embedded]) -> str:
    """Publish a shard's vectors; the name, which differs if media were unavailable."""
    vectors = np.concatenate([part.vectors for part in parts])
    errors = [error for part in parts for error in part.errors]
    ids = one_chunk(shard.table.column("media_id"))
    gone = [
        shard.media_id(row)
        for row, error in enumerate(errors)
        if error is not None and error.partition(":")[0] in UNAVAILABLE
    ]
    if gone:
        lost = hashlib.sha256(b"".join(gone)).hexdigest()[:12]
        name = name.replace(".arrow", f".without-{lost}.arrow")
    dim = vectors.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
    schema = pa.schema(
        [("media_id", ID), ("vector", pa.list_(pa.float16(), dim)), ("error", pa.string())],
        metadata={"imm.schema": "sidecar:embedding", "imm.version": str(VERSION)},
    )
    table = pa.table([ids, column, pa.array(errors, pa.string())], schema=schema)
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(table, max_chunksize=max(table.num_rows, 1))
        store.publish(temporary, name)
    return name


class Embeddings:
    """The vectors of media shards, from the files that `embed` named. Files are opened when first asked for;
    on a local store nothing is copied and nothing read that is not looked at."""

    def __init__(self, store: Store, files: Mapping[str, str]) -> None:
        self.store, self.files = store, dict(files)
        self._withdrawn = read_tombstones(store).ids
        self._batches: OrderedDict[str, pa.RecordBatch] = OrderedDict()

    def vectors(self, shard: str) -> Vectors:
        """float16 [N, dim], one a medium of the shard, unit length; zeros where there is an error."""
        column = self._batch(shard).column("vector")
        flat = np.frombuffer(column.values.buffers()[1] or b"", np.float16)
        dim = column.type.list_size
        found: Vectors = flat[column.offset * dim : (column.offset + len(column)) * dim].reshape(-1, dim)
        return found

    def errors(self, shard: str) -> list[str | None]:
        """Why each medium of the shard has no vector; None where it has one."""
        batch = self._batch(shard)
        errors: list[str | None] = batch.column("error").to_pylist()
        for row in np.flatnonzero(among(id_rows(batch.column("media_id")), self._withdrawn)):
            errors[row] = self.error(shard, int(row))
        return errors

    def error(self, shard: str, row: int) -> str | None:
        """Why a medium has no vector; None where it has one. What was withdrawn since has none either."""
        batch = self._batch(shard)
        medium: bytes = batch.column("media_id")[row].as_py()
        if medium in self._withdrawn:
            return f"withdrawn: medium {medium.hex()} was withdrawn (imm forget)"
        error: str | None = batch.column("error")[row].as_py()
        return error

    def _batch(self, shard: str) -> pa.RecordBatch:
        if shard not in self._batches:
            name = self.files[shard]
            try:
                self._batches[shard] = self.store.open_arrow(name).get_batch(0)
            except (pa.ArrowInvalid, OSError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise ValueError(
                    f"{self.store.url}/{name} is damaged: {' '.join(str(error).split())}; "
                    "delete it, and it is made again"
                ) from None
            if len(self._batches) > OPEN_FILES:
                self._batches.popitem(last=False)  # closed when the last view of it is let go
        self._batches.move_to_end(shard)
        return self._batches[shard]
