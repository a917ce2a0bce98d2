"""Measuring: the map step that fills the sidecars a stage wants, and only those that are missing.

All families that share a decode are measured in one pass, so that no later question decodes a picture again.
Time is that of the looks (a decode for media, parsing for samples); memory is one shard's rows a worker, and
one medium's bytes and pixels.
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.executor import Guard, Report, Step, Work, run
from infinity_mm.manifest import Manifest, check_shard
from infinity_mm.media.decode import DEFAULT_MAX_PIXELS, MediaError
from infinity_mm.media.index import Unavailable, read_checked
from infinity_mm.media.shards import Shard
from infinity_mm.schema import samples_from
from infinity_mm.sidecars import Family, sidecar_name, table_of, write_sidecar
from infinity_mm.store import Store, read_table
from infinity_mm.tombstones import read_tombstones
from pipelines.config import MeasuringConfig
from pipelines.measures.medium_look import MediumLook
from pipelines.measures.registry import ARRIVED, FAMILIES, META, families, family_of
from pipelines.measures.sample_look import SampleLook
from pipelines.measures.tokens import resolve_tokenizer

SAMPLE_BATCH = 1024
PIECES = {"media": 128, "samples": 8192}  # rows of a piece
FAILURES = (ArithmeticError, LookupError, OSError, MemoryError, RecursionError)

Settings = dict[str, dict[str, Any]]  # by family
Files = dict[str, dict[str, str]]  # by family, then by shard: the sidecar's name


class MeasureConfig(NamedTuple):
    store: str
    settings: Settings


class Piece(NamedTuple):
    """Rows `start` to `end` of a shard: the unit of work, so that a single large shard uses all workers.

    `names`: where each missing family's rows go; `entry`: a sample shard's line in its manifest.
    """

    shard: str
    start: int
    end: int
    names: dict[str, str]
    entry: dict[str, Any] | None


class Measured(NamedTuple):
    """The files of a piece by family: the names it was given, or others where media were unavailable."""

    shard: str
    files: dict[str, str]


Values = Callable[[Any], Sequence[Any]]


def open_step(config: MeasureConfig) -> Work:
    """The map step: Piece -> Measured."""
    store = Store.open(config.store)
    withdrawn = read_tombstones(store).ids
    families = {name: family_of(name, given) for name, given in config.settings.items()}
    opened: dict[str, Values] = {}

    def work(piece: Piece, guard: Guard) -> Measured:
        for name in piece.names:
            if name not in opened:
                opened[name] = families[name].open(config.settings[name])
        looks = _samples(store, piece) if piece.entry else _media(store, piece, withdrawn, config.settings)
        rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in piece.names}
        for number, (identity, look) in enumerate(looks):
            trusted = guard(number)
            for name, done in rows.items():
                if trusted:
                    done.append(_row(identity, opened[name], look, families[name]))
                else:
                    done.append(_failed(identity, "crashed_worker: it killed three workers", families[name]))
            guard.done()
        files = {
            name: write_sidecar(store, file, table_of(families[name], rows[name]))
            for name, file in piece.names.items()
        }
        return Measured(piece.shard, files)

    return work


def _media(
    store: Store, piece: Piece, withdrawn: frozenset[bytes], settings: Settings
) -> Iterator[tuple[bytes, MediumLook]]:
    shard = Shard(store, piece.shard)
    max_pixels = next((s["max_pixels"] for s in settings.values() if "max_pixels" in s), DEFAULT_MAX_PIXELS)
    infos = shard.table.slice(piece.start, piece.end - piece.start).to_pylist()
    try:
        for i, info in enumerate(infos, piece.start):
            read = partial(read_checked, shard, i, withdrawn)
            yield info["media_id"], MediumLook(info, read, max_pixels)
    finally:
        shard.close()


def _samples(store: Store, piece: Piece) -> Iterator[tuple[bytes, SampleLook]]:
    assert piece.entry is not None
    check_shard(store, piece.entry)
    table: pa.Table = store.open_arrow(piece.entry["file"]).read_all()
    for start in range(piece.start, piece.end, SAMPLE_BATCH):
        for sample in samples_from(table.slice(start, min(SAMPLE_BATCH, piece.end - start))):
            yield sample.sample_id, SampleLook(sample)


def _row(identity: bytes, values: Values, look: Any, family: Family) -> tuple[Any, ...]:
    try:
        return (identity, *values(look), None)
    except (MediaError, Unavailable) as error:
        return _failed(identity, str(error), family)
    except ValueError as error:
        return _failed(identity, f"{family.name}_failed: {error}", family)
    except FAILURES as error:
        return _failed(identity, f"{family.name}_failed: {type(error).__name__}: {error}", family)


def _failed(identity: bytes, error: str, family: Family) -> tuple[Any, ...]:
    return (identity, *[None] * len(family.measures), error)


def with_neighbours(names: Collection[str]) -> list[str]:
    """The families named and those that share their decode, in the registry's order, then any others."""
    decode = any(name in FAMILIES and FAMILIES[name].cost == "decode" for name in names)
    known = [n for n, f in FAMILIES.items() if n in names or (decode and f.cost == "decode")]
    return known + sorted(set(names) - set(known))


def settings_of(config: MeasuringConfig, measures: Collection[str]) -> Settings:
    """The families that have these measures, with those that share their decode, and their settings.

    Raises ValueError for a tokenizer that can't be had.
    """
    wanted = families(measures)
    settings: Settings = {}
    for name in with_neighbours(wanted):
        if name == ARRIVED:
            settings[name] = {"fields": sorted(m.removeprefix(META) for m in wanted[name])}
        elif FAMILIES[name].cost == "decode":
            settings[name] = {"max_pixels": config.max_pixels}
        elif name == "tokens":
            settings[name] = resolve_tokenizer(config.tokenizer) if config.tokenizer else {}
        else:
            settings[name] = {}
    return settings


def recorded_settings(settings: Settings) -> Settings:
    """What of the settings decides values: not where things lie."""
    return {
        family: {name: value for name, value in given.items() if not name.startswith("_")}
        for family, given in settings.items()
    }


def measure(
    store: Store,
    manifest: Manifest,
    settings: Settings,
    *,
    workers: int,
    report: Report | None = None,
) -> tuple[Files, dict[str, int]]:
    """Measure the families that `settings` names; the sidecars, and how many shards each was missing in."""
    families = {name: family_of(name, given) for name, given in settings.items()}
    files: Files = {name: {} for name in families}
    missing: dict[str, int] = dict.fromkeys(families, 0)
    for of in ("samples", "media"):
        named = [name for name, family in families.items() if family.of == of]
        pieces: list[Piece] = []
        for shard, rows, entry in _shards(manifest, of) if named else ():
            wanted = {}
            for name in named:
                file = files[name][shard] = sidecar_name(families[name], settings[name], shard)
                if not store.exists(file):
                    wanted[name] = file
                    missing[name] += 1
            if wanted:
                pieces += _pieces(shard, rows, wanted, entry, PIECES[of])
        config = MeasureConfig(store.url, {name: settings[name] for name in named})
        todo = [piece for piece in pieces if not all(store.exists(file) for file in piece.names.values())]
        done = {id(piece): Measured(piece.shard, piece.names) for piece in pieces}
        step = Step(name=f"measure {of}", open=open_step, config=config)
        for piece, measured in zip(todo, run(step, todo, workers=workers, report=report), strict=True):
            done[id(piece)] = measured
        for shard, parts in groupby((done[id(piece)] for piece in pieces), key=lambda m: m.shard):
            for name, file in _joined(store, families, list(parts), files, shard).items():
                files[name][shard] = file
    return files, missing


def _pieces(
    shard: str, rows: int, wanted: dict[str, str], entry: dict[str, Any] | None, size: int
) -> Iterator[Piece]:
    if rows <= size:
        yield Piece(shard, 0, rows, wanted, entry)
        return
    for start in range(0, rows, size):
        part = f"-{start}-{start + size}.parquet"
        names = {
            name: f"work/measure/{name}/{os.path.basename(file).removesuffix('.parquet')}{part}"
            for name, file in wanted.items()
        }
        yield Piece(shard, start, min(start + size, rows), names, entry)


def _joined(
    store: Store, families: dict[str, Family], parts: list[Measured], files: Files, shard: str
) -> dict[str, str]:
    """The sidecars of a shard, put together from its pieces, which are then deleted."""
    if len(parts) == 1:
        return parts[0].files
    whole = {}
    for name in parts[0].files:
        pieces, whole[name] = [part.files[name] for part in parts], files[name][shard]
        try:
            table = pa.concat_tables([read_table(store, piece) for piece in pieces]).combine_chunks()
            table = table.cast(families[name].schema())  # Parquet names what is in a list otherwise
        except FileNotFoundError:
            if not store.exists(whole[name]):
                raise
            continue  # another command measures the same and was first
        whole[name] = write_sidecar(store, whole[name], table)
        for piece in pieces:
            store.delete(piece)
    return whole


def _shards(manifest: Manifest, of: str) -> Iterator[tuple[str, int, dict[str, Any] | None]]:
    """Name, rows and, for samples, the manifest's line of each shard."""
    if of == "media":
        library = manifest.library()
        yield from ((digest, len(library.shard(digest)), None) for digest in library.shards())
    else:
        for e in manifest.shards:
            yield e.sha256, e.rows, {"file": e.file, "sha256": e.sha256, "bytes": e.bytes, "rows": e.rows}
