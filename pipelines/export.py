"""Taking data out: a manifest into a folder of another format.

Map step: one part a sample shard, files under temporary names until they are whole. What the format can't
express, what is withdrawn and what can't be read is a row of `.export/ledger.parquet`; all else
comes back with the same sample id. `.export/export.json`, written last, says what was exported. Killed and
run again it goes on; a folder that holds anything else is refused.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from infinity_mm.columns import media_of
from infinity_mm.executor import Guard, Report, Step, Work
from infinity_mm.executor import run as run_step
from infinity_mm.formats.registry import WRITERS
from infinity_mm.formats.types import Item, Medium, WriteOptions, Writer
from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest
from infinity_mm.media.index import Library, Unavailable, read_checked
from infinity_mm.media.shards import Shard
from infinity_mm.schema import Sample, samples_from
from infinity_mm.store import Store, digest_of
from pipelines.config import MapConfig

BATCH = 256
THREADS = 2
WINDOW_BYTES = 8 << 20
STATE = ".export"
FORMATS = Literal["llava", "messages", "webdataset", "infinity-mm", "parquet", "datasets"]


class ExportConfig(MapConfig):
    """Write a manifest's samples in another format."""

    manifest: str = Field(
        description="Manifest: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    to: Path = Field(description="Folder to write; must be new, empty, or hold the same export unfinished.")
    format: FORMATS = Field("llava", description="Format to write.")
    lines: bool = Field(False, description="LLaVA as JSON lines instead of JSON arrays.")

    @model_validator(mode="after")
    def _lines_are_llavas(self) -> "ExportConfig":
        if self.lines and self.format != "llava":
            raise ValueError(f"--lines goes with --format llava, not {self.format}")
        return self


class PartConfig(NamedTuple):
    store: str
    manifest: str
    to: str
    format: str
    lines: bool
    key: str


class Part(NamedTuple):
    """What one part came to: `rows` are ledger rows of what was not written."""

    number: int
    files: list[str]
    sources: dict[str, list[int]]
    rows: list[Row]


def part_state(folder: str, number: int) -> str:
    return os.path.join(folder, STATE, f"part-{number:05d}.json")


def finished(folder: str, number: int) -> Part | None:
    """The answer of an earlier run, if all its files are still there and no medium of it failed."""
    try:
        with open(part_state(folder, number)) as file:
            state = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    if not all(os.path.exists(os.path.join(folder, f)) for f in state["files"]):
        return None
    rows = [_row(values) for values in state["rows"]]
    if any(row.outcome == "failed" for row in rows):
        return None
    return Part(number, state["files"], state["sources"], rows)


def _row(values: list[Any]) -> Row:
    """A ledger row from its JSON form, where ids are hex."""
    fields = dict(zip(Row._fields, values, strict=True))
    for name in ("sample_id", "witness", "child"):
        fields[name] = bytes.fromhex(fields[name]) if fields[name] else None
    return Row(**fields)


def open_step(config: PartConfig) -> Work:
    """The map step: shard number -> Part."""
    manifest = Manifest.open(Store.open(config.store), config.manifest)
    library = manifest.library()

    def work(number: int, guard: Guard) -> Part:
        writer = WRITERS[config.format]
        outgoing = _Outgoing(manifest, library, number, writer, guard)
        files = writer.write(outgoing.items(), Path(config.to), number, WriteOptions(lines=config.lines))
        rows, sources = outgoing.rows, outgoing.sources
        part = Part(number, [os.path.relpath(f, config.to) for f in files], sources, rows)
        write_json(
            part_state(config.to, number),
            {
                "files": part.files,
                "sources": sources,
                "rows": [[v.hex() if isinstance(v, bytes) else v for v in row] for row in rows],
            },
        )
        manifest.release(number)
        return part

    return work


@dataclass(slots=True)
class _Ready:
    """A sample on its way out: its media's places, and after reading their bytes or why they can't be had."""

    sample: Sample
    places: list[tuple[str, int]]
    media: list[Medium] = field(default_factory=list)
    lost: Row | None = None


@dataclass(slots=True)
class _Outgoing:
    """The samples of one shard on their way out; what can't go is added to `rows`."""

    manifest: Manifest
    library: Library
    number: int
    writer: Writer
    guard: Guard
    rows: list[Row] = field(default_factory=list)
    sources: dict[str, list[int]] = field(default_factory=dict)

    def items(self) -> Iterator[Item]:
        """What can be written, read and checked one window ahead by THREADS threads."""
        with ThreadPoolExecutor(THREADS) as pool:
            waiting: tuple[list[_Ready], list[Future[None]]] | None = None
            for window in chain(self._windows(), [None]):
                current, waiting = waiting, None
                if window is not None:
                    # Held here, a shard stays open while threads read it.
                    shards = {digest: self.library.shard(digest) for r in window for digest, _ in r.places}
                    withdrawn = self.library.withdrawn
                    reading = [
                        pool.submit(_load, shards, withdrawn, window[t::THREADS]) for t in range(THREADS)
                    ]
                    waiting = (window, reading)
                if current is not None:
                    for future in current[1]:
                        future.result()
                    for ready in current[0]:
                        if ready.lost is not None:
                            self.rows.append(ready.lost)
                        else:
                            self.sources[ready.sample.source][1] += 1
                            yield Item(ready.sample, ready.media)

    def _windows(self) -> Iterator[list[_Ready]]:
        """What the format can express, in windows of about WINDOW_BYTES of media; the rest is accounted."""
        withdrawn = self.manifest.withdrawn
        shards = list(self.library.shards())
        selected = self.manifest.shards[self.number].selected.rows
        window: list[_Ready] = []
        held = 0
        for start in range(0, len(selected), BATCH):
            table = self.manifest.table(self.number).take(pa.array(selected[start : start + BATCH]))
            gone = withdrawn.rows(table)
            owners, ids = media_of(table)
            found, at = self.library.find_many(ids)
            ends = np.searchsorted(owners, np.arange(table.num_rows + 1))
            for i, sample in enumerate(samples_from(table)):
                self.sources.setdefault(sample.source, [0, 0])[0] += 1
                uses = range(ends[i], ends[i + 1])
                places = [(shards[found[k]] if found[k] >= 0 else "", int(at[k])) for k in uses]
                refused = self._refused(start + i, sample, bool(gone[i]), places)
                self.guard.done()
                if refused is not None:
                    self.rows.append(refused)
                    continue
                size = sum(self._sizes(places))
                held += size
                if window and held > WINDOW_BYTES:
                    yield window
                    window, held = [], size
                window.append(_Ready(sample, places))
        if window:
            yield window

    def _sizes(self, places: list[tuple[str, int]]) -> list[int]:
        return [int(self.library.shard(digest).lengths[row]) for digest, row in places]

    def _refused(self, item: int, sample: Sample, gone: bool, places: list[tuple[str, int]]) -> Row | None:
        """The ledger row of a sample that can't go out, as far as that shows without reading its media."""
        if not self.guard(item):
            return _not_written(sample, "failed", "crashed_worker", "writing it killed three workers")
        if gone:
            return _not_written(sample, "dropped", "withdrawn", "imm forget named it")
        if any(not digest for digest, _ in places):
            return _not_written(sample, "failed", "missing_media", "a medium is in no media index")
        largest = max(self._sizes(places), default=0)
        reason = self.writer.refuses(sample)
        if largest > self.writer.largest_medium:
            reason = f"a medium of {largest} bytes: the format holds {self.writer.largest_medium}"
        return None if reason is None else _not_written(sample, "dropped", "inexpressible", reason)


def _load(shards: dict[str, Shard], withdrawn: frozenset[bytes], window: list[_Ready]) -> None:
    """Read and check the media of some samples, so that a bad one is known before anything is written."""
    for ready in window:
        sample = ready.sample
        shown = {p.media: p.type for turn in sample.turns for p in turn.parts if p.type != "text"}
        try:
            for i, (digest, row) in enumerate(ready.places):
                shard = shards[digest]
                data = read_checked(shard, row, withdrawn)
                kind = shard.kinds[row]
                if kind == "unknown":  # damaged: it goes out as what the sample shows it as
                    kind = shown.get(i, "image")
                identity, name = sample.media[i], sample.names[i] or sample.media[i].hex()
                identity, name = sample.media[i], sample.names[i] or sample.media[i].hex()
                ready.media.append(
                    Medium(identity, kind, shard.formats[row], name, partial(bytes, data), len(data))
                )
        except Unavailable as error:
            ready.lost = _not_written(sample, "failed", error.reason, error.detail)


def _not_written(sample: Sample, outcome: str, reason: str, detail: str) -> Row:
    return Row(sample.sample_id, sample.origin, sample.source, outcome, reason, detail=detail)


def write_json(path: str, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def run(config: ExportConfig, report: Report | None = None) -> dict[str, Any]:
    """Export a manifest; the account. Raises ValueError if the folder holds anything else."""
    store = Store.open(config.store)
    folder = os.path.abspath(config.to)
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        about = {
            "manifest": manifest.file,
            "digest": manifest.digest,
            "format": config.format,
            "lines": config.lines,
        }
        key = digest_of([about, store.names("tombstones")])
        with _claimed(folder, key, config.replace):
            result, files = _export(store, manifest, config, folder, key, report)
            result = {**about, **result, "sources": manifest.document["sources"]}
            write_json(os.path.join(folder, STATE, "export.json"), {**result, "files": files})
    return {"stage": "export", **result, "to": str(config.to), "files": len(files)}


def _export(
    store: Store, manifest: Manifest, config: ExportConfig, folder: str, key: str, report: Report | None
) -> tuple[dict[str, Any], list[str]]:
    """Write what is missing of the parts, and the ledger; the account and the data files."""
    parts = {n: finished(folder, n) for n in range(len(manifest.shards))}
    todo = [n for n, part in parts.items() if part is None]
    step_config = PartConfig(config.store, manifest.file, folder, config.format, config.lines, key)
    step = Step(name=f"export {config.format}", open=open_step, config=step_config)
    for part in run_step(step, todo, workers=config.workers, report=report):
        parts[part.number] = part
    done = [part for _, part in sorted(parts.items()) if part is not None]
    with Ledger(store) as ledger:
        for part in done:
            for source, (came, written) in part.sources.items():
                ledger.came(source, came)
                ledger.kept(source, written)
            for row in part.rows:
                ledger.add(row)
        written = sum(w for part in done for _, w in part.sources.values())
        ledger.close_to(os.path.join(folder, STATE, "ledger.parquet"), written)
    files = [f for part in done for f in part.files]
    more = WRITERS[config.format].finish(Path(folder), [Path(folder, f) for f in files])
    files += [os.path.relpath(f, folder) for f in more]
    weighted = sum(int((s.selected.weights != 1).sum()) for s in manifest.shards)
    note = f"{weighted:,} samples have a weight other than 1; an export writes each once" if weighted else ""
    result = {**ledger.counts, "reasons": dict(sorted(ledger.reasons.items())), "note": note}
    return result, sorted(set(files))


@contextlib.contextmanager
def _claimed(folder: str, key: str, replace: bool) -> Iterator[None]:
    """Make the folder this export's while it runs. Raises ValueError if another export is writing there, or
    it holds anything else, unless that is another export and `replace` is given: then all of that goes."""
    state = os.path.join(folder, STATE)
    marker = os.path.join(state, "key")
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.isdir(state):
        raise ValueError(
            f"{folder} holds something else than an export: name a new or empty folder with --to"
        )
    os.makedirs(state, exist_ok=True)
    with open(os.path.join(state, "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another export is writing to {folder}: wait until it is done") from None
        found = _read_text(marker)
        if found not in (None, key):
            if not replace:
                raise ValueError(
                    f"{folder} holds another export (of another manifest or format, or from before something "
                    "was withdrawn): give --replace to delete it, or another --to"
                )
            _empty(folder)
        _sweep(folder)
        with open(marker, "w") as file:
            file.write(key)
        yield


def _read_text(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read() or None
    except FileNotFoundError:
        return None


def _empty(folder: str) -> None:
    """Delete a former export, all but the lock that is held."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name == STATE:
            for part in os.listdir(path):
                if part != "lock":
                    os.unlink(os.path.join(path, part))
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _sweep(folder: str) -> None:
    """Delete the temporary files of an export that was killed."""
    for base, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".tmp-") or name.endswith(".tmp"):
                os.unlink(os.path.join(base, name))
