"""The file of a benchmark's fingerprint: what is needed to find its items in a dataset, and no item itself.

One Parquet file, a row an item, that any reader of Parquet opens:

    item        16 bytes    the item's sample id
    pictures    list        hash (uint64), low (whether 64 bits say too little of the picture) and, where they
                            may, fine (256 bytes); of a clip, stills instead (uint64, four hashes); all null
                            for what could not be read
    exchanges   list        question, answer (16 bytes, the text's key; null if there is none) and their
                            shingles (uint64, as infinity_mm.shingles makes them)
    embeddings  list        float16, one an entry of `pictures`; only if they were asked for

The schema's metadata has `imm.version` and `imm.fingerprint`, JSON: the benchmark's name, its sources with
their licences, how hashes and shingles were made (and `imm.sha256` of that). Of a text's shingles those that
more than COMMON of the benchmark's texts share are left out, being its phrasing ("answer with the option's
letter"), and of the rest at most MOST are kept, the least, which is a random sample of them as they are
hashes. So an item has 1 kB a text at most, and each shingle leads to at most COMMON texts of a benchmark.

Hashes are no encryption: who guesses a text or has a picture can tell that it is in the benchmark, which is
what the file is for. Memory: the file's columns.
"""

import json
import os
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm.fine_hash import BYTES
from infinity_mm.schema import ID
from infinity_mm.shingles import ShingleSets
from infinity_mm.store import file_digest

VERSION = 1
COMMON = 10  # texts
MOST = 128  # shingles of a text
HASHES = {
    "picture": "64 bits as imagehash.phash, 1",
    "fine": "2048 bits of infinity_mm.fine_hash, 1",
    "text": "infinity_mm.shingles, 1",
}

PICTURE = pa.struct(
    [
        ("hash", pa.uint64()),
        ("low", pa.bool_()),
        ("fine", pa.binary(BYTES)),
        ("stills", pa.list_(pa.uint64())),
    ]
)
EXCHANGE = pa.struct(
    [
        ("question", ID),
        ("question_shingles", pa.list_(pa.uint64())),
        ("answer", ID),
        ("answer_shingles", pa.list_(pa.uint64())),
    ]
)
COLUMNS = {"item": ID, "pictures": pa.list_(PICTURE), "exchanges": pa.list_(EXCHANGE)}
EMBEDDINGS = pa.list_(pa.list_(pa.float16()))
_SCHEMA, _VERSION, _ABOUT, _SHA256 = b"imm.schema", b"imm.version", b"imm.fingerprint", b"imm.sha256"


class Fingerprint(NamedTuple):
    """A fingerprint that was read. `about`: name, sources, hashes, shingle (tokens), embedder (or None)."""

    file: str
    sha256: str
    about: dict[str, Any]
    table: pa.Table

    @property
    def name(self) -> str:
        return str(self.about["name"])


def telling(sets: ShingleSets, texts: np.ndarray) -> ShingleSets:
    """What is kept of texts' shingles. texts: int64 [N], equal numbers for what reads the same."""
    _, first = np.unique(texts, return_index=True)
    values, counts = np.unique(sets.take(first).values, return_counts=True)
    owner = np.repeat(np.arange(len(texts)), sets.sizes())
    own = ~np.isin(sets.values, values[counts > COMMON])
    place: np.ndarray = np.cumsum(own) - own
    starts = np.concatenate([place, [own.sum()]])[sets.offsets]  # how many are kept before each text's
    keep = own & (place - starts[owner] < MOST)
    sizes = np.bincount(owner[keep], minlength=len(texts))
    return ShingleSets(sets.values[keep], np.concatenate([[0], np.cumsum(sizes)]))


def write_fingerprint(path: str, table: pa.Table, about: dict[str, Any]) -> None:
    """Write a table of COLUMNS, and embeddings if it has them, at once or not at all."""
    text = json.dumps(about).encode()
    said = {_SCHEMA: b"fingerprint", _VERSION: str(VERSION).encode(), _ABOUT: text, _SHA256: _digest(text)}
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        pq.write_table(
            table.replace_schema_metadata(said),
            file,
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
            row_group_size=1 << 16,
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_about(path: str) -> dict[str, Any]:
    """What a fingerprint says of itself. Raises ValueError for what is none or was made for another imm."""
    advice = "make it with imm fingerprint"
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise ValueError(f"no fingerprint {path}: {advice}") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is no fingerprint of a benchmark ({' '.join(str(error).split())}): {advice}"
        ) from None
    if metadata.get(_SCHEMA) != b"fingerprint":
        raise ValueError(f"{path} is Parquet, but no fingerprint of a benchmark: {advice}")
    try:
        version, text = int(metadata[_VERSION]), metadata[_ABOUT]
        about = json.loads(text) if metadata[_SHA256] == _digest(text) else None
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): {advice} again") from None
    if version > VERSION:
        raise ValueError(
            f"{path} has fingerprint version {version}, this imm reads up to {VERSION}: upgrade infinity-mm"
        )
    if not isinstance(about, dict) or not {"name", "hashes", "shingle", "embedder"} <= about.keys():
        raise ValueError(f"{path} is damaged: it does not say what it was made of; {advice} again")
    for kind, ours in HASHES.items():
        theirs = about["hashes"].get(kind)
        if theirs != ours:
            raise ValueError(
                f"{path} has {kind} hashes {theirs!r}, this imm compares {ours!r}: make it again with "
                "imm fingerprint of this version"
            )
    return about


def _digest(text: bytes) -> bytes:
    return sha256(text).hexdigest().encode()


def read_fingerprint(path: str) -> Fingerprint:
    """Read a fingerprint and check it. Raises ValueError as `read_about`, and for a damaged file."""
    about = read_about(path)
    columns = COLUMNS | ({"embeddings": EMBEDDINGS} if about["embedder"] else {})
    schema = pq.read_schema(path)
    for name, kind in columns.items():
        found = schema.field(name).type if name in schema.names else "missing"
        if found != kind:
            raise ValueError(f"{path}: column {name} is {found} instead of {kind}: no imm wrote it")
    try:
        table = pq.read_table(
            path, columns=list(columns), use_threads=False, pre_buffer=False, page_checksum_verification=True
        )
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}; copy it again") from None
    return Fingerprint(path, file_digest(path), about, table.combine_chunks())
