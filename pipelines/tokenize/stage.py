"""`imm tokenize`: make codes of the pictures and clips that a manifest's samples use, once each.

What a tokenizer makes of a medium is kept in a sidecar of its media shard, under a key of the tokenizer, the
resize rule and what computed: media that another manifest had tokenised are not encoded again, and a killed
run keeps its finished shards. A medium that fails makes its samples `failed`, under the same reason.
Time is the network's; memory: what `encode` says a worker, and the codes of the shards under way.
"""

from collections import Counter
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from infinity_mm.columns import media_of
from infinity_mm.executor import Report, Resources, Step
from infinity_mm.executor import run as run_step
from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.sidecars import UNAVAILABLE, installed, sidecar_entry
from infinity_mm.store import Store
from infinity_mm.visual_size import SizeRule
from infinity_mm.visual_tokens import FAMILY, STAGE, Coding, TokenFile, TokenizerFacts, Tokens, write_tokens
from pipelines.config import LookingConfig
from pipelines.selection import Verdict, row_of, select
from pipelines.tokenize.encode import Answers, ClipRule, EncodeConfig, Piece, open_step
from pipelines.values import Values

COLUMNS = ["sample_id", "media", "source", "origin"]
PIECE = 128  # rows
ENLARGED = 16  # most pixels that one may become, where no smallest area is given
LIBRARIES = ("torch", "transformers", "pillow", "simplejpeg", "av")


class TokenizeConfig(LookingConfig):
    """Make codes of pictures and clips."""

    manifest: str = Field(
        description="Manifest to tokenize: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    out: str = Field(description="NAME of the manifest made.")
    tokenizer: str = Field(
        description="Vision tokenizer: folder or hub ID of an Emu3VQVAE, of BAAI's original weights "
        "(BAAI/Emu3-VisionTokenizer), or of a whole Emu3."
    )
    area: int = Field(
        512 * 512,
        ge=64,
        description="Pixels of a picture or frame after resizing; its shape is kept, its sides are made "
        "multiples of a code's.",
    )
    keep_size: bool = Field(False, description="Resize to multiples of a code's side alone.")
    min_area: int | None = Field(
        None, ge=1, description=f"Pixels of the smallest picture allowed [default: area / {ENLARGED}]."
    )
    max_area: int = Field(1 << 26, ge=1, description="Pixels of the largest picture allowed.")
    every: int = Field(1, ge=1, description="Take one of so many frames of a clip.")
    rest: Literal["fail", "drop"] = Field(
        "fail", description="Frames of a clip that are no whole chunk (4 in Emu3): fail it, or drop them."
    )
    batch: int = Field(16, ge=1, description="Pictures or frames that are encoded at once.")
    device: str | None = Field(None, description="cpu, cuda or cuda:N [default: a GPU where there is one].")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Data type of the network; the released weights were made in float32."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.keep_size and "area" in self.model_fields_set:
            raise ValueError("--area would be ignored: give it, or --keep-size")
        if self.least() > self.max_area:
            raise ValueError(f"--min-area {self.least():,} is more than --max-area {self.max_area:,}")
        return self

    def least(self) -> int:
        """Pixels of the smallest picture allowed."""
        if self.min_area is not None:
            return self.min_area
        return 1 if self.keep_size else -(-self.area // ENLARGED)

    def recorded(self) -> dict[str, Any]:
        """Where it was computed and how many at once decides nothing that is promised."""
        return {k: v for k, v in super().recorded().items() if k not in ("batch", "device")}


def run(config: TokenizeConfig, report: Report | None = None) -> dict[str, Any]:
    """Tokenize a manifest; the account, the manifest made and what was encoded. Raises ValueError."""
    from infinity_mm.models.emu3_vq import find_tokenizer
    from infinity_mm.models.torch_device import torch_device

    store = Store.open(config.store)
    name_is_free(store, config.out, config.replace, STAGE, config.recorded())
    with store.using(), Ledger(store) as ledger:
        manifest = Manifest.open(store, config.manifest)
        facts = find_tokenizer(config.tokenizer).facts
        device, _ = torch_device(config.tokenizer, config.device, "vision tokenizer")
        size = SizeRule(
            None if config.keep_size else config.area, config.least(), config.max_area, facts.factor
        )
        clip = ClipRule(config.every, config.rest)
        by = {"dtype": config.dtype, "device": device.partition(":")[0], **installed(LIBRARIES)}
        coding = Coding(facts, {**size._asdict(), **clip._asdict(), "resample": "bicubic"}, by)
        step = Step(
            name="tokenize",
            open=open_step,
            config=EncodeConfig(
                store.url, config.tokenizer, facts.digest, device, config.dtype, size, clip, config.batch,
                config.max_pixels,
            ),
            resources=Resources(gpus=float(device != "cpu")),
        )  # fmt: skip
        files, encoded = fill(manifest, coding, step, config.workers, report)
        told = Told(manifest, files)
        shards = select(manifest, ledger, told.decide, COLUMNS)
        kept = sum(len(shard.selected.rows) for shard in shards)
        reasons = dict(sorted(ledger.reasons.items()))
        made = publish(
            store,
            stage=STAGE,
            config=config.recorded(),
            shards=shards,
            media=manifest.document["media"],
            ledger=ledger.close(kept),
            counts=dict(ledger.counts),
            parents=[manifest],
            sources=manifest.document["sources"],
            origins=manifest.document["origins"],
            sidecars=[sidecar_entry(store, file, FAMILY, shard) for shard, file in files.items()],
            name=config.out,
            replace=config.replace,
            extra={"tokenizer": {**facts._asdict(), "rule": dict(coding.rule), "by": by}},
        )
        counted = told.count()
    return {
        "stage": STAGE,
        "reasons": reasons,
        "name": config.out,
        "tokenizer": facts.digest,
        "codebook": facts.codebook,
        **counted,
        "encoded": encoded,
        "note": _note(facts, counted, encoded),
        **made.reference(),
    }


def fill(
    manifest: Manifest, coding: Coding, step: Step, workers: int, report: Report | None
) -> tuple[dict[str, str], int]:
    """Encode what no sidecar has of the media that samples show; each shard's file, and how many media."""
    store, library = manifest.store, manifest.library()
    there = store.names(f"sidecars/{FAMILY}")
    files: dict[str, str] = {}
    kept: dict[str, list[str]] = {}  # the files that tell a part of a shard
    pieces: list[Piece] = []

    def write(shard: str, answers: Answers) -> None:
        found = {**_told(store, kept[shard]), **answers}
        again = [row for row, one in found.items() if _unavailable(one)]
        files[shard] = write_tokens(store, library.shard(shard), found, coding, again)

    for shard, used in Values(manifest, {}).used.items():
        if not len(used):
            continue
        kept[shard] = [name for name in there if name.startswith(coding.prefix(shard))]
        known = {name: _known(TokenFile(store, name)) for name in kept[shard]}
        whole = next((name for name, told in known.items() if told[used].all()), None)
        if whole is not None:
            files[shard] = whole
            continue
        missing = used[~np.any([told[used] for told in known.values()], axis=0)] if known else used
        if len(missing):
            rows = tuple(missing.tolist())
            pieces += [Piece(shard, rows[at : at + PIECE]) for at in range(0, len(rows), PIECE)]
        else:  # several files tell it together
            write(shard, {})
    left = Counter(piece.shard for piece in pieces)
    encoded = sum(len(piece.rows) for piece in pieces)
    arriving: dict[str, Answers] = {}

    def arrived(number: int, answers: Answers) -> None:
        shard = pieces[number].shard
        arriving.setdefault(shard, {}).update(answers)
        left[shard] -= 1
        if not left[shard]:
            write(shard, arriving.pop(shard))

    run_step(step, pieces, workers=workers, report=report, each=arrived)
    return {shard: files[shard] for shard in library.shards() if shard in files}, encoded


def _known(file: TokenFile) -> np.ndarray:
    """Of which rows a file tells for good: bool [N]."""
    failed = [error is not None and not _unavailable(error) for error in file.errors()]
    known: np.ndarray = file.grids.any(axis=1) | np.array(failed, bool)
    return known


def _told(store: Store, names: list[str]) -> Answers:
    """What files tell for good of their rows."""
    answers: Answers = {}
    for name in names:
        file = TokenFile(store, name)
        rows = np.flatnonzero(_known(file)).tolist()
        answers |= {row: one for row in rows if (one := file.row(row)) is not None}
    return answers


def _unavailable(one: Tokens | str) -> bool:
    """Whether a medium may be had another time."""
    return isinstance(one, str) and one.partition(":")[0] in UNAVAILABLE


class Told:
    """What the sidecars tell of a manifest's samples and media."""

    def __init__(self, manifest: Manifest, files: dict[str, str]) -> None:
        self.manifest, self.store, self.names = manifest, manifest.store, files
        self._library = manifest.library()
        self._shards = list(self._library.shards())
        self._of: tuple[str, TokenFile] | None = None

    def decide(self, number: int, at: np.ndarray, table: pa.Table) -> Verdict:
        """Keep the samples whose media all have codes."""
        owners, ids = media_of(table)
        where, rows = self._library.find_many(ids)
        errors: dict[int, list[str]] = {}
        for place in np.flatnonzero(where < 0).tolist():
            said = f"missing_media: medium {ids[place].tobytes().hex()} is in no media index of this manifest"
            errors.setdefault(int(owners[place]), []).append(said)
        for shard in np.unique(where[where >= 0]).tolist():
            mine = np.flatnonzero(where == shard)
            file = self._file(self._shards[shard])
            for place in mine[~file.grids[rows[mine]].any(axis=1)].tolist():
                errors.setdefault(int(owners[place]), []).append(file.value("error", int(rows[place])))
        keep = np.ones(len(at), bool)
        keep[list(errors)] = False
        return Verdict(keep, [_failed(table, i, errors[i]) for i in sorted(errors)])

    def count(self) -> dict[str, Any]:
        """Media that samples show, those with codes, why others have none, and the codes."""
        failures: Counter[str] = Counter()
        found = {"media": 0, "tokenized": 0, "codes": 0, "clips": 0}
        for shard, used in Values(self.manifest, {}).used.items():
            if not len(used):
                continue
            file = self._file(shard)
            grids = file.grids[used].astype(np.int64)
            coded = grids.any(axis=1)
            found["media"] += len(used)
            found["tokenized"] += int(coded.sum())
            found["codes"] += int(grids.prod(axis=1).sum())
            kinds = self._library.shard(shard).kinds
            found["clips"] += sum(kinds[row] == "video" for row in used[coded].tolist())
            for row in used[~coded].tolist():
                failures[file.value("error", row).partition(":")[0]] += 1
        return {
            **found,
            "media_failed": found["media"] - found["tokenized"],
            "failures": dict(sorted(failures.items())),
        }

    def _file(self, shard: str) -> TokenFile:
        if self._of is None or self._of[0] != shard:
            self._of = shard, TokenFile(self.store, self.names[shard])
        return self._of[1]


def _failed(table: pa.Table, i: int, errors: list[str]) -> Row:
    reason, _, detail = errors[0].partition(": ")
    others = sorted({error.partition(":")[0] for error in errors[1:]} - {reason})
    return row_of(table, i, "failed", reason, others=others, detail=detail)


def _note(facts: TokenizerFacts, counted: dict[str, Any], encoded: int) -> str:
    lines = []
    if counted["tokenized"]:
        mean = counted["codes"] / counted["tokenized"]
        lines.append(f"{counted['codes']:,} codes of {facts.codebook:,}, {mean:,.0f} a medium")
    if not encoded and counted["media"]:
        lines.append("every medium was tokenised already: nothing was encoded")
    return "\n".join(lines)
