"""The rules of a filter as a report tells them: what each dropped and nearly dropped, and where its limit is.

The rules are decided once more from the sidecars, on the samples that the filter read. Memory: 9 bytes a
sample or medium for each rule that compares numbers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.manifest import Manifest
from infinity_mm.report.distributions import Limit
from infinity_mm.report.distributions import Measured as About
from infinity_mm.report.model import Example, Rule
from pipelines.frames import COLUMNS, shard_table
from pipelines.judge import Decided, Judge, text_of
from pipelines.measures.registry import META, is_media, measure_of
from pipelines.report.counting import edges_of, histogram
from pipelines.report.looking import Pictures, find, first_words
from pipelines.report.stages import Step, examples
from pipelines.rules import BUILT_IN, Compiled, RuleError, compiled
from pipelines.rules import Rule as RuleText

MOST_DROPPED = 12
MOST_NEARLY = 6
MOST_LIMITS = 24
NEAR = 0.5  # of the limit: what is further from it is not near
UPWARD = {">": True, ">=": True, "<": False, "<=": False}


class Near(NamedTuple):
    """A kept sample near a limit: how far (0 and up), its id, which of its media, value and limit as text."""

    distance: float
    sample: bytes
    medium: int
    value: str
    limit: str


class _Numbers:
    """What a rule that compares numbers found: all left sides, which broke it, limits, near misses."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []
        self.broken: list[np.ndarray] = []
        self.limits: dict[float, str] = {}
        self.near: list[Near] = []
        self.not_applicable = self.failed = 0


def rules(step: Step, pictures: Pictures, notes: list[str]) -> list[Rule]:
    """The rules of a step, in order; `notes` gets what could not be told."""
    recorded = step.manifest.document.get("rules", [])
    numbers: dict[str, _Numbers] = {}
    nearly: dict[str, list[Example]] = {}
    if recorded and step.parent is not None:
        try:
            every = [compiled(RuleText(r["name"], r["keep"], r["meaning"])) for r in recorded]
            numbers = _numbers(step.manifest, step.parent, every)
        except (FileNotFoundError, KeyError, RuleError):
            notes.append(f"{step.title}: measures that decided it are gone: no histogram shows its limits")
        nearly = {name: _nearly(step.parent, found.near, pictures) for name, found in numbers.items()}
    reasons, outcomes = step.ledger.column("reason"), step.ledger.column("outcome")
    told = []
    for r in recorded:
        dropped = pc.and_(pc.equal(reasons, r["name"]), pc.equal(outcomes, "dropped"))
        found = numbers.get(r["name"])
        told.append(
            Rule(
                stage=step.title,
                name=r["name"],
                keep=r["keep"],
                meaning=r["meaning"],
                in_sequence=r["dropped"],
                alone=r["alone"],
                failed=r["failed"],
                dropped=examples(step, dropped, MOST_DROPPED, pictures),
                nearly=nearly.get(r["name"], []),
                distributions=_histograms(r, found) if found and found.values else [],
            )
        )
    return told


def _numbers(made: Manifest, parent: Manifest, every: Sequence[Compiled]) -> dict[str, _Numbers]:
    files: dict[str, dict[str, str]] = {}
    for entry in made.document["sidecars"]:
        files.setdefault(entry["family"], {})[entry["shard"]] = entry["file"]
    judge = Judge(parent, every, files, made.document["config"].get("seed", 0))
    # A quantile of what is left after a withdrawal is another limit than the filter's.
    same = not parent.withdrawn.ids and not parent.withdrawn.sources
    shown = [rule.rule.name not in BUILT_IN and _compares(rule) and (rule.by_row or same) for rule in every]
    wanted = {i: rule for i, rule in enumerate(every) if shown[i]}
    found = {rule.rule.name: _Numbers() for rule in wanted.values()}
    for number in range(len(parent.shards)):
        table = shard_table(parent, number, COLUMNS)
        there = np.flatnonzero(~parent.withdrawn.rows(table))
        table = table.take(pa.array(there))
        decided = judge.decide(number, there, table)
        for i, rule in wanted.items():
            _add(found[rule.rule.name], judge, i, decided, table)
        parent.release(number)
    return {name: numbers for name, numbers in found.items() if numbers.values}


def _compares(rule: Compiled) -> bool:
    comparison = rule.comparison
    return rule.between is not None or (comparison is not None and comparison.operator in UPWARD)


def _distance(rule: Compiled, values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """How far values are on the side of a limit that is kept; negative beyond it."""
    if rule.between is not None:
        return np.minimum(values - rule.between.low, rule.between.high - values)
    assert rule.comparison is not None
    return values - limits if UPWARD[rule.comparison.operator] else limits - values


def _add(found: _Numbers, judge: Judge, i: int, decided: Decided, table: pa.Table) -> None:
    rule = judge.rules[i]
    left, right, owners, medium, failed, broken = judge.sides(i, decided)
    if not (left.dtype.is_numeric() and right.dtype.is_numeric()):
        return
    fixed = rule.between is not None or (rule.comparison is not None and rule.comparison.fixed)
    values, limits = (s.cast(pl.Float64).fill_null(np.nan).to_numpy() for s in (left, right))
    there = np.isfinite(values) & np.isfinite(limits)
    distance = _distance(rule, values, limits)
    found.values.append(values[there])
    found.broken.append(broken[there])
    found.failed += int(np.count_nonzero(~there & failed))
    found.not_applicable += int(np.count_nonzero(~there & ~failed))
    sources = table.column("source").to_pylist()
    if len(found.limits) <= MOST_LIMITS:
        for at in np.unique(limits[there])[: MOST_LIMITS + 1]:
            first = int(owners[np.flatnonzero(there & (limits == at))[0]])
            found.limits.setdefault(float(at), "" if fixed else sources[first])
    near = there & (decided.first[owners] < 0) & (np.maximum(distance, 0) <= NEAR * np.abs(limits))
    kept = np.flatnonzero(near)
    nearest = kept[np.argsort(distance[kept], kind="stable")[:MOST_NEARLY]]
    for k, value, limit in zip(nearest, text_of(left[nearest]), text_of(right[nearest]), strict=True):
        identity = table.column("sample_id")[int(owners[k])].as_py()
        words = rule.rule.keep
        if rule.comparison is not None and not fixed:
            words = f"{rule.comparison.left} {rule.comparison.operator} {limit}"
        found.near.append(Near(max(0.0, float(distance[k])), identity, int(medium[k]), value or "", words))
    found.near = sorted(found.near, key=lambda n: (n.distance, n.sample, n.medium))[:MOST_NEARLY]


def _nearly(parent: Manifest, near: Sequence[Near], pictures: Pictures) -> list[Example]:
    samples = find(parent, {n.sample for n in near})
    told = []
    for one in near:
        sample = samples[one.sample]
        at = max(one.medium, 0)
        told.append(
            Example(
                origin=sample.origin,
                source=sample.source,
                sample_id=one.sample.hex(),
                value=one.value,
                limit=one.limit,
                question=first_words(sample, "user"),
                answer=first_words(sample, "assistant"),
                medium=pictures.medium(sample.media[at], sample.names[at]) if sample.media else None,
            )
        )
    return told


def _histograms(recorded: dict[str, Any], found: _Numbers) -> list[Any]:
    values, broken = np.concatenate(found.values), np.concatenate(found.broken)
    if not len(values):
        return []
    name = recorded["reads"][0]
    about = None if name.startswith(META) else measure_of(name)
    whole = bool(np.all(values == np.floor(values)))
    edges, log = edges_of([np.concatenate([values, list(found.limits)])], whole, tail=0)
    limits = [Limit(at=at, label=label) for at, label in sorted(found.limits.items())]
    measured = About(
        name=name if len(recorded["reads"]) == 1 else recorded["name"],
        n=len(values),
        not_applicable=found.not_applicable,
        failed=found.failed,
        of="uses" if any(is_media(n) for n in recorded["reads"]) else "samples",
        unit=about.unit if about else "",
        meaning=about.meaning if about else "",
    )
    return [histogram(measured, values, edges, log, broken, limits if len(limits) <= MOST_LIMITS else [])]
