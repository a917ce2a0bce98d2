"""`imm filter`: keep the samples that pass every rule; say of every other which it broke, and by how much.

Measuring is the map step (`pipelines.measure`), deciding one pass over sidecars. A rule is a Polars SQL
expression over measures. A measure that is not applicable passes; one that failed makes the sample
`failed`; a rule on media drops a sample if any of its media breaks it.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import Field, field_validator

from infinity_mm.columns import media_of
from infinity_mm.executor import Report
from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.media.decode import DEFAULT_MAX_PIXELS
from infinity_mm.media.probe import extension_matches
from infinity_mm.sidecars import sidecar_entry
from infinity_mm.store import Store, read_table
from pipelines.config import MapConfig
from pipelines.measure import FAMILIES, measure
from pipelines.selection import Verdict, row_of, select


class Rule(NamedTuple):
    """`keep`: Polars SQL that holds for what is kept; `measure`: the column whose value the ledger shows."""

    name: str
    family: str
    measure: str
    keep: str
    meaning: str


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("no_turns", "structure", "turns", "turns >= 1", "the conversation is empty"),
        Rule("role_order", "structure", "role_fault", "role_fault = 'none'", "roles do not alternate"),
        Rule("empty_turn", "structure", "empty_turns", "empty_turns = 0", "a turn says and shows nothing"),
        Rule("no_answer", "structure", "last_role", "last_role = 'assistant'", "the last turn is no answer"),
        Rule(
            "marker_without_media", "structure", "markers_without_media", "markers_without_media = 0",
            "more markers than pictures or clips",
        ),
        Rule(
            "media_without_marker", "structure", "media_without_marker", "media_without_marker = 0",
            "a picture or clip that no turn shows",
        ),
        Rule(
            "undecodable_media", "validity", "media_error", "media_error = 'none'",
            "a picture or clip that does not decode strictly",
        ),
        Rule("wrong_kind", "joint", "media_kind", "", "a clip where a picture is said to be, or the reverse"),
        Rule("wrong_format", "joint", "media_format", "", "a file named as another format than it is"),
    )
}  # fmt: skip


# What the rules that compare a medium with its sample keep, in words.
JOINT_LIMITS = {"wrong_kind": "the kind it is shown as", "wrong_format": "the format its name says"}


class FilterConfig(MapConfig):
    """Keep the samples whose structure is sound and whose media decode."""

    manifest: str = Field(
        description="Manifest to filter: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    out: str = Field(description="NAME of the manifest made.")
    allow: list[str] = Field([], description=f"Rule to leave out (repeatable): {', '.join(RULES)}.")
    max_pixels: int = Field(
        DEFAULT_MAX_PIXELS, ge=1, description="A picture with more pixels is a decompression bomb."
    )

    @field_validator("allow")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in RULES:
                raise ValueError(f"no rule {name!r}: the rules are {', '.join(RULES)}")
        return names


def run(config: FilterConfig, report: Report | None = None) -> dict[str, Any]:
    """Filter a manifest; the account and the manifest made."""
    store = Store.open(config.store)
    name_is_free(store, config.out, config.replace, "filter", config.recorded())
    rules = [rule for rule in RULES.values() if rule.name not in config.allow]
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        settings = {"validity": {"max_pixels": config.max_pixels}}
        files: dict[str, dict[str, str]] = {}
        measured = 0
        for name in ("structure", "validity"):
            files[name], made = measure(
                store, manifest, FAMILIES[name], settings.get(name, {}), workers=config.workers, report=report
            )
            measured += made
        with Ledger(store) as ledger:
            judge = _Judge(store, manifest, rules, files)
            shards = select(manifest, ledger, judge.decide)
            entry = ledger.close(sum(len(s.selected.rows) for s in shards))
        made_manifest = publish(
            store,
            stage="filter",
            config=config.recorded(),
            shards=shards,
            media=manifest.document["media"],
            ledger=entry,
            counts=dict(ledger.counts),
            parents=[manifest],
            sources=manifest.document["sources"],
            origins=manifest.document["origins"],
            sidecars=[
                sidecar_entry(store, file, family, shard)
                for family, by_shard in files.items()
                for shard, file in by_shard.items()
            ],
            name=config.out,
            replace=config.replace,
        )
    return {
        "stage": "filter",
        "name": config.out,
        **made_manifest.reference(),
        "reasons": entry["reasons"],
        "measured_shards": measured,
        "note": "" if measured else "every measure was there already: nothing was decoded",
    }


class _Media(NamedTuple):
    """Of every row of a media shard: whether it breaks the media rules, its error, kind and format."""

    broken: np.ndarray
    failed: np.ndarray
    kind: np.ndarray
    format: np.ndarray


class _Judge:
    """Decides a shard of samples. Holds 4 bytes a medium, and what is wrong with each unsound one."""

    def __init__(
        self, store: Store, manifest: Manifest, rules: Sequence[Rule], files: dict[str, dict[str, str]]
    ):
        self.store, self.manifest, self.rules, self.files = store, manifest, rules, files
        self.library = manifest.library()
        self.media_shards = list(self.library.shards())
        self.formats: dict[str, int] = {}
        self.matches: dict[tuple[str, int], bool] = {}
        self.media_rules = [r for r in rules if r.family == "validity"]
        self.joint = {r.name for r in rules if r.family == "joint"}
        self.faults: dict[int, tuple[str, str]] = {}
        parts, starts = [], [0]
        for digest in self.media_shards:
            parts.append(self._media(digest, starts[-1]))
            starts.append(starts[-1] + len(parts[-1].broken))
        self.starts = np.array(starts)
        self.media = (
            _Media(*(np.concatenate(c) if c else np.zeros(0) for c in zip(*parts, strict=True)))
            if parts
            else None
        )

    def _media(self, digest: str, start: int) -> _Media:
        frame = _frame(self.store, self.files["validity"][digest])
        broken = np.zeros(len(frame), bool)
        for rule in self.media_rules:
            broken |= ~_passes(frame, rule)
        failed = frame["error"].is_not_null().to_numpy()
        for i in np.flatnonzero(broken | failed):
            reason, _, detail = (frame["error"][int(i)] or "").partition(": ")
            self.faults[start + int(i)] = (
                reason or frame["media_error"][int(i)],
                detail or frame["media_error_detail"][int(i)] or "",
            )
        formats = [self.formats.setdefault(f or "unknown", len(self.formats)) for f in frame["media_format"]]
        kinds = frame["media_kind"].fill_null("unknown").str.slice(0, 1).to_list()
        return _Media(
            broken,
            failed,
            np.array([ord(k) for k in kinds], np.uint8),
            np.array(formats, np.uint8),
        )

    def decide(self, number: int, at: np.ndarray, table: pa.Table) -> Verdict:
        shard = self.manifest.shards[number]
        frame = _frame(self.store, self.files["structure"][shard.sha256])[shard.selected.rows[at]]
        broken: dict[str, np.ndarray] = {}
        for rule in self.rules:
            if rule.family == "structure":
                broken[rule.name] = ~_passes(frame, rule)
        failed = frame["error"].is_not_null().to_numpy().copy()
        owners, ids = media_of(table)
        rows = np.full(len(ids), -1)
        if len(ids):
            where, row = self.library.find_many(ids)
            rows = np.where(where >= 0, self.starts[where] + row, -1)
            self._media_verdicts(table, frame, owners, rows, broken, failed)
        bad = failed.copy()
        for mask in broken.values():
            bad |= mask
        ends = np.searchsorted(owners, np.arange(table.num_rows + 1))
        ledger = [
            self._row(table, frame, int(i), broken, failed, rows[ends[i] : ends[i + 1]])
            for i in np.flatnonzero(bad)
        ]
        return Verdict(~bad, ledger)

    def _media_verdicts(
        self,
        table: pa.Table,
        frame: pl.DataFrame,
        owners: np.ndarray,
        rows: np.ndarray,
        broken: dict[str, np.ndarray],
        failed: np.ndarray,
    ) -> None:
        assert self.media is not None
        none = np.zeros(table.num_rows, bool)
        there = rows >= 0
        np.logical_or.at(failed, owners, ~there | self.media.failed[rows])
        for rule in self.media_rules:
            broken[rule.name] = none.copy()
            np.logical_or.at(broken[rule.name], owners, there & self.media.broken[rows])
        known = there & ~self.media.failed[rows] & (self.media.kind[rows] != ord("u"))
        if "wrong_kind" in self.joint:
            counts = np.bincount(owners, minlength=table.num_rows)
            letters = zip(frame["media_shown_as"].to_list(), counts, strict=True)
            shown = np.frombuffer("".join(s or "-" * n for s, n in letters).encode(), np.uint8)
            assert len(shown) == len(rows)
            wrong = known & (shown != ord("-")) & (shown != self.media.kind[rows])
            broken["wrong_kind"] = none.copy()
            np.logical_or.at(broken["wrong_kind"], owners, wrong)
        if "wrong_format" in self.joint:
            names = table.column("names").combine_chunks().flatten().to_pylist()
            formats = self.media.format[rows]
            wrong = np.array(
                [not self._matches(n, int(f)) for n, f in zip(names, formats, strict=True)], bool
            )
            broken["wrong_format"] = none.copy()
            np.logical_or.at(broken["wrong_format"], owners, known & wrong)

    def _matches(self, name: str | None, number: int) -> bool:
        extension = os.path.splitext(name or "")[1].lower()
        if (extension, number) not in self.matches:
            format_name = next(f for f, n in self.formats.items() if n == number)
            self.matches[extension, number] = extension_matches(f"x{extension}", format_name) is not False
        return self.matches[extension, number]

    def _row(
        self,
        table: pa.Table,
        frame: pl.DataFrame,
        i: int,
        broken: dict[str, np.ndarray],
        failed: np.ndarray,
        media: np.ndarray,
    ) -> Row:
        names = [name for name, mask in broken.items() if mask[i]]
        if failed[i]:
            reason, said = self._failure(frame["error"][i], media)
            return row_of(table, i, "failed", reason, others=names, detail=said)
        rule = RULES[names[0]]
        value, detail = self._value(rule, table, frame, i, media)
        limit = rule.keep or JOINT_LIMITS[rule.name]
        return row_of(
            table, i, "dropped", rule.name, value=value, limit=limit, others=names[1:], detail=detail
        )

    def _failure(self, error: str | None, media: np.ndarray) -> tuple[str, str]:
        if error is not None:
            reason, _, detail = error.partition(": ")
            return reason, detail
        if (media < 0).any():
            return "missing_media", "a medium is in no media index of this manifest"
        assert self.media is not None
        return next(self.faults[int(row)] for row in media if self.media.failed[row])

    def _value(
        self, rule: Rule, table: pa.Table, frame: pl.DataFrame, i: int, media: np.ndarray
    ) -> tuple[str, str | None]:
        if rule.family == "structure":
            return str(frame[rule.measure][i]), None
        assert self.media is not None
        names = table.column("names")[i].as_py()
        if rule.family == "validity":
            k = next(k for k, row in enumerate(media) if self.media.broken[row])
            fault, said = self.faults[int(media[k])]
            return fault, f"{names[k]}: {said}"
        if rule.name == "wrong_kind":
            return "".join(map(chr, self.media.kind[media])), f"shown as {frame['media_shown_as'][i]}"
        formats = [int(f) for f in self.media.format[media]]
        k = next(k for k, f in enumerate(formats) if not self._matches(names[k], f))
        return next(name for name, n in self.formats.items() if n == formats[k]), names[k]


def _frame(store: Store, file: str) -> pl.DataFrame:
    frame = pl.from_arrow(read_table(store, file))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _passes(frame: pl.DataFrame, rule: Rule) -> np.ndarray:
    """Whether each row passes; one without the measure passes (not applicable) or is judged as failed."""
    return frame.select(pl.sql_expr(rule.keep).fill_null(True).alias("ok"))["ok"].to_numpy()
