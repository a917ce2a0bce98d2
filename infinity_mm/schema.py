"""The data model: turns, parts, samples, their identity and their Arrow form.

A turn is a role and a list of parts; a part is text, or a picture or clip given as an index into the
sample's media list. Everything enters through `normalise`, so that one sample has one form however its
source wrote it, and therefore one `sample_id`.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

ROLES = ("system", "user", "assistant", "tool")
MEDIA_KINDS = ("image", "video")
ID_BYTES = 16
SAMPLE_SCHEMA_VERSION = 1
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Part(NamedTuple):
    """One piece of a turn: `text` for type "text", else `media`, an index into the sample's media.

    `media` is None where the source marked a picture it does not have (more markers than pictures).
    """

    type: str
    text: str | None = None
    media: int | None = None


class Turn(NamedTuple):
    role: str
    parts: tuple[Part, ...]


class Sample(NamedTuple):
    """A stored sample. `media`: 16-byte ids; `meta`: JSON text; `names`: media names as the source had them.

    `origin` says where the record came from, e.g. `train.jsonl:17`.
    """

    sample_id: bytes
    turns: tuple[Turn, ...]
    media: tuple[bytes, ...]
    source: str
    meta: str
    rejected: tuple[Turn, ...] | None
    names: tuple[str, ...]
    origin: str


PART = pa.struct([("type", pa.string()), ("text", pa.large_string()), ("media", pa.int32())])
TURN = pa.struct([("role", pa.string()), ("parts", pa.list_(PART))])
ID = pa.binary(ID_BYTES)
SAMPLES = pa.schema(
    [
        ("sample_id", ID),
        ("turns", pa.list_(TURN)),
        ("media", pa.list_(ID)),
        ("source", pa.string()),
        ("meta", pa.large_string()),
        ("rejected", pa.list_(TURN)),
        ("names", pa.list_(pa.string())),
        ("origin", pa.string()),
    ],
    metadata={"imm.schema": "samples", "imm.version": str(SAMPLE_SCHEMA_VERSION)},
)


def normalise(turns: Iterable[Turn], rejected: Iterable[Turn] | None, media: int) -> "Normalised":
    """Give a conversation its one form. `media`: how many media the record brought.

    Empty texts go, neighbouring texts join, and media are numbered in the order the parts name them; a
    medium named twice is listed twice, and media no part names come last. `Normalised.order` maps the new
    list to the record's: `new_media[i] = old_media[order[i]]`.
    Raises ValueError for a text that is not valid Unicode (a lone surrogate).
    """
    order: list[int] = []
    new_turns = tuple(Turn(t.role, _join(t.parts, order, media)) for t in turns)
    new_rejected = None
    if rejected is not None:
        new_rejected = tuple(Turn(t.role, _join(t.parts, order, media)) for t in rejected)
    named = set(order)
    order += [i for i in range(media) if i not in named]
    return Normalised(new_turns, new_rejected, tuple(order), turns_digest(new_turns, new_rejected))


class Normalised(NamedTuple):
    turns: tuple[Turn, ...]
    rejected: tuple[Turn, ...] | None
    order: tuple[int, ...]
    digest: bytes


def _join(parts: Sequence[Part], order: list[int], media: int) -> tuple[Part, ...]:
    out: list[Part] = []
    for part in parts:
        if part.type == "text":
            if not part.text:
                continue
            if out and out[-1].type == "text":
                out[-1] = Part("text", f"{out[-1].text}{part.text}")
            else:
                out.append(Part("text", part.text))
        elif part.media is None or not 0 <= part.media < media:
            out.append(Part(part.type))
        else:
            out.append(Part(part.type, None, len(order)))
            order.append(part.media)
    return tuple(out)


def turns_digest(turns: Sequence[Turn], rejected: Sequence[Turn] | None = None) -> bytes:
    """sha256 of the canonical JSON of the turns (32 bytes); `rejected` counts only where there is one.

    Raises ValueError for a text that is not valid Unicode.
    """
    form: list[Any] = [_canonical(turns)]
    if rejected is not None:
        form.append(_canonical(rejected))
    try:
        data = _encode(form).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text is not valid Unicode: {error.reason} at character {error.start}") from None
    return hashlib.sha256(data).digest()


def _canonical(turns: Sequence[Turn]) -> list[Any]:
    return [[t.role, [[p.type, p.text if p.type == "text" else p.media] for p in t.parts]] for t in turns]


def sample_id(digest: bytes, media: Iterable[bytes]) -> bytes:
    """The identity of a sample: 16 bytes of sha256 over the turns' digest and the media ids, in order."""
    return hashlib.sha256(b"imm:sample:1\0" + digest + b"".join(media)).digest()[:ID_BYTES]


def media_id(data: bytes | memoryview) -> bytes:
    """The identity of a medium: the first 16 bytes of sha256 of its bytes."""
    return hashlib.sha256(data).digest()[:ID_BYTES]


def turns_from(value: list[dict[str, Any]] | None) -> tuple[Turn, ...] | None:
    """Turns from their Arrow (`to_pylist`) form."""
    if value is None:
        return None
    return tuple(Turn(t["role"], tuple(Part(**p) for p in t["parts"])) for t in value)


def samples_from(batch: pa.RecordBatch | pa.Table) -> list[Sample]:
    """The samples of a batch with the SAMPLES columns."""
    return [
        Sample(
            row["sample_id"],
            turns_from(row["turns"]) or (),
            tuple(row["media"]),
            row["source"],
            row["meta"],
            turns_from(row["rejected"]),
            tuple(row["names"]),
            row["origin"],
        )
        for row in batch.select(SAMPLES.names).to_pylist()
    ]
