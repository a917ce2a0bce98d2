"""`imm trace`: one sample's whole life, from the record it came from to each manifest that has it or lost it.

An ID is a sample id or medium id (hex, or 8 or more characters of its beginning), or an origin such as
`train.jsonl:17`. What stands for a dropped sample is followed into the manifests made later. Time: one pass
over the ids of the manifests looked at and over their ledgers, and one more for each step of such a chain.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import among, media_of
from infinity_mm.manifest import Manifest, ManifestError, resolve, shard_ids
from infinity_mm.media.index import Unavailable
from infinity_mm.schema import ID, Sample, samples_from
from infinity_mm.store import Store, read_table
from infinity_mm.tombstones import tombstones

MOST_SAMPLES = 50
STANDS = ("witness", "child")  # what a ledger names that stands for a sample it does not keep


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


def made_from(manifests: Iterable[Manifest], file: str) -> list[Manifest]:
    """Those of some manifests, parents before children, that were made from one, whose document is `file`."""
    found = {file: None}
    later = []
    for one in manifests:
        if not found.keys().isdisjoint(one.parents):
            found[one.file] = None
            later.append(one)
    return later


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
    steps = [
        (manifest.file, step)
        for manifest in manifests.values()
        for step in _steps(store, manifest, text, samples, names[manifest.file])
    ]
    if not samples and not steps:
        raise ValueError(
            f"nothing in {store.url} has {text!r}: give a sample or medium id (8 or more characters of it), "
            "or an origin such as train.jsonl:17"
        )
    stones = {value: s["why"] or True for s in tombstones(store) for value in s["values"]}
    standing = _Standing(store, manifests, names, stones)
    standing.follow(step for _, step in steps)
    life: dict[bytes, list[dict[str, Any]]] = {identity: [] for identity in samples}
    rejected: list[dict[str, Any]] = []
    for file, step in steps:
        told = standing.told(file, step)
        identity = bytes.fromhex(told.pop("sample_id", ""))
        life.get(identity, rejected).append(told)
    return {
        "id": text,
        "samples": [_about(store, manifests, sample, life[one], stones) for one, sample in samples.items()],
        "rejected_records": rejected,
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
    made = _lineage(store, manifest, samples)
    for identity, weight in _present(store, manifest, samples):
        how = {"outcome": "made", "parents": made[identity]} if identity in made else {"outcome": "kept"}
        yield {"sample_id": identity.hex(), **_about_stage(manifest, names), **how, "weight": weight}
    yield from _lost(store, manifest, names, samples, text)


def _lineage(store: Store, manifest: Manifest, wanted: Collection[bytes]) -> dict[bytes, list[str]]:
    """The parents (hex) of those samples that a stage made."""
    found: dict[bytes, list[str]] = {}
    for entry in manifest.document["sidecars"] if wanted else ():
        if entry["family"] == "lineage" and store.exists(entry["file"]):
            table = read_table(store, entry["file"])
            mine = pc.is_in(table.column("child"), value_set=pa.array(list(wanted), ID))
            for row in table.filter(mine).to_pylist():
                found.setdefault(row["child"], []).append(row["parent"].hex())
    return found


def _about_stage(manifest: Manifest, names: list[str]) -> dict[str, Any]:
    return {"stage": manifest.document["stage"], "manifest": manifest.file[:12], "names": names}


def _lost(
    store: Store, manifest: Manifest, names: list[str], wanted: Collection[bytes], origin: str | None = None
) -> Iterator[dict[str, Any]]:
    """What a stage's ledger says of some samples, and of records of an origin. Ids are hex."""
    table = read_table(store, manifest.document["ledger"]["file"])
    mask = pc.is_in(table.column("sample_id"), value_set=pa.array(list(wanted), ID))
    if origin is not None:
        mask = pc.or_(mask, pc.equal(table.column("origin"), origin))
    for row in table.filter(mask).to_pylist():
        said = {k: v.hex() if isinstance(v, bytes) else v for k, v in row.items() if v not in (None, [])}
        yield {**said, **_about_stage(manifest, names)}


def _present(store: Store, manifest: Manifest, wanted: Collection[bytes]) -> Iterator[tuple[bytes, float]]:
    """Which of some samples a manifest has, with their weights."""
    named = frozenset(wanted)
    for number, shard in enumerate(manifest.shards if named else ()):
        if not store.exists(shard.file):
            continue
        ids = manifest.ids(number)
        for i in np.flatnonzero(among(ids, named)):
            yield ids[i].tobytes(), float(shard.selected.weights[i])


class _Standing:
    """What became of the samples that stand for others in the manifests looked at.

    `seen`: of each sample (hex), the manifests (files) that have it and those whose stage did not keep it.
    """

    def __init__(
        self,
        store: Store,
        manifests: Mapping[str, Manifest],
        names: Mapping[str, list[str]],
        stones: Mapping[str, Any],
    ) -> None:
        self.store, self.manifests, self.names, self.stones = store, manifests, names, stones
        self.against = {file: _against(store, one) for file, one in manifests.items()}
        self.seen: dict[str, tuple[set[str], dict[str, dict[str, Any]]]] = {}

    def follow(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Look for what steps name, and for what those name that a later stage dropped it for."""
        fresh = {one for step in steps for one in _named(step)} - self.seen.keys()
        if not fresh:
            return
        self.seen |= {one: (set(), {}) for one in fresh}
        wanted = {bytes.fromhex(one) for one in fresh}
        every = {**self.manifests, **{m.file: m for some in self.against.values() for m in some}}
        for file, manifest in every.items():
            for identity, _ in _present(self.store, manifest, wanted):
                self.seen[identity.hex()][0].add(file)
        dropped = []
        for file, manifest in self.manifests.items():
            for step in _lost(self.store, manifest, self.names.get(file, []), wanted):
                self.seen[step["sample_id"]][1][file] = step
                dropped.append(step)
        self.follow(dropped)

    def told(self, file: str, step: dict[str, Any]) -> dict[str, Any]:
        """A step of the manifest `file` with what became of what it names, as `witness_now`, `child_now`.

        `in`: the last manifests made from it that have it, and those it was held against; `dropped`: what
        later stages say of it that did not keep it; `withdrawn`: why, if it is.
        """
        out = dict(step)
        later = made_from(self.manifests.values(), file)
        after = [m.file for m in later]
        line = [self.manifests[file], *later]
        last = [m for m in line if not any(m.file in other.parents for other in line)]
        for name in STANDS:
            if step.get(name) not in _named(step):
                continue
            there, lost = self.seen[step[name]]
            now: dict[str, Any] = {
                "in": [self._about(m) for m in [*last, *self.against[file]] if m.file in there],
                "dropped": [self.told(one, lost[one]) for one in after if one in lost and one not in there],
            }
            if step[name] in self.stones:
                now["withdrawn"] = self.stones[step[name]]
            out[f"{name}_now"] = now
        return out

    def _about(self, manifest: Manifest) -> dict[str, Any]:
        return _about_stage(manifest, self.names.get(manifest.file, []))


def _named(step: Mapping[str, Any]) -> set[str]:
    """What stands for a step's sample, but for itself: a repeated record stands for itself."""
    return {step[name] for name in STANDS if name in step} - {step.get("sample_id")}


def _against(store: Store, manifest: Manifest) -> list[Manifest]:
    """The manifests that a dedup held its own against, those that are still there."""
    found = []
    for file in manifest.document.get("dedup", {}).get("against_files", ()):
        try:
            found.append(Manifest.open(store, file, check=False))
        except ManifestError:
            continue  # it was collected: what it had is not known any more
    return found


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
