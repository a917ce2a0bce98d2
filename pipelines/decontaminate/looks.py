"""What media look like, as fingerprints tell it: hashes, finer ones where these say too little, embeddings.

Memory: 30 bytes a medium, 32 more a clip, and BYTES for each finer hash that is asked for.
"""

import numpy as np
import polars as pl
import pyarrow as pa

from infinity_mm.fine_hash import BYTES, Fine, fine_hashes
from infinity_mm.fingerprints import COLUMNS, PICTURE
from infinity_mm.media.thumbnail import MARGIN, SIZE, low_information
from pipelines.dedup.looking import CLIPS, LOOKS, LOW
from pipelines.dedup.population import Population
from pipelines.frames import ERROR
from pipelines.measure import Files
from pipelines.measures.medium_look import STILLS

STILL, STILL_MARGIN = CLIPS[:STILLS], CLIPS[STILLS:]
MEASURES, THUMBNAIL = (*LOOKS[:-1], *CLIPS), LOOKS[-1]


class Looks:
    """Of each medium that could be looked at, in the order of the population's: `media` (its number), `low`
    (whether 64 bits say too little of it, or of each still of a clip) and `hashes`, uint64 [L, STILLS]: those
    of a clip's stills, or a picture's own in the first column. `clip`: bool [L]. `errors`: why not, by
    medium.
    """

    def __init__(self, population: Population, files: Files, *, fail: bool) -> None:
        """With `fail`, a medium that could not be read makes its samples failed."""
        self.population, self.files = population, files
        frame = population.of_media([files], MEASURES, fail=fail)
        margins = frame.select(STILL_MARGIN).fill_null(0).to_numpy()
        clip = frame[STILL[0]].is_not_null().to_numpy()
        picture = frame["phash"].is_not_null().to_numpy()
        self.media = np.flatnonzero(clip | picture)
        self.clip = clip[self.media]
        own = [frame["phash"].fill_null(0), *(pl.Series(np.zeros(len(frame), np.uint64)),) * (STILLS - 1)]
        stills = [frame[name].fill_null(0) for name in STILL]
        columns = [np.where(clip, b.to_numpy(), a.to_numpy()) for a, b in zip(own, stills, strict=True)]
        self.hashes = np.stack(columns, axis=1).astype(np.uint64)[self.media]
        uniformity, drawn, margin = (frame[name].fill_null(0).to_numpy() for name in LOW)
        low: np.ndarray = low_information(uniformity, drawn, margin)
        self.low = np.where(clip, (margins < MARGIN).all(axis=1), low)[self.media]
        self.errors: dict[int, str] = {}
        for name in (c for c in frame.columns if c.startswith(ERROR)):
            for i in np.flatnonzero(frame[name].is_not_null().to_numpy()):
                self.errors.setdefault(int(i), frame[name][int(i)])

    def fine(self, media: np.ndarray) -> tuple[Fine, np.ndarray]:
        """The finer hashes of some media (ascending), uint8 [n, BYTES], and which have one, bool [n]."""
        found, there = np.zeros((len(media), BYTES), np.uint8), np.zeros(len(media), bool)
        if not len(media):
            return found, there
        for numbers, values in self.population.of_media_in_parts([self.files], THUMBNAIL):
            at = np.minimum(np.searchsorted(media, numbers), len(media) - 1)
            asked = np.flatnonzero((media[at] == numbers) & values.is_not_null().to_numpy())
            thumbnails = np.frombuffer(b"".join(values.gather(asked).to_list()), np.uint8).reshape(-1, SIZE)
            found[at[asked]] = fine_hashes(thumbnails)
            there[at[asked]] = True
        return found, there

    def lists(self) -> pa.ListArray:
        """The column `pictures` of a fingerprint, a row a sample."""
        population = self.population
        place = np.full(len(population.media_ids), len(self.media), np.int64)
        place[self.media] = np.arange(len(self.media))
        at = pa.array(place[population.media])
        fine, there = self.fine(self.media)
        told = pa.FixedSizeBinaryArray.from_buffers(pa.binary(BYTES), len(fine), [None, pa.py_buffer(fine)])
        rows = np.where(there, np.arange(len(fine)), 0)
        stills = [row.tolist() if clip else None for row, clip in zip(self.hashes, self.clip, strict=True)]
        columns = [
            pa.array(self.hashes[:, 0], mask=self.clip),
            pa.array(self.low),
            told.take(pa.array(rows, mask=~there)),
            pa.array(stills, PICTURE.field("stills").type),
        ]
        # the last row stands for what could not be looked at
        columns = [pa.concat_arrays([column, pa.nulls(1, column.type)]).take(at) for column in columns]
        entries = pa.StructArray.from_arrays(columns, fields=list(PICTURE))
        offsets = pa.array(population.offsets, pa.int32())
        return pa.ListArray.from_arrays(offsets, entries, type=COLUMNS["pictures"])
