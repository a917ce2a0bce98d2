"""The pictures of a manifest, each once, in the order of their ids.

A picture belongs to the first sample that shows it: that sample's language is written, its source is the
parent's. Clips, pictures without a sample and what a tombstone names are left out. Memory: some 200 bytes a
picture.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from infinity_mm.columns import media_of
from infinity_mm.manifest import Manifest
from infinity_mm.schema import turns_from
from pipelines.synthesize.pairs import Image
from pipelines.synthesize.reading import language_of

UNIT = 512  # pictures whose types are drawn together
Unit = Sequence[Image]  # their ids begin with the same byte: what is drawn for one depends on no other


def images(manifest: Manifest, language: Literal["auto", "en", "zh"]) -> list[Image]:
    """Every still picture that a sample of the manifest shows, by id."""
    found: dict[bytes, Image] = {}
    withdrawn = manifest.withdrawn
    for number, shard in enumerate(manifest.shards):
        table = manifest.table(number).take(pa.array(shard.selected.rows))
        table = table.filter(pa.array(~withdrawn.rows(table)))
        owners, ids = media_of(table)
        for owner, medium in zip(owners.tolist(), map(bytes, ids), strict=True):
            if medium in found or medium in withdrawn.ids:
                continue
            row = table.slice(owner, 1).to_pylist()[0]
            lang = language if language != "auto" else _language(row)
            found[medium] = Image(medium, row["sample_id"], row["origin"], row["source"], lang)
        manifest.release(number)
    stills = _stills(manifest, np.array(sorted(found), "S16"))
    return [found[medium] for medium in stills]


def units(pictures: Sequence[Image], most: int = UNIT) -> Iterator[Unit]:
    """Pictures in pieces of at most `most` whose ids begin with the same byte."""
    unit: list[Image] = []
    for image in pictures:
        if unit and (len(unit) == most or image.medium[:1] != unit[0].medium[:1]):
            yield unit
            unit = []
        unit.append(image)
    if unit:
        yield unit


def groups(todo: Iterable[Unit], least: Callable[[], int]) -> Iterator[list[Unit]]:
    """Units in pieces of at least so many pictures, that models are asked about together."""
    group: list[Unit] = []
    for unit in todo:
        group.append(unit)
        if sum(map(len, group)) >= least():
            yield group
            group = []
    if group:
        yield group


def _stills(manifest: Manifest, ids: np.ndarray) -> list[bytes]:
    """Those that are pictures and not clips, in order."""
    library = manifest.library()
    rows = np.frombuffer(ids.tobytes(), np.uint8).reshape(-1, 16)
    shards, places = library.find_many(rows)
    digests = list(library.shards())
    still = np.zeros(len(rows), bool)
    for number in np.unique(shards[shards >= 0]).tolist():
        own = np.flatnonzero(shards == number)
        kinds = library.shard(digests[number]).table.column("kind").take(pa.array(places[own])).to_pylist()
        still[own] = [kind == "image" for kind in kinds]
    return [bytes(row) for row in rows[still]]


def _language(row: Mapping[str, object]) -> str:
    """The language that a sample's turns are in; English where they tell none."""
    turns = turns_from(row["turns"]) or ()  # type: ignore[arg-type]
    said = " ".join(part.text or "" for turn in turns for part in turn.parts if part.type == "text")
    return language_of(said) or "en"
