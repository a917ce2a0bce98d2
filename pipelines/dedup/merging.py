"""`--merge-turns`: samples that ask other things of the same picture become one sample of many turns.

The most preferred sample is the head; it gives the media, and its turns come first. Those whose media are the
same as the head's or near it (not near one another only) follow in the order of preference. What is joined
must be of one source, which says whose licence holds, and have one system prompt; a sample is joined only if
it alternates user and assistant, shows its media in its first user turn, and has no rejected turns. Memory:
the turns of the samples that share media with another.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.manifest import ShardEntry
from infinity_mm.sample_shards import ShardWriter, batch_of, write_lineage
from infinity_mm.schema import (
    Part,
    Sample,
    Turn,
    normalise,
    sample_id,
    samples_from,
)
from infinity_mm.store import Store
from pipelines.dedup.classes import Classes
from pipelines.dedup.population import Population

_BATCH = 4096


class Merged(NamedTuple):
    """A sample that was made, and the samples joined in it, the head first."""

    child: Sample
    parents: tuple[int, ...]
    weight: float


def merge(population: Population, media: Sequence[Classes], kept: np.ndarray) -> list[Merged]:
    """Join what can be, of the samples `kept` (int64, the most preferred first), by relations of media."""
    index = [_Members(classes, kept) for classes in media]
    shared = np.zeros(population.total, bool)
    for one in index:
        shared |= one.shared()
    rank = np.empty(population.total, np.int64)
    rank[kept] = np.arange(len(kept))
    wanted = np.sort(kept[shared[kept]])
    samples = {i: s for i, s in _samples(population, wanted) if _joins(s)}
    taken: set[int] = set()
    ids = {bytes(population.ids[i]) for i in kept.tolist()} if len(samples) else set()
    made: list[Merged] = []
    for head in kept[shared[kept]].tolist():
        if head not in samples or head in taken:
            continue
        first = samples[head]
        near = {i for one in index for i in one.near(head) if i in samples and i not in taken and i != head}
        rows = [i for i in near if (samples[i].source, _system(samples[i])) == (first.source, _system(first))]
        if not rows:
            continue
        parents = (head, *sorted(rows, key=lambda i: int(rank[i])))
        child = _joined([samples[i] for i in parents])
        if child.sample_id in ids:
            continue
        ids.add(child.sample_id)
        taken |= set(parents)
        made.append(Merged(child, parents, float(population.weights[head])))
    return made


class _Members:
    """Which samples of `kept` share a class of media or have a near one."""

    def __init__(self, classes: Classes, kept: np.ndarray) -> None:
        self.of = classes.of
        rows = kept[classes.of[kept] >= 0]
        self._rows = rows[np.argsort(classes.of[rows], kind="stable")]
        count = int(classes.of.max(initial=-1)) + 1
        self._starts = np.searchsorted(classes.of[self._rows], np.arange(count + 1))
        here = np.concatenate([classes.pairs[:, 0], classes.pairs[:, 1]])
        there = np.concatenate([classes.pairs[:, 1], classes.pairs[:, 0]])
        order = np.argsort(here, kind="stable")
        self._there = there[order]
        self._edges = np.searchsorted(here[order], np.arange(count + 1))

    def shared(self) -> np.ndarray:
        """bool [samples]: those that are not alone."""
        busy = (np.diff(self._starts) > 1) | (np.diff(self._edges) > 0)
        mask = np.zeros(len(self.of), bool)
        has = self.of >= 0
        mask[has] = busy[self.of[has]]
        return mask

    def near(self, sample: int) -> Iterator[int]:
        unit = int(self.of[sample])
        if unit >= 0:
            for each in (unit, *self._there[self._edges[unit] : self._edges[unit + 1]].tolist()):
                yield from self._rows[self._starts[each] : self._starts[each + 1]].tolist()


def _samples(population: Population, wanted: np.ndarray) -> Iterator[tuple[int, Sample]]:
    """The samples with these numbers, ascending."""
    for shard in population.shards:
        low, high = np.searchsorted(wanted, [shard.start, shard.start + len(shard.rows)])
        manifest = population.manifests[shard.manifest]
        for start in range(low, high, _BATCH):
            numbers = wanted[start : min(start + _BATCH, high)]
            table = manifest.table(shard.number).take(pa.array(shard.rows[numbers - shard.start]))
            yield from zip(numbers.tolist(), samples_from(table), strict=True)
        manifest.release(shard.number)


def _system(sample: Sample) -> Turn | None:
    return sample.turns[0] if sample.turns and sample.turns[0].role == "system" else None


def _joins(sample: Sample) -> bool:
    """Whether turns can be put behind those of another sample, or others behind these."""
    turns = sample.turns[_system(sample) is not None :]
    if sample.rejected is not None or not sample.media or not turns or len(turns) % 2:
        return False
    if any(turn.role != ("user", "assistant")[k % 2] for k, turn in enumerate(turns)):
        return False
    shown = [part.media for turn in turns[:1] for part in turn.parts if part.type != "text"]
    every = [part for turn in sample.turns for part in turn.parts if part.type != "text"]
    return len(every) == len(shown) and shown == list(range(len(sample.media)))


def _joined(samples: Sequence[Sample]) -> Sample:
    head = samples[0]
    turns = [*head.turns, *(turn for sample in samples[1:] for turn in _bare(sample))]
    form = normalise(turns, None, len(head.media))
    meta = json.dumps({"merged": [s.sample_id.hex() for s in samples]})
    identity = sample_id(form.digest, head.media)
    return Sample(identity, form.turns, head.media, head.source, meta, None, head.names, head.origin)


def _bare(sample: Sample) -> Iterator[Turn]:
    """The turns without system prompt and media, whose markers' white space goes with them."""
    for turn in sample.turns[_system(sample) is not None :]:
        if all(part.type == "text" for part in turn.parts):
            yield turn
        else:
            text = " ".join(
                t for part in turn.parts if part.type == "text" and (t := (part.text or "").strip())
            )
            yield Turn(turn.role, (Part("text", text),))


def write(
    store: Store, made: Sequence[Merged], ids: np.ndarray
) -> tuple[list[ShardEntry], list[tuple[str, str]]]:
    """The shards of what was made, and for each its lineage sidecar (name, shard)."""
    writer = ShardWriter(store, "samples")
    for start in range(0, len(made), _BATCH):
        writer.write(batch_of(one.child for one in made[start : start + _BATCH]))
    writer.finish()
    entries, lineage, first = [], [], 0
    for entry in writer.selected():
        part = made[first : first + entry.rows]
        first += entry.rows
        weights = np.array([one.weight for one in part])
        entries.append(entry._replace(selected=entry.selected._replace(weights=weights)))
        pairs = ((one.child.sample_id, bytes(ids[p])) for one in part for p in one.parents)
        lineage.append((write_lineage(store, pairs), entry.sha256))
    return entries, lineage
