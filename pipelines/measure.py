"""Measuring: the map step that fills the sidecars a stage wants, and only those that are missing.

All families that share a decode are measured in one pass, so that no later question decodes a picture again.
Time is that of the looks (a decode for media, parsing for samples). Memory: what was measured of the shards
under way, a piece's rows a worker, and one medium's bytes and pixels. A killed run keeps its finished shards.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.executor import Guard, Report, Step, Work, run
from infinity_mm.manifest import Manifest, check_shard
from infinity_mm.media.decode import DEFAULT_MAX_PIXELS, MediaError
from infinity_mm.media.index import Unavailable, read_checked
from infinity_mm.media.shards import Shard
from infinity_mm.schema import samples_from
from infinity_mm.sidecars import Family, sidecar_entry, sidecar_name, table_of, write_sidecar
from infinity_mm.store import Store
from infinity_mm.tombstones import read_tombstones
from pipelines.config import MeasuringConfig
from pipelines.measures.alignment import ALIGNMENT, MODEL, Answer, alignment_settings, with_embeddings
from pipelines.measures.medium_look import MediumLook
from pipelines.measures.registry import APART, ARRIVED, DECODES, FAMILIES, META, families, family_of
from pipelines.measures.sample_look import SampleLook
from pipelines.measures.tokens import resolve_tokenizer
from pipelines.measures.vlm_loss import VLM_LOSS, on_gpu, vlm_loss_settings, with_media

SAMPLE_BATCH = 1024
MODEL_BATCH = 64  # samples that a model is given at once
PIECES = {"media": 64, "samples": 4096, MODEL: 256}  # rows of a piece
# What families that a model measures are opened with, for a manifest.
OPENED_WITH = {ALIGNMENT.name: with_embeddings, VLM_LOSS.name: with_media}
FAILURES = (ArithmeticError, LookupError, OSError, MemoryError, RecursionError)

Settings = dict[str, dict[str, Any]]  # by family
Files = dict[str, dict[str, str]]  # by family, then by shard: the sidecar's name


class MeasureConfig(NamedTuple):
    store: str
    settings: Settings


class Piece(NamedTuple):
    """Rows `start` to `end` of a shard and the families to measure there: what a worker does at a time, so
    that a single large shard uses all workers. `entry`: a sample shard's line in its manifest."""

    shard: str
    start: int
    end: int
    families: tuple[str, ...]
    entry: dict[str, Any] | None


Values = Callable[[Any], Sequence[Any]]


def open_step(config: MeasureConfig) -> Work:
    """The map step: Piece -> a table for each of its families."""
    store = Store.open(config.store)
    withdrawn = read_tombstones(store).ids
    families = {name: family_of(name, given) for name, given in config.settings.items()}
    opened: dict[str, Values] = {}
    checked: set[str] = set()

    def work(piece: Piece, guard: Guard) -> dict[str, pa.Table]:
        for name in piece.families:
            if name not in opened:
                opened[name] = families[name].open(config.settings[name])
        if piece.entry and piece.shard not in checked:
            check_shard(store, piece.entry)
            checked.add(piece.shard)
        looks = _samples(store, piece) if piece.entry else _media(store, piece, withdrawn, config.settings)
        rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in piece.families}
        for number, (identity, look) in enumerate(looks):
            trusted = guard(number)
            for name, done in rows.items():
                if trusted:
                    done.append(_row(identity, opened[name], look, families[name]))
                else:
                    done.append(_failed(identity, "crashed_worker: it killed three workers", families[name]))
            guard.done()
        return {name: table_of(families[name], done) for name, done in rows.items()}

    return work


def open_model_step(config: MeasureConfig) -> Work:
    """The map step of families of samples that a model measures, in batches: Piece -> a table for each.

    Batches are counted from a piece's first row, so that they are the same for any number of workers.
    """
    store = Store.open(config.store)
    families = {name: family_of(name, given) for name, given in config.settings.items()}
    opened = {name: family.open(config.settings[name]) for name, family in families.items()}

    def work(piece: Piece, guard: Guard) -> dict[str, pa.Table]:
        assert piece.entry is not None
        check_shard(store, piece.entry)
        rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in piece.families}
        looks = _samples(store, piece)
        while batch := list(islice(looks, MODEL_BATCH)):
            for name, done in rows.items():
                answers = opened[name]([look for _, look in batch])
                done += [_row(i, _given, a, families[name]) for (i, _), a in zip(batch, answers, strict=True)]
        return {name: table_of(families[name], done) for name, done in rows.items()}

    return work


def _given(answer: Answer) -> Sequence[Any]:
    """A model's values; raises why there are none."""
    if isinstance(answer, Exception):
        raise answer
    return answer


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
    costs = {cost for n in names if n in FAMILIES for cost in DECODES.get(FAMILIES[n].cost, ())}
    known = [n for n, f in FAMILIES.items() if n in names or (f.cost in costs and n not in APART)]
    return known + sorted(set(names) - set(known))


def settings_of(config: MeasuringConfig, measures: Collection[str]) -> Settings:
    """The families that have these measures, with those that share their decode, and their settings.

    Raises ValueError for a tokenizer or an embedder that can't be had.
    """
    wanted = families(measures)
    settings: Settings = {}
    for name in with_neighbours(wanted):
        if name == ARRIVED:
            settings[name] = {"fields": sorted(m.removeprefix(META) for m in wanted[name])}
        elif FAMILIES[name].cost in DECODES:
            settings[name] = {"max_pixels": config.max_pixels}
        elif name == ALIGNMENT.name:
            settings[name] = alignment_settings(config.embedder, config.max_pixels)
        elif name == VLM_LOSS.name:
            settings[name] = vlm_loss_settings(config.scorer, config.max_pixels)
        elif name == "tokens":
            settings[name] = resolve_tokenizer(config.tokenizer) if config.tokenizer else {}
        else:
            settings[name] = {}
    return settings


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
    for of, by_model in (("samples", False), ("media", False), ("samples", True)):
        named = [n for n, family in families.items() if (family.of, family.cost == MODEL) == (of, by_model)]
        shards: list[_Unfinished] = []
        for shard, rows, entry in _shards(manifest, of) if named else ():
            wanted = []
            for name in named:
                file = files[name][shard] = sidecar_name(families[name], settings[name], shard)
                if not store.exists(file):
                    wanted.append(name)
                    missing[name] += 1
            if wanted:
                size = PIECES[MODEL if by_model else of]
                shards.append(_Unfinished(shard, rows, tuple(wanted), entry, size))
        given = {name: settings[name] for name in named}
        if by_model and shards:
            given = {
                name: OPENED_WITH[name](store, manifest, settings[name], workers, report)
                for name in named
                if missing[name]  # else its model would be loaded for nothing
            }
        at_once = workers
        if any(name == VLM_LOSS.name and on_gpu(one) for name, one in given.items()):
            at_once = min(workers, 1)  # another would load the model into the same GPU again
        step = Step(
            name=f"measure {of}{' by a model' if by_model else ''}",
            open=open_model_step if by_model else open_step,
            config=MeasureConfig(store.url, given),
        )
        _fill(store, step, shards, files, at_once, report)
    return files, missing


def sidecar_entries(store: Store, files: Files) -> list[dict[str, Any]]:
    """A manifest's lines on the sidecars that it was decided from."""
    return [
        sidecar_entry(store, file, family, shard)
        for family, by in files.items()
        for shard, file in by.items()
    ]


def is_measured(manifest: Manifest, settings: Settings) -> bool:
    """Whether every sidecar that `settings` asks for is there."""
    for name, given in settings.items():
        family = family_of(name, given)
        for shard, _, _ in _shards(manifest, family.of):
            if not manifest.store.exists(sidecar_name(family, given, shard)):
                return False
    return True


def _fill(
    store: Store,
    step: Step,
    shards: Sequence["_Unfinished"],
    files: Files,
    workers: int,
    report: Report | None,
) -> None:
    """Measure shards, and write the sidecars of each when its last piece is there."""
    pieces = [(shard, piece) for shard in shards for piece in shard.pieces]

    def arrived(number: int, tables: dict[str, pa.Table]) -> None:
        shard, piece = pieces[number]
        for name, table in shard.whole_with(piece, tables).items():
            files[name][shard.shard] = write_sidecar(store, files[name][shard.shard], table)

    run(step, [piece for _, piece in pieces], workers=workers, report=report, each=arrived)


class _Unfinished:
    """A shard of which pieces are still out. Its sidecars are written when the last one arrives."""

    def __init__(
        self, shard: str, rows: int, families: tuple[str, ...], entry: dict[str, Any] | None, size: int
    ) -> None:
        self.shard = shard
        starts = range(0, max(rows, 1), size)
        self.pieces = [Piece(shard, at, min(at + size, rows), families, entry) for at in starts]
        self._there: dict[int, dict[str, pa.Table]] = {}

    def whole_with(self, piece: Piece, tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
        """The shard's tables by family if this was the last piece, else nothing."""
        self._there[piece.start] = tables
        if len(self._there) < len(self.pieces):
            return {}
        there, self._there = [self._there[p.start] for p in self.pieces], {}
        return {name: pa.concat_tables([t[name] for t in there]).combine_chunks() for name in piece.families}


def _shards(manifest: Manifest, of: str) -> Iterator[tuple[str, int, dict[str, Any] | None]]:
    """Name, rows and, for samples, the manifest's line of each shard."""
    if of == "media":
        library = manifest.library()
        yield from ((digest, len(library.shard(digest)), None) for digest in library.shards())
    else:
        for e in manifest.shards:
            yield e.sha256, e.rows, {"file": e.file, "sha256": e.sha256, "bytes": e.bytes, "rows": e.rows}
