"""`imm dedup`: keep one of what says the same about the same, and name it for every sample that is dropped.

Measuring is the map step, and kept; deciding is one process over sidecars. Memory: some 40 bytes a sample and
medium, and what the searches of the methods take.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from infinity_mm.executor import Report, Silent
from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.sidecars import deciding, sidecar_entry
from infinity_mm.store import Store
from pipelines.dedup.choosing import Choice, choose
from pipelines.dedup.classes import Classes
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.merging import Merged, merge, write
from pipelines.dedup.methods import METHODS, Method
from pipelines.dedup.population import Population, preference
from pipelines.dedup.relations import Relations, measures_of_media, measures_of_samples
from pipelines.dedup.telling import told
from pipelines.measure import Files, measure, settings_of, sidecar_entries
from pipelines.measures.registry import is_media
from pipelines.selection import Verdict, row_of, select

COLUMNS = ["sample_id", "media", "source", "origin"]


def run(config: DedupConfig, report: Report | None = None) -> dict[str, Any]:
    """Dedup a manifest; the account, what each method did, and the manifest made."""
    store = Store.open(config.store)
    name_is_free(store, config.out, config.replace, "dedup", config.recorded())
    report = report or Silent()
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        against = [Manifest.open(store, name) for name in config.against]
        settings = settings_of(config, _measures(config))
        measured = [
            measure(store, one, settings, workers=config.workers, report=report)[0]
            for one in (manifest, *against)
        ]
        population = Population(manifest, against)
        order = _order(config, population, measured)
        relations = Relations(config, population, measured, order, report)
        methods = [METHODS[name](config, relations) for name in config.by]
        failed = population.failed
        methods = [m._replace(classes=_without(m.classes, failed)) for m in methods]
        settled = population.settled if against else None
        choice = choose([m.classes for m in methods], order, settled, report)
        _check(choice)
        alone = [choose([m.classes], order, settled) for m in methods] if len(methods) > 1 else [choice]
        keep = (choice.witness < 0) & ~failed
        keep[population.size :] = False
        made: list[Merged] = []
        if config.merge_turns:
            made = merge(
                population, [_without(c, failed) for c in relations.of_pictures()], order[keep[order]]
            )
        joined = {i: one for one in made for i in one.parents}
        stays = keep.copy()
        stays[list(joined)] = False
        with Ledger(store) as ledger:

            def decide(number: int, at: np.ndarray, table: pa.Table) -> Verdict:
                start = population.start_of(number)
                own = np.arange(start, start + table.num_rows)
                rows = [
                    _row(config, population, methods, choice, joined, int(own[i]), table, int(i))
                    for i in np.flatnonzero(~stays[own])
                ]
                return Verdict(stays[own], rows)

            shards = select(manifest, ledger, decide, COLUMNS)
            lineage: list[tuple[str, str]] = []
            if made:
                new, lineage = write(store, made, population.ids)
                shards += new
                for one in made:
                    ledger.made(one.child.source)
            account = ledger.close(sum(len(s.selected.rows) for s in shards))
            counts, reasons = dict(ledger.counts), dict(sorted(ledger.reasons.items()))
        about = told(config, population, methods, choice, alone, keep)
        about |= {
            "against": config.against,
            "against_files": [m.file for m in against],
            "merged": len(joined),
        }
        result = publish(
            store,
            stage="dedup",
            config=config.recorded(),
            shards=shards,
            media=manifest.document["media"],
            ledger=account,
            counts=counts,
            parents=[manifest],
            sources=manifest.document["sources"],
            origins=manifest.document["origins"],
            sidecars=[
                *sidecar_entries(store, measured[0]),
                *(sidecar_entry(store, name, "lineage", shard) for name, shard in lineage),
            ],
            name=config.out,
            replace=config.replace,
            extra={"dedup": about, "measures": {f: deciding(given) for f, given in settings.items()}},
        )
    return {
        "stage": "dedup",
        "name": config.out,
        "reasons": reasons,
        "methods": about["methods"],
        "merged": len(joined),
        "note": _note(about, failed[: population.size]),
        **result.reference(),
    }


def _measures(config: DedupConfig) -> list[str]:
    """What the methods and the policy read."""
    names = [*measures_of_media(config), *measures_of_samples(config)]
    for policy in config.keep:
        if policy == "resolution":
            names += ["width", "height"]
        elif policy == "longest":
            names.append("chars")
        elif policy != "first" and not policy.startswith("source:"):
            names.append(policy.removeprefix("-"))
    return list(dict.fromkeys(names))


def _order(config: DedupConfig, population: Population, files: Sequence[Files]) -> np.ndarray:
    def read(names: Sequence[str]) -> pl.DataFrame:
        if is_media(names[0]):
            return population.of_media(files, names, fail=False)
        return population.of_samples(files, names, fail=False)

    return preference(population, config.keep, read)


def _without(classes: Classes, failed: np.ndarray) -> Classes:
    return classes._replace(of=np.where(failed, -1, classes.of))


def _check(choice: Choice) -> None:
    """The contract: every witness is kept."""
    dropped = choice.witness >= 0
    assert (choice.witness[choice.witness[dropped]] < 0).all(), "a witness was dropped"


def _row(
    config: DedupConfig,
    population: Population,
    methods: Sequence[Method],
    choice: Choice,
    joined: dict[int, Merged],
    sample: int,
    table: pa.Table,
    i: int,
) -> Row:
    """The ledger's row of a sample that is not kept as it was."""
    if population.failed[sample]:
        reason, detail = population.failure(sample)
        return row_of(table, i, "failed", reason, detail=detail)
    if sample in joined:
        one = joined[sample]
        words = f"joined with {len(one.parents) - 1} of the same picture into one sample"
        return row_of(table, i, "dropped", "merged", child=one.child.sample_id, detail=words)
    method, witness = methods[choice.method[sample]], int(choice.witness[sample])
    others = [m.name for k, m in enumerate(methods) if choice.others[sample] >> k & 1]
    child = joined[witness].child.sample_id if witness in joined else None
    words = method.meaning
    if witness >= population.size:
        words += f"; the witness is in {config.against[population.of(witness) - 1]}"
    elif child is not None:
        words += "; the witness was joined into the sample made"
    return row_of(
        table,
        i,
        "dropped",
        method.name,
        value=f"{method.show(float(choice.distance[sample])):.6g}",
        limit=f"{method.threshold:.6g}",
        others=others,
        witness=bytes(population.ids[witness]),
        child=child,
        detail=words,
    )


def _note(about: dict[str, Any], failed: np.ndarray) -> str:
    lines = [f"{m['name']}: {m['meaning']}; {m['recall']}" for m in about["methods"]]
    if failed.any():
        lines.append(
            f"{int(failed.sum()):,} failed: what could not be compared is not kept; imm filter first says why"
        )
    return "\n".join(lines)
