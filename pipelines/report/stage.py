"""`imm report`: one page about a manifest, or about two side by side.

What is missing of the measures it shows is measured first, and kept like all measures. Counts are of
everything, examples are few and chosen by their ids, so that the page stays small whatever the size of the
data. Time: a pass over the sidecars of each measure and each filter; memory: one column of one measure.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from infinity_mm.compare import diff
from infinity_mm.executor import Report as Progress
from infinity_mm.executor import Silent
from infinity_mm.manifest import Manifest
from infinity_mm.report.distributions import Bar, Categories, Distribution, Histogram, Sizes
from infinity_mm.report.distributions import Measured as About
from infinity_mm.report.model import Comparison, Only, Reading, Report, SampleCard, Source
from infinity_mm.report.page import check_target, render, write_page
from infinity_mm.schema import ID
from infinity_mm.sidecars import Family
from infinity_mm.store import Store
from pipelines.config import MeasuringConfig
from pipelines.frames import Frames, shard_table
from pipelines.measure import Files, is_measured, measure, settings_of
from pipelines.measures.alignment import MODEL
from pipelines.measures.registry import FAMILIES, IDENTITIES, measure_of
from pipelines.report.counting import distributions, sizes
from pipelines.report.duplicates import duplicates
from pipelines.report.looking import Pictures, cards, chosen_samples, find
from pipelines.report.rules import rules
from pipelines.report.stages import failures, merged, names_of, steps, titles_of, told
from pipelines.report.synthesis import synthesis
from pipelines.values import Column, Values

MOST_CARDS = 12
OPTION_OF = {"alignment": "embedder", "vlm_loss": "scorer"}  # names the model of a family
MOST_ONLY = 4
# Shown apart, or of no use in a histogram.
APART = (
    "turns",
    "tokens",
    "language",
    "media_format",
    "media_kind",
    "media_error",
    "yes_answers",
    "no_answers",
)
NOT_COUNTED = ("media_error_detail", "phash", "given_phash", "media_shown_as", "tag_scores")
ON_CARDS = (
    "turns", "chars", "tokens", "language", "repetition", "refusal", "loss", "width", "height", "brightness"
)  # fmt: skip


class ReportConfig(MeasuringConfig):
    """Write a page about one manifest or two."""

    manifests: list[str] = Field(
        description="Manifest to report on, or two to set side by side: NAME, digest or path.",
        json_schema_extra={"positional": True},
    )
    out: Path = Field(description="HTML file to write.")

    @field_validator("manifests")
    @classmethod
    def _one_or_two(cls, names: list[str]) -> list[str]:
        if len(names) not in (1, 2):
            raise ValueError("give one manifest, or two to set side by side")
        return names


def run(config: ReportConfig, report: Progress | None = None) -> dict[str, Any]:
    """Write the page; what it is about."""
    check_target(config.out, config.replace)
    store = Store.open(config.store)
    with store.using():
        manifests = [Manifest.open(store, name) for name in config.manifests]
        page = render(collect(config, manifests, report))
    size = write_page(config.out, page)
    return {
        "stage": "report",
        "out": str(config.out),
        "bytes": size,
        "manifests": [m.file for m in manifests],
        "samples": [m.samples for m in manifests],
    }


def collect(
    config: ReportConfig, manifests: Sequence[Manifest], report: Progress | None = None
) -> Report | Comparison:
    """What the page says of a manifest, or of two."""
    progress = report or Silent()
    names = [
        name
        for family in FAMILIES.values()
        for name in family.measures
        if name not in NOT_COUNTED
        and family.name not in IDENTITIES
        and (family.cost != MODEL or _is_there(config, manifests, family))
    ]
    settings = settings_of(config, names)
    values = []
    for manifest in manifests:
        files, _ = measure(manifest.store, manifest, settings, workers=config.workers, report=report)
        values.append(Values(manifest, files))
    pages = [
        _collect(name, manifest, one, counted, progress)
        for name, manifest, one, counted in zip(
            config.manifests, manifests, values, _columns(values, names, progress), strict=True
        )
    ]
    return pages[0] if len(pages) == 1 else _compared(manifests, pages, values)


def _is_there(config: ReportConfig, manifests: Sequence[Manifest], family: Family) -> bool:
    """Whether a family that needs a model was measured already: a page asks for no model."""
    if not manifests[0].store.names(f"sidecars/{family.name}"):
        return False
    try:
        settings = settings_of(config, family.measures)
    except ValueError:
        if OPTION_OF[family.name] in config.model_fields_set:
            raise
        return False
    return all(is_measured(manifest, settings) for manifest in manifests)


class Told:
    """What one manifest's columns come to: distributions by measure, and what else needs a column."""

    def __init__(self) -> None:
        self.distributions: dict[str, Distribution] = {}
        self.sizes: Sizes | None = None
        self.sums: dict[str, int] = {}


def _columns(values: Sequence[Values], names: Sequence[str], progress: Progress) -> list[Told]:
    """Every measure's distribution, one measure's columns in memory at a time."""
    made = [Told() for _ in values]
    progress.start("count", len(names), "measures")
    width: list[Column] = []
    for name in names:
        columns = [one.column(name) for one in values]
        for told_of, column, distribution in zip(made, columns, distributions(name, columns), strict=True):
            told_of.distributions[name] = distribution
            if name in ("bytes", "tokens"):
                told_of.sums[name] = int(column.values.sum() or 0)
        if name == "width":
            width = columns
        elif name == "height":
            for told_of, w, h in zip(made, width, columns, strict=True):
                told_of.sizes = sizes(w, h)
        progress.advance()
    progress.done()
    return made


def _collect(name: str, manifest: Manifest, values: Values, counted: Told, progress: Progress) -> Report:
    store = manifest.store
    way = steps(store, manifest)
    titles, names = titles_of(way), names_of(store)
    pictures = Pictures(manifest.library())
    notes = ["Samples, examples and pictures are a few chosen by their ids; every count is of all."]
    every_rule, every_failure, every_duplicate = [], [], []
    every_synthesis = []
    withdrawn = manifest.samples - values.samples
    if withdrawn:
        notes.append(
            f"{withdrawn:,} samples were withdrawn (imm forget): they are left out of all counts here."
        )
    progress.start("look up examples", len(way), "stages")
    for step in way:
        if not step.has_ledger():
            notes.append(
                f"{step.title}: its ledger is gone: its rules, duplicates and failures are not shown"
            )
            continue
        own = Pictures(step.parent.library()) if step.parent else pictures
        every_rule += rules(step, own, notes)
        every_failure += failures(step, own)
        if step.kind == "dedup":
            every_duplicate.append(duplicates(step, way, notes))
        if step.kind == "synthesize":
            every_synthesis.append(synthesis(step, notes))
        progress.advance()
    progress.done()
    samples = chosen_samples(manifest, MOST_CARDS)
    kinds, sources = _kinds_and_sources(manifest, values)
    found = counted.distributions
    turns, tokens = found["turns"], found["tokens"]
    return Report(
        name=name,
        digest=manifest.digest,
        provenance=manifest.provenance,
        stage=manifest.document["stage"],
        samples=values.samples,
        media=values.media,
        bytes=counted.sums["bytes"],
        tokens=counted.sums["tokens"],
        weight=manifest.document["weight"],
        notes=notes,
        facts=list(manifest.document["software"].items()),
        sources=sources,
        kinds=kinds,
        languages=_as_categories(found["language"]),
        formats=_as_categories(found["media_format"]),
        sizes=counted.sizes,
        turns=turns if isinstance(turns, Histogram) else None,
        lengths=tokens if isinstance(tokens, Histogram) else None,
        stages=merged([told(step, titles, names) for step in way]),
        rules=every_rule,
        duplicates=every_duplicate,
        synthesis=every_synthesis,
        distributions=[d for n, d in found.items() if n not in APART and d.measured.n + d.measured.failed],
        cards=cards(manifest, samples, pictures, _readings(manifest, values.files, samples)),
        failures=every_failure,
    )


def _as_categories(one: Distribution) -> Categories | None:
    return one if isinstance(one, Categories) else None


def _kinds_and_sources(manifest: Manifest, values: Values) -> tuple[Categories, list[Source]]:
    """Samples with no picture, one, several or a clip; and samples, yes and no of each source."""
    frames = Frames(manifest, ["source", "media_count", "media_shown_as", "yes_no"], values.files)
    counted = []
    for number, rows in enumerate(values.rows):
        table = shard_table(manifest, number)
        keep = np.isin(manifest.shards[number].selected.rows, rows)
        frame = frames.samples(number, table.filter(pl.Series(keep).to_arrow()), rows)
        kind = (
            pl.when(pl.col("media_shown_as").str.contains("v")).then(pl.lit("video"))
            .when(pl.col("media_count").is_null()).then(pl.lit("text only"))
            .when(pl.col("media_count") == 1).then(pl.lit("one picture"))
            .otherwise(pl.lit("several pictures"))
        )  # fmt: skip
        counted.append(frame.group_by("source", kind.alias("kind"), "yes_no").len())
        manifest.release(number)
    if not counted:
        return Categories(measured=About(name="kinds", n=0), bars=[]), []
    table_ = pl.concat(counted)
    by_kind = table_.group_by("kind").agg(pl.col("len").sum()).sort(["len", "kind"], descending=[True, False])
    bars = [Bar(label=k, count=n) for k, n in by_kind.iter_rows()]
    by_source = (
        table_.group_by("source")
        .agg(
            pl.col("len").sum().alias("samples"),
            pl.col("len").filter(pl.col("yes_no") == "yes").sum().alias("yes"),
            pl.col("len").filter(pl.col("yes_no") == "no").sum().alias("no"),
        )
        .sort(["samples", "source"], descending=[True, False])
    )
    about = manifest.document["sources"]
    sources = [
        Source(
            name=name,
            samples=samples,
            yes=yes,
            no=no,
            **{k: about.get(name, {}).get(k) for k in ("licence", "uri", "citation")},
        )
        for name, samples, yes, no in by_source.iter_rows()
    ]
    return Categories(measured=About(name="kinds", n=sum(b.count for b in bars)), bars=bars), sources


def _readings(manifest: Manifest, files: Files, samples: Sequence[Any]) -> dict[bytes, list[Reading]]:
    """The measures shown on the cards of samples; of media those of the first."""
    wanted = {s.sample_id for s in samples}
    frames = Frames(manifest, ON_CARDS, files)
    found: dict[bytes, list[Reading]] = {}
    for number, shard in enumerate(manifest.shards):
        table = shard_table(manifest, number)
        ids = table.column("sample_id").to_pylist()
        places = np.array([i for i, one in enumerate(ids) if one in wanted], np.int64)
        if len(places):
            part = table.take(pl.Series(places).to_arrow())
            of_samples = frames.samples(number, part, shard.selected.rows[places])
            uses = frames.uses(part, of_samples)
            first = uses.frame[np.searchsorted(uses.owners, np.arange(len(places)))]
            both = pl.concat([of_samples, first], how="horizontal")
            for row, identity in zip(
                both.iter_rows(named=True), part.column("sample_id").to_pylist(), strict=True
            ):
                found[identity] = [
                    Reading(name=n, unit=measure_of(n).unit, value=row[n])
                    for n in ON_CARDS
                    if row[n] is not None
                ]
        manifest.release(number)
    return found


def _compared(manifests: Sequence[Manifest], pages: Sequence[Report], values: Sequence[Values]) -> Comparison:
    found = diff(*manifests)
    only = []
    for manifest, other, one, side in zip(manifests, manifests[::-1], values, ("a", "b"), strict=True):
        told_of = found[f"only_in_{side}"]
        samples = list(find(manifest, map(bytes.fromhex, told_of["first"][:MOST_ONLY])).values())
        readings = _readings(manifest, one.files, samples)
        for identity, why in _lost(other, [s.sample_id for s in samples]).items():
            readings[identity] = [Reading(name="why not there", value=why), *readings.get(identity, [])]
        shown: list[SampleCard] = cards(manifest, samples, Pictures(manifest.library()), readings)
        only.append(Only(samples=told_of["samples"], sources=list(told_of["sources"].items()), cards=shown))
    return Comparison(
        a=pages[0],
        b=pages[1],
        same=found["same"],
        reweighted=found["weight_changed"]["samples"],
        only_a=only[0],
        only_b=only[1],
    )


def _lost(manifest: Manifest, wanted: Sequence[bytes]) -> dict[bytes, str]:
    """Where samples were lost on the way to a manifest: the stage and its reason."""
    found: dict[bytes, str] = {}
    for step in steps(manifest.store, manifest):
        if wanted and step.has_ledger():
            rows = np.flatnonzero(pc.is_in(step.ledger.column("sample_id"), pa.array(wanted, ID)))
            for row in step.ledger.take(pa.array(rows)).to_pylist():
                found[row["sample_id"]] = f"{step.title}: {row['reason']}"
    return found
