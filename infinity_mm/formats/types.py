"""What a format reads into and writes from. A format knows nothing of stores, stages or workers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from infinity_mm.schema import Sample, Turn


class Ref(NamedTuple):
    """Where a medium's bytes lie, before it has an id.

    how        path            offset       length      member
    "file"     as written      0            -1          ""            resolved against the media root later
    "range"    container       first byte   bytes       ""            a member of an uncompressed tar
    "parquet"  the file        row group    row in it   column path   e.g. "images.0.bytes"
    "arrow"    the file        batch        row in it   column path
    "inline"   the file        0            bytes       ""            `data` holds the bytes
    """

    how: str
    path: str
    offset: int
    length: int
    member: str
    name: str
    data: bytes | None = None


class Record(NamedTuple):
    """One record as read: `media` indexes of the turns' parts point into `refs`.

    `row`: where it lies in its unit's file (see `Unit.first`); `key` its own name there, if it has one
    (tar member). `meta`: every other field of the source record, untouched, as a JSON object's text.
    `source`: the record's own source name, where it has one.
    """

    row: int
    turns: Sequence[Turn]
    refs: Sequence[Ref]
    meta: str = "{}"
    source: str | None = None
    rejected: Sequence[Turn] | None = None
    key: str | None = None


class Reject(NamedTuple):
    """A record that the data model cannot hold: a reason code (see `REASONS`) and what was found."""

    row: int
    reason: str
    detail: str
    key: str | None = None


# Every reason a reader may give; the ingest stage adds those that concern the media files themselves.
REASONS = {
    "malformed_json": "the line or element is not valid JSON or not UTF-8",
    "not_an_object": "the record is JSON but not an object",
    "no_conversation": "the record has none of the fields its format keeps a conversation in",
    "bad_type": "a field has the wrong JSON type",
    "unknown_role": "a turn's role is none that is known",
    "bad_encoding": "a text is not valid Unicode",
    "unsupported_part": "a part of a message is of a kind the data model does not hold (audio, say)",
    "remote_media": "the medium is given as a web address; nothing is downloaded",
    "bad_data_url": "an inline medium cannot be decoded",
    "malformed_csv": "the row is not sound CSV, or has more cells than there are columns",
    "unknown_image": "the annotation's image is not among the file's images",
    "no_caption": "the picture has no caption",
    "damaged_container": "the tar, Parquet or Arrow file is damaged from here on",
}


class Unit(NamedTuple):
    """A piece of an input that one worker reads: bytes, members or rows `start` to `end` of `path`.

    `first`: the row number of its first record where the plan knows it, else -1: rows then count from 0
    within the unit and are numbered on when the units are put together.
    """

    path: str
    format: str
    start: int
    end: int
    first: int = -1


class Options(NamedTuple):
    """Reader options. `fields`: the `--map` of a mapped format, e.g. {"question": "q", "image": "img"}."""

    fields: tuple[tuple[str, str], ...] = ()
    source_field: str | None = None


class Reader(Protocol):
    def plan(self, path: Path, unit_bytes: int) -> list[Unit]:
        """Cut an input into units of about `unit_bytes`; cheap, and the same for any number of workers."""

    def read(self, unit: Unit, options: Options) -> Iterator[Record | Reject]:
        """Read a unit. Never raises for what a file may contain; a bad record is one Reject."""


class Medium(NamedTuple):
    """What an exporter needs to know of a medium. `name`: as the source named it; `read` gives the bytes.

    `size`: its length in bytes where that is known, else -1.
    """

    media_id: bytes
    kind: str
    format: str
    name: str
    read: Callable[[], bytes]
    size: int = -1


class Item(NamedTuple):
    sample: Sample
    media: Sequence[Medium]


class WriteOptions(NamedTuple):
    """`lines`: LLaVA as JSON Lines; `default_source`: the source name that need not be written.

    A tar is closed at `tar_bytes`, a row group or record batch at `group_bytes` or `group_rows`.
    """

    lines: bool = False
    default_source: str = ""
    tar_bytes: int = 1 << 30
    group_bytes: int = 64 << 20
    group_rows: int = 1000


class Writer(Protocol):
    holds: str
    """What the format can hold, in a sentence."""

    largest_medium: int
    """Most bytes of one medium."""

    def refuses(self, sample: Sample) -> str | None:
        """Why the format cannot express this sample, or None if it comes back with the same id."""

    def write(self, items: Iterator[Item], folder: Path, part: int, options: WriteOptions) -> list[Path]:
        """Write one part (the samples of one shard, in order) under `folder`; its data files, in order.

        Media that are files of their own are named in the data files. Raises OSError, and ValueError for a
        sample that `refuses` gives a reason for.
        """

    def finish(self, folder: Path, parts: Sequence[Path]) -> list[Path]:
        """Write what belongs to all parts together (`parts`: every data file, in order); its files."""
