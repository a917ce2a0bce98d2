"""`imm trace`: one sample's whole life, from the record it came from to each manifest that has it or lost it.

An ID is a sample id or medium id (hex, or 8 or more characters of its beginning), or an origin such as
`train.jsonl:17`. Time: one pass over the ids of the manifests looked at, and over their ledgers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import among, media_of
from infinity_mm.manifest import Manifest, ManifestError, resolve, shard_ids
from infinity_mm.media.index import Unavailable
from infinity_mm.schema import Sample, samples_from
from infinity_mm.store import Store, read_table
from infinity_mm.tombstones import tombstones

MOST_SAMPLES = 50


def lineage(store: Store, manifest: Manifest) -> list[Manifest]:
    """A manifest and all it came from, parents before children."""
    found: dict[str, Manifest] = {}

    def visit(one: Manifest) -> None:
        if one.file in found:
            return
        for file in one.parents:
            try:
                visit(Manifest.open(store, file, check=False))
            except ManifestError:
                continue  # the parent's document was collected; its line in `parents` still names it
        found[one.file] = one

    visit(manifest)
    return list(found.values())


def trace(store: Store, text: str, reference: str | None = None) -> dict[str, Any]:
    """All that is known of an ID, in one manifest's lineage or in all named manifests'.

    Raises ValueError if nothing in the store has it.
    """
    files = [resolve(store, reference)] if reference else sorted(set(store.refs().values()))
    manifests: dict[str, Manifest] = {}
    for file in files:
        for one in lineage(store, Manifest.open(store, file, check=False)):
            manifests.setdefault(one.file, one)
    names = {file: sorted(n for n, f in store.refs().items() if f == file) for file in manifests}
    samples = _samples(store, text, list(manifests.values()))
    life: dict[bytes, list[dict[str, Any]]] = {identity: [] for identity in samples}
    rejected = []
    for manifest in manifests.values():
        for step in _steps(store, manifest, text, samples, names[manifest.file]):
            if step["sample_id"] is None:
                rejected.append(step)
            else:
                life[step["sample_id"]].append({k: v for k, v in step.items() if k != "sample_id"})
    if not samples and not rejected:
        raise ValueError(
            f"nothing in {store.url} has {text!r}: give a sample or medium id (8 or more characters of it), "
            "or an origin such as train.jsonl:17"
        )
    stones = {value: s["why"] or True for s in tombstones(store) for value in s["values"]}
    return {
        "id": text,
        "samples": [
            _about(store, manifests, sample, life[identity], stones) for identity, sample in samples.items()
        ],
        "rejected_records": [{k: v for k, v in r.items() if k != "sample_id"} for r in rejected],
    }


def _samples(store: Store, text: str, manifests: list[Manifest]) -> dict[bytes, Sample]:
    """The samples an ID names: by their own id, by a medium's, or by an origin."""
    found: dict[bytes, Sample] = {}
    prefix = _prefix(text)
    for file in dict.fromkeys(s.file for m in manifests for s in m.shards):
        if not store.exists(file):
            continue
        mask: np.ndarray
        if prefix is None:
            table = store.open_arrow(file).read_all()
            mask = pc.equal(table.column("origin"), text).to_numpy()
        else:
            mask = _begins(shard_ids(store, file), prefix)
            table = store.open_arrow(file).read_all()
            owners, ids = media_of(table)
            mask = mask.copy()
            np.logical_or.at(mask, owners, _begins(ids, prefix))
        for sample in samples_from(table.take(pa.array(np.flatnonzero(mask)[:MOST_SAMPLES]))):
            found.setdefault(sample.sample_id, sample)
    return dict(list(found.items())[:MOST_SAMPLES])


def _prefix(text: str) -> str | None:
    lower = text.lower()
    return lower if 8 <= len(lower) <= 32 and not set(lower) - set("0123456789abcdef") else None


def _begins(ids: np.ndarray, prefix: str) -> np.ndarray:
    """Which ids (N×16 uint8) begin with a hex prefix."""
    whole = np.frombuffer(bytes.fromhex(prefix[: len(prefix) // 2 * 2]), np.uint8)
    mask: np.ndarray = (ids[:, : len(whole)] == whole).all(axis=1)
    if len(prefix) % 2:
        mask &= ids[:, len(whole)] >> 4 == int(prefix[-1], 16)
    return mask


def _steps(
    store: Store, manifest: Manifest, text: str, samples: dict[bytes, Sample], names: list[str]
) -> Iterator[dict[str, Any]]:
    """What one stage did with the samples, and with records of that origin that never became one."""
    document = manifest.document
    about = {"stage": document["stage"], "manifest": manifest.file[:12], "names": names}
    for identity, weight in _present(store, manifest, samples):
        yield {"sample_id": identity, **about, "outcome": "kept", "weight": weight}
    table = read_table(store, document["ledger"]["file"])
    mask = pc.equal(table.column("origin"), text)
    if samples:
        ids = pa.array(list(samples), table.schema.field("sample_id").type)
        mask = pc.or_(mask, pc.is_in(table.column("sample_id"), value_set=ids))
    for row in table.filter(mask).to_pylist():
        kept = {k: v.hex() if isinstance(v, bytes) else v for k, v in row.items() if v not in (None, [])}
        yield {**kept, **about, "sample_id": row["sample_id"] if row["sample_id"] in samples else None}


def _present(store: Store, manifest: Manifest, samples: dict[bytes, Sample]) -> Iterator[tuple[bytes, float]]:
    if not samples:
        return
    wanted = set(samples)
    for number, shard in enumerate(manifest.shards):
        if not store.exists(shard.file):
            continue
        ids = manifest.ids(number)
        for i in np.flatnonzero(among(ids, wanted)):
            yield ids[i].tobytes(), float(shard.selected.weights[i])


def _about(
    store: Store,
    manifests: dict[str, Manifest],
    sample: Sample,
    life: list[dict[str, Any]],
    stones: dict[str, Any],
) -> dict[str, Any]:
    media = []
    for identity, name in zip(sample.media, sample.names, strict=True):
        entry: dict[str, Any] = {"media_id": identity.hex(), "name": name}
        for manifest in manifests.values():
            try:
                info = manifest.library().info(identity)
            except (Unavailable, ValueError, OSError):
                continue
            entry |= {k: info[k] for k in ("kind", "format", "width", "height", "length")}
            break
        if identity.hex() in stones:
            entry["withdrawn"] = stones[identity.hex()]
        media.append(entry)
    out: dict[str, Any] = {
        "sample_id": sample.sample_id.hex(),
        "origin": sample.origin,
        "source": sample.source,
        "turns": [
            {"role": t.role, "parts": [p.text if p.type == "text" else f"<{p.type}>" for p in t.parts]}
            for t in sample.turns
        ],
        "media": media,
        "life": life,
    }
    if sample.sample_id.hex() in stones:
        out["withdrawn"] = stones[sample.sample_id.hex()]
    return out
