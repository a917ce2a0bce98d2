"""Deciding: each rule on each sample, from sidecars alone, and what the ledger says of what is not kept.

A measure that is not applicable makes an expression null (or not, where it says `IS NULL`), and what is null
passes. A sample any of whose media breaks a rule is dropped; one of whose measures failed is failed wherever
a rule reads it. The first rule in order that a sample does not pass is the reason; which samples are kept
does not depend on the order. Windows and quantiles look at all samples that come in, whatever other rules
drop. Time: one pass over the columns that rules read. Memory: one shard of them; for rules that look at all
samples at once, those rules' columns of all samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from infinity_mm.ledger import LEDGER
from infinity_mm.manifest import Manifest
from pipelines.frames import ERROR, Frames, Uses, shard_table
from pipelines.measures.registry import META, family_name, is_media
from pipelines.rules import Compiled, RuleError, check_type, first_line, roots

PASS, BROKEN, FAILED = 0, 1, 2
DETAIL_OF = {"media_error": "media_error_detail"}  # said in the ledger beside the value of the former
DIGITS = 6
MOST_CUTS = 1000
BARE = ":bare"  # the row of a sample without media


class Account(NamedTuple):
    """How many samples a rule would drop alone; how many it drops, and how many fail at it, after the rules
    before it; for how many it can't be decided, a measure having failed; to how many it does not apply."""

    alone: int
    dropped: int
    failed: int
    undecided: int
    not_applicable: int


class Finding(NamedTuple):
    """A rule on the samples of a shard. `status` (uint8) and `null` (bool) a sample; `row`: which row of the
    rule's frame decides; `broken` (bool): the rows that break it; `sides`: left and right of its comparison,
    a row each, where known already."""

    status: np.ndarray
    null: np.ndarray
    row: np.ndarray
    broken: np.ndarray
    sides: pl.DataFrame | None


class Cut(NamedTuple):
    """A limit that was worked out. `group`: the values that its samples share, by measure, and none where it
    is of all; `measured`: rows that have a value, `over`: those of them that it drops."""

    group: dict[str, str | None]
    limit: str | None
    measured: int
    over: int


class Decided(NamedTuple):
    """A shard. `status`: uint8 [rules, samples]; `first`: the rule that decides, -1 for what is kept."""

    status: np.ndarray
    first: np.ndarray
    findings: list[Finding]
    samples: pl.DataFrame
    uses: Uses | None


class Sides(NamedTuple):
    """Left and right of a comparison for each row, which is a sample or one of its media.

    `owners`: the place of each row's sample; `medium`: which of its media, -1 for none; `failed` (bool): a
    measure that the rule reads failed; `broken` (bool): the rule does not hold.
    """

    left: pl.Series
    right: pl.Series
    owners: np.ndarray
    medium: np.ndarray
    failed: np.ndarray
    broken: np.ndarray


class Judge:
    """Decides rules on a manifest's samples, shard by shard, in any order. `seen`: samples so far."""

    def __init__(
        self,
        manifest: Manifest,
        rules: Sequence[Compiled],
        files: Mapping[str, Mapping[str, str]],
        seed: int = 0,
    ) -> None:
        self.manifest, self.rules = manifest, list(rules)
        names = list(roots(self.rules))
        names += [detail for name, detail in DETAIL_OF.items() if name in names]
        self.frames = Frames(manifest, names, files, seed)
        self.seen = 0
        self._counts = np.zeros((len(self.rules), len(Account._fields)), np.int64)
        self._cuts: dict[int, list[Cut]] = {}
        self._whole = self._decide_whole(files, seed)

    def decide(self, number: int, at: np.ndarray, table: pa.Table) -> Decided:
        """The rules on a shard. `at`: places among its selected rows; `table`: their columns, row for row."""
        self.seen += len(at)
        samples, uses = self._read(self.frames, self.rules, number, at, table)
        findings = []
        for i, rule in enumerate(self.rules):
            if i in self._whole:
                findings.append(self._whole[i][number])
            else:
                findings.append(_find(rule, *_rows(rule, samples, uses), len(at)))
        status = np.stack([f.status for f in findings]) if findings else np.zeros((0, len(at)), np.uint8)
        stopped = status.any(axis=0) if len(status) else np.zeros(len(at), bool)
        first = np.where(stopped, (status > PASS).argmax(axis=0), -1) if len(status) else np.full(len(at), -1)
        for i, finding in enumerate(findings):
            mine = first == i
            self._counts[i] += (
                np.count_nonzero(finding.status == BROKEN),
                np.count_nonzero(mine & (finding.status == BROKEN)),
                np.count_nonzero(mine & (finding.status == FAILED)),
                np.count_nonzero(finding.status == FAILED),
                np.count_nonzero(finding.null & (finding.status == PASS)),
            )
        return Decided(status, first, findings, samples, uses)

    def sides(self, number: int, decided: Decided) -> "Sides":
        """The two sides of a rule's comparison on a shard; of a range, the measure and the nearer limit."""
        rule, finding = self.rules[number], decided.findings[number]
        frame, owners = _rows(rule, decided.samples, decided.uses)
        sides = _sides(rule, frame) if finding.sides is None else finding.sides
        if rule.between is not None:
            low, high = rule.between
            value = pl.col(rule.reads[0])
            nearer = pl.when(value < (low + high) / 2).then(low).otherwise(high)
            sides = frame.select(value.alias(":left"), nearer.alias(":right"))
        assert sides is not None, "the rule is neither a comparison nor a range"
        medium = np.full(len(frame), -1) if owners is None or not decided.uses else decided.uses.medium
        owners = np.arange(len(frame)) if owners is None else owners
        return Sides(sides[":left"], sides[":right"], owners, medium, _failed(rule, frame), finding.broken)

    def cuts(self, number: int) -> list[Cut]:
        """The limits that a rule worked out from all samples, a group each, MOST_CUTS of them at most; empty
        where its limit is written in it, or is another for each sample."""
        return self._cuts.get(number, [])

    def accounts(self) -> list[Account]:
        """Of each rule, over the shards decided so far."""
        return [Account(*map(int, row)) for row in self._counts]

    def _read(
        self, frames: Frames, rules: Sequence[Compiled], number: int, at: np.ndarray, table: pa.Table
    ) -> tuple[pl.DataFrame, Uses | None]:
        """What rules are decided on, for the samples of a shard."""
        samples = frames.samples(number, table, self.manifest.shards[number].selected.rows[at])
        on_media = [rule for rule in rules if rule.on_media]
        beside = _columns([name for rule in on_media for name in rule.needs if not is_media(name)])
        return samples, frames.uses(table, samples, beside) if on_media else None

    def _decide_whole(
        self, files: Mapping[str, Mapping[str, str]], seed: int
    ) -> dict[int, dict[int, Finding]]:
        """The findings, by rule and shard, of the rules that look at all samples at once."""
        wanted = {i: rule for i, rule in enumerate(self.rules) if not rule.by_row}
        if not wanted or not self.manifest.shards:
            return {}
        rules = list(wanted.values())
        reader = Frames(self.manifest, list(roots(rules)), files, seed)
        frames: dict[int, list[pl.DataFrame]] = {i: [] for i in wanted}
        owners: dict[int, list[np.ndarray | None]] = {i: [] for i in wanted}
        sizes = []
        for number, at, table in self._shards():
            samples, uses = self._read(reader, rules, number, at, table)
            sizes.append(len(at))
            for i, rule in wanted.items():
                frame, owner = _rows(rule, samples, uses)
                frame = frame.select(_columns(rule.needs))
                if uses is not None and owner is not None:
                    frame = frame.with_columns(pl.Series(BARE, uses.medium < 0))
                frames[i].append(frame)
                owners[i].append(owner)
        found = {}
        for i, rule in wanted.items():
            whole = pl.concat(frames[i])
            keep, sides = _decided_whole(rule, whole)
            self._cuts[i] = _cuts(rule, whole, keep, sides)
            found[i] = _split(rule, frames[i], owners[i], sizes, keep, sides)
        return found

    def _shards(self) -> Iterator[tuple[int, np.ndarray, pa.Table]]:
        """Each shard's samples that are not withdrawn, as `pipelines.selection.select` gives them."""
        withdrawn = self.manifest.withdrawn
        for number in range(len(self.manifest.shards)):
            table = shard_table(self.manifest, number)
            there = np.flatnonzero(~withdrawn.rows(table))
            yield number, there, table if len(there) == table.num_rows else table.take(pa.array(there))
            self.manifest.release(number)


def _rows(rule: Compiled, samples: pl.DataFrame, uses: Uses | None) -> tuple[pl.DataFrame, np.ndarray | None]:
    """The frame a rule is decided on, and each row's sample where that is not the row itself."""
    if not rule.on_media:
        return samples, None
    assert uses is not None
    return uses.frame, uses.owners


def _columns(needs: Sequence[str]) -> list[str]:
    """The measures and the error columns of their families."""
    errors = [ERROR + of for name in needs if (of := family_name(name)) is not None]
    return list(dict.fromkeys([*needs, *errors]))


def _keep(rule: Compiled, frame: pl.DataFrame) -> pl.Series:
    """The expression on each row, boolean. Raises RuleError where values do not fit it.

    A comparison with NaN, which 0 / 0 gives, is null: it does not apply.
    """
    frame = _fitting(rule, frame)
    keep = _worked_out(rule, frame, rule.expression.cast(pl.Boolean))
    sides = _sides(rule, frame)
    for side in (sides[":left"], sides[":right"]) if sides is not None else ():
        if side.dtype.is_float() and side.is_nan().any():
            keep = keep.set(side.is_nan().fill_null(False), None)
    return keep


def _fitting(rule: Compiled, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, with fields of meta that no sample has as nulls of a type that the rule can be used on.

    Raises RuleError.
    """
    if not any(name.startswith(META) for name in rule.needs):
        return frame  # its types were checked when it was compiled
    types = {name: frame.schema[name] for name in rule.needs}
    absent = [name for name, kind in types.items() if kind == pl.Null]
    for kind in (pl.Null, pl.String, pl.Float64, pl.Boolean) if absent else ():
        try:
            check_type(rule.rule, rule.sql, types | dict.fromkeys(absent, kind()))
        except RuleError:
            continue
        return frame.with_columns(pl.col(absent).cast(kind))
    check_type(rule.rule, rule.sql, types)
    return frame


def _worked_out(rule: Compiled, frame: pl.DataFrame, expression: pl.Expr) -> pl.Series:
    """An expression on each row. Raises RuleError where a value does not let it be worked out."""
    try:
        return frame.with_columns(expression.alias(":out"))[":out"]
    except pl.exceptions.PolarsError as error:
        raise RuleError(
            f"rule {rule.rule.name}: {rule.rule.keep!r} can't be worked out: {first_line(error)} "
            "(TRY_CAST gives null where CAST can't)"
        ) from None


def _decided_whole(rule: Compiled, whole: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame | None]:
    """A rule and the sides of its comparison on all rows."""
    keep = _keep(rule, whole)
    if BARE in whole.columns and all(is_media(name) or name == "source" for name in rule.reads):
        keep = keep.set(whole[BARE], None)  # an average of pictures says nothing of a sample without one
    return keep, _sides(rule, whole)


def _cuts(rule: Compiled, whole: pl.DataFrame, keep: pl.Series, sides: pl.DataFrame | None) -> list[Cut]:
    """The limit of each group, the groups in order."""
    names = rule.groups
    if sides is None or names is None:
        return []
    right = pl.col(":right").drop_nulls()
    told = pl.DataFrame([*(whole[name] for name in names), *sides, (~keep).alias(":over")])
    told = told.group_by(names or pl.lit(0).alias(":all")).agg(
        right.first().alias(":limit"),
        right.n_unique().alias(":limits"),
        pl.col(":left").count().alias(":measured"),
        pl.col(":over").sum(),
    )
    if (told[":limits"] > 1).any():
        return []
    told = told.sort(names)[:MOST_CUTS] if names else told
    shared = [text_of(told[name]) for name in names]
    limits = text_of(told[":limit"])
    return [
        Cut({name: of[row] for name, of in zip(names, shared, strict=True)}, limits[row], measured, over)
        for row, (measured, over) in enumerate(told.select(":measured", ":over").rows())
    ]


def _split(
    rule: Compiled,
    frames: list[pl.DataFrame],
    owners: list[np.ndarray | None],
    sizes: list[int],
    keep: pl.Series,
    sides: pl.DataFrame | None,
) -> dict[int, Finding]:
    """What was found of all rows, by shard."""
    found, start = {}, 0
    for number, (frame, owner, size) in enumerate(zip(frames, owners, sizes, strict=True)):
        piece = slice(start, start + len(frame))
        start += len(frame)
        part = sides[piece] if sides is not None else None
        found[number] = _find(rule, frame, owner, size, keep[piece], part)
    return found


def _find(
    rule: Compiled,
    frame: pl.DataFrame,
    owners: np.ndarray | None,
    samples: int,
    keep: pl.Series | None = None,
    sides: pl.DataFrame | None = None,
) -> Finding:
    keep = _keep(rule, frame) if keep is None else keep
    failed = _failed(rule, frame)
    null = keep.is_null().to_numpy()
    broken = ~keep.fill_null(True).to_numpy() & ~failed
    if owners is None or samples == 0:
        status = np.where(failed, FAILED, np.where(broken, BROKEN, PASS)).astype(np.uint8)
        return Finding(status, null, np.arange(samples), broken, sides)
    starts = np.searchsorted(owners, np.arange(samples))  # every sample has a row
    any_broken = np.logical_or.reduceat(broken, starts)
    any_failed = np.logical_or.reduceat(failed, starts)
    status = np.where(any_broken, BROKEN, np.where(any_failed, FAILED, PASS)).astype(np.uint8)
    decisive = np.flatnonzero((broken & any_broken[owners]) | (failed & ~any_broken[owners]))
    rows = starts.copy()
    rows[owners[decisive][::-1]] = decisive[::-1]  # the first of each sample's is written last
    return Finding(status, np.logical_and.reduceat(null, starts), rows, broken, sides)


def _failed(rule: Compiled, frame: pl.DataFrame) -> np.ndarray:
    """In which rows a measure that the rule needs failed (bool)."""
    failed = np.zeros(len(frame), bool)
    for name in _columns(rule.needs):
        if name.startswith(ERROR):
            failed |= frame[name].is_not_null().to_numpy()
    return failed


def _sides(rule: Compiled, frame: pl.DataFrame) -> pl.DataFrame | None:
    """Left and right of a rule's comparison for each row."""
    if rule.comparison is None:
        return None
    frame = _fitting(rule, frame)
    left, right = (
        _worked_out(rule, frame, pl.sql_expr(side)) for side in (rule.comparison.left, rule.comparison.right)
    )
    return pl.DataFrame([left.alias(":left"), right.alias(":right")])


def ledger_table(rules: Sequence[Compiled], decided: Decided, table: pa.Table) -> pa.Table:
    """The ledger rows, in order, of the samples that are not kept. `table`: as `Judge.decide` had it."""
    gone = np.flatnonzero(decided.first >= 0)
    outcome, reason, value, limit, detail = (np.full(len(gone), None, object) for _ in range(5))
    for i in np.unique(decided.first[gone]):
        rule, finding = rules[i], decided.findings[i]
        mine = np.flatnonzero(decided.first[gone] == i)
        rows = finding.row[gone[mine]]
        frame, _ = _rows(rule, decided.samples, decided.uses)
        frame = frame[rows]
        sides = _sides(rule, frame) if finding.sides is None else finding.sides[rows]
        broken = finding.status[gone[mine]] == BROKEN
        names = _names(rule, decided, table, rows)
        outcome[mine] = np.where(broken, "dropped", "failed")
        limit[mine] = _limits(rule, sides)
        errors = [] if broken.all() else _errors(rule, frame)
        reason[mine], value[mine] = rule.rule.name, _values(rule, frame, sides)
        detail[mine] = _join(names, _details(rule, frame))
        for k in np.flatnonzero(~broken):
            reason[mine[k]], _, said = errors[k].partition(": ")
            value[mine[k]], detail[mine[k]] = None, _join([names[k]], [said])[0]
    others: list[list[str]] = [[] for _ in gone]
    for i, rule in enumerate(rules):
        for k in np.flatnonzero((decided.status[i, gone] == BROKEN) & (decided.first[gone] != i)):
            others[k].append(rule.rule.name)
    columns: dict[str, Any] = {
        "outcome": outcome, "reason": reason, "value": value, "limit": limit, "others": others,
        "detail": detail,
    }  # fmt: skip
    taken = table.select(["sample_id", "origin", "source"]).take(pa.array(gone))
    arrays = [
        taken.column(f.name).combine_chunks() if f.name in taken.column_names
        else pa.array(columns[f.name], f.type) if f.name in columns
        else pa.nulls(len(gone), f.type)
        for f in LEDGER
    ]  # fmt: skip
    return pa.table(arrays, schema=LEDGER)


def _names(rule: Compiled, decided: Decided, table: pa.Table, rows: np.ndarray) -> list[str | None]:
    """The medium that decides each row, by name; of several in a sample by place and name, `#2 b.jpg`."""
    if not rule.on_media:
        return [None] * len(rows)
    assert decided.uses is not None
    owners, medium = decided.uses.owners[rows], decided.uses.medium[rows]
    names = table.column("names").take(pa.array(owners)).to_pylist()
    return [_name(of, k) for of, k in zip(names, medium.tolist(), strict=True)]


def _name(names: Sequence[str | None], at: int) -> str | None:
    if at < 0:
        return None
    name = names[at] or ""
    return f"#{at + 1} {name}".strip() if len(names) > 1 else name or None


def _join(names: Sequence[str | None], said: Sequence[str | None]) -> list[str | None]:
    return [": ".join(filter(None, pair)) or None for pair in zip(names, said, strict=True)]


def _details(rule: Compiled, frame: pl.DataFrame) -> list[str | None]:
    for name, detail in DETAIL_OF.items():
        if name in rule.reads:
            return frame[detail].to_list()
    return [None] * len(frame)


def _errors(rule: Compiled, frame: pl.DataFrame) -> list[str]:
    """Why measures that the rule reads failed, for each row: the first family's word."""
    names = [name for name in _columns(rule.needs) if name.startswith(ERROR)]
    return frame.select(pl.coalesce(names).fill_null("").alias("error"))["error"].to_list()


def _values(rule: Compiled, frame: pl.DataFrame, sides: pl.DataFrame | None) -> list[str | None]:
    """What was measured: the left side of a comparison, the one measure read, or all of them by name."""
    if sides is not None:
        return text_of(sides[":left"])
    if len(rule.reads) == 1:
        return text_of(frame[rule.reads[0]])
    columns = [text_of(frame[name]) for name in rule.reads]
    return [
        " ".join(f"{n}={v}" for n, v in zip(rule.reads, row, strict=True))
        for row in zip(*columns, strict=True)
    ]


def _limits(rule: Compiled, sides: pl.DataFrame | None) -> list[str]:
    """The rule, with the right side worked out where it differs from sample to sample."""
    if sides is None or rule.comparison is None or rule.comparison.fixed:
        return [rule.rule.keep] * (len(sides) if sides is not None else 1)
    left, operator = rule.comparison.left, rule.comparison.operator
    return [f"{left} {operator} {text}" for text in text_of(sides[":right"])]


def text_of(values: pl.Series) -> list[str | None]:
    """Values as the ledger shows them: numbers to DIGITS significant digits."""
    if values.dtype.is_float():
        return [None if v is None else f"{v:.{DIGITS}g}" for v in values.to_list()]
    if values.dtype.is_nested():
        return [None if v is None else str(v) for v in values.to_list()]
    return values.cast(pl.String).to_list()
