"""What Emu3's data path reads: samples laid out from the token sidecars, each as its lot in the epoch has it.

No picture is decoded, and codes are numbers all the way. Time: about 100 µs a sample and core.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infinity_mm.manifest import Manifest
from infinity_mm.schema import turns_from
from infinity_mm.store import Store
from trainers.batch import Pack
from trainers.data import Data, failed_row
from trainers.emu3.documents import Document, Encoding, join, kinds_of, lay_out
from trainers.emu3.lengths import tokens_of, visuals_of
from trainers.plan import Plan

COLUMNS = ["sample_id", "turns", "media", "source", "origin"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a worker reads with. `shards`: of each sample shard its file and the number of its manifest."""

    store: str
    manifests: tuple[str, ...]
    shards: tuple[tuple[str, int], ...]
    sources: dict[str, int]
    encoding: Encoding

    def open(self) -> "Reader":
        return Reader(self)


class Reader:
    """Reads samples of sample shards and the codes of their media."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.store = Store.open(reading.store)
        self.tokens = tokens_of([Manifest.open(self.store, f, check=False) for f in reading.manifests])
        self._tables: dict[int, pa.Table] = {}

    def document(self, shard: int, row: int, epoch: int) -> tuple[Document | None, dict[str, Any] | None]:
        """A sample as a document, or the ledger row that says why not."""
        told = self._table(shard).slice(row, 1).to_pylist()[0]
        encoding = self.reading.encoding
        try:
            visuals = visuals_of(told["media"], self.tokens[self.reading.shards[shard][1]], encoding)
            lot = encoding.lot(told["sample_id"], epoch)
            laid, _ = lay_out(turns_from(told["turns"]) or (), visuals, encoding, lot)
        except ValueError as error:
            return None, failed_row(told, error)
        source = self.reading.sources[told["source"]]
        return Document(told["sample_id"], source, laid, kinds_of(laid.ids, encoding.vocabulary)), None

    def join(self, documents: Sequence[Document]) -> Pack:
        return join(documents)

    def _table(self, shard: int) -> pa.Table:
        if shard not in self._tables:
            file = self.reading.shards[shard][0]
            self._tables[shard] = self.store.open_arrow(file).read_all().select(COLUMNS)
        return self._tables[shard]


def data_of(plan: Plan, encoding: Encoding, *, workers: int = 1, pin: bool = False) -> Data:
    """The steps of a plan, read."""
    mixture = plan.mixture
    reading = Reading(
        store=mixture.store.url,
        manifests=tuple(manifest.file for manifest in mixture.manifests),
        shards=tuple(zip([s.file for s in mixture.shards], mixture.manifest_of, strict=True)),
        sources={name: number for number, name in enumerate(mixture.sources)},
        encoding=encoding,
    )
    return Data(plan, reading, workers=workers, pin=pin)
