"""`imm decontaminate`: drop the samples that are in a benchmark, and name its item for each.

A sample is in a benchmark if it matches one of its items: shows one of the item's pictures and asks one of
its questions, or by choice only one of the two. Measuring and comparing texts are map steps, the rest is one
process. Memory: some 40 bytes a sample and medium, 16 to 20 bytes a match, and the fingerprints.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infinity_mm.executor import Report, Silent
from infinity_mm.fingerprints import Fingerprint, read_fingerprint
from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.models.embedder import find_embedder
from infinity_mm.sidecars import deciding
from infinity_mm.store import Store
from pipelines.config import MeasuringConfig
from pipelines.decontaminate.config import DecontaminateConfig
from pipelines.decontaminate.items import Items
from pipelines.decontaminate.leaks import Leaks, find_leaks
from pipelines.decontaminate.looks import MEASURES, THUMBNAIL
from pipelines.decontaminate.telling import told
from pipelines.dedup.population import Population
from pipelines.measure import measure, settings_of, sidecar_entries
from pipelines.selection import Verdict, row_of, select

COLUMNS = ["sample_id", "media", "source", "origin"]
REASON = "leak:"


def run(config: DecontaminateConfig, report: Report | None = None) -> dict[str, Any]:
    """Decontaminate a manifest; the account and a report of each benchmark, and the manifest made."""
    store = Store.open(config.store)
    marks = read_all(config)
    if config.out is not None and not config.dry_run:
        name_is_free(store, config.out, config.replace, "decontaminate", config.recorded())
    report = report or Silent()
    with store.using(), Ledger(store, keep_rows=not config.dry_run) as ledger:
        manifest = Manifest.open(store, config.manifest)
        names = (*MEASURES, THUMBNAIL) if config.by != "text" else ()
        settings = settings_of(MeasuringConfig(max_pixels=config.max_pixels), names)
        files, _ = measure(store, manifest, settings, workers=config.workers, report=report)
        population = Population(manifest)
        items = Items(marks, config.least_shingles, embedded=config.cosine is not None)
        leaks = find_leaks(config, population, files, items, report)
        failed = population.failed

        def decide(number: int, at: np.ndarray, table: pa.Table) -> Verdict:
            start = population.start_of(number)
            own = np.arange(start, start + table.num_rows)
            keep = (leaks.item[own] < 0) & ~failed[own]
            rows = [
                _row(config, population, items, leaks, int(own[i]), table, int(i))
                for i in np.flatnonzero(~keep)
            ]
            return Verdict(keep, rows)

        shards = select(manifest, ledger, decide, COLUMNS)
        benchmarks = told(config, items, leaks)
        result: dict[str, Any] = {
            "stage": "decontaminate",
            "by": config.by,
            "reasons": dict(sorted(ledger.reasons.items())),
            "benchmarks": benchmarks,
            "note": "\n".join(_notes(benchmarks, int(failed.sum()))),
        }
        kept = sum(len(s.selected.rows) for s in shards)
        if config.dry_run:
            ledger.check(kept)
            return {**result, "dry_run": True, **ledger.counts, "samples": kept}
        made = publish(
            store,
            stage="decontaminate",
            config=config.recorded(),
            shards=shards,
            media=manifest.document["media"],
            ledger=ledger.close(kept),
            counts=dict(ledger.counts),
            parents=[manifest],
            sources=manifest.document["sources"],
            origins=manifest.document["origins"],
            sidecars=sidecar_entries(store, files),
            name=config.out,
            replace=config.replace,
            extra={
                "decontaminate": {"by": config.by, "benchmarks": benchmarks},
                "measures": {f: deciding(given) for f, given in settings.items()},
            },
        )
        return {**result, "name": config.out, **made.reference()}


def read_all(config: DecontaminateConfig) -> list[Fingerprint]:
    """Fingerprints that can be compared together, and by the embedder asked for. Raises ValueError."""
    marks = [read_fingerprint(path) for path in config.against]
    ours = find_embedder(config.embedder).digest if config.cosine is not None else None
    for mark in marks if ours else ():
        theirs = mark.about["embedder"]
        if theirs is None:
            raise ValueError(
                f"{mark.file} has no embeddings: make it again with --embeddings, or leave out --cosine"
            )
        if theirs["digest"] != ours:
            raise ValueError(
                f"{mark.file} has embeddings of {theirs['spec']} ({theirs['digest']}), not of "
                f"{config.embedder} ({ours}): name the same model with --embedder"
            )
    for number, mark in enumerate(marks):
        for other in marks[:number]:
            if other.name == mark.name:
                raise ValueError(
                    f"{other.file} and {mark.file} are both named {mark.name!r}: "
                    "leave one out, or make it again with another --name"
                )
            if other.about["shingle"] != mark.about["shingle"]:
                raise ValueError(
                    f"{other.file} has shingles of {other.about['shingle']} tokens, {mark.file} of "
                    f"{mark.about['shingle']}: make one again with the other's --shingle"
                )
    return marks


def _row(
    config: DecontaminateConfig,
    population: Population,
    items: Items,
    leaks: Leaks,
    sample: int,
    table: pa.Table,
    i: int,
) -> Row:
    """The ledger's row of a sample that is not kept."""
    if leaks.item[sample] < 0:
        reason, detail = population.failure(sample)
        return row_of(table, i, "failed", reason, detail=detail)
    hit = leaks.hit(sample)
    item = int(hit.item)
    by_bits, by_cosine, by_text = (not np.isnan(v) for v in (hit.bits, hit.cosine, hit.share))
    said = []
    if by_bits:
        value, limit = f"{hit.bits:.0f}", f"{config.radius}"
        said.append(f"a picture {value} bits from the item's")
    elif by_cosine:
        value, limit = f"{hit.cosine:.4f}", f"{config.cosine}"
        said.append(f"a picture of cosine {value} to the item's")
    else:
        value, limit = f"{hit.share:.3g}", f"{config.overlap:g}"
    if by_text:
        said.append(f"{hit.share:.0%} of the item's {'answer' if hit.answered else 'question'}")
    method = " and ".join(["picture"] * (by_bits or by_cosine) + ["text"] * by_text)
    return row_of(
        table,
        i,
        "dropped",
        f"{REASON}{items.names[items.benchmark[item]]}",
        value=value,
        limit=limit,
        others=[f"{REASON}{items.names[b]}" for b in leaks.others.get(sample, ())],
        witness=items.ids[item].tobytes(),
        detail=f"{method}: {', '.join(said)}",
    )


def _notes(benchmarks: Sequence[dict[str, Any]], failed: int) -> list[str]:
    lines = []
    for one in benchmarks:
        for count, words in (
            (one["too_short"], "are too short to be matched by text alone"),
            (one["too_common"], "ask what is asked about many pictures, and are not matched by text alone"),
            (one["no_question"], "have no question: --by image compares their pictures"),
        ):
            if count:
                lines.append(f"{one['name']}: {count:,} of {one['items']:,} items {words}")
    if failed:
        lines.append(f"{failed:,} failed: what could not be compared is not kept; imm filter first says why")
    return lines
