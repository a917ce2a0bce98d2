"""What the media of a population look like, for `infinity_mm.near_pictures`: hashes, thumbnails, frames.

A picture is one look. A clip is as many as frames of it are hashed, in their order, so that a list of media
is a list of looks. Thumbnails are on disk, mapped. Memory: 20 bytes a medium, 60 more with symmetries.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import polars as pl

from infinity_mm.media.phash import SYMMETRIES
from infinity_mm.media.thumbnail import MARGIN, SIZE, low_information
from infinity_mm.media.tone import tonal
from infinity_mm.near_pictures import Looks
from pipelines.dedup.population import Population
from pipelines.measure import Files
from pipelines.measures.medium_look import STILLS

LOW = ("luma_uniformity", "luma_drawn", "phash_margin")
LOOKS = ("phash", *LOW, "thumbnail")
CLIPS = tuple(f"clip_phash{of}_{i}" for of in ("", "_margin") for i in range(1, STILLS + 1))
TURNED = tuple(f"phash_{name}" for name in SYMMETRIES)


class Looked(NamedTuple):
    """`looks`, those of preferred samples first. A sample's are `members` from `offsets[i]` to
    `offsets[i + 1]`: rows of `looks`, and above those a number for each medium that has none."""

    looks: Looks
    media: np.ndarray  # int64 [looks]: the medium that each look is of
    offsets: np.ndarray  # int64 [samples + 1]
    members: np.ndarray  # int64 [T]

    def part(self, rows: np.ndarray) -> Looks:
        """Some rows of the looks."""
        looks = self.looks
        return looks._replace(
            phash=looks.phash[rows],
            low=looks.low[rows],
            thumbnail=looks.thumbnail[rows],
            symmetries=None if looks.symmetries is None else looks.symmetries[rows],
            tonal=looks.tonal[rows],
        )

    def units(self, same: np.ndarray) -> np.ndarray:
        """int64 [T]: the members, equal looks as one."""
        return np.where(
            self.members < len(same), np.append(same, 0)[np.minimum(self.members, len(same))], self.members
        )


@contextmanager
def looks_of(
    population: Population, files: Sequence[Files], order: np.ndarray, *, flips: bool
) -> Iterator[Looked]:
    """What the media look like, those in front of `order` (int64 [media]) first; good until it ends.

    A medium whose measures failed makes its samples failed.
    """
    names = [*LOOKS[:-1], *CLIPS, *(TURNED if flips else ())]
    frame = population.of_media(files, names, fail=True)
    pictures = order[frame["phash"].is_not_null().to_numpy()[order]]
    clips = order[frame[CLIPS[0]].is_not_null().to_numpy()[order]]
    first = np.full(len(frame), -1, np.int64)  # look of each medium that has one
    first[pictures] = np.arange(len(pictures))
    first[clips] = len(pictures) + STILLS * np.arange(len(clips))
    uniformity, drawn, margin = (_numbers(frame[name])[pictures] for name in LOW)
    low: np.ndarray = low_information(uniformity, drawn, margin)
    stills = np.stack([_hashes(frame[name])[clips] for name in CLIPS[:STILLS]], axis=1).ravel()
    empty = np.stack([_numbers(frame[name])[clips] < MARGIN for name in CLIPS[STILLS:]], axis=1).ravel()
    symmetries = None
    if flips:
        turned = np.stack([_hashes(frame[name])[pictures] for name in TURNED], axis=1)
        symmetries = np.concatenate([turned, np.repeat(stills[:, None], len(TURNED), axis=1)])
    thumbnail = np.full(len(frame), -1, np.int64)
    with tempfile.TemporaryFile() as file:
        count = 0
        for media, values in population.of_media_in_parts(files, "thumbnail"):
            there = values.is_not_null().to_numpy()
            thumbnail[media[there]] = count + np.arange(int(there.sum()))
            count += int(there.sum())
            file.write(b"".join(values.drop_nulls().to_list()))
        file.flush()
        lists = _lists(population, first, clips, len(pictures) + len(stills))
        looks = Looks(
            np.concatenate([_hashes(frame["phash"])[pictures], stills]),
            np.concatenate([low, empty]),
            np.concatenate([thumbnail[pictures], np.full(len(stills), -1)]),
            np.memmap(file, np.uint8, "r", shape=(count, SIZE)) if count else np.empty((0, SIZE), np.uint8),
            symmetries,
            np.concatenate([tonal(drawn, margin), np.zeros(len(stills), bool)]),
        )
        yield Looked(looks, np.concatenate([pictures, np.repeat(clips, STILLS)]), *lists)


def _lists(
    population: Population, first: np.ndarray, clips: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and members of the samples' lists of `count` looks, a clip's stills one after another."""
    sizes = np.ones(len(first), np.int64)
    sizes[clips] = STILLS
    each = sizes[population.media]
    start = np.where(first < 0, count + np.arange(len(first)), first)[population.media]
    ends = np.cumsum(each)
    members = np.repeat(start - (ends - each), each) + np.arange(int(each.sum()))
    return np.concatenate([[0], ends])[population.offsets], members


def _hashes(values: pl.Series) -> np.ndarray:
    found: np.ndarray = values.fill_null(0).to_numpy().astype(np.uint64)
    return found


def _numbers(values: pl.Series) -> np.ndarray:
    found: np.ndarray = values.fill_null(0).to_numpy()
    return found
