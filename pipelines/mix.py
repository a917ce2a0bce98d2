"""`imm mix`: several manifests into one, with weights and caps.

A sample's new weight is its weight there, times its manifest's, times its source's. A weight is how often
it is trained on in an epoch (see `infinity_mm.manifest.Order`); weight 0 drops it. A cap keeps a seeded
choice of a manifest's or source's samples: those with the smallest hash of (seed, sample id), so the same
ones whatever the order, and a larger cap keeps all that a smaller one kept. A sample in two manifests is
kept from the first. Memory: 8 bytes a sample of what is capped, and one bucket of ids.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from infinity_mm.columns import id_rows
from infinity_mm.executor import Report
from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, Selected, ShardEntry, name_is_free, publish
from infinity_mm.order import mix as scramble
from infinity_mm.spill import KEY, Spill, first_of_run, halves
from infinity_mm.store import Store
from pipelines.config import StageConfig
from pipelines.selection import Verdict, row_of, select

PLACE = np.dtype([KEY, ("ordinal", "i8")])


def assignment(text: str) -> tuple[str, float]:
    """`NAME=NUMBER`, the number not negative; `NAME` alone is 1. Raises ValueError."""
    name, equals, number = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{text!r}: {number!r} is not a number; write NAME=NUMBER") from None
    if not name or not 0 <= value < float("inf"):
        raise ValueError(f"{text!r}: write NAME=NUMBER with a number of 0 or more")
    return name, value


class MixConfig(StageConfig):
    """Mix manifests by weight, with caps."""

    manifests: list[str] = Field(
        min_length=1,
        description="Manifests as NAME or NAME=WEIGHT.",
        json_schema_extra={"positional": True},
    )
    out: str = Field(description="NAME of the manifest made.")
    source: list[str] = Field([], description="SOURCE=WEIGHT: times this for one source (repeatable).")
    cap: list[str] = Field(
        [], description="NAME=COUNT: at most COUNT samples of a manifest or source (repeatable)."
    )
    seed: int = Field(0, description="Seed of the choice that caps make.")

    @field_validator("manifests", "source", "cap")
    @classmethod
    def _assignments(cls, values: list[str]) -> list[str]:
        for value in values:
            assignment(value)
        return values

    @field_validator("cap")
    @classmethod
    def _whole(cls, values: list[str]) -> list[str]:
        for value in values:
            if "=" not in value or assignment(value)[1] % 1:
                raise ValueError(f"{value!r}: a cap is NAME=COUNT with a whole number")
        return values


def run(config: MixConfig, report: Report | None = None) -> dict[str, Any]:
    """Mix manifests; the account and the manifest made."""
    store = Store.open(config.store)
    name_is_free(store, config.out, config.replace, "mix", config.recorded())
    with store.using():
        given = [assignment(text) for text in config.manifests]
        parents = [Manifest.open(store, name) for name, _ in given]
        sources = merge_sources(parents)
        mixing = _Mixing(config, [name for name, _ in given], parents, sources)
        with Ledger(store) as ledger:
            shards: list[ShardEntry] = []
            for number, (parent, (_, weight)) in enumerate(zip(parents, given, strict=True)):
                decide = mixing.decider(number, weight)
                shards += select(parent, ledger, decide)
            shards = join_shards(shards)
            entry = ledger.close(sum(len(s.selected.rows) for s in shards))
        manifest = publish(
            store,
            stage="mix",
            config=config.recorded(),
            shards=shards,
            media=unique([m for p in parents for m in p.document["media"]]),
            ledger=entry,
            counts=dict(ledger.counts),
            parents=parents,
            sources=sources,
            origins=unique([o for p in parents for o in p.document["origins"]]),
            name=config.out,
            replace=config.replace,
        )
    return {
        "stage": "mix",
        "name": config.out,
        **manifest.reference(),
        "weight": manifest.document["weight"],
        "reasons": entry["reasons"],
    }


class _Mixing:
    """What each sample's fate needs: repeats across manifests, thresholds of caps, weights of sources."""

    def __init__(
        self, config: MixConfig, names: Sequence[str], parents: Sequence[Manifest], sources: dict[str, Any]
    ) -> None:
        self.seed = config.seed
        self.parents = parents
        self.weights = dict(assignment(text) for text in config.source)
        self.starts = np.cumsum([0] + [p.samples for p in parents])
        self.repeat = self._repeats()
        caps = {name: int(count) for name, count in map(assignment, config.cap)}
        for name in {*self.weights, *caps}:
            if name not in sources and (name in self.weights or name not in names):
                known = ", ".join(sorted({*sources, *(names if name in caps else [])}))
                raise ValueError(f"no source {name!r} in these manifests; there are {known}")
        self.manifest_caps = {
            i: self._threshold(count, number=i)
            for i, n in enumerate(names)
            if (count := caps.get(n)) is not None
        }
        self.source_caps = {n: self._threshold(c, source=n) for n, c in caps.items() if n not in names}

    def _repeats(self) -> np.ndarray:
        """Of all samples of all parents in order: whether an earlier parent has it."""
        repeat = np.zeros(int(self.starts[-1]), bool)
        with Spill(PLACE) as spill:
            start = 0
            for parent in self.parents:
                for number in range(len(parent.shards)):
                    ids = parent.ids(number)
                    spill.add(key=ids, ordinal=np.arange(start, start + len(ids)))
                    start += len(ids)
            for rows in spill.buckets():
                repeat[rows["ordinal"][first_of_run(rows) != np.arange(len(rows))]] = True
        return repeat

    def _draw(self, ids: np.ndarray) -> np.ndarray:
        high, low = halves(ids)
        return scramble(high ^ scramble(low, self.seed), self.seed)

    def _threshold(self, count: int, number: int | None = None, source: str | None = None) -> int:
        """The draw below which `count` samples of the manifest or source lie."""
        draws = []
        for i, parent in enumerate(self.parents):
            if number is not None and number != i:
                continue
            start = int(self.starts[i])
            for shard in range(len(parent.shards)):
                ids = parent.ids(shard)
                wanted = ~self.repeat[start : start + len(ids)]
                start += len(ids)
                if source is not None:
                    column = (
                        parent.table(shard)
                        .column("source")
                        .take(pa.array(parent.shards[shard].selected.rows))
                    )
                    wanted &= np.array(column.to_pylist()) == source
                    parent.release(shard)
                draws.append(self._draw(ids[wanted]))
        all_draws = np.concatenate(draws) if draws else np.empty(0, np.uint64)
        if len(all_draws) <= count:
            return 1 << 64
        return int(np.partition(all_draws, count)[count])

    def decider(self, number: int, weight: float) -> Any:
        parent = self.parents[number]
        ordinals = np.cumsum([0] + [len(s.selected.rows) for s in parent.shards]) + int(self.starts[number])

        def decide(shard: int, at: np.ndarray, table: pa.Table) -> Verdict:
            ids = id_rows(table.column("sample_id"))
            repeat = self.repeat[ordinals[shard] + at]
            draws = self._draw(ids)
            names = table.column("source").to_pylist()
            capped = np.zeros(len(ids), bool)
            if number in self.manifest_caps:
                capped |= draws >= np.uint64(min(self.manifest_caps[number], (1 << 64) - 1))
                capped &= self.manifest_caps[number] < 1 << 64
            for source, limit in self.source_caps.items():
                if limit < 1 << 64:
                    capped |= (draws >= np.uint64(limit)) & (np.array(names) == source)
            weights = parent.shards[shard].selected.weights[at] * weight
            weights = weights * np.array([self.weights.get(name, 1.0) for name in names])
            keep = ~repeat & ~capped & (weights > 0)
            rows = [self._row(table, int(i), repeat, capped, number) for i in np.flatnonzero(~keep)]
            return Verdict(keep, rows, weights)

        return decide

    def _row(self, table: pa.Table, i: int, repeat: np.ndarray, capped: np.ndarray, number: int) -> Row:
        if repeat[i]:
            witness = table.column("sample_id")[i].as_py()
            return row_of(table, i, "dropped", "repeat", witness=witness, detail="an earlier manifest has it")
        if capped[i]:
            return row_of(table, i, "dropped", "cap", detail="beyond the cap of its manifest or source")
        return row_of(table, i, "dropped", "weight_zero", value="0", limit="weight > 0")


def merge_sources(parents: Sequence[Manifest]) -> dict[str, dict[str, Any]]:
    """The source tables of several manifests in one. Raises ValueError where they contradict each other."""
    merged: dict[str, dict[str, Any]] = {}
    for parent in parents:
        for name, about in parent.document["sources"].items():
            known = merged.setdefault(name, dict(about))
            for field, value in about.items():
                if known.get(field) is None:
                    known[field] = value
                elif value is not None and value != known[field]:
                    raise ValueError(
                        f"source {name!r} has {field} {known[field]!r} in one manifest and {value!r} "
                        "in another: ingest one of them with another --source"
                    )
    return merged


def join_shards(shards: Sequence[ShardEntry]) -> list[ShardEntry]:
    """One entry a file, in the order files first come; selections of the same file are put together."""
    joined: dict[str, ShardEntry] = {}
    for shard in shards:
        if shard.file in joined:
            one, two = joined[shard.file].selected, shard.selected
            rows, weights = np.concatenate([one.rows, two.rows]), np.concatenate([one.weights, two.weights])
            order = np.argsort(rows, kind="stable")
            joined[shard.file] = shard._replace(selected=Selected(rows[order], weights[order]))
        else:
            joined[shard.file] = shard
    return list(joined.values())


def unique(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries without repetition, in order."""
    out: list[dict[str, Any]] = []
    for entry in entries:
        if entry not in out:
            out.append(entry)
    return out
