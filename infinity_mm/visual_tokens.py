"""The token sidecar: what a vision tokenizer made of each medium of a media shard, as integers in Arrow.

    sidecars/visual_tokens/<shard>-<key>.arrow    a row a medium, in the shard's order

A medium has a grid (latent frames, rows, columns) and that many codes in raster order, or an error, or
neither: it was not asked for. The tokenizer's digest, its codebook size, how many pixels and frames a code
stands for, the resize rule and by what it was computed are in the schema's metadata, and a digest of them in
the file's name, so that a medium is encoded once for each. Codes take 2 bytes each where the codebook has at
most 65,536, else 4.

`VisualTokens` reads them: files are memory-mapped where the store is local, a look is one search in the media
index and one row. Memory: the files and index parts touched, mapped.
"""

import contextlib
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.media.shards import Shard
from infinity_mm.schema import ID
from infinity_mm.store import Store, digest_of

FAMILY = "visual_tokens"
STAGE = "tokenize"
VERSION = 1
OPEN_FILES = 64
SMALL = 1 << 16  # codes that fit into two bytes


class TokenizerFacts(NamedTuple):
    """What codes mean. `digest`: of weights and configuration; `codebook`: codes are below it; `factor`:
    pixels of a code's side; `chunk`: frames of a latent frame."""

    digest: str
    codebook: int
    factor: int
    chunk: int


class Tokens(NamedTuple):
    """A medium's codes, int32 [t, h, w]; a clip's frames a second and seconds, as far as they are coded."""

    codes: npt.NDArray[np.int32]
    fps: float | None = None
    duration: float | None = None


class Coding(NamedTuple):
    """What codes depend on besides their medium: the tokenizer, the rule by which media are resized, and what
    computed (data type, kind of device, versions of libraries)."""

    facts: TokenizerFacts
    rule: Mapping[str, Any]
    by: Mapping[str, Any]

    def key(self) -> str:
        """16 hex digits."""
        return digest_of([FAMILY, VERSION, self.facts._asdict(), dict(self.rule), dict(self.by)])[:16]

    def prefix(self, shard: str) -> str:
        """What the names of all files with a shard's tokens begin with."""
        return f"sidecars/{FAMILY}/{shard}-{self.key()}"


def tokens_schema(coding: Coding) -> pa.Schema:
    facts = coding.facts
    code = pa.uint16() if facts.codebook <= SMALL else pa.int32()
    return pa.schema(
        [
            ("media_id", ID),
            ("kind", pa.string()),
            ("t", pa.int32()),
            ("h", pa.int32()),
            ("w", pa.int32()),
            ("fps", pa.float32()),
            ("duration", pa.float32()),
            ("codes", pa.large_list(code)),
            ("error", pa.string()),
        ],
        metadata={
            "imm.schema": f"sidecar:{FAMILY}",
            "imm.version": str(VERSION),
            "imm.tokenizer": facts.digest,
            "imm.codebook": str(facts.codebook),
            "imm.factor": str(facts.factor),
            "imm.chunk": str(facts.chunk),
            "imm.resize": json.dumps(dict(coding.rule), sort_keys=True),
            "imm.by": json.dumps(dict(coding.by), sort_keys=True),
        },
    )


def tokens_table(shard: Shard, found: Mapping[int, Tokens | str], coding: Coding) -> pa.Table:
    """The table of a shard, from the tokens or the error of some of its rows."""
    schema = tokens_schema(coding)
    rows = [found.get(row) for row in range(len(shard))]
    grids = [one.codes.shape if isinstance(one, Tokens) else (None, None, None) for one in rows]
    lengths = [one.codes.size if isinstance(one, Tokens) else 0 for one in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    code = schema.field("codes").type.value_type
    flat = [one.codes.reshape(-1) for one in rows if isinstance(one, Tokens)]
    values = pa.array(np.concatenate([np.empty(0, np.int32), *flat]).astype(code.to_pandas_dtype()))
    without = pa.array([not isinstance(one, Tokens) for one in rows], pa.bool_())
    columns = [
        shard.table.column("media_id").combine_chunks(),
        shard.table.column("kind").combine_chunks(),
        *(pa.array([grid[axis] for grid in grids], pa.int32()) for axis in range(3)),
        pa.array([one.fps if isinstance(one, Tokens) else None for one in rows], pa.float32()),
        pa.array([one.duration if isinstance(one, Tokens) else None for one in rows], pa.float32()),
        pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=without),
        pa.array([one if isinstance(one, str) else None for one in rows], pa.string()),
    ]
    return pa.table(columns, schema=schema)


def write_tokens(
    store: Store,
    shard: Shard,
    found: Mapping[int, Tokens | str],
    coding: Coding,
    again: Sequence[int] = (),
) -> str:
    """Publish a shard's tokens; the file's name. It is named apart where rows are missing, or are to be tried
    `again` because their media could not be had."""
    name = f"{coding.prefix(shard.digest)}.arrow"
    without = sorted(({*range(len(shard))} - set(found)) | set(again))
    if without:
        lost = hashlib.sha256(b"".join(shard.media_id(row) for row in without)).hexdigest()[:12]
        name = name.replace(".arrow", f".without-{lost}.arrow")
    table = tokens_table(shard, found, coding)
    with store.scratch() as temporary:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(table.num_rows, 1))
        store.publish(temporary, name)
    return name


class TokenFile:
    """One sidecar, mapped; rows are those of its media shard."""

    def __init__(self, store: Store, name: str) -> None:
        try:
            self._batch = store.open_arrow(name).get_batch(0)
            said = {key.decode(): value.decode() for key, value in self._batch.schema.metadata.items()}
            self.facts = TokenizerFacts(
                said["imm.tokenizer"],
                int(said["imm.codebook"]),
                int(said["imm.factor"]),
                int(said["imm.chunk"]),
            )
        except (pa.ArrowInvalid, OSError, KeyError, ValueError, AttributeError) as error:
            if isinstance(error, FileNotFoundError):
                raise ValueError(
                    f"{store.url}/{name} is missing: run `imm tokenize` again, which makes it anew"
                ) from None
            raise ValueError(
                f"{store.url}/{name} is damaged: {' '.join(str(error).split())}; delete it, and run "
                "`imm tokenize` again"
            ) from None
        self.rule: dict[str, Any] = json.loads(said["imm.resize"])
        # int32 [N, 3], zeros where a row has no codes
        axes = [self._batch.column(axis).fill_null(0).to_numpy() for axis in ("t", "h", "w")]
        self.grids: npt.NDArray[np.int32] = np.stack(axes, axis=1).astype(np.int32)
        codes = self._batch.column("codes")
        self._offsets, self._codes = codes.offsets.to_numpy(), codes.values.to_numpy()

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def codes(self, row: int) -> npt.NDArray[np.int32]:
        """int32 [t, h, w]; empty where the row has none."""
        flat = self._codes[self._offsets[row] : self._offsets[row + 1]]
        return flat.reshape(self.grids[row]).astype(np.int32)

    def value(self, column: str, row: int) -> Any:
        return self._batch.column(column)[row].as_py()

    def errors(self) -> list[str | None]:
        """Of each row why it has no codes; None also where it was not asked for."""
        errors: list[str | None] = self._batch.column("error").to_pylist()
        return errors

    def row(self, row: int) -> Tokens | str | None:
        """A row as it was written."""
        if self.grids[row].any():
            return Tokens(self.codes(row), self.value("fps", row), self.value("duration", row))
        error: str | None = self.value("error", row)
        return error


class VisualTokens:
    """The tokens of a manifest's media, from the nearest of its ancestors (or itself) that were tokenised.

    `tokenizer`: the digest of the tokenizer that made them; `codebook`: codes are below it; `factor`: pixels
    of a code's side; `chunk`: frames of a latent frame. Raises ValueError where nothing was tokenised, or
    where parts were tokenised by different tokenizers.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.store = manifest, manifest.store
        self._library = manifest.library()
        self._shards = list(self._library.shards())
        self._files: dict[str, list[str]] = {}
        self._open: OrderedDict[str, TokenFile] = OrderedDict()
        facts: dict[TokenizerFacts, str] = {}
        for source in _sources(manifest):
            for entry in source.document["sidecars"]:
                if entry["family"] == FAMILY:
                    self._files.setdefault(entry["shard"], []).append(entry["file"])
            told = source.document["tokenizer"]
            facts.setdefault(
                TokenizerFacts(*(told[field] for field in TokenizerFacts._fields)), source.digest
            )
        if not facts:
            raise ValueError(
                f"manifest {manifest.digest[:12]}… has no visual tokens: run `imm tokenize` on it or on a "
                "former one"
            )
        if len(facts) > 1:
            by = " and ".join(f"{one.digest[:12]}… ({digest[:12]}…)" for one, digest in facts.items())
            raise ValueError(
                f"manifest {manifest.digest[:12]}… has tokens of different tokenizers: {by}; run "
                "`imm tokenize` on it, with one"
            )
        (only,) = facts
        self.facts = only
        self.tokenizer, self.codebook, self.factor, self.chunk = only

    @property
    def key(self) -> str:
        """What its tokens are: a digest of the sidecars' names, 16 hex digits."""
        return digest_of(sorted(name for names in self._files.values() for name in names))[:16]

    def grid(self, media_id: bytes) -> tuple[int, int, int] | None:
        """Latent frames, rows and columns; None where a medium has no codes (`error` says why)."""
        t, h, w = self.grids(np.frombuffer(media_id, np.uint8)[None])[0].tolist()
        return (t, h, w) if t else None

    def grids(self, ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """The grids of many media, ids uint8 [N, 16]: int32 [N, 3], zeros where there are no codes."""
        grids = np.zeros((len(ids), 3), np.int32)
        where, rows = self._library.find_many(ids)
        for number in np.unique(where[where >= 0]).tolist():
            asked = np.flatnonzero(where == number)
            for name in self._files.get(self._shards[number], ()):
                lacking = asked[~grids[asked].any(axis=1)]
                grids[lacking] = self._file(name).grids[rows[lacking]]
        withdrawn = self.manifest.withdrawn.ids
        for i, one in enumerate(ids) if withdrawn else ():
            if one.tobytes() in withdrawn:
                grids[i] = 0
        return grids

    def codes(self, media_id: bytes) -> npt.NDArray[np.int32]:
        """A medium's codes, int32 [t, h, w]. Raises ValueError where it has none, saying why."""
        found = self._row(media_id)
        if found is None or not found[0].grids[found[1]].any():
            raise ValueError(f"medium {media_id.hex()} has no visual tokens: {self.error(media_id)}")
        return found[0].codes(found[1])

    def fps(self, media_id: bytes) -> float | None:
        """A clip's frames a second as coded; None for a picture, and where it is not known."""
        return self._value("fps", media_id)

    def duration(self, media_id: bytes) -> float | None:
        """Seconds of a clip that are coded; None for a picture, and where it is not known."""
        return self._value("duration", media_id)

    def error(self, media_id: bytes) -> str | None:
        """Why a medium has no codes, as `reason: detail`; None where it has."""
        if media_id in self.manifest.withdrawn.ids:
            return f"withdrawn: medium {media_id.hex()} was withdrawn (imm forget)"
        found = self._row(media_id)
        if found is None:
            return "not_tokenized: no tokenised manifest had it; run `imm tokenize` on this one"
        file, row = found
        if file.grids[row].any():
            return None
        return (
            file.value("error", row) or "not_tokenized: it was not asked for; run `imm tokenize` on this one"
        )

    def _value(self, column: str, media_id: bytes) -> float | None:
        found = self._row(media_id)
        value: float | None = None if found is None else found[0].value(column, found[1])
        return value

    def _row(self, media_id: bytes) -> tuple[TokenFile, int] | None:
        """The file and row of a medium: of the file that has its codes, if any has."""
        where, rows = self._library.find_many(np.frombuffer(media_id, np.uint8)[None])
        if where[0] < 0:
            return None
        found: tuple[TokenFile, int] | None = None
        for name in self._files.get(self._shards[where[0]], ()):
            one = self._file(name), int(rows[0])
            if one[0].grids[one[1]].any() and media_id not in self.manifest.withdrawn.ids:
                return one
            if found is None or found[0].value("error", found[1]) is None:
                found = one
        return found

    def _file(self, name: str) -> TokenFile:
        if name not in self._open:
            self._open[name] = TokenFile(self.store, name)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]


def _sources(manifest: Manifest) -> Iterator[Manifest]:
    """The tokenised manifests that a manifest is made of: those behind another are its past."""
    waiting, seen = [manifest], set()
    while waiting:
        one = waiting.pop(0)
        if one.file in seen:
            continue
        seen.add(one.file)
        if one.document["stage"] == STAGE:
            yield one
            continue
        for parent in one.parents:
            with contextlib.suppress(ManifestError):  # its document was collected
                waiting.append(Manifest.open(manifest.store, parent, check=False))
