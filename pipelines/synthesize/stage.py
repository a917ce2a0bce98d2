"""`imm synthesize`: new questions and answers for the pictures of a manifest, written by a VLM and checked.

Two passes over the pictures, a unit at a time. The first asks the models whatever is not stored yet; the
second decides from stored answers alone: which losses are too high within their type, and what becomes a
sample. A kill costs the answers of one flush; the same command again goes on where it was. In the ledger a
pair that is refused is a row with its step, value and text, and one that becomes part of a sample names it.

Memory: the list of pictures, one unit, and 4 bytes a pair whose loss is measured. Time is the models'.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infinity_mm.engines.base import Engine, open_engine
from infinity_mm.engines.scoring import open_scorer
from infinity_mm.executor import Report, Silent
from infinity_mm.ledger import Ledger, Row
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.sidecars import sidecar_entry
from infinity_mm.store import Store
from pipelines.selection import Verdict, select
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.images import Unit, groups, images, units
from pipelines.synthesize.kinds import fitting_of
from pipelines.synthesize.merging import Made, Writer, merge
from pipelines.synthesize.pairs import Pair
from pipelines.synthesize.work import Losses, Work

TRIED = 16  # pictures that a plan tries
TOGETHER, IN_BATCHES = 512, 64  # pictures that models are asked about at once; those that take batches
BATCHING = ("openai", "vllm")  # engines that batch by themselves
COLUMNS = ["sample_id", "media", "source", "origin"]
TEXT = 500  # characters of a refused text that the ledger keeps


class Pass(NamedTuple):
    """The first pass: how many units were done, and why not all, if so; losses by type; seconds."""

    done: int
    stopped: str | None
    losses: dict[str, np.ndarray]
    seconds: float


def run(config: SynthesizeConfig, report: Report | None = None) -> dict[str, Any]:
    """Write, check, decide; the account and the manifest made, or a plan. Raises ValueError, EngineError."""
    store = Store.open(config.store)
    if not config.plan:
        name_is_free(store, config.out, config.replace, "synthesize", config.recorded())
    report = report or Silent()
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        fitting = fitting_of(manifest, config)
        pictures = images(manifest, config.language)
        if not pictures:
            raise ValueError(
                f"manifest {config.manifest} shows no still picture: there is nothing to ask about"
            )
        engines = open_engines(config)
        try:
            work = Work(store, manifest.library(), config, fitting, engines)
            if config.plan:
                return plan(work, list(units(pictures[:TRIED])), len(pictures), report)
            all_units = list(units(pictures))
            first = ask(work, all_units, report)
            return decide(work, manifest, all_units[: first.done], first, len(pictures), report)
        finally:
            for engine in set(engines.values()):
                engine.close()


def open_engines(config: SynthesizeConfig) -> dict[str, Engine]:
    """The models of a run, each opened once. Raises ValueError."""
    options: dict[str, Any] = {"openai": {"concurrency": config.concurrency}}
    found: dict[str, Engine] = {}
    for name, spec in (("writer", config.engine), ("judge", config.judge or config.engine)):
        same = next((engine for engine in found.values() if engine.spec == spec), None)
        kind = spec.partition(":")[0]
        given = options.get(kind, {} if kind in BATCHING else {"batch": config.batch})
        found[name] = same or open_engine(spec, config.device, **given)
    if config.loss is not None:
        found["scorer"] = Losses(open_scorer(config.loss, config.device))
    return found


def ask(work: Work, todo: Sequence[Unit], report: Report) -> Pass:
    """The first pass: every unit, until a budget is spent."""
    config, began = work.config, time.monotonic()
    losses: defaultdict[str, list[float]] = defaultdict(list)
    made, stopped, done, pictures = 0, None, 0, 0
    report.start("synthesize", sum(len(unit) for unit in todo), "pictures")

    most = TOGETHER if config.engine.partition(":")[0] in BATCHING else IN_BATCHES

    def together() -> int:
        grown = min(most, max(most // 4, pictures))  # so that a budget is seen to be spent early on
        return grown if config.max_samples is None else min(grown, config.max_samples - made)

    for group in groups(todo, together):
        stopped = _spent(config, work, made, time.monotonic() - began)
        if stopped:
            break
        for pairs in work.together(group):
            for pair in pairs:
                if "loss" in pair.found:
                    losses[pair.kind.id].append(pair.found["loss"])
            made += len(merge(pairs, config.turns, config.source))
        done += len(group)
        pictures += sum(map(len, group))
        report.advance(sum(map(len, group)))
    report.done()
    told = {kind: np.array(values, np.float32) for kind, values in losses.items()}
    return Pass(done, stopped, told, time.monotonic() - began)


def decide(
    work: Work, manifest: Manifest, todo: Sequence[Unit], first: Pass, pictures: int, report: Report
) -> dict[str, Any]:
    """The second pass: what stays and what it becomes, from what is stored."""
    store, config = work.store, work.config
    limits = loss_limits(first.losses, config.max_loss)
    asked, tokens = work.spent.asked, work.spent.tokens
    stored = {name: _Stored(engine) for name, engine in work.engines.items()}
    again = Work(store, work.library, config, work.fitting, stored)
    there = There(manifest)
    writer = Writer(store, made_with(work))
    drawn: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    with Ledger(store) as ledger:

        def everything(number: int, at: np.ndarray, table: pa.Table) -> Verdict:
            return Verdict(np.ones(table.num_rows, bool), [])

        shards = select(manifest, ledger, everything, COLUMNS)
        report.start("decide", sum(len(unit) for unit in todo), "pictures")
        for unit in todo:
            pairs = again.unit(unit)
            drawn.update(pair.kind.id for pair in pairs)
            for pair in pairs:
                if pair.rejected is None and too_high(pair, limits):
                    pair.reject("loss", "high_loss", pair.found["loss"], limits[pair.kind.id])
            new = merge(pairs, config.turns, config.source)
            _account(ledger, config, pairs, new, there)
            new = [one for one in new if one.sample.sample_id not in there]
            there.add(one.sample.sample_id for one in new)
            accepted.update(pair.kind.id for one in new for pair in one.pairs)
            writer.add(new)
            ledger.made(config.source, len(new))
            report.advance(len(unit))
        report.done()
        writer.finish()
        shards += writer.entries
        account = ledger.close(sum(len(s.selected.rows) for s in shards))
        counts, reasons = dict(ledger.counts), dict(sorted(ledger.reasons.items()))
    steps = {name: dict(count) for name, count in again.counts.items() if count["taken"]}
    about = {
        "engines": made_with(work), "steps": steps, "loss_limits": limits,
        "drawn": dict(sorted(drawn.items())), "accepted": dict(sorted(accepted.items())),
        "pictures": pictures, "done": sum(len(unit) for unit in todo), "stopped": first.stopped,
    }  # fmt: skip
    sources = {
        **manifest.document["sources"],
        config.source: {"licence": config.licence, "uri": None, "citation": None},
    }
    result = publish(
        store,
        stage="synthesize",
        config=config.recorded(),
        shards=shards,
        media=manifest.document["media"],
        ledger=account,
        counts=counts,
        parents=[manifest],
        sources=sources,
        origins=manifest.document["origins"],
        sidecars=[sidecar_entry(store, name, family, shard) for name, family, shard in writer.sidecars],
        name=config.out,
        replace=config.replace,
        extra={"synthesis": about},
    )
    return {
        "stage": "synthesize",
        "name": config.out,
        "reasons": reasons,
        "asked": asked,
        "stored": work.spent.stored,
        "tokens": tokens,
        "seconds": first.seconds,
        **about,
        "note": _note(first.stopped),
        **result.reference(),
    }


def replay(config: SynthesizeConfig) -> Iterator[Pair]:
    """Every pair of a run that has ended, refused ones too, from stored answers; those whose loss is above
    its type's limit are not marked. Raises ValueError."""
    store = Store.open(config.store)
    manifest = Manifest.open(store, config.manifest)
    done = Manifest.open(store, config.out).document["synthesis"]["done"]
    engines = open_engines(config)
    try:
        stored = {name: _Stored(engine) for name, engine in engines.items()}
        work = Work(store, manifest.library(), config, fitting_of(manifest, config), stored)
        for unit in units(images(manifest, config.language)[:done]):
            yield from work.unit(unit)
    finally:
        for engine in set(engines.values()):
            engine.close()


def loss_limits(losses: Mapping[str, np.ndarray], quantile: float) -> dict[str, float]:
    """The highest loss that is kept of each type, from float32 losses."""
    return {kind: float(np.quantile(values, quantile)) for kind, values in losses.items()}


def too_high(pair: Pair, limits: Mapping[str, float]) -> bool:
    """Whether a pair's loss is above its type's limit, rounded as those that the limit is of."""
    return float(np.float32(pair.found.get("loss", 0.0))) > limits.get(pair.kind.id, np.inf)


class _Stored:
    """An engine of the second pass: whoever asks it shows a defect, for every answer is stored."""

    def __init__(self, engine: Engine) -> None:
        self.spec, self.identity = engine.spec, engine.identity

    def ask(self, requests: Sequence[Any]) -> Any:
        assert not requests, f"{len(requests)} answers of {self.spec} are not stored"
        return iter(())

    def close(self) -> None: ...


class There:
    """The ids of the samples that are there: 16 bytes each of a manifest's, and those made since."""

    def __init__(self, manifest: Manifest) -> None:
        parts = [manifest.ids(number) for number in range(len(manifest.shards))]
        rows = np.concatenate([np.zeros((0, 16), np.uint8), *parts])
        self._ids = np.sort(np.ascontiguousarray(rows).view("V16").ravel())
        self._made: set[bytes] = set()

    def __contains__(self, identity: bytes) -> bool:
        if identity in self._made:
            return True
        wanted = np.void(identity)
        at = int(np.searchsorted(self._ids, wanted))
        return at < len(self._ids) and self._ids[at].tobytes() == identity

    def add(self, ids: Iterable[bytes]) -> None:
        self._made.update(ids)


def made_with(work: Work) -> dict[str, Any]:
    """Models and seed, as every new sample's lineage has them."""
    told = {name: {"spec": e.spec, **e.identity._asdict()} for name, e in work.engines.items()}
    return {**told, "seed": work.config.seed}


def plan(work: Work, todo: Sequence[Unit], pictures: int, report: Report) -> dict[str, Any]:
    """What all pictures will take, by those that are tried; their answers are stored and not asked again."""
    first = ask(work, todo, report)
    tried = sum(len(unit) for unit in todo[: first.done])
    share = pictures / max(1, tried)
    spent = work.spent
    rate = spent.tokens / first.seconds if spent.asked else None
    return {
        "plan": True,
        "pictures": pictures,
        "tried": tried,
        "calls": round(spent.asked * share) if spent.asked else None,
        "asked": spent.asked,
        "tokens": round(spent.tokens * share) if spent.asked else None,
        "tokens_per_second": rate,
        "hours": first.seconds * share / 3600 if spent.asked else None,
        "steps": {name: dict(count) for name, count in work.counts.items() if count["taken"]},
    }


def _spent(config: SynthesizeConfig, work: Work, made: int, seconds: float) -> str | None:
    """The budget that is used up, if one is."""
    if config.max_samples is not None and made >= config.max_samples:
        return "max_samples"
    if config.max_tokens is not None and work.spent.tokens >= config.max_tokens:
        return "max_tokens"
    if config.max_hours is not None and seconds >= config.max_hours * 3600:
        return "max_hours"
    return None


def _account(
    ledger: Ledger, config: SynthesizeConfig, pairs: Sequence[Pair], made: Sequence[Made], there: There
) -> None:
    """A row for each pair: why it is refused, or the sample it is part of."""
    child = {id(pair): one.sample.sample_id for one in made for pair in one.pairs}
    ledger.came(config.source, len(pairs))
    for pair in pairs:
        told = f"{pair.kind.id}, {pair.style}: {pair.question!r} → {pair.answer!r}"[:TEXT]
        more: dict[str, Any] = {"detail": told}
        outcome = "dropped"
        if pair.rejected is not None:
            step, reason, value, limit, failed = pair.rejected
            outcome = "failed" if failed else "dropped"
            more = {"value": value and value[:TEXT], "limit": limit}
            more["detail"] = f"{step} of picture {pair.image.medium.hex()}, {told}"
        elif child[id(pair)] in there:
            reason, more["witness"] = "repeat", child[id(pair)]
        else:
            reason, more["child"] = "merged", child[id(pair)]
        ledger.add(Row(None, pair.image.origin, config.source, outcome, reason, **more))


def _note(stopped: str | None) -> str:
    if stopped is None:
        return ""
    return f"stopped by --{stopped.replace('_', '-')}: give more and the same command, and it goes on"
