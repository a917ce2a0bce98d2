"""`imm fingerprint`: a benchmark as hashes that say whether a dataset has its items, and nothing of them.

What its pictures look like comes from sidecars, its texts are read a shard at a time. Memory: some 300 bytes
an item, more with long texts (8 bytes a token), until the file is written.
"""

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from infinity_mm.columns import id_array
from infinity_mm.executor import Report, Silent
from infinity_mm.fingerprints import (
    COLUMNS,
    EMBEDDINGS,
    EXCHANGE,
    HASHES,
    read_about,
    telling,
    write_fingerprint,
)
from infinity_mm.manifest import Manifest, check_name
from infinity_mm.models.embedder import find_embedder
from infinity_mm.schema import ID, samples_from
from infinity_mm.shingles import SHINGLE, ShingleSets, shingle_sets, text_key
from infinity_mm.store import Store, file_digest
from pipelines.config import LookingConfig, MeasuringConfig
from pipelines.decontaminate.looks import MEASURES, THUMBNAIL, Looks
from pipelines.dedup.embedded import embedded
from pipelines.dedup.population import Population
from pipelines.measure import measure, settings_of
from pipelines.measures.sample_look import SampleLook

_BATCH = 4096
_SHOWN = 20


class FingerprintConfig(LookingConfig):
    """Write what tells whether a dataset has a benchmark's items."""

    manifest: str = Field(
        description="Manifest of the benchmark: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    out: str = Field(description="FILE to write (Parquet).")
    name: str | None = Field(None, description="What reports call the benchmark; else the manifest's NAME.")
    shingle: int = Field(
        SHINGLE, ge=1, le=32, description="Tokens of a shingle; shorter texts are compared exactly."
    )
    embeddings: bool = Field(False, description="Write embeddings of the pictures too, by --embedder.")
    embedder: str = Field(
        "tiny",
        description="Model of --embeddings: open_clip:MODEL/PRETRAINED, hf:ID_OR_FOLDER, onnx:FILE, or tiny, "
        "which knows the toy data of `imm scenes` and nothing else.",
    )

    @model_validator(mode="after")
    def _read(self) -> Self:
        if "embedder" in self.model_fields_set and not self.embeddings:
            raise ValueError("--embedder would be ignored: give --embeddings to write them")
        return self


def run(config: FingerprintConfig, report: Report | None = None) -> dict[str, Any]:
    """Write a fingerprint; what is in it, and the items that it could not tell whole.

    An item of which a medium can't be read is there with its texts; one of which nothing is known is failed.
    """
    store = Store.open(config.store)
    name = _name(store, config)
    report = report or Silent()
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        about = {
            "name": name,
            "manifest": manifest.digest,
            "sources": manifest.document["sources"],
            "hashes": HASHES,
            "shingle": config.shingle,
            "embedder": _embedder(config),
        }
        _check_free(config, about)
        settings = settings_of(MeasuringConfig(max_pixels=config.max_pixels), (*MEASURES, THUMBNAIL))
        files, _ = measure(store, manifest, settings, workers=config.workers, report=report)
        population = Population(manifest)
        seen = Looks(population, files, fail=False)
        exchanges, said = _exchanges(population, config.shingle, report)
        table = pa.table(
            [id_array(population.ids), seen.lists(), exchanges], schema=pa.schema(list(COLUMNS.items()))
        )
        if config.embeddings:
            table = table.append_column("embeddings", _embeddings(config, population, report))
    known = np.isin(population.media, seen.media)
    unread = [
        (int(population.owner[at]), seen.errors[int(population.media[at])])
        for at in np.flatnonzero(np.isin(population.media, list(seen.errors)))
    ]
    shown = np.bincount(population.owner[known], minlength=population.total) > 0
    there = shown | (np.diff(np.asarray(exchanges.offsets)) > 0)
    write_fingerprint(config.out, table.filter(pa.array(there)), about)
    size, kept = os.stat(config.out).st_size, int(there.sum())
    return {
        "stage": "fingerprint",
        "name": name,
        "out": config.out,
        "sha256": file_digest(config.out),
        "bytes": size,
        "in": population.total,
        "kept": kept,
        "failed": population.total - kept,
        "media": len(population.media),
        "unreadable": len(unread),
        "questions": said,
        "problems": [
            {"item": population.ids[i].tobytes().hex(), "failed": not there[i], "error": error}
            for i, error in unread[:_SHOWN]
        ],
        "note": _note(name, kept, size, [error for _, error in unread], population.total - kept),
    }


def _name(store: Store, config: FingerprintConfig) -> str:
    """The benchmark's name. Raises ValueError."""
    if config.name is None and config.manifest not in store.refs():
        raise ValueError(f"{config.manifest!r} is no NAME of a manifest: name the benchmark with --name")
    name = config.name or config.manifest
    check_name(name)
    return name


def _check_free(config: FingerprintConfig, about: dict[str, Any]) -> None:
    """Say before the work that FILE is another's. Raises ValueError."""
    folder = os.path.dirname(config.out) or "."
    if not os.path.isdir(folder):
        raise ValueError(f"--out {config.out}: there is no folder {folder}")
    if not os.path.exists(config.out) or config.replace:
        return
    try:
        same = read_about(config.out) == about
    except ValueError:
        same = False
    if not same:
        raise ValueError(f"{config.out} is there and holds something else: give --replace, or another --out")


def _embedder(config: FingerprintConfig) -> dict[str, str] | None:
    """What names the embedder. Raises ValueError for one that can't be had."""
    if not config.embeddings:
        return None
    return {"spec": config.embedder, "digest": find_embedder(config.embedder).digest}


def _embeddings(config: FingerprintConfig, population: Population, report: Report) -> pa.ListArray:
    """The column `embeddings`: zeros for a medium that has none."""
    vectors, media = embedded(config, config.embedder, population, report)
    rows = np.zeros((len(population.media_ids), vectors.dim), np.float16)
    rows[media] = vectors.stored(np.arange(len(media)))
    flat = rows[population.media]
    starts = pa.array(np.arange(len(flat) + 1) * vectors.dim, pa.int32())
    lists = pa.ListArray.from_arrays(starts, pa.array(flat.reshape(-1)))
    return pa.ListArray.from_arrays(pa.array(population.offsets, pa.int32()), lists, type=EMBEDDINGS)


def _exchanges(population: Population, shingle: int, report: Report) -> tuple[pa.ListArray, int]:
    """The column `exchanges`, and how many questions are in it."""
    manifest = population.manifests[0]
    questions, answers = _Texts(shingle), _Texts(shingle)
    counts: list[int] = []
    report.start("read texts", population.total, "items")
    for shard in population.shards:
        table = manifest.table(shard.number)
        for start in range(0, len(shard.rows), _BATCH):
            part = table.take(pa.array(shard.rows[start : start + _BATCH]))
            pairs = [_pairs(SampleLook(sample)) for sample in samples_from(part)]
            counts += [len(of) for of in pairs]
            questions.add([question for of in pairs for question, _ in of])
            answers.add([answer for of in pairs for _, answer in of])
            report.advance(len(pairs))
        manifest.release(shard.number)
    report.done()
    columns = [*questions.columns(), *answers.columns()]
    entries = pa.StructArray.from_arrays(columns, fields=list(EXCHANGE))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, entries, type=COLUMNS["exchanges"]), questions.there


def _pairs(look: SampleLook) -> list[tuple[str, str]]:
    """(question, answer) of each exchange, "" for none."""
    pairs: list[tuple[str, str]] = []
    for role, text in look.turns:
        if not text:
            continue
        if role == "user":
            pairs.append((text, ""))
        elif role == "assistant":
            if pairs and not pairs[-1][1]:
                pairs[-1] = (pairs[-1][0], text)
            else:
                pairs.append(("", text))
    return pairs


class _Texts:
    """The keys and shingles of one side of all exchanges."""

    def __init__(self, shingle: int) -> None:
        self._shingle = shingle
        self._keys: list[bytes | None] = []
        self._sets: list[ShingleSets] = []

    @property
    def there(self) -> int:
        """How many are no empty text."""
        return sum(key is not None for key in self._keys)

    def add(self, texts: Sequence[str]) -> None:
        self._keys += [text_key(text) if text else None for text in texts]
        self._sets.append(shingle_sets(texts, self._shingle))

    def columns(self) -> tuple[pa.Array, pa.Array]:
        """Keys, and the shingles that tell each text from the others."""
        values = np.concatenate([np.empty(0, np.uint64), *(s.values for s in self._sets)])
        sizes = np.concatenate([np.empty(0, np.int64), *(s.sizes() for s in self._sets)])
        sets = ShingleSets(values, np.concatenate([[0], np.cumsum(sizes)]))
        keys = pa.array(self._keys, ID)
        kept = telling(sets, np.asarray(keys.dictionary_encode().indices.fill_null(-1)))
        return keys, pa.ListArray.from_arrays(pa.array(kept.offsets, pa.int32()), pa.array(kept.values))


def _note(name: str, kept: int, size: int, errors: Sequence[str], failed: int) -> str:
    lines = [f"{size / kept:,.0f} bytes an item"] if kept else [f"{name} has no item"]
    if errors:
        lines.append(
            f"{len(errors):,} media can't be read ({errors[0]}): their items are there by text alone"
        )
    if failed:
        lines.append(f"{failed:,} items have neither a readable medium nor a text: nothing can match them")
    return "\n".join(lines)
