"""`imm manifest verify`: read everything a manifest stands on and say what is wrong.

Without `media`: the document, the digest of the data, every shard, index part, sidecar, ledger and origins
file by sha256, every sample's id recomputed, and that each medium's bytes are there in full length. With
`media`: every medium's bytes are read and checked against its id. Memory: one shard a worker.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.columns import media_of
from infinity_mm.executor import Guard, Report, Step, Work, run
from infinity_mm.manifest import Manifest, ManifestError, check_shard, data_digest, read_redacted
from infinity_mm.media.index import Unavailable, check_file, read_checked
from infinity_mm.media.shards import Shard, resolve
from infinity_mm.schema import sample_id, samples_from, turns_digest
from infinity_mm.store import Store
from infinity_mm.tombstones import read_tombstones

MOST_SHOWN = 20
BATCH = 4096


class VerifyConfig(NamedTuple):
    store: str
    media: bool


class Checked(NamedTuple):
    """What one shard came to."""

    problems: list[str]
    rows: int
    bytes: int
    withdrawn: int


def open_step(config: VerifyConfig) -> Work:
    """The map step: ("samples", shard entry) or ("media", digest) -> Checked."""
    store = Store.open(config.store)
    withdrawn = read_tombstones(store).ids

    def work(unit: tuple[str, Any], guard: Guard) -> Checked:
        if unit[0] == "samples":
            return _samples(store, unit[1])
        return _media(store, unit[1], withdrawn, config.media)

    return work


def _samples(store: Store, entry: dict[str, Any]) -> Checked:
    try:
        check_shard(store, entry)
        table = store.open_arrow(entry["file"]).read_all()
    except (ManifestError, OSError, pa.ArrowInvalid) as error:
        return Checked([str(error)], 0, 0, 0)
    problems = []
    redacted = {bytes.fromhex(i) for i in read_redacted(store, entry["file"])["ids"]}
    for start in range(0, table.num_rows, BATCH):
        for sample in samples_from(table.slice(start, BATCH)):
            if sample.sample_id in redacted:
                continue
            if sample_id(turns_digest(sample.turns, sample.rejected), sample.media) != sample.sample_id:
                problems.append(f"{entry['file']}: sample {sample.sample_id.hex()} does not have its id")
    return Checked(problems, table.num_rows, 0, len(redacted))


def _media(store: Store, digest: str, withdrawn: frozenset[bytes], read: bool) -> Checked:
    problems: list[str] = []
    size = gone = 0
    try:
        shard = Shard(store, digest)
    except (OSError, pa.ArrowInvalid) as error:
        return Checked([f"media/{digest}.arrow can't be read: {error}"], 0, 0, 0)
    if shard.content_digest() != digest:
        problems.append(f"media/{digest}.arrow does not have the digest it is named by")
    try:
        for row in range(len(shard)):
            medium = shard.media_id(row)
            if medium in withdrawn:
                gone += 1
                continue
            try:
                if read:
                    size += len(read_checked(shard, row, withdrawn))
                else:
                    _present(store, shard, row)
            except Unavailable as error:
                problems.append(str(error))
    finally:
        shard.close()
    return Checked(problems, len(shard), size, gone)


def _present(store: Store, shard: Shard, row: int) -> None:
    """Whether the bytes can be there: the file is, and is long enough. Raises Unavailable."""
    wanted = f"medium {shard.media_id(row).hex()}"
    offset, length = int(shard.offsets[row]), int(shard.lengths[row])
    try:
        if offset >= 0:
            name = f"bytes/{shard.digest}.arrow"
            have, need = store.size(name), offset + length
        else:
            location = shard.location(row)
            name = resolve(store, location, shard.roots)
            have, need = os.stat(name).st_size, location.offset + length
            if location.length < 0 and have > need:
                raise Unavailable("changed_media", f"{wanted}: {name} has {have} bytes instead of {need}")
    except FileNotFoundError as error:
        raise Unavailable("missing_media", f"{wanted}: {error}") from None
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise Unavailable("unreadable_media", f"{wanted}: {error}") from None
    if have < need:
        raise Unavailable("unreadable_media", f"{wanted}: {name} is truncated ({have} of {need} bytes)")


def verify(
    store: Store, reference: str, *, media: bool, workers: int = 0, report: Report | None = None
) -> dict[str, Any]:
    """Check a manifest; `ok`, `problems` (the first MOST_SHOWN, and how many in all), and what was read.

    Raises ManifestError only where the document itself can't be opened.
    """
    manifest = Manifest.open(store, reference, check=False)
    problems = list(_files(store, manifest.document))
    shards = [{k: v for k, v in s.items() if k != "select"} for s in manifest.document["shards"]]
    units = [("samples", s) for s in shards] + [("media", d) for d in manifest.library().shards()]
    step = Step(name="verify", open=open_step, config=VerifyConfig(store.url, media))
    checked = run(step, units, workers=workers, report=report)
    for answer in checked:
        problems += answer.problems
    gone = 0
    if not problems:
        gone, wrong = _whole(manifest)
        problems += wrong
    samples, rest = checked[: len(shards)], checked[len(shards) :]
    return {
        "ok": not problems,
        "manifest": manifest.file,
        "digest": manifest.digest,
        "samples": manifest.samples,
        "samples_read": sum(c.rows for c in samples),
        "media": sum(c.rows for c in rest),
        "media_bytes_read": sum(c.bytes for c in rest),
        "withdrawn": {"samples": gone, "media": sum(c.withdrawn for c in rest)},
        "problem_count": len(problems),
        "problems": problems[:MOST_SHOWN],
    }


def _files(store: Store, document: dict[str, Any]) -> Iterator[str]:
    """Everything but sample shards and media that the document names by its digest."""
    for entry in [p for m in document["media"] for p in m["parts"]]:
        wrong = check_file(store, entry)
        if wrong:
            yield wrong
    for entry in [*document["origins"], *document["sidecars"], document["ledger"]]:
        try:
            check_shard(store, entry)
        except ManifestError as error:
            yield str(error)
    counts = document["counts"]
    if counts["in"] != counts["kept"] + counts["dropped"] + counts["failed"]:
        yield f"the account does not close: {counts}"
    if document["samples"] != counts["kept"] + counts["made"]:
        yield f"{document['samples']} samples, but the account says {counts['kept'] + counts['made']}"


def _whole(manifest: Manifest) -> tuple[int, list[str]]:
    """How many selected samples are withdrawn; and whether ids and weights have the digest, and every
    medium of a selected sample is indexed."""
    problems = []
    parts = ((manifest.ids(i), s.selected.weights) for i, s in enumerate(manifest.shards))
    if data_digest(parts) != manifest.digest:
        problems.append("the data does not have the manifest's digest")
    library, withdrawn, gone = manifest.library(), manifest.withdrawn, 0
    for number, shard in enumerate(manifest.shards):
        columns = manifest.table(number).select(["sample_id", "media", "source"])
        table = columns.take(pa.array(shard.selected.rows))
        ids = media_of(table)[1]
        missing = int((library.find_many(ids)[0] < 0).sum()) if len(ids) else 0
        if missing:
            problems.append(f"{shard.file}: {missing} media are in no index of the manifest")
        gone += int(withdrawn.rows(table).sum())
        manifest.release(number)
    return gone, problems
