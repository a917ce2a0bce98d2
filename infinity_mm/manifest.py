"""Manifests: which samples, how often each, and everything needed to check and trace them.

A manifest is one readable JSON document. Its `digest` covers the format version and the ordered
(sample_id, weight), so it names the data however it was made and wherever it lies; `provenance_digest`
covers the rest of the document. Opening one checks the document, that every sample shard is there with its
size and rows, and that the media index is; a shard or index part is checked against its sha256 when it is
first read, so that a million samples open in well under a second.

Memory: 16 bytes a selected sample, plus the shards touched, mapped.
"""

import base64
import hashlib
import json
import os
import platform
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.columns import id_rows
from infinity_mm.media.index import Library, check_file
from infinity_mm.order import mix, permute, unpermute
from infinity_mm.sidecars import installed
from infinity_mm.store import NAME, Store, digest_of
from infinity_mm.tombstones import Withdrawn, read_tombstones

FORMAT = "imm-manifest"
VERSION = 1
ORDER_BLOCK = 65_536
FILE = re.compile(r"[a-z]+/([a-z_]+/)?[0-9a-f]{64}[0-9a-z.-]*\.(arrow|parquet)")


class ManifestError(ValueError):
    """A manifest that can't be found, is damaged, or whose files are."""


class Selected(NamedTuple):
    """The selected rows of one shard, rising, and their weights (float64)."""

    rows: np.ndarray
    weights: np.ndarray


# the document


def pack_rows(rows: np.ndarray, total: int) -> str:
    """A set of row numbers as text: "all", or base64 of a deflated bitmap (bit 7 of byte 0 is row 0)."""
    if len(rows) == total:
        return "all"
    bits = np.zeros(total, bool)
    bits[rows] = True
    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes(), 9)).decode()


def unpack_rows(text: str, total: int) -> np.ndarray:
    if text == "all":
        return np.arange(total)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8), count=total)
    return np.flatnonzero(bits)


def pack_selection(selected: Selected, total: int) -> list[dict[str, Any]]:
    """One bitmap for each distinct weight."""
    return [
        {"weight": float(w), "rows": pack_rows(selected.rows[selected.weights == w], total)}
        for w in np.unique(selected.weights)
    ]


def unpack_selection(groups: list[dict[str, Any]], total: int) -> Selected:
    rows = [unpack_rows(g["rows"], total) for g in groups]
    weights = [np.full(len(r), g["weight"], np.float64) for r, g in zip(rows, groups, strict=True)]
    all_rows = np.concatenate(rows) if rows else np.empty(0, np.int64)
    order = np.argsort(all_rows, kind="stable")
    return Selected(all_rows[order], (np.concatenate(weights) if weights else np.empty(0))[order])


def data_digest(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> str:
    """The digest of the data: ids (N×16 uint8) and weights (float64) in order."""
    digest = hashlib.sha256(f"{FORMAT}:{VERSION}\0".encode())
    for ids, weights in parts:
        rows = np.empty(len(ids), [("id", "u1", 16), ("weight", ">f8")])
        rows["id"], rows["weight"] = ids, weights
        digest.update(rows.tobytes())
    return digest.hexdigest()


def software() -> dict[str, str]:
    """Versions that may matter to what a stage wrote."""
    names = ("infinity-mm", "pyarrow", "numpy", "polars", "pillow", "simplejpeg", "av")
    return {"python": platform.python_version(), **installed(names)}


class ShardEntry(NamedTuple):
    """A sample shard and what of it is selected."""

    file: str
    sha256: str
    bytes: int
    rows: int
    selected: Selected


def publish(
    store: Store,
    *,
    stage: str,
    config: dict[str, Any],
    shards: Sequence[ShardEntry],
    media: Sequence[dict[str, Any]],
    ledger: dict[str, Any],
    counts: dict[str, int],
    parents: Sequence["Manifest"] = (),
    sources: dict[str, dict[str, Any]],
    origins: Sequence[dict[str, Any]] = (),
    sidecars: Sequence[dict[str, Any]] = (),
    name: str | None,
    replace: bool = False,
    extra: dict[str, Any] | None = None,
) -> "Manifest":
    """Write a manifest document, last of all files, and point NAME to it.

    Raises ManifestError if NAME names another manifest and `replace` is false.
    """

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for shard in shards:
            yield shard_ids(store, shard.file)[shard.selected.rows], shard.selected.weights

    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "digest": data_digest(parts()),
        "samples": int(sum(len(s.selected.rows) for s in shards)),
        "weight": float(sum(s.selected.weights.sum() for s in shards)),
        "stage": stage,
        "config": config,
        "parents": [{"digest": p.digest, "provenance": p.provenance} for p in parents],
        "counts": {k: counts[k] for k in ("in", "kept", "dropped", "failed", "made")},
        "ledger": ledger,
        "sources": sources,
        "shards": [
            {
                "file": s.file,
                "sha256": s.sha256,
                "bytes": s.bytes,
                "rows": s.rows,
                "select": pack_selection(s.selected, s.rows),
            }
            for s in shards
        ],
        "media": list(media),
        "sidecars": list(sidecars),
        "origins": list(origins),
        "software": software(),
        **(extra or {}),
    }
    document["provenance_digest"] = digest_of(document)
    file = document_name(document["digest"], document["provenance_digest"])
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    # A path in the configuration may have undecodable bytes (PEP 383); as JSON escapes they come back.
    store.write(f"manifests/{file}.json", text.encode(errors="backslashreplace"))
    if name is not None:
        set_ref(store, name, file, replace)
    return Manifest.open(store, file)


def document_name(digest: str, provenance: str) -> str:
    """The name of a manifest's document: two ways to the same data are two documents."""
    return f"{digest}-{provenance[:16]}"


def set_ref(store: Store, name: str, file: str, replace: bool) -> None:
    """Point NAME to a manifest. Raises ManifestError if it points elsewhere and `replace` is false."""
    check_name(name)
    with store.changing_refs():
        known = store.refs().get(name)
        if known not in (None, file) and not replace:
            raise ManifestError(
                f"the name {name!r} is taken by manifest {known[:12]}…: "
                "give --replace to point it to the new one, or another --out"
            )
        store.write(f"refs/{name}", f"{file}\n".encode())


def name_is_free(store: Store, name: str, replace: bool, stage: str, config: dict[str, Any]) -> None:
    """Say before the work, not after it, that a name is taken. The same stage with the same configuration
    passes: it may be a run that was killed. Raises ManifestError."""
    check_name(name)
    taken = store.refs().get(name)
    if taken is None or replace:
        return
    document = json.loads(store.read(f"manifests/{taken}.json"))
    if (document["stage"], document["config"]) != (stage, config):
        raise ManifestError(
            f"the name {name!r} is taken by a manifest of {document['stage']} ({taken[:12]}…): "
            "give --replace to point it to the new one, or another --out"
        )


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ManifestError(
            f"{name!r} can't name a manifest: letters, digits, '.', '_' and '-' only, at most 100"
        )


def resolve(store: Store, reference: str) -> str:
    """The document name (`<digest>-<provenance>`) of a NAME, a digest (or a unique beginning of 8 or more
    characters of one), or a path. Raises ManifestError, naming what is there."""
    refs = store.refs()
    if reference in refs:
        return refs[reference]
    names = [n.split("/", 1)[1].removesuffix(".json") for n in store.names("manifests")]
    base = os.path.basename(reference).removesuffix(".json")
    if base in names:
        return base
    if len(base) >= 8:
        found = [n for n in names if n.startswith(base.lower())]
        digests = {n.split("-")[0] for n in found}
        if len(digests) == 1:
            return found[0]
        if len(digests) > 1:
            raise ManifestError(
                f"{reference!r} begins {len(digests)} digests in {store.url}: give more of it"
            )
    known = ", ".join(sorted(refs)) or "none yet"
    raise ManifestError(f"no manifest {reference!r} in {store.url}; names there: {known}")


def _check_names(file: str, document: dict[str, Any]) -> None:
    """A document may name files of the store only. Raises ManifestError."""
    indexes = document["media"]
    named = [document["ledger"], *document["shards"], *document["origins"], *document["sidecars"]]
    names = [entry["file"] for entry in [*named, *(part for index in indexes for part in index["parts"])]]
    names += [f"media/{digest}.arrow" for index in indexes for digest in index["shards"]]
    for name in names:
        if not FILE.fullmatch(name):
            raise ManifestError(f"manifest {file[:12]}… names {name!r}, which is no file of a store")


def shard_ids(store: Store, file: str) -> np.ndarray:
    """The sample ids of a shard, N×16 uint8; only that column is read."""
    return id_rows(store.open_arrow(file, [0]).read_all().column("sample_id"))


class Manifest:
    """An opened manifest: see `open`."""

    def __init__(self, store: Store, file: str, document: dict[str, Any]) -> None:
        self.store = store
        self.file = file
        self.document = document
        self.digest: str = document["digest"]
        self.provenance: str = document["provenance_digest"]
        self.samples: int = document["samples"]
        self.shards = [
            ShardEntry(
                s["file"], s["sha256"], s["bytes"], s["rows"], unpack_selection(s["select"], s["rows"])
            )
            for s in document["shards"]
        ]
        self._batches: dict[int, pa.Table] = {}
        self._checked: set[int] = set()

    @classmethod
    def open(cls, store: Store, reference: str, check: bool = True) -> "Manifest":
        """Open and check a manifest by NAME, digest or path. Raises ManifestError saying what is wrong.

        `check` False leaves out whether its files are there: for `verify`, which names every one that isn't.
        """
        file = resolve(store, reference)
        try:
            document = json.loads(store.read(f"manifests/{file}.json"))
        except FileNotFoundError:
            raise ManifestError(
                f"{reference!r} names manifest {file[:12]}…, which is not in the store"
            ) from None
        except ValueError as error:
            raise ManifestError(f"{store.url}/manifests/{file}.json is damaged: {error}") from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ManifestError(f"{store.url}/manifests/{file}.json is not a manifest")
        if document["version"] > VERSION:
            raise ManifestError(
                f"manifest version {document['version']} is newer than this imm reads: upgrade infinity-mm"
            )
        body = {k: v for k, v in document.items() if k != "provenance_digest"}
        if digest_of(body) != document.get("provenance_digest"):
            raise ManifestError(f"{store.url}/manifests/{file}.json was changed: its digest does not match")
        manifest = cls(store, file, document)
        _check_names(file, document)
        files = [*document["shards"], *(p for m in document["media"] for p in m["parts"])]
        for entry in files if check else ():
            manifest._present(entry)
        return manifest

    def _present(self, entry: dict[str, Any]) -> None:
        try:
            size = self.store.size(entry["file"])
        except FileNotFoundError:
            raise ManifestError(f"manifest {self.digest[:12]}…: {entry['file']} is missing") from None
        if size == entry["bytes"]:
            return
        if size not in [f["bytes"] for f in read_redacted(self.store, entry["file"])["files"]]:
            raise ManifestError(
                f"manifest {self.digest[:12]}…: {entry['file']} has {size} bytes instead of "
                f"{entry['bytes']}: truncated or overwritten"
            )

    @property
    def parents(self) -> list[str]:
        """The document names of the manifests it was made from."""
        return [document_name(p["digest"], p["provenance"]) for p in self.document["parents"]]

    @cached_property
    def withdrawn(self) -> Withdrawn:
        """What is withdrawn, as of when it is first asked: one command sees one state."""
        return read_tombstones(self.store)

    def library(self) -> Library:
        """The media, each read checked against its id."""
        return Library(self.store, self.document["media"], self.withdrawn.ids)

    def table(self, number: int) -> pa.Table:
        """All rows of a sample shard, mapped; checked against its sha256 when first read."""
        if number not in self._batches:
            shard = self.shards[number]
            if number not in self._checked:
                check_shard(self.store, shard._asdict())
                self._checked.add(number)
            self._batches[number] = self.store.open_arrow(shard.file).read_all()
        return self._batches[number]

    def release(self, number: int) -> None:
        """Let a shard's mapping go."""
        self._batches.pop(number, None)

    def ids(self, number: int) -> np.ndarray:
        """The ids of the selected samples of a shard, N×16 uint8."""
        return shard_ids(self.store, self.shards[number].file)[self.shards[number].selected.rows]

    def order(self, seed: int, epoch: int = 0) -> "Order":
        """The seeded training order of one epoch."""
        return Order(self.shards, seed, epoch)

    def reference(self) -> dict[str, Any]:
        """What a command prints about the manifest it made."""
        return {
            "manifest": self.file,
            "digest": self.digest,
            **self.document["counts"],
            "samples": self.samples,
        }


class Order:
    """One epoch of a manifest: `len` positions; each is a (shard, row). Random access, and it iterates.

    A sample of weight w comes floor(w·(e+1)+u) - floor(w·e+u) times in epoch e, with u in [0,1) drawn from
    (seed, sample's place): w times in the long run, exactly w times an epoch where w is whole.
    Memory: 8 bytes a sample where weights differ from 1, else nothing.
    """

    def __init__(self, shards: Sequence[ShardEntry], seed: int, epoch: int) -> None:
        self._seed = (seed * 1_000_003 + epoch) & 0x7FFFFFFFFFFFFFFF
        self._shards = [s.selected.rows for s in shards]
        self._starts = np.cumsum([0] + [len(r) for r in self._shards])
        weights = [s.selected.weights for s in shards]
        self._ends: np.ndarray | None = None
        if any((w != 1).any() for w in weights):
            flat = np.concatenate(weights)
            offset = (mix(np.arange(len(flat), dtype=np.uint64), seed) >> np.uint64(11)) / float(1 << 53)
            counts = np.floor(flat * (epoch + 1) + offset) - np.floor(flat * epoch + offset)
            self._ends = np.cumsum(counts.astype(np.int64))
        self._length = int(self._starts[-1]) if self._ends is None else int(self._ends[-1])

    def __len__(self) -> int:
        return self._length

    def places(self, positions: np.ndarray) -> np.ndarray:
        """(shard, row) of training positions: N×2 int64."""
        index = permute(positions, self._length, self._seed)
        if self._ends is not None:
            index = np.searchsorted(self._ends, index, side="right")
        shard = np.searchsorted(self._starts, index, side="right") - 1
        rows = np.empty(len(index), np.int64)
        for number in np.unique(shard):
            of = shard == number
            rows[of] = self._shards[number][index[of] - self._starts[number]]
        return np.stack([shard, rows], axis=1)

    def positions(self, shard: int, row: int) -> np.ndarray:
        """The positions of a sample, by its place, rising; int64. None where the manifest lacks it."""
        within = int(np.searchsorted(self._shards[shard], row))
        if within == len(self._shards[shard]) or self._shards[shard][within] != row:
            return np.empty(0, np.int64)
        index = int(self._starts[shard]) + within
        if self._ends is None:
            copies = np.array([index])
        else:
            copies = np.arange(self._ends[index - 1] if index else 0, self._ends[index])
        return np.sort(unpermute(copies, self._length, self._seed))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self._length, ORDER_BLOCK):
            positions = np.arange(start, min(start + ORDER_BLOCK, self._length))
            yield from map(tuple, self.places(positions).tolist())


def check_shard(store: Store, entry: dict[str, Any]) -> None:
    """Check a shard file against its entry, or against what `gc` wrote of it. Raises ManifestError."""
    wrong = check_file(store, entry)
    if wrong is None:
        return
    for file in read_redacted(store, entry["file"])["files"]:
        if check_file(store, {**entry, **file}) is None:
            return
    raise ManifestError(f"{store.url}: {wrong}")


def read_redacted(store: Store, file: str) -> dict[str, Any]:
    """What `gc` made of a shard whose withdrawn samples it erased: `files` (sha256, bytes) and `ids`."""
    name = f"tombstones/redacted-{os.path.basename(file)}.json"
    found: dict[str, Any] = json.loads(store.read(name)) if store.exists(name) else {"files": [], "ids": []}
    return found
