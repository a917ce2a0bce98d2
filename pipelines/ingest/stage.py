"""The ingest stage: plan units, read records, take media, put samples together.

    inputs -> [records]* -> places -> [media]* -> samples, ledger, index, manifest      (* in workers)

Every piece is a file named by what it was made from, so a killed run goes on where it stopped, and a later
ingest of a source that has grown reads only what is new. Time grows linearly with bytes and records.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.columns import id_array, id_rows
from infinity_mm.executor import Report, Step
from infinity_mm.executor import run as run_step
from infinity_mm.formats import image_folder
from infinity_mm.formats.coco import is_coco
from infinity_mm.formats.mapped import parse_map
from infinity_mm.formats.metadata_rows import is_metadata
from infinity_mm.formats.registry import READERS, expand, recognise
from infinity_mm.formats.types import Options, Unit
from infinity_mm.ledger import Ledger
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.media.index import build_index
from infinity_mm.store import Store, digest_of
from infinity_mm.tombstones import read_tombstones
from pipelines.ingest import look, media, records
from pipelines.ingest.compact import Needed, drop_repeated_media
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.places import SEEN, Resolved, plan_media, read_places
from pipelines.ingest.samples import Assembly, Source, identify


class Planned(NamedTuple):
    """One unit of an input and the name its records' origins begin with."""

    unit: records.RecordsUnit
    path: str


def run(config: IngestConfig, report: Report | None = None) -> dict[str, Any]:
    """Ingest `config.inputs` into `config.store`; the account and the manifest made.

    Raises ValueError for inputs that can't be read at all; a bad record is a ledger row.
    """
    planned = plan(config)
    store = Store.create(config.store)
    name_is_free(store, config.out, config.replace, "ingest", config.recorded())
    with store.using():
        options = Options(parse_map(config.map) if config.map else (), config.source_field)
        read = records.RecordsConfig(config.store, options, config.markers == "prepend", config.follow_links)
        pieces = _map(
            store, records.finished, [(p.unit.key(read), p.unit) for p in planned],
            Step(name="read records", open=records.open_step, config=read), config, report,
        )  # fmt: skip
        looks = {
            piece.key: look.LookUnit(piece.key, p.unit.root) for p, piece in zip(planned, pieces, strict=True)
        }
        run_step(
            Step(
                name="find media",
                open=look.open_step,
                config=look.LookConfig(config.store, config.follow_links),
            ),
            looks.values(), workers=config.workers, report=report,
        )  # fmt: skip
        roots = _roots(config, planned) if config.mode == "reference" else ()
        takes = plan_media(store, pieces, config.mode, roots, config.shard_bytes)
        taken = _map(
            store, media.finished, [(key, key) for key in takes],
            Step(name="take media", open=media.open_step, config=media.MediaConfig(config.store, roots)),
            config, report,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="imm-") as scratch:
            manifest, needed = _assemble(store, config, planned, pieces, takes, taken, scratch)
        return {
            "stage": "ingest",
            "name": config.out,
            **manifest.reference(),
            "reasons": manifest.document["ledger"]["reasons"],
            "media": needed.media,
            "formats": needed.formats,
        }


def plan(config: IngestConfig) -> list[Planned]:
    """All units of all inputs, in order. Raises ValueError for an input that is not there or not known."""
    planned: list[Planned] = []
    for given in config.inputs:
        if given.startswith("hf:"):
            planned += _plan_file(config, Path(given), given)
            continue
        if not os.path.exists(given):
            raise ValueError(f"input {given!r} does not exist")
        paths = expand(Path(given), config.format)
        for path in paths:
            try:
                planned += _plan_file(config, path, given)
            except ValueError as error:
                if len(paths) == 1:
                    raise
                planned.append(_unrecognised(path, given, str(error)))
    unread = [p.unit.unit.format for p in planned if p.unit.unit.format.startswith(records.UNRECOGNISED)]
    if unread and len(unread) == len(planned):
        raise ValueError(unread[0].removeprefix(records.UNRECOGNISED))
    if not planned:
        raise ValueError(f"no records in {', '.join(config.inputs)}: nothing to ingest")
    return planned


def _plan_file(config: IngestConfig, path: Path, given: str) -> list[Planned]:
    name: str = "datasets" if given.startswith("hf:") else config.format
    if name == "auto":
        name = "mapped" if config.map and recognise_mapped(path) else recognise(path)
    if name == "mapped" and not config.map:
        raise ValueError(f"{path}: --format mapped needs --map, e.g. --map question=q,answer=a,image=img")
    if config.media_root and name == image_folder.FORMAT and path.is_dir():
        raise ValueError(
            f"--media-root: the pictures of {path} lie in it; if they lie elsewhere, give its metadata file"
        )
    base = os.path.realpath(config.media_root or _folder(path))
    if config.media_root and not os.path.isdir(base):
        raise ValueError(f"--media-root {config.media_root} is not a folder")
    stem = records.clean(os.path.basename(os.path.normpath(given)))
    source = config.source or stem.split(".")[0] or "data"
    label = (
        stem
        if os.path.isfile(given) or given.startswith("hf:")
        else f"{stem}/{records.clean(os.path.relpath(path, given))}"
    )
    planned = []
    for unit in READERS[name].plan(path, config.unit_bytes):
        root, origin = base, label.removesuffix("/.")
        if name == image_folder.FORMAT and not config.media_root:
            root = os.path.realpath(_folder(Path(unit.path)))
            if unit.path != str(path):
                origin += f"/{records.clean(os.path.relpath(unit.path, path))}"
            if not config.follow_links and not look.inside(root, base):
                why = f"{unit.path} is a link out of the folder: --follow-links allows it"
                unit = unit._replace(format=f"{records.UNRECOGNISED}{why}")
        elif unit.path != str(path):
            origin = f"{stem}/{records.clean(os.path.basename(unit.path))}"
        record_unit = records.RecordsUnit(unit, root, source, config.source is not None, _identity(unit))
        planned.append(Planned(record_unit, origin))
    return planned


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _unrecognised(path: Path, given: str, why: str) -> Planned:
    """A file of a folder that is no data: one failed record, and the rest goes on."""
    unit = Unit(str(path), f"{records.UNRECOGNISED}{why}", 0, 0, 0)
    stem = records.clean(os.path.basename(os.path.normpath(given)))
    root = os.path.realpath(path.parent)
    return Planned(
        records.RecordsUnit(unit, root, stem.split(".")[0] or "data", True, _identity(unit)),
        f"{stem}/{records.clean(os.path.relpath(path, given))}",
    )


def recognise_mapped(path: Path) -> bool:
    """With --map given, JSON is read by the map; tars, Parquet, COCO and folders are what they are."""
    if path.is_dir() or is_metadata(path):
        return False
    with open(path, "rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head[:1] == b"[" or (head[:1] == b"{" and not is_coco(path))


def _identity(unit: Unit) -> tuple[int, int]:
    """Size and time of a unit's file: a piece of a changed file is not used again."""
    if os.path.isdir(unit.path):
        return image_folder.state(unit)
    try:
        status = os.stat(unit.path)
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def _roots(config: IngestConfig, planned: Sequence[Planned]) -> tuple[tuple[str, str], ...]:
    """A name for each folder that media may lie in: its own name and 8 digits of its path's digest.

    A folder below another of them needs none.
    """
    folders = {p.unit.root for p in planned} | {
        os.path.realpath(i) for i in config.inputs if os.path.isdir(i)
    }
    files = {p.unit.unit.path for p in planned if not os.path.isdir(p.unit.unit.path)}
    folders |= {os.path.dirname(os.path.realpath(file)) for file in files}
    top: list[str] = []
    for folder in sorted(folders, key=lambda f: f"{f}/"):
        if not top or not look.inside(folder, top[-1]):
            top.append(folder)
    return tuple((f"{records.clean(os.path.basename(f)) or 'root'}-{digest_of(f)[:8]}", f) for f in top)


def _map(
    store: Store, finished: Any, units: Sequence[tuple[str, Any]], step: Step, config: IngestConfig,
    report: Report | None,
) -> list[Any]:  # fmt: skip
    """Work on the units that no earlier run finished; all results in order."""
    results = {key: finished(store, key) for key, _ in units}
    todo = {key: unit for key, unit in units if results[key] is None}
    for key, result in zip(
        todo, run_step(step, todo.values(), workers=config.workers, report=report), strict=True
    ):
        results[key] = result
    return [results[key] for key, _ in units]


def _assemble(
    store: Store,
    config: IngestConfig,
    planned: Sequence[Planned],
    pieces: Sequence[records.Piece],
    takes: Sequence[str],
    taken: Sequence[media.Taken],
    scratch: str,
) -> tuple[Manifest, Needed]:
    resolved = Resolved(store, pieces, takes, config.mode, scratch)
    needed = drop_repeated_media(store, [s for t in taken for s in t.shards], config.mode, resolved)
    with Ledger(store) as ledger:
        assembly = Assembly(
            store, ledger, resolved, identify(store, pieces, resolved, read_tombstones(store), scratch)
        )
        assembly.run(pieces, _sources(planned, pieces))
        assembly.shards.finish()
        assembly.origins.finish()
        entry = ledger.close(sum(e["rows"] for e in assembly.shards.entries))
    about = {"licence": config.licence, "uri": config.uri, "citation": config.citation}
    manifest = publish(
        store,
        stage="ingest",
        config=config.recorded(),
        shards=assembly.shards.selected(),
        media=[build_index(store, needed.shards)],
        ledger=entry,
        counts=dict(ledger.counts),
        sources={name: about for name in entry["sources"]},
        origins=assembly.origins.entries,
        name=config.out,
        replace=config.replace,
    )
    _remember(store, config.mode, pieces, resolved, needed.shards)
    return manifest, needed


def _sources(planned: Sequence[Planned], pieces: Sequence[records.Piece]) -> list[Source]:
    """Origins' names and first rows: units that count from 0 go on where the file's last one stopped."""
    so_far: Counter[str] = Counter()
    sources = []
    for plan, piece in zip(planned, pieces, strict=True):
        unit = plan.unit.unit
        sources.append(Source(plan.path, so_far[unit.path] if unit.first < 0 else 0))
        so_far[unit.path] += piece.rows
    return sources


def _remember(
    store: Store, mode: str, pieces: Sequence[records.Piece], resolved: Resolved, shards: Sequence[str]
) -> None:
    """Write down which places were taken, so that a grown source is not read again."""
    name = f"work/seen/{digest_of([p.key for p in pieces])[:32]}.{mode}.arrow"
    schema = SEEN.with_metadata({"imm.shards": " ".join(shards)})
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for number, piece in enumerate(pieces):
                start, end = resolved.starts[number], resolved.starts[number + 1]
                ok = resolved.ok[start:end]
                keys = id_rows(read_places(store, piece).column("key"))[ok]
                columns = [id_array(keys), id_array(resolved.media[start:end][ok])]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        store.publish(temporary, name)
