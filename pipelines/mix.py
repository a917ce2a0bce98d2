"""`imm mix`: several manifests into one, with weights and caps.

A sample's new weight is its weight there, times its manifest's, times its source's. A weight is how often
it is trained on in an epoch (see `infinity_mm.manifest.Order`); weight 0 drops it. A cap keeps a seeded
choice of a manifest's or source's samples: those with the smallest hash of (seed, sample id), so the same
ones whatever the order, and a larger cap keeps all that a smaller one kept. A sample that two manifests still
bring after that is kept from the first. Memory: 1 byte a sample, 8 of what is capped, and one bucket of ids.
"""

from collections.abc import Iterator, Sequence
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
from infinity_mm.tombstones import read_tombstones
from pipelines.config import StageConfig
from pipelines.selection import Decide, Verdict, row_of, select

PLACE = np.dtype([KEY, ("ordinal", "i8")])
MOST_WEIGHT = 1e6
KEEP, WITHDRAWN, WEIGHT_ZERO, CAP, REPEAT = range(5)


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
        description="Manifests as NAME or NAME=WEIGHT; a sample in two is kept from the first.",
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
        mixing = _Mixing(config, given, parents, sources)
        with Ledger(store) as ledger:
            shards: list[ShardEntry] = []
            for number, parent in enumerate(parents):
                shards += select(parent, ledger, mixing.decider(number))
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
    """The fate of every sample of every parent, in order: 1 byte each.

    What is withdrawn or of weight 0 goes first, then what caps leave out, and only then is a sample that an
    earlier manifest brings a repeat: so a repeat's witness is always kept.
    """

    def __init__(
        self,
        config: MixConfig,
        given: Sequence[tuple[str, float]],
        parents: Sequence[Manifest],
        sources: dict[str, Any],
    ) -> None:
        self.seed = config.seed
        self.parents = parents
        self.given = given
        self.weights = dict(assignment(text) for text in config.source)
        caps = {name: int(count) for name, count in map(assignment, config.cap)}
        names = [name for name, _ in given]
        for name in {*self.weights, *caps}:
            if name not in sources and (name in self.weights or name not in names):
                known = ", ".join(sorted({*sources, *(names if name in caps else [])}))
                raise ValueError(f"no source {name!r} in these manifests; there are {known}")
        self.starts = np.cumsum([0] + [p.samples for p in parents])
        self.fate = np.full(int(self.starts[-1]), KEEP, np.uint8)
        self._weigh()
        for name, count in caps.items():
            self._cap(name, count, names)
        self._settle_repeats()

    def _tables(self, columns: list[str]) -> Iterator[tuple[int, slice, pa.Table]]:
        """Each parent's shards: the parent's number, the places of its selected samples, their columns."""
        for number, parent in enumerate(self.parents):
            start = int(self.starts[number])
            for i, shard in enumerate(parent.shards):
                table = parent.table(i).select(columns).take(pa.array(shard.selected.rows))
                yield number, slice(start, start + table.num_rows), table
                start += table.num_rows
                parent.release(i)

    def _weigh(self) -> None:
        selected = (s.selected.weights for p in self.parents for s in p.shards)
        withdrawn = read_tombstones(self.parents[0].store)
        for (number, place, table), own in zip(
            self._tables(["sample_id", "media", "source"]), selected, strict=True
        ):
            weights = self.weigh(number, own, table.column("source").to_pylist())
            fate = self.fate[place]
            fate[weights == 0] = WEIGHT_ZERO
            fate[withdrawn.rows(table)] = WITHDRAWN

    def weigh(self, number: int, own: np.ndarray, sources: list[str]) -> np.ndarray:
        """New weights. Raises ValueError for one that no epoch can hold."""
        times = np.array([self.weights.get(name, 1.0) for name in sources])
        with np.errstate(over="ignore"):
            weights = own * self.given[number][1] * times
        if len(weights) and not weights.max() <= MOST_WEIGHT:
            raise ValueError(f"a weight of {weights.max():g}: the most is {MOST_WEIGHT:g}")
        return weights

    def _cap(self, name: str, count: int, names: list[str]) -> None:
        """Keep the `count` smallest draws of a manifest or source; equal samples count once."""
        found: list[np.ndarray] = []
        for cutting in (False, True):
            if cutting:
                draws = np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)
                if len(draws) <= count:
                    return
                limit = draws[count]
            for number, place, table in self._tables(["sample_id", "source"]):
                mine = self.fate[place] == KEEP
                mine &= (names[number] == name) | (
                    np.array(table.column("source").to_pylist()) == (name if name not in names else None)
                )
                draw = self._draw(id_rows(table.column("sample_id")))
                if cutting:
                    self.fate[place][mine & (draw >= limit)] = CAP
                else:
                    found.append(draw[mine])

    def _settle_repeats(self) -> None:
        with Spill(PLACE) as spill:
            for _, place, table in self._tables(["sample_id"]):
                alive = np.flatnonzero(self.fate[place] == KEEP)
                ids = id_rows(table.column("sample_id"))[alive]
                spill.add(key=ids, ordinal=place.start + alive)
            for rows in spill.buckets():
                self.fate[rows["ordinal"][first_of_run(rows) != np.arange(len(rows))]] = REPEAT

    def _draw(self, ids: np.ndarray) -> np.ndarray:
        high, low = halves(ids)
        return scramble(high ^ scramble(low, self.seed), self.seed)

    def decider(self, number: int) -> Decide:
        parent = self.parents[number]
        starts = np.cumsum([0] + [len(s.selected.rows) for s in parent.shards]) + int(self.starts[number])

        def decide(shard: int, at: np.ndarray, table: pa.Table) -> Verdict:
            fate = self.fate[starts[shard] + at]
            own = parent.shards[shard].selected.weights[at]
            weights = self.weigh(number, own, table.column("source").to_pylist())
            rows = [self._row(table, int(i), int(fate[i])) for i in np.flatnonzero(fate != KEEP)]
            return Verdict(fate == KEEP, rows, weights)

        return decide

    def _row(self, table: pa.Table, i: int, fate: int) -> Row:
        if fate == REPEAT:
            witness = table.column("sample_id")[i].as_py()
            return row_of(table, i, "dropped", "repeat", witness=witness, detail="an earlier manifest has it")
        if fate == CAP:
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
