"""Lengths of samples as LLaVA's documents, from the sizes of their pictures (`trainers.llava.sizes`).

They depend on the tokenizer, its template and the geometry of pictures, which name the sidecars. No picture
is decoded. Time and memory: `trainers.lengths`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from infinity_mm.executor import Guard, Report, Work
from infinity_mm.manifest import Manifest
from infinity_mm.media.index import Library
from infinity_mm.schema import Sample
from infinity_mm.store import Store
from trainers.lengths import SCHEMA, Lengths, Piece, Row, measure, samples_of, shards_of, table_of
from trainers.llava.documents import Encoding, Medium, lay_out
from trainers.llava.sizes import Sizes, measure_sizes


class LengthsConfig(NamedTuple):
    """`media`: the media indexes of each manifest; `sizes`: the sidecar of each media shard."""

    store: str
    encoding: Encoding
    media: tuple[tuple[dict[str, object], ...], ...]
    sizes: dict[str, str]


def measure_lengths(
    manifests: Sequence[Manifest], encoding: Encoding, *, workers: int = 0, report: Report | None = None
) -> Lengths:
    """Lengths for all sample shards of manifests of one store; only what is missing is measured.

    Raises ManifestError for a shard that does not match its sha256.
    """
    store = manifests[0].store
    sizes = measure_sizes(store, media_shards(manifests), workers=workers, report=report)
    names = {shard: f"sidecars/lengths/{shard}-{encoding.key}.arrow" for shard in shards_of(manifests)}
    media = tuple(tuple(manifest.document["media"]) for manifest in manifests)
    config = LengthsConfig(store.url, encoding, media, sizes)
    files = measure(manifests, names, open_step, config, workers=workers, report=report)
    return Lengths(store, files, sizes)


def media_shards(manifests: Iterable[Manifest]) -> list[str]:
    """The media shards of manifests, each once."""
    return list(dict.fromkeys(shard for manifest in manifests for shard in manifest.library().shards()))


def open_step(config: LengthsConfig) -> Work:
    """The map step: Piece -> a table of its rows."""
    store = Store.open(config.store)
    libraries = [Library(store, media, frozenset()) for media in config.media]
    sizes = Sizes(store, config.sizes)

    def work(piece: Piece, guard: Guard) -> pa.Table:
        rows: list[Row] = []
        for samples in samples_of(store, piece):
            ids = [medium for sample in samples for medium in sample.media]
            places = iter(sizes.places(libraries[piece.manifest], ids))
            for sample in samples:
                media = [next(places).medium for _ in sample.media]
                rows.append(_row(sample, media, config.encoding))
        return table_of(rows, SCHEMA)

    return work


def _row(sample: Sample, media: Sequence[Medium | str], encoding: Encoding) -> Row:
    try:
        laid = lay_out(sample.turns, media, encoding)
    except ValueError as error:
        return sample.sample_id, 0, 0, 0, str(error)
    tiles = sum(encoding.geometry.tiles(visual) for visual in laid.visuals)
    return sample.sample_id, len(laid.tokens), int(laid.supervised.sum()), tiles, None
