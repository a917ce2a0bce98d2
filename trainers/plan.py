"""The plan: which samples a step takes and how they lie in packs, all known before anything is trained.

The samples of a stage are one stream, epoch after epoch of the mixture's seeded order. A step is `batch`
consecutive ones of it, packed among themselves; with a `group`, that many steps' samples are packed together
and the packs dealt to the steps, so that small batches fill their packs too (where that makes fewer packs
than steps, each step packs its own). The last step may be short. A cursor is a count of samples consumed, of
which steps are made alone: they are the same for any number of ranks and workers.

Left out, and counted as consumed: samples that can't be laid out, those withdrawn, and where asked those
longer than a pack. Time: a step's packing, 5 to 25 ms for 512 samples. Memory: a byte a sample; lengths are
mapped.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np

from trainers.lengths import Lengths
from trainers.mixture import Mixture
from trainers.packing import pack

TAKEN, FAILED, WITHDRAWN, OVERLONG = range(4)  # what becomes of a sample
TOLD = 10  # samples that a message or a table names


@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """How a stream of samples becomes steps."""

    batch: int  # samples a step
    length: int  # tokens a pack holds at most
    tiles: int  # tiles a pack holds at most
    group: int = 1  # steps whose samples are packed together
    epochs: int = 1
    seed: int = 0  # of the order
    overlong: Literal["refuse", "skip"] = "refuse"  # what is done with samples longer than a pack


class PlannedStep(NamedTuple):
    """A step before it is read. A turn is a place, (shard of the mixture, row), and the epoch it comes in."""

    number: int
    packs: tuple[np.ndarray, ...]  # the turns in each pack, int64 [D, 3]
    left_out: np.ndarray  # turns, int64 [N, 3]
    consumed: int  # the cursor when it is done
    tokens: int
    supervised: int
    tiles: int


@dataclass(kw_only=True, slots=True)
class Figures:
    """What a stage will come to."""

    steps: int
    samples: int  # of all epochs, with those left out
    taken: int = 0
    tokens: int = 0
    supervised: int = 0
    tiles: int = 0
    packs: int = 0
    unsupervised: int = 0  # samples taken in which nothing is supervised
    largest: tuple[int, int] = (0, 0)  # most tokens and most tiles of a pack
    fill: float = 0.0  # tokens over what the packs could hold
    tile_fill: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    sources: dict[str, list[int]] = field(default_factory=dict)  # samples and supervised tokens of each
    longest: list[dict[str, Any]] = field(default_factory=list)  # sample_id, tokens, tiles; most tokens first


class Plan:
    """The steps of a stage. Raises ValueError, with ids, for samples longer than a pack if they are refused,
    and where nothing is left."""

    def __init__(self, mixture: Mixture, lengths: Lengths, batching: Batching) -> None:
        self.mixture, self.lengths, self.batching = mixture, lengths, batching
        self._fates = [self._fate(number) for number in range(len(mixture.shards))]
        if batching.overlong == "refuse":
            self._refuse_overlong()
        chosen = zip(self._fates, mixture.shards, strict=True)
        if not any((fates[shard.selected.rows] == TAKEN).any() for fates, shard in chosen):
            told = {row["reason"]: row["detail"] for row in islice(self.left_out(), 1000)}
            reasons = ", ".join(f"{reason} ({detail})" for reason, detail in sorted(told.items()))
            raise ValueError(f"no sample is left to train on: {reasons or 'the mixture is empty'}")
        self._orders = [mixture.order(batching.seed, epoch) for epoch in range(batching.epochs)]
        self._ends = np.cumsum([len(order) for order in self._orders])
        self.total = int(self._ends[-1])  # samples
        self.steps = -(-self.total // batching.batch)
        self._group: tuple[int, list[PlannedStep]] = (-1, [])  # the last one asked for

    def step(self, number: int) -> PlannedStep:
        """A step of 0 to `steps` - 1."""
        group, place = divmod(number, self.batching.group)
        return self._steps_of(group)[place]

    def number(self, cursor: int) -> int:
        """The step that begins at a cursor, `steps` at the end. Raises ValueError where none does."""
        if cursor == self.total:
            return self.steps
        group = cursor // (self.batching.batch * self.batching.group)
        begins = group * self.batching.batch * self.batching.group
        for step in self._steps_of(group) if 0 <= cursor < self.total else ():
            if cursor == begins:
                return step.number
            begins = step.consumed
        raise ValueError(
            f"no step begins after {cursor:,} of {self.total:,} samples: batch, group and mixture must be "
            "those the cursor was made with"
        )

    def at_boundary(self, cursor: int) -> bool:
        """Whether a group ends at a cursor: what was consumed is then the beginning of the stream, and what
        follows may come from another plan."""
        return cursor == self.total or cursor % (self.batching.batch * self.batching.group) == 0

    def turns(self, start: int, stop: int) -> np.ndarray:
        """The stream from a position to another, as turns, int64 [N, 3]."""
        positions = np.arange(start, min(stop, self.total))
        epochs = np.searchsorted(self._ends, positions, side="right")
        begins = np.concatenate([[0], self._ends])[epochs]
        parts = [
            self._orders[epoch].places((positions - begins)[epochs == epoch]) for epoch in np.unique(epochs)
        ]
        places = np.concatenate([*parts, np.zeros((0, 2), np.int64)])
        return np.concatenate([places, epochs[:, None]], axis=1)

    def left_out(self) -> Iterator[dict[str, Any]]:
        """A ledger row for each selected sample that no step will take."""
        for number, (fates, shard) in enumerate(zip(self._fates, self.mixture.shards, strict=True)):
            for row in shard.selected.rows[fates[shard.selected.rows] != TAKEN].tolist():
                yield self.why_left_out((number, row))

    def why_left_out(self, place: tuple[int, int]) -> dict[str, Any]:
        """The ledger row of a sample that is left out."""
        shard, row = place
        fate = self._fates[shard][row]
        if fate == WITHDRAWN:
            return self.mixture.ledger_row(
                place, "dropped", "withdrawn: imm forget named it or what it shows"
            )
        if fate == FAILED:
            error = self.lengths.error(self.mixture.shards[shard].sha256, row)
            return self.mixture.ledger_row(place, "failed", error or "unknown")
        sha256 = self.mixture.shards[shard].sha256
        tokens, tiles = (int(self.lengths.column(sha256, name)[row]) for name in ("tokens", "tiles"))
        limits = f"{self.batching.length} tokens, {self.batching.tiles} tiles"
        error = "overlong: longer than a pack"
        return self.mixture.ledger_row(
            place, "dropped", error, value=f"{tokens} tokens, {tiles} tiles", limit=limits
        )

    def figures(self) -> Figures:
        """What all steps come to; every one is packed for it."""
        found = Figures(steps=self.steps, samples=self.total)
        by_source = np.zeros((len(self.mixture.sources), 2), np.int64)
        for number in range(self.steps):
            step = self.step(number)
            found.packs += len(step.packs)
            found.tokens += step.tokens
            found.supervised += step.supervised
            found.tiles += step.tiles
            for places in step.packs:
                lengths = self.lengths.of(self.mixture, places)
                found.taken += len(places)
                found.unsupervised += int((lengths[:, 1] == 0).sum())
                largest = np.maximum(found.largest, lengths.sum(axis=0)[[0, 2]])
                found.largest = int(largest[0]), int(largest[1])
                sources = [self.mixture.source_numbers(shard)[row] for shard, row, _ in places.tolist()]
                np.add.at(by_source, sources, np.stack([np.ones_like(lengths[:, 1]), lengths[:, 1]], axis=1))
            found.left_out.update(self.why_left_out((s, r))["reason"] for s, r, _ in step.left_out.tolist())
        found.sources = dict(zip(self.mixture.sources, by_source.tolist(), strict=True))
        found.fill = found.tokens / max(1, found.packs * self.batching.length)
        found.tile_fill = found.tiles / max(1, found.packs * self.batching.tiles)
        found.longest = self._named(TAKEN)
        return found

    def _fate(self, number: int) -> np.ndarray:
        """What becomes of each row of a shard, uint8."""
        sha256 = self.mixture.shards[number].sha256
        over = self.lengths.column(sha256, "tokens") > self.batching.length
        over |= self.lengths.column(sha256, "tiles") > self.batching.tiles
        fates = np.where(over, OVERLONG, TAKEN).astype(np.uint8)
        fates[self.lengths.failed(sha256)] = FAILED
        fates[self.mixture.withdrawn(number)] = WITHDRAWN
        return fates

    def _refuse_overlong(self) -> None:
        named = self._named(OVERLONG)
        if not named:
            return
        chosen = zip(self._fates, self.mixture.shards, strict=True)
        count = sum(int((fates[shard.selected.rows] == OVERLONG).sum()) for fates, shard in chosen)
        tiled = any(sample["tiles"] for sample in named)
        told = ", ".join(
            f"{s['sample_id']} ({s['tokens']:,} tokens" + (f", {s['tiles']:,} tiles)" if tiled else ")")
            for s in named
        )
        raise ValueError(
            f"{count:,} samples are longer than a pack of {self.batching.length:,} tokens"
            + (f" and {self.batching.tiles:,} tiles" if tiled else "")
            + f": {told}{' …' if count > len(named) else ''}; give packs more length"
            + (" or tiles, a smaller grid," if tiled else ",")
            + " or overlong: skip"
        )

    def _named(self, fate: int) -> list[dict[str, Any]]:
        """The longest selected samples of a fate, at most TOLD."""
        found: list[tuple[int, int, tuple[int, int]]] = []
        for number, (fates, shard) in enumerate(zip(self._fates, self.mixture.shards, strict=True)):
            rows = shard.selected.rows[fates[shard.selected.rows] == fate]
            tokens = self.lengths.column(shard.sha256, "tokens")[rows]
            tiles = self.lengths.column(shard.sha256, "tiles")[rows]
            for i in np.lexsort((rows, -tiles, -tokens))[:TOLD].tolist():
                found.append((int(tokens[i]), int(tiles[i]), (number, int(rows[i]))))
        longest = sorted(found, key=lambda one: (-one[0], -one[1], one[2]))[:TOLD]
        ids = self.mixture.ids(np.array([place for *_, place in longest], np.int64).reshape(-1, 2))
        return [
            {"sample_id": identity.hex(), "tokens": tokens, "tiles": tiles}
            for identity, (tokens, tiles, _) in zip(ids, longest, strict=True)
        ]

    def _steps_of(self, group: int) -> list[PlannedStep]:
        if self._group[0] != group:
            self._group = group, self._plan_group(group)
        return self._group[1]

    def _plan_group(self, group: int) -> list[PlannedStep]:
        batching = self.batching
        start = group * batching.batch * batching.group
        places = self.turns(start, start + batching.batch * batching.group)
        taken = np.array([self._fates[shard][row] == TAKEN for shard, row, _ in places.tolist()], bool)
        count = -(-len(places) // batching.batch)
        shares = self._dealt(places[taken], count) if count > 1 else None
        if shares is None:  # each step's own samples
            ends = [min(batching.batch * (n + 1), len(places)) for n in range(count)]
            parts = [slice(n * batching.batch, end) for n, end in enumerate(ends)]
            shares = [self._packed(places[part][taken[part]]) for part in parts]
            left_out = [places[part][~taken[part]] for part in parts]
        else:
            left_out = [places[~taken], *[places[:0]] * (count - 1)]
        steps = []
        for place, (packs, left) in enumerate(zip(shares, left_out, strict=True)):
            start += len(left) + sum(map(len, packs))
            tokens, supervised, tiles = (
                self.lengths.of(self.mixture, np.concatenate([*packs, places[:0]])).sum(axis=0).tolist()
            )
            number = group * batching.group + place
            steps.append(PlannedStep(number, tuple(packs), left, start, tokens, supervised, tiles))
        return steps

    def _packed(self, places: np.ndarray) -> list[np.ndarray]:
        sizes = self.lengths.of(self.mixture, places)[:, [0, 2]]
        return [places[row] for row in pack(sizes, (self.batching.length, self.batching.tiles))]

    def _dealt(self, places: np.ndarray, steps: int) -> list[list[np.ndarray]] | None:
        """A group's packs for each step, the fullest first and to and fro, so that steps weigh alike; None
        where there are fewer packs than steps."""
        packs = self._packed(places)
        if len(packs) < steps:
            return None
        packs.sort(key=lambda places: -int(self.lengths.of(self.mixture, places)[:, 0].sum()))
        shares: list[list[np.ndarray]] = [[] for _ in range(steps)]
        for number, one in enumerate(packs):
            lap, place = divmod(number, steps)
            shares[steps - 1 - place if lap % 2 else place].append(one)
        return shares
