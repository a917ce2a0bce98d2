"""The way to a manifest as a report tells it: its stages with their accounts, and what failed, by class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
NOT_GIVEN: tuple[Any, ...] = (None, [], {}, False, "")


class Step:
    """A stage on the way to a manifest. `parent`: the manifest it read, if it is one and still there."""

    def __init__(self, manifest: Manifest, title: str, parent: Manifest | None) -> None:
        self.manifest, self.title, self.parent = manifest, title, parent

    @property
    def kind(self) -> str:
        return str(self.manifest.document["stage"])

    def ledger(self) -> pa.Table:
        """What the stage did not keep. Raises FileNotFoundError, ValueError."""
        return read_table(self.manifest.store, self.manifest.document["ledger"]["file"])


def steps(store: Store, manifest: Manifest) -> list[Step]:
    """The stages on the way to a manifest, parents first, each with a title of its own."""
    names = names_of(store)
    found: list[Step] = []
    for one in lineage(store, manifest):
        called = names.get(one.file, [one.digest[:8]])[0]
        parents = one.document["parents"]
        parent = None
        if len(parents) == 1:
            try:
                parent = Manifest.open(store, f"{parents[0]['digest']}-{parents[0]['provenance'][:16]}")
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
    parents = [f"{p['digest']}-{p['provenance'][:16]}" for p in document["parents"]]
    return Stage(
        title=step.title,
        kind=step.kind,
        digest=step.manifest.digest,
        names=names.get(step.manifest.file, []),
        parents=[titles.get(file, file[:12]) for file in parents],
        account=_account(document["counts"]),
        sources=[(name, _account(c)) for name, c in document["ledger"]["sources"].items()],
        reasons=sorted(document["ledger"]["reasons"].items(), key=lambda item: (-item[1], item[0])),
        settings=[
            (k, _setting(v)) for k, v in document["config"].items() if v not in (None, [], {}, False, "")
        ],
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


def failures(step: Step, ledger: pa.Table, pictures: Pictures) -> list[Failure]:
    """What failed in a stage, and what its media were refused for, by class."""
    failed = pc.equal(ledger.column("outcome"), "failed")
    refused = pc.equal(ledger.column("reason"), "undecodable_media")
    code = pc.if_else(failed, ledger.column("reason"), ledger.column("value"))
    ledger = ledger.append_column("code", code).filter(pc.or_(failed, refused))
    counts = Counter(ledger.column("code").to_pylist())
    found = []
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        rows = ledger.filter(pc.equal(ledger.column("code"), name))
        found.append(
            Failure(
                stage=step.title,
                code=name,
                meaning=MEDIA_ERRORS.get(name) or REASONS.get(name) or MEDIA_REASONS.get(name) or "",
                count=count,
                examples=examples(step, rows, MOST_FAILURES, pictures),
            )
        )
    return found


def examples(step: Step, rows: pa.Table, most: int, pictures: Pictures) -> list[Example]:
    """At most `most` rows of a ledger, chosen by sample, as examples in the ledger's order."""
    known = rows.filter(rows.column("sample_id").is_valid())
    unknown = rows.filter(rows.column("sample_id").is_null())
    known = known.take(pa.array(chosen(ids_of(known), most)))
    lines = [*known.to_pylist(), *unknown.slice(0, most - known.num_rows).to_pylist()]
    ids = {line["sample_id"] for line in lines if line["sample_id"]}
    samples = find(step.parent, ids) if step.parent and ids else {}
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
    """The place of the medium whose name begins a ledger's detail; the first where none does."""
    named = [i for i, name in enumerate(sample.names) if name and detail.startswith(name)]
    return max(named, key=lambda i: len(sample.names[i]), default=0)


def titles_of(found: Sequence[Step]) -> dict[str, str]:
    """Titles by the manifest's file."""
    return {step.manifest.file: step.title for step in found}
