"""`imm forget` and `imm gc`: withdraw a sample, a medium or a source, and delete the bytes.

`gc` deletes (1) files that no named manifest or its ancestors stand on, (2) finished pieces of runs, and
(3) the bytes of what was withdrawn: a medium's bytes become zeros in place (holes, where the file system
has them, so that the disk is free), a sample's row loses its turns, names and meta, its measures and what a
ledger quotes of it go (`infinity_mm.redaction`), and a medium that only withdrawn samples show is withdrawn
with them. Offsets, row numbers and every manifest's digest stand; `tombstones/redacted-*` keeps the new
sha256 of a file it changed.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import among, id_rows, media_of
from infinity_mm.manifest import Manifest, read_redacted
from infinity_mm.media.shards import Shard
from infinity_mm.redaction import redact_rows, telling_rows
from infinity_mm.schema import SAMPLES
from infinity_mm.store import Store, file_digest
from infinity_mm.tombstones import read_tombstones, write_tombstone
from infinity_mm.trace import lineage, trace
from infinity_mm.transfer import files_of

SWEPT = ("media", "bytes", "locations", "index", "samples", "sidecars", "ledgers", "origins", "manifests")
CHUNK = 1 << 24
# The names the store gives: a digest, for sidecars and manifests with more behind it.
OURS = re.compile(r"[a-z]+/([a-z_]+/)?[0-9a-f]{64}[0-9a-z.-]*\.(arrow|parquet|json)")
ORPHANED = "only withdrawn samples show it"


def forget(store: Store, text: str, why: str) -> dict[str, Any]:
    """Withdraw what an ID names. A hex id must be whole; a source is named by its name or URI.

    Raises ValueError if the store has nothing of that name.
    """
    sources = _sources(store)
    named = [name for name, about in sources.items() if text in (name, about.get("uri"))]
    if named:
        write_tombstone(store, "source", named, why)
        return {"kind": "source", "values": named, "samples": sum(_count(store, name) for name in named)}
    if len(text) != 32 or set(text.lower()) - set("0123456789abcdef"):
        known = ", ".join(sorted(sources)) or "none"
        raise ValueError(
            f"{text!r} is neither a whole sample or medium id (32 hex digits) nor a source; sources: {known}"
        )
    text = text.lower()
    found = trace(store, text)["samples"]
    kind = "sample" if any(s["sample_id"] == text for s in found) else "medium"
    write_tombstone(store, kind, [text], why)
    return {"kind": kind, "values": [text], "samples": len(found)}


def _sources(store: Store) -> dict[str, dict[str, Any]]:
    """The sources of all named manifests."""
    found: dict[str, dict[str, Any]] = {}
    for file in set(store.refs().values()):
        found.update(Manifest.open(store, file, check=False).document["sources"])
    return found


def _count(store: Store, source: str) -> int:
    """The most samples of a source in any named manifest's ledger account."""
    documents = (Manifest.open(store, f, check=False).document for f in set(store.refs().values()))
    return max(d["ledger"]["sources"].get(source, {}).get("kept", 0) for d in documents)


def live_files(store: Store) -> set[str]:
    """Every file that a named manifest, or an ancestor's document and ledger, stands on."""
    live: set[str] = set()
    for file in set(store.refs().values()):
        manifest = Manifest.open(store, file, check=False)
        live.update(files_of(store, manifest))
        for one in lineage(store, manifest):
            live.add(f"manifests/{one.file}.json")
            live.add(one.document["ledger"]["file"])
    for name in _walk(store, "sidecars"):  # a measure is kept as long as the shard it is of
        shard = os.path.basename(name)[:64]
        if {f"samples/{shard}.arrow", f"media/{shard}.arrow"} & live:
            live.add(name)
    return live


def gc(store: Store, *, dry_run: bool = False) -> dict[str, Any]:
    """Delete what nothing needs and what was withdrawn. Raises StoreError while another command runs."""
    with store.alone():
        live = live_files(store)
        found = [name for folder in SWEPT for name in _walk(store, folder)]
        doomed = [name for name in found if name not in live and OURS.fullmatch(name)]
        pieces = [name for folder in ("work", "tmp", "runs") for name in _walk(store, folder)]
        pieces.sort(key=lambda name: not name.endswith(".refs.arrow"))  # without it a piece is no piece
        freed = sum(store.size(name) for name in [*doomed, *pieces])
        orphaned = _orphaned(store, live)
        media = list(_withdrawn_media(store, live, orphaned))
        samples = list(_withdrawn_samples(store, live))
        measures = list(telling_rows(store, live, orphaned))
        if not dry_run:
            if orphaned:
                write_tombstone(store, "medium", [m.hex() for m in orphaned], ORPHANED)
            for name in [*doomed, *pieces]:
                store.delete(name)
            for digest, rows in media:
                _zero(store, digest, rows)
            for name, rows in measures:
                redact_rows(store, name, rows)
            for name, rows in samples:
                _redact(store, name, rows)
        return {
            "dry_run": dry_run,
            "files_deleted": len(doomed),
            "pieces_deleted": len(pieces),
            "bytes_freed": freed,
            "media_erased": sum(len(rows) for _, rows in media),
            "samples_erased": sum(len(rows) for _, rows in samples),
            "measures_erased": sum(len(rows) for _, rows in measures),
        }


def _walk(store: Store, folder: str) -> Iterator[str]:
    """All files below a folder of the store, to any depth."""
    if store.local:
        for base, _, names in os.walk(store.path(folder)):
            yield from (os.path.relpath(os.path.join(base, n), store.root) for n in sorted(names))
    elif store.fs.exists(store.path(folder)):
        yield from (str(n)[len(store.root) + 1 :] for n in sorted(store.fs.find(store.path(folder))))


def _withdrawn_media(store: Store, live: set[str], orphaned: set[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Shards in copy mode and their rows whose medium is withdrawn and whose bytes are still there."""
    doomed = read_tombstones(store).ids | orphaned
    for name in sorted(n for n in live if n.startswith("bytes/")):
        shard = Shard(store, name.split("/", 1)[1].removesuffix(".arrow"))
        named = np.flatnonzero(among(id_rows(shard.table.column("media_id")), doomed))
        rows = np.array([row for row in named if any(shard.read(int(row)))], np.int64)
        shard.close()
        if len(rows):
            yield shard.digest, rows


def _orphaned(store: Store, live: set[str]) -> set[bytes]:
    """Media that only withdrawn samples show: they are withdrawn with them. Memory: those media."""
    withdrawn = read_tombstones(store)
    orphaned: set[bytes] = set()
    for others in (False, True):
        for name in sorted(n for n in live if n.startswith("samples/")):
            table = store.open_arrow(name).read_all().select(["sample_id", "media", "source"])
            gone = withdrawn.rows(table)
            owners, media = media_of(table)
            if others:
                shown = media[~gone[owners]]
                orphaned -= {m.tobytes() for m in shown[among(shown, orphaned)]}
            else:
                orphaned |= {m.tobytes() for m in media[gone[owners]]}
        if not orphaned:
            break
    return orphaned


def _zero(store: Store, digest: str, rows: np.ndarray) -> None:
    """Write a bytes file again with some media as zeros; the old one is replaced when the new is whole."""
    shard = Shard(store, digest)
    name = f"bytes/{digest}.arrow"
    holes = sorted((int(shard.offsets[r]), int(shard.lengths[r])) for r in rows)
    with store.scratch() as temporary:
        with store.open_file(name) as source, open(temporary, "wb") as sink:
            at = 0
            for offset, length in [*holes, (store.size(name), 0)]:
                while at < offset:
                    chunk = source.read(min(CHUNK, offset - at))
                    sink.write(chunk)
                    at += len(chunk)
                at += length
                source.seek(at)
                sink.seek(at)
            sink.truncate(at)
        store.publish(temporary, name)


def _withdrawn_samples(store: Store, live: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Sample and origins shards and their rows that are withdrawn themselves and still have their text."""
    withdrawn = read_tombstones(store)
    for name in sorted(n for n in live if n.startswith(("samples/", "origins/"))):
        table = store.open_arrow(name).read_all()
        rows = np.flatnonzero(withdrawn.themselves(table))
        turns, meta = (table.column(c).take(pa.array(rows)) for c in ("turns", "meta"))
        text = np.asarray(pc.list_value_length(turns)) > 0
        rows = rows[text | pc.not_equal(meta, "{}").to_numpy()]
        if len(rows):
            yield name, rows


def _redact(store: Store, name: str, rows: np.ndarray) -> None:
    """Write a sample shard again without the text of some rows; ids, media, source and origin stay."""
    reader = store.open_arrow(name)
    before = list(read_redacted(store, name)["ids"])
    start = 0
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, SAMPLES) as writer:
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                gone = np.isin(np.arange(start, start + batch.num_rows), rows)
                start += batch.num_rows
                values = batch.to_pylist()
                for value, lost in zip(values, gone, strict=True):
                    if lost:
                        before.append(value["sample_id"].hex())
                        nameless = [None] * len(value["media"])
                        value |= {"turns": [], "rejected": None, "meta": "{}", "names": nameless}
                writer.write_batch(pa.RecordBatch.from_pylist(values, SAMPLES))
        file = {"sha256": file_digest(temporary), "bytes": os.path.getsize(temporary)}
        # The note first, and the earlier states stay in it: a crash between the two leaves a known shard.
        note = f"tombstones/redacted-{os.path.basename(name)}.json"
        entry = {"files": [*read_redacted(store, name)["files"], file], "ids": sorted(set(before))}
        store.write(note, json.dumps(entry).encode())
        store.publish(temporary, name)
