"""A mixture: the samples of one or several manifests of a store, in one seeded order.

A manifest's weight multiplies the weights of its samples, so that 1 takes each as often as the manifest says,
and the order is that of `Manifest.order` over all of them. Memory: that of the manifests' selections.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import id_rows
from infinity_mm.manifest import Manifest, Order, ShardEntry
from infinity_mm.store import Store, digest_of

ROW_COLUMNS = ("sample_id", "source", "origin")


class Mixture:
    """Manifests and their weights. `shards`: the sample shards of all, with the weights in effect; a place in
    a mixture is (number in `shards`, row)."""

    def __init__(self, manifests: Sequence[Manifest], weights: Sequence[float]) -> None:
        self.manifests, self.weights = list(manifests), list(weights)
        self.store = manifests[0].store
        self.shards: list[ShardEntry] = []
        self.manifest_of: list[int] = []  # the manifest of each shard
        for number, (manifest, weight) in enumerate(zip(manifests, weights, strict=True)):
            for shard in manifest.shards:
                selected = shard.selected._replace(weights=shard.selected.weights * weight)
                self.shards.append(shard._replace(selected=selected))
                self.manifest_of.append(number)
        self.sources = tuple(sorted({name for m in manifests for name in m.document["sources"]}))
        self._tables: dict[int, pa.Table] = {}
        self._ids: dict[int, np.ndarray] = {}
        self._sources: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, store: Store, data: Mapping[str, float]) -> "Mixture":
        """The mixture of manifests by NAME, digest or path. Raises ManifestError, or ValueError for none."""
        if not data:
            raise ValueError("the mixture is empty: name at least one manifest and its weight")
        mixture = cls([Manifest.open(store, name) for name in data], list(data.values()))
        if not any((shard.selected.weights > 0).any() for shard in mixture.shards):
            raise ValueError(f"no sample is in {', '.join(data)}: give a manifest that has some")
        return mixture

    @cached_property
    def digest(self) -> str:
        """What is trained on and how often: the manifests' digests with their weights, in order."""
        return digest_of([[m.digest, float(w)] for m, w in zip(self.manifests, self.weights, strict=True)])

    def order(self, seed: int, epoch: int) -> Order:
        """The order of one epoch, by places."""
        return Order(self.shards, seed, epoch)

    def ids(self, places: np.ndarray) -> list[bytes]:
        """The sample ids of places (N×2), or of what has more behind them."""
        found = []
        for shard, row, *_ in places.tolist():
            if shard not in self._ids:
                self._ids[shard] = id_rows(self._table(shard).column("sample_id"))
            found.append(self._ids[shard][row].tobytes())
        return found

    def source_numbers(self, shard: int) -> np.ndarray:
        """The place in `sources` of each row's source, int16 [rows]."""
        if shard not in self._sources:
            names = pa.array(self.sources, pa.string())
            numbers = pc.index_in(self._table(shard).column("source"), value_set=names)
            self._sources[shard] = numbers.to_numpy().astype(np.int16)
        return self._sources[shard]

    def ledger_row(self, place: tuple[int, int], outcome: str, error: str, **more: Any) -> dict[str, Any]:
        """What the ledger of a run says of a sample it left out; `error`: `reason: detail`."""
        shard, row = place
        told = self._table(shard).select(list(ROW_COLUMNS)).slice(row, 1).to_pylist()[0]
        reason, _, detail = error.partition(": ")
        return {
            "sample_id": told["sample_id"].hex(),
            "source": told["source"],
            "origin": told["origin"],
            "outcome": outcome,
            "reason": reason,
            "detail": detail,
            **more,
        }

    def withdrawn(self, shard: int) -> np.ndarray:
        """Which rows of a shard a tombstone names, by sample, medium or source, bool [rows]."""
        withdrawn = self.manifests[self.manifest_of[shard]].withdrawn
        if not (withdrawn.ids or withdrawn.sources):
            return np.zeros(self.shards[shard].rows, bool)
        return withdrawn.rows(self._table(shard))

    def _table(self, shard: int) -> pa.Table:
        """All rows of a shard, mapped; `measure_lengths` has checked it."""
        if shard not in self._tables:
            self._tables[shard] = self.store.open_arrow(self.shards[shard].file).read_all()
        return self._tables[shard]
