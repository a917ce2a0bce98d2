"""Reading tags: of each medium of a manifest its tags with scores, as `imm tag` kept them.

`imm tag` writes into its manifest which sidecars have the tags and how they are cut (threshold and top); a
later manifest finds them in the nearest of its ancestors that was tagged. Where several were (a mix), a
medium has the tags of the first that knows it. Deciding is done here, at reading: another threshold asks no
model.

Memory: the tags of the media shards read last, up to CACHED_ROWS media.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.columns import id_rows, media_of
from infinity_mm.manifest import Manifest
from infinity_mm.store import read_table
from infinity_mm.trace import lineage
from pipelines.frames import shard_table

CACHED_ROWS = 1_000_000
STAGE = "tag"


class Tagged(NamedTuple):
    """A tag and its score: by an embedder a cosine, by an engine a probability, else as it came; None where
    there is none."""

    tag: str
    score: float | None


class Untagged(NamedTuple):
    """Why a medium has no tags: a snake_case reason, and what was said."""

    reason: str
    detail: str


class Cut(NamedTuple):
    """Which of the tags kept count: those with this score or more, the `top` best. With a threshold a tag
    without a score does not."""

    threshold: float | None
    top: int

    def of(self, tags: Sequence[str], scores: Sequence[float | None] | None) -> list[Tagged]:
        found = [Tagged(*one) for one in zip(tags, scores or [None] * len(tags), strict=True)]
        if self.threshold is not None:
            found = [one for one in found if one.score is not None and one.score >= self.threshold]
        return found[: self.top]


class _Source(NamedTuple):
    """The sidecars of one tagged manifest, by media shard."""

    files: dict[str, str]
    cut: Cut


class Tags:
    """The tags of a manifest's media. Raises ValueError where it was never tagged."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.store = manifest, manifest.store
        self._sources = list(_sources(manifest))
        if not self._sources:
            raise ValueError(
                f"manifest {manifest.digest[:12]}… has no tags: run `imm tag` on it or on a former one"
            )
        self._library = manifest.library()
        self._shards = list(self._library.shards())
        self._cache: OrderedDict[str, dict[bytes, tuple[Any, ...]]] = OrderedDict()

    def of(self, media: Sequence[bytes]) -> list[list[Tagged] | Untagged | None]:
        """Of each medium id its tags, best first; why it has none; or None where nobody said anything."""
        ids = np.frombuffer(b"".join(media), np.uint8).reshape(-1, 16)
        where, _ = self._library.find_many(ids)
        found: list[list[Tagged] | Untagged | None] = [None] * len(media)
        for number in np.unique(where).tolist():
            for place in np.flatnonzero(where == number).tolist():
                if number < 0:
                    found[place] = Untagged("missing_media", "it is in no media index of this manifest")
                else:
                    found[place] = self._of(self._shards[number], media[place])
        return found

    def _of(self, shard: str, medium: bytes) -> list[Tagged] | Untagged | None:
        failed: Untagged | None = None
        if medium in self.manifest.withdrawn.ids:
            return Untagged("withdrawn", f"medium {medium.hex()} was withdrawn (imm forget)")
        for source in self._sources:
            if shard not in source.files:
                continue
            row = self._rows(source.files[shard]).get(medium)
            if row is None:
                continue
            tags, scores, error = row
            if tags is not None:
                return source.cut.of(tags, scores)
            if error is not None and failed is None:
                reason, _, detail = error.partition(": ")
                failed = Untagged(reason, detail)
        return failed

    def _rows(self, file: str) -> dict[bytes, tuple[Any, ...]]:
        """Tags, scores and error of a sidecar's media."""
        if file not in self._cache:
            table = read_table(self.store, file, ["media_id", "tags", "scores", "error"])
            ids, *values = (column.to_pylist() for column in table.columns)
            self._cache[file] = dict(zip(ids, zip(*values, strict=True), strict=True))
            while len(self._cache) > 1 and sum(map(len, self._cache.values())) > CACHED_ROWS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(file)
        return self._cache[file]


def tags_of(tags: Tags, number: int) -> Iterator[tuple[bytes, list[list[Tagged] | Untagged | None]]]:
    """For each selected sample of sample shard `number`, not withdrawn, its id and what its media have."""
    manifest = tags.manifest
    table = shard_table(manifest, number)
    there = np.flatnonzero(~manifest.withdrawn.rows(table))
    table = table.take(pa.array(there))
    owners, ids = media_of(table)
    found = tags.of([row.tobytes() for row in ids])
    ends = np.searchsorted(owners, np.arange(table.num_rows + 1))
    for i, row in enumerate(id_rows(table.column("sample_id"))):
        yield row.tobytes(), found[ends[i] : ends[i + 1]]
    manifest.release(number)


def _sources(manifest: Manifest) -> Iterator[_Source]:
    """What the tagged manifests of a life kept, the nearest first."""
    for one in reversed(lineage(manifest.store, manifest)):
        if one.document["stage"] == STAGE:
            files = {entry["shard"]: entry["file"] for entry in one.document["sidecars"]}
            config = one.document["config"]
            yield _Source(files, Cut(config["threshold"], config["top"]))
