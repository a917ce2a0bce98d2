"""Samples and media to look at: small pictures, sample cards, and samples found again by their ids."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from infinity_mm.columns import among, id_rows
from infinity_mm.manifest import Manifest, shard_ids
from infinity_mm.media.decode import MediaError, decode_image
from infinity_mm.media.index import Library, Unavailable
from infinity_mm.media.video import iter_frames
from infinity_mm.order import mix
from infinity_mm.report.model import Fault, Medium, Reading, SampleCard, Thumbnail
from infinity_mm.schema import Sample, samples_from
from infinity_mm.spill import halves
from pipelines.frames import shard_table

SIDE = 176  # pixels: the longer side of a small picture, twice of what a phone shows it at
QUALITY = 70


class Pictures:
    """Small pictures of a manifest's media, each made once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._made: dict[bytes, Medium] = {}

    def medium(self, identity: bytes, name: str | None) -> Medium:
        """A medium with its small picture, or with the reason why there is none."""
        key = identity + (name or "").encode()
        if key not in self._made:
            self._made[key] = self._medium(identity, name)
        return self._made[key]

    def _medium(self, identity: bytes, name: str | None) -> Medium:
        about: dict[str, Any] = {"media_id": identity.hex(), "kind": "unknown", "name": name}
        try:
            info = self.library.info(identity)
            about |= {k: info[k] for k in ("kind", "format", "width", "height", "length")}
            if info["kind"] == "video" and info["frames"] and info["fps"]:
                about["seconds"] = info["frames"] / info["fps"]
            return Medium(**about, thumbnail=thumbnail(self.library.read(identity), info["kind"]))
        except MediaError as error:
            return Medium(**about, fault=Fault(code=error.code, detail=error.detail))
        except Unavailable as error:
            return Medium(**about, fault=Fault(code=error.reason, detail=error.detail))


def thumbnail(data: bytes, kind: str) -> Thumbnail:
    """A small JPEG of a picture, or of a clip's first frame. Raises MediaError."""
    if kind == "video":
        pixels = next(iter_frames(data), None)
        if pixels is None:
            raise MediaError("corrupt", "no frame decodes")
    else:
        pixels = decode_image(data, min_side=SIDE).pixels
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return Thumbnail(data=buffer.getvalue(), format="jpeg", width=image.width, height=image.height)


def chosen(ids: np.ndarray, most: int) -> np.ndarray:
    """The places of at most `most` of the ids (N×16 uint8): the same ids whatever others are there."""
    return np.sort(np.argsort(mix(halves(ids)[0], 0), kind="stable")[:most])


def chosen_samples(manifest: Manifest, most: int) -> list[Sample]:
    """At most `most` samples of a manifest that are not withdrawn, chosen by their ids, in order."""
    best = np.empty((0, 16), np.uint8)
    for number in range(len(manifest.shards)):
        table = shard_table(manifest, number, ["sample_id", "media", "source"])
        ids = np.concatenate([best, ids_of(table)[~manifest.withdrawn.rows(table)]])
        manifest.release(number)
        best = ids[chosen(ids, most)]
    found = find(manifest, {row.tobytes() for row in best})
    return [found[i.tobytes()] for i in best if i.tobytes() in found]


def find(manifest: Manifest, wanted: Iterable[bytes]) -> dict[bytes, Sample]:
    """Samples of a manifest by id; those that are withdrawn are left out. Time: a pass over the ids."""
    names = frozenset(wanted)
    found: dict[bytes, Sample] = {}
    for number, shard in enumerate(manifest.shards):
        if len(found) == len(names):
            break
        rows = np.flatnonzero(among(shard_ids(manifest.store, shard.file), names))
        rows = rows[np.isin(rows, shard.selected.rows)]
        if len(rows):
            table = manifest.table(number).take(pa.array(rows))
            table = table.filter(pa.array(~manifest.withdrawn.rows(table)))
            found |= {s.sample_id: s for s in samples_from(table)}
            manifest.release(number)
    return found


def weights(manifest: Manifest, wanted: Iterable[bytes]) -> dict[bytes, float]:
    """The weights of samples by id."""
    names, found = frozenset(wanted), {}
    for number, shard in enumerate(manifest.shards):
        ids = manifest.ids(number)
        for row in np.flatnonzero(among(ids, names)):
            found[ids[row].tobytes()] = float(shard.selected.weights[row])
    return found


def cards(
    manifest: Manifest,
    samples: Sequence[Sample],
    pictures: Pictures,
    readings: Mapping[bytes, Sequence[Reading]],
) -> list[SampleCard]:
    """Samples laid out to be read."""
    weight = weights(manifest, [s.sample_id for s in samples])
    return [
        SampleCard(
            sample_id=s.sample_id.hex(),
            source=s.source,
            origin=s.origin,
            turns=s.turns,
            rejected=s.rejected,
            media=[pictures.medium(m, n) for m, n in zip(s.media, s.names, strict=True)],
            weight=weight.get(s.sample_id, 1.0),
            readings=readings.get(s.sample_id, ()),
            meta="" if s.meta == "{}" else s.meta,
        )
        for s in samples
    ]


def first_words(sample: Sample, role: str) -> str:
    """The text of the first turn of a role that has text."""
    for turn in sample.turns:
        text = " ".join(p.text for p in turn.parts if p.text).strip()
        if turn.role == role and text:
            return text
    return ""


def ids_of(table: pa.Table) -> np.ndarray:
    """The sample ids of a table, N×16 uint8."""
    return id_rows(table.column("sample_id"))
