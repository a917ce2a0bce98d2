"""The way to a manifest as a report tells it: its stages with their accounts, and what failed, by class."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity_mm.engines.base import REASONS as ENGINE_REASONS
from infinity_mm.formats.types import REASONS
from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.media.decode import MEDIA_ERRORS
from infinity_mm.report.model import Account, Example, Failure, Stage
from infinity_mm.schema import Sample
from infinity_mm.store import Store, read_table
from infinity_mm.trace import lineage
from pipelines.ingest.look import MEDIA_REASONS
from pipelines.report.looking import Pictures, chosen, find, first_words, ids_of

MOST_FAILURES = 6  # examples of a class
MOST_INGESTS = 6  # from more on they are told as one
LEDGER_READ = ["sample_id", "outcome", "reason", "value"]  # of every row; of examples all is read
NOT_GIVEN: tuple[Any, ...] = (None, [], {}, False, "")


class Step:
    """A stage on the way to a manifest. `parent`: the manifest it read, if it is one and still there."""

    def __init__(self, manifest: Manifest, title: str, parent: Manifest | None) -> None:
        self.manifest, self.title, self.parent = manifest, title, parent

    @property
    def kind(self) -> str:
        return str(self.manifest.document["stage"])

    def has_ledger(self) -> bool:
        return self.manifest.store.exists(self.manifest.document["ledger"]["file"])

    @cached_property
    def ledger(self) -> pa.Table:
        """LEDGER_READ columns of what the stage did not keep. Raises FileNotFoundError, ValueError."""
        return read_table(self.manifest.store, self.manifest.document["ledger"]["file"], LEDGER_READ)

    def lines(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Whole rows of the ledger, a row group in memory at a time."""
        found: list[dict[str, Any]] = []
        with self.manifest.store.open_file(self.manifest.document["ledger"]["file"]) as file:
            parquet, start = pq.ParquetFile(file, pre_buffer=False), 0
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                here = rows[(rows >= start) & (rows < start + size)] - start
                if len(here):
                    found += parquet.read_row_group(group, use_threads=False).take(pa.array(here)).to_pylist()
                start += size
        return found


def steps(store: Store, manifest: Manifest) -> list[Step]:
    """The stages on the way to a manifest, parents first, each with a title of its own."""
    names = names_of(store)
    found: list[Step] = []
    for one in lineage(store, manifest):
        called = names.get(one.file, [one.provenance[:8]])[0]  # two ways to the same data are two stages
        parent = None
        if len(one.parents) == 1:
            try:
                parent = Manifest.open(store, one.parents[0])
            except ManifestError:
                parent = None
        title = f"{one.document['stage']} → {called}"
        found.append(Step(one, title, parent))
    return found


def names_of(store: Store) -> dict[str, list[str]]:
    """The names of each manifest."""
    names: dict[str, list[str]] = {}
    for name, file in sorted(store.refs().items()):
        names.setdefault(file, []).append(name)
    return names


def told(step: Step, titles: Mapping[str, str], names: Mapping[str, list[str]]) -> Stage:
    """A stage for the page. `titles`: of the stages by their manifest's file."""
    document = step.manifest.document
    return Stage(
        title=step.title,
        kind=step.kind,
        digest=step.manifest.digest,
        names=names.get(step.manifest.file, []),
        parents=[titles.get(file, file[:12]) for file in step.manifest.parents],
        account=_account(document["counts"]),
        sources=[(name, _account(c)) for name, c in document["ledger"]["sources"].items()],
        reasons=sorted(document["ledger"]["reasons"].items(), key=lambda item: (-item[1], item[0])),
        settings=[(k, _setting(v)) for k, v in document["config"].items() if v not in NOT_GIVEN],
    )


def merged(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages, but many ingests as one: a mix of thirty sources is no funnel of thirty bars."""
    first = [stage for stage in stages if stage.kind == "ingest"]
    if len(first) <= MOST_INGESTS:
        return list(stages)
    title = f"ingest → {len(first)} manifests"
    sources: dict[str, list[Account]] = {}
    reasons: Counter[str] = Counter()
    for stage in first:
        for name, account in stage.sources:
            sources.setdefault(name, []).append(account)
        reasons.update(dict(stage.reasons))
    one = Stage(
        title=title,
        kind="ingest",
        digest=", ".join(stage.digest[:8] for stage in first),
        names=[name for stage in first for name in stage.names],
        account=_sum([stage.account for stage in first]),
        sources=[(name, _sum(accounts)) for name, accounts in sources.items()],
        reasons=sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
    )
    gone = {stage.title for stage in first}
    rest = [
        replace(s, parents=list(dict.fromkeys(title if p in gone else p for p in s.parents)))
        for s in stages
        if s.title not in gone
    ]
    return [one, *rest]


def _sum(accounts: Sequence[Account]) -> Account:
    fields = ("came", "kept", "dropped", "failed", "made")
    return Account(**{name: sum(getattr(a, name) for a in accounts) for name in fields})


def _account(counts: Mapping[str, int]) -> Account:
    return Account(
        came=counts["in"],
        kept=counts["kept"],
        dropped=counts["dropped"],
        failed=counts["failed"],
        made=counts.get("made", 0),
    )


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_setting(v)}" for k, v in value.items())
    return str(value)


def failures(step: Step, pictures: Pictures) -> list[Failure]:
    """What failed in a stage, and what its media were refused for, by class."""
    ledger = step.ledger
    failed = pc.equal(ledger.column("outcome"), "failed")
    refused = pc.and_(pc.equal(ledger.column("reason"), "undecodable_media"), pc.invert(failed))
    found = []
    for mask, column, how in ((failed, "reason", ""), (refused, "value", ": dropped by undecodable_media")):
        codes = pc.if_else(mask, ledger.column(column), pa.scalar(None, pa.string()))
        for one in sorted(
            pc.value_counts(codes.drop_null()).to_pylist(), key=lambda c: (-c["counts"], c["values"])
        ):
            code = one["values"]
            found.append(
                Failure(
                    stage=step.title + how,
                    code=code,
                    meaning=meaning_of(code),
                    count=one["counts"],
                    examples=examples(step, pc.equal(codes, code), MOST_FAILURES, pictures),
                )
            )
    return found


def meaning_of(code: str) -> str:
    """What a reason for a failure means, in words; empty for one that is not known."""
    known = (MEDIA_ERRORS, REASONS, MEDIA_REASONS, ENGINE_REASONS)
    return next((words[code] for words in known if code in words), "")


def examples(step: Step, mask: pa.ChunkedArray, most: int, pictures: Pictures) -> list[Example]:
    """At most `most` rows of a step's ledger, of those in `mask`, chosen by sample, in the ledger's order."""
    places = np.flatnonzero(np.asarray(pc.fill_null(mask, False)))
    rows = step.ledger.take(pa.array(places))
    known = np.asarray(rows.column("sample_id").is_valid())
    ids = ids_of(rows.filter(pa.array(known)))
    best = places[known][chosen(ids, most)]
    lines = step.lines(np.concatenate([best, places[~known][: most - len(best)]]))
    wanted = {line["sample_id"] for line in lines if line["sample_id"]}
    samples = find(step.parent, wanted) if step.parent and wanted else {}
    return [_example(line, samples.get(line["sample_id"]), pictures) for line in lines]


def _example(line: dict[str, Any], sample: Sample | None, pictures: Pictures) -> Example:
    medium = None
    if sample is not None and sample.media:
        at = offending(sample, line["detail"] or "")
        medium = pictures.medium(sample.media[at], sample.names[at])
    return Example(
        origin=line["origin"],
        source=line["source"],
        sample_id=line["sample_id"].hex() if line["sample_id"] else None,
        value=line["value"],
        limit=line["limit"],
        question=first_words(sample, "user") if sample else "",
        answer=first_words(sample, "assistant") if sample else "",
        medium=medium,
        others=line["others"] or (),
        detail=line["detail"] or "",
    )


def offending(sample: Sample, detail: str) -> int:
    """The place of the medium that a ledger's detail begins with, of several (`#2 b.jpg: …`)."""
    found = re.match(r"#(\d+)", detail)
    return min(int(found[1]), len(sample.media)) - 1 if found else 0


def titles_of(found: Sequence[Step]) -> dict[str, str]:
    """Titles by the manifest's file."""
    return {step.manifest.file: step.title for step in found}
