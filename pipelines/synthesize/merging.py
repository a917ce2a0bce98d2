"""Accepted pairs of a picture become samples of several turns, and each new sample says how it was made.

Beside a shard of new samples lie two sidecars: `lineage` (child, parent: the sample that brought the picture)
and `synthesis`, a row for each pair of a sample: what was found, by which prompts and models.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.manifest import ShardEntry
from infinity_mm.sample_shards import SHARD_ROWS, ShardWriter, batch_of, write_lineage
from infinity_mm.schema import ID, Sample, normalise, sample_id
from infinity_mm.store import Store, write_table
from pipelines.synthesize.pairs import Pair
from pipelines.synthesize.work import turns

SYNTHESIS = pa.schema(
    [
        ("sample_id", ID),
        ("turn", pa.int32()),  # of the answer among the sample's turns
        ("media_id", ID),
        ("type", pa.string()),
        ("style", pa.string()),
        ("relevance", pa.float32()),
        ("score", pa.float32()),
        ("again", pa.string()),
        ("agrees", pa.bool_()),
        ("judged", pa.float32()),
        ("blind", pa.string()),
        ("blind_right", pa.bool_()),
        ("loss", pa.float32()),
        ("prompts", pa.string()),  # JSON: each prompt's digest
        ("made_with", pa.string()),  # JSON: engines, models, seed
    ],
    metadata={"imm.schema": "sidecar:synthesis", "imm.version": "1"},
)


class Made(NamedTuple):
    """A new sample and its pairs."""

    sample: Sample
    pairs: tuple[Pair, ...]


def merge(pairs: Iterable[Pair], most: int, source: str) -> list[Made]:
    """The accepted pairs of each picture as samples of at most `most` pairs, in the order they were drawn."""
    made = []
    accepted = (pair for pair in pairs if pair.rejected is None)
    for medium, own in groupby(accepted, key=lambda pair: pair.image.medium):
        some = sorted(own, key=lambda pair: pair.number)
        for at in range(0, len(some), most):
            part = tuple(some[at : at + most])
            form = normalise(turns(part), None, 1)
            identity = sample_id(form.digest, [medium])
            about = {
                "synthesis": [{"type": pair.kind.id, "style": pair.style, **_numbers(pair)} for pair in part]
            }
            meta = json.dumps(about, ensure_ascii=False)
            name = f"{part[0].image.origin}#synthesized"
            made.append(
                Made(Sample(identity, form.turns, (medium,), source, meta, None, (medium.hex(),), name), part)
            )
    return made


def _numbers(pair: Pair) -> dict[str, Any]:
    return {
        name: pair.found[name] for name in ("relevance", "score", "loss", "blind_right") if name in pair.found
    }


class Writer:
    """Writes new samples shard by shard, and beside each its two sidecars. Memory: one shard's samples."""

    def __init__(self, store: Store, made_with: Mapping[str, Any]) -> None:
        self._store, self._with = store, json.dumps(made_with, sort_keys=True)
        self._made: list[Made] = []
        self.entries: list[ShardEntry] = []
        self.sidecars: list[tuple[str, str, str]] = []  # name, family, shard

    def add(self, made: Sequence[Made]) -> None:
        self._made += made
        while len(self._made) >= SHARD_ROWS:
            self._write(self._made[:SHARD_ROWS])
            self._made = self._made[SHARD_ROWS:]

    def finish(self) -> None:
        if self._made:
            self._write(self._made)
            self._made = []

    def _write(self, made: Sequence[Made]) -> None:
        writer = ShardWriter(self._store, "samples")
        writer.write(batch_of(one.sample for one in made))
        writer.finish()
        (entry,) = writer.selected()
        told = [self._told(one, number) for one in made for number in range(len(one.pairs))]
        synthesis = pa.Table.from_pylist(told, SYNTHESIS)
        self.entries.append(entry)
        owners = ((one.sample.sample_id, one.pairs[0].image.owner) for one in made)
        self.sidecars.append((write_lineage(self._store, owners), "lineage", entry.sha256))
        name = write_table(self._store, "sidecars/synthesis", synthesis, ".parquet")
        self.sidecars.append((name, "synthesis", entry.sha256))

    def _told(self, made: Made, number: int) -> dict[str, Any]:
        """The row of a pair."""
        pair = made.pairs[number]
        return {
            "sample_id": made.sample.sample_id,
            "turn": 2 * number + 1,
            "media_id": pair.image.medium,
            "type": pair.kind.id,
            "style": pair.style,
            **{name: pair.found[name] for name in SYNTHESIS.names if name in pair.found},
            "prompts": json.dumps(pair.prompts, sort_keys=True),
            "made_with": self._with,
        }
