"""Lengths of samples as Emu3's sequences.

They are those of the sequences themselves, laid out from the token sidecars: a code out of range, a medium
without tokens or a conversation without a layout is told here, before anything is trained. A captioned
sample is as long either way round; without its caption it is shorter by that. Time: about 100 µs a sample and
core, and 1 ns a code. Memory: `trainers.lengths`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.executor import Guard, Report, Work
from infinity_mm.manifest import Manifest
from infinity_mm.schema import Sample
from infinity_mm.store import Store
from infinity_mm.visual_tokens import VisualTokens
from trainers.emu3.documents import Encoding, lay_out, visual_of
from trainers.emu3.layouts import Visual
from trainers.lengths import SCHEMA, Lengths, Piece, Row, measure, samples_of, shards_of, table_of
from trainers.mixture import Mixture

OWN = (
    *("caption", "caption_supervised"),  # tokens of a caption that may be left out, and of them supervised
    *("visual", "least", "most"),  # tokens of the largest visual; codes of the smallest and largest picture
)
NONE = np.iinfo(np.int32).max
EMU3_SCHEMA = pa.schema(
    [*[*SCHEMA][:-1], *((name, pa.int32()) for name in OWN), SCHEMA.field("error")],
    metadata=SCHEMA.metadata,
)


class LengthsConfig(NamedTuple):
    """`manifests`: their files."""

    store: str
    encoding: Encoding
    manifests: tuple[str, ...]


class Emu3Lengths(Lengths):
    """Lengths of samples in an epoch, in which some captions are left out."""

    def __init__(self, store: Store, files: dict[str, str], encoding: Encoding) -> None:
        super().__init__(store, files, {})
        self.encoding = encoding

    def of(self, mixture: Mixture, turns: np.ndarray) -> np.ndarray:
        found = super().of(mixture, turns)
        if self.encoding.null_prompt and len(turns):
            captions = self.columns(mixture, turns, OWN[:2])
            at = np.flatnonzero(captions[:, 0])
            lots = zip(at, mixture.ids(turns[at]), turns[at, 2].tolist(), strict=True)
            null = [place for place, identity, epoch in lots if self.encoding.lot(identity, epoch).null]
            found[null, :2] -= captions[null]
        return found

    def pictures(self, mixture: Mixture) -> tuple[int, int] | None:
        """Codes of the smallest and of the largest picture that a mixture shows; None where it shows none."""
        least, most = [], []
        for shard in mixture.shards:
            small, large = (self.column(shard.sha256, name)[shard.selected.rows] for name in OWN[3:])
            least += small[small > 0].min(keepdims=True, initial=NONE).tolist()
            most += large.max(keepdims=True, initial=0).tolist()
        return (min(least), max(most)) if max(most, default=0) else None


def tokens_of(manifests: Sequence[Manifest]) -> list[VisualTokens | None]:
    """The visual tokens of each manifest; None of one that shows nothing."""
    return [VisualTokens(m) if any(m.library().shards()) else None for m in manifests]


def measure_lengths(
    manifests: Sequence[Manifest], encoding: Encoding, *, workers: int = 0, report: Report | None = None
) -> Emu3Lengths:
    """Lengths for all sample shards of manifests of one store; only what is missing is measured.

    Raises ManifestError for a shard that does not match its sha256, ValueError where a manifest has media and
    no tokens.
    """
    store = manifests[0].store
    told = [_told(tokens) for tokens in tokens_of(manifests)]
    names = {
        shard: f"sidecars/lengths/{shard}-{encoding.key(told[number])}.arrow"
        for shard, (number, _) in shards_of(manifests).items()
    }
    config = LengthsConfig(store.url, encoding, tuple(manifest.file for manifest in manifests))
    files = measure(manifests, names, open_step, config, workers=workers, report=report)
    return Emu3Lengths(store, files, encoding)


def open_step(config: LengthsConfig) -> Work:
    """The map step: Piece -> a table of its rows."""
    store = Store.open(config.store)
    tokens = tokens_of([Manifest.open(store, file, check=False) for file in config.manifests])

    def work(piece: Piece, guard: Guard) -> pa.Table:
        rows = [
            _row(sample, tokens[piece.manifest], config.encoding)
            for samples in samples_of(store, piece)
            for sample in samples
        ]
        return table_of(rows, EMU3_SCHEMA)

    return work


def visuals_of(media: Sequence[bytes], tokens: VisualTokens | None, encoding: Encoding) -> list[Visual | str]:
    """The codes of a sample's media, or why there are none."""
    if tokens is None:
        return ["missing_media: the manifest has no media"] * len(media)
    return [visual_of(tokens, medium, encoding.vocabulary) for medium in media]


def _told(tokens: VisualTokens | None) -> list[str]:
    """What tells a manifest's tokens apart from others of the same media."""
    return [] if tokens is None else [tokens.tokenizer, tokens.key]


def _row(sample: Sample, tokens: VisualTokens | None, encoding: Encoding) -> Row:
    visuals = visuals_of(sample.media, tokens, encoding)
    try:
        laid, caption = lay_out(sample.turns, visuals, encoding)
    except ValueError as error:
        return sample.sample_id, *[0] * (len(EMU3_SCHEMA) - 2), str(error)
    shown = [visual for visual in visuals if isinstance(visual, Visual)]
    sizes = [encoding.layouts.visual_length(visual.grid, visual.fps) for visual in shown]
    areas = [visual.codes.size for visual in shown if visual.fps is None]
    counted = caption if encoding.weights.text else 0
    lengths = (len(laid.ids), int(np.count_nonzero(laid.weights)), 0)
    own = (caption, counted, max(sizes, default=0), min(areas, default=0), max(areas, default=0))
    return sample.sample_id, *lengths, *own, None
