"""What a report says of a stage of synthesis, against its ledger, its sidecars and its document."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inputs import ledger, samples
from talking import QUESTIONS, Scripted

from infinity_mm.cli import main
from infinity_mm.engines.base import ENGINES, Answer, Reply, Request
from infinity_mm.manifest import Manifest
from infinity_mm.report.distributions import Categories, Histogram
from infinity_mm.report.model import Report, Synthesis
from infinity_mm.report.page import render
from infinity_mm.schema import Sample
from infinity_mm.store import Store, read_table
from infinity_mm.withdraw import forget
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.report.stage import ReportConfig, collect
from pipelines.report.synthesis import MOST_PAIRS, MOST_REFUSED, REASON_MEANINGS, STEP_MEANINGS
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.stage import run
from pipelines.synthesize.steps import STEPS
from pipelines.tag.kept import Tagged
from pipelines.types.table import Seeds
from pipelines.types.taxonomy import Taxonomy


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("synthesis")
    drawn = ["--count", "30", "--video-share", "0", "--seed", "3"]
    assert main(["scenes", "--out", str(folder / "scenes"), *drawn]) == 0
    store = str(folder / "store")
    ingest = ["ingest", str(folder / "scenes" / "data.json"), "--out", "raw", "--store", store]
    assert main([*ingest, "--source", "scenes", "--licence", "CC0-1.0", "--workers", "0"]) == 0
    return Manifest.open(Store.open(store), "raw")


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    yield
    ENGINES.pop("scripted", None)


def synthesized(raw: Manifest, engine: Scripted, **settings: Any) -> Manifest:
    ENGINES["scripted"] = lambda rest, device, options: engine
    given = {"prompts": "scenes", "types": "scenes", "engine": "scripted", "blind": "gray", "manifest": "raw"}
    config = SynthesizeConfig(store=raw.store.url, out="made", replace=True, **given | settings)
    return Manifest.open(raw.store, run(config)["manifest"])


def told(manifest: Manifest) -> tuple[Report, Synthesis]:
    config = ReportConfig(
        store=manifest.store.url, manifests=[manifest.file], out=Path("unused.html"), workers=0
    )
    report = collect(config, [manifest])
    assert isinstance(report, Report)
    [found] = report.synthesis
    return report, found


def rows_of(manifest: Manifest) -> list[dict[str, Any]]:
    files = [e["file"] for e in manifest.document["sidecars"] if e["family"] == "synthesis"]
    return [row for file in files for row in read_table(manifest.store, file).to_pylist()]


def test_counts_are_those_of_the_ledger(raw: Manifest) -> None:
    made = synthesized(raw, Scripted(bad=0.3), questions=4)
    _, found = told(made)
    rows = ledger(made)
    assert (found.drawn, found.pictures, found.done) == (
        len(rows),
        found.done,
        made.document["synthesis"]["done"],
    )
    reasons = Counter((row["outcome"], row["reason"]) for row in rows)
    assert found.accepted == reasons.pop(("dropped", "merged"))
    outcomes = {(("failed" if r.failed else "dropped"), r.name): r.count for r in found.refusals}
    assert outcomes == reasons
    assert [r.count for r in found.refusals] == sorted(reasons.values(), reverse=True)
    assert all(r.meaning for r in found.refusals)
    assert {step.name: (step.taken, step.passed, step.failed) for step in found.steps} == {
        name: (one["taken"], one["passed"], one["failed"])
        for name, one in made.document["synthesis"]["steps"].items()
    }
    assert [step.name for step in found.steps] == [s.name for s in STEPS if s.name != "loss"]
    assert sum(one.drawn or 0 for one in found.types) == len(rows)
    assert sum(one.accepted for one in found.types) == found.accepted
    assert dict(found.models)["writes"].startswith("scripted; scripted, float32 on cpu")
    assert dict(found.models)["seed"] == "0"


def test_every_step_and_every_reason_of_ours_has_a_meaning() -> None:
    assert set(STEP_MEANINGS) == {step.name for step in STEPS}
    source = "".join(path.read_text() for path in Path("pipelines/synthesize").glob("*.py"))
    assert all(f'"{reason}"' in source for reason in REASON_MEANINGS)


def test_pairs_are_shown_whole_and_refused_ones_with_their_picture(raw: Manifest) -> None:
    made = synthesized(raw, Scripted(bad=0.3), questions=4)
    _, found = told(made)
    rows = {(row["sample_id"].hex(), row["type"], row["style"]): row for row in rows_of(made)}
    by_id = {sample.sample_id.hex(): sample for sample in samples(made)}
    assert len(found.pairs) == min(MOST_PAIRS, found.accepted) == MOST_PAIRS
    for pair in found.pairs:
        row, sample = rows[pair.sample_id, pair.type, pair.style], by_id[pair.sample_id]
        assert said(sample, row["turn"] - 1) == pair.question and said(sample, row["turn"]) == pair.answer
        assert (pair.score, pair.blind_right, pair.again) == (row["score"], row["blind_right"], row["again"])
        assert pair.medium is not None and pair.medium.thumbnail is not None
        assert pair.medium.media_id == sample.media[0].hex()
    assert told(made)[1].pairs == found.pairs  # by id, not by chance
    for refusal in found.refusals:
        assert len(refusal.examples) == min(refusal.count, MOST_REFUSED)
        for example in refusal.examples:
            assert example.medium is not None and example.medium.thumbnail is not None
            assert "of picture" not in example.detail and "→" not in example.detail
    relevance = next(r for r in found.refusals if r.name == "not_relevant")
    assert relevance.examples[0].limit == "0.5" and relevance.examples[0].detail.startswith("relevance: ")
    assert {e.question for e in relevance.examples} <= set(QUESTIONS.values())


def said(sample: Sample, turn: int) -> str:
    return "".join(part.text or "" for part in sample.turns[turn].parts)


def test_distributions_are_of_the_accepted(raw: Manifest) -> None:
    made = synthesized(raw, Scripted(bad=0.2), questions=4)
    _, found = told(made)
    charts = {one.measured.name: one for one in found.distributions}
    assert set(charts) == {"score", "relevance", "unseen answer", "blind answer", "style"}
    score, blind = charts["score"], charts["blind answer"]
    assert isinstance(score, Histogram) and isinstance(blind, Categories)
    assert (score.measured.n, [limit.at for limit in score.limits]) == (found.accepted, [8.0])
    right = sum(row["blind_right"] or False for row in rows_of(made))
    assert {bar.label: bar.count for bar in blind.bars}["right without the picture"] == right > 0
    assert charts["style"].measured.n == found.accepted


class Hostile(Scripted):
    """Asks and answers in markup."""

    def say(self, request: Request) -> Answer:
        reply = super().say(request)
        if isinstance(reply, Reply) and not request.choices and not request.top_logprobs:
            return reply._replace(text=f"<script>alert(1)</script> {reply.text}")
        return reply


def test_markup_that_a_model_writes_is_text_on_the_page(raw: Manifest) -> None:
    made = synthesized(raw, Hostile(bad=0.1), questions=2)
    report, found = told(made)
    assert any("<script>" in pair.question for pair in found.pairs)
    assert any("<script>" in pair.answer and "<script>" in (pair.blind or "<script>") for pair in found.pairs)
    page = render(report)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 2 * len(found.pairs)


def test_the_table_that_was_used_is_shown(raw: Manifest, tmp_path: Path) -> None:
    tag = ["tag", "raw", "--with", "tiny", "--vocabulary", "scenes", "--out", "tagged", "--workers", "0"]
    assert main([*tag, "--store", raw.store.url]) == 0
    seeds, path = Seeds(Taxonomy.load("scenes")), tmp_path / "types.tsv"
    for word, kind in (("red", "colour"), ("star", "shape")):
        for _ in range(5):
            seeds.add(kind, [Tagged(word, None)])
    seeds.table(1).write(path)
    settings = {"manifest": "tagged", "questions": 2, "table": str(path), "captions": False}
    made = synthesized(raw, Scripted(), **settings)
    report, found = told(made)
    drawn = {one.name: one.drawn for one in found.types}
    assert {row.name: row.drawn for row in found.table} == {
        "Colour": drawn["colour"],
        "Shape": drawn["shape"],
    }
    assert [row.tags[0][0] for row in found.table] == ["red", "star"]
    assert "Types of question" in render(report)
    path.unlink()
    report, found = told(made)
    assert not found.table and any("its table of types is not shown" in note for note in report.notes)


def test_it_is_told_of_what_was_made_of_it_later_and_withdrawn_samples_are_not_shown(raw: Manifest) -> None:
    synthesized(raw, Scripted(seed=4), questions=1)
    config = FilterConfig(store=raw.store.url, manifest="made", out="few", where=["turns <= 2"], workers=0)
    few = Manifest.open(raw.store, run_filter(config)["manifest"])
    _, found = told(few)
    assert len(found.pairs) == MOST_PAIRS
    gone = found.pairs[0].sample_id
    forget(raw.store, gone, "test")
    report, after = told(Manifest.open(raw.store, few.file))
    assert gone not in {pair.sample_id for pair in after.pairs}
    assert gone[:16] not in render(report)


def test_a_manifest_without_synthesis_says_so(raw: Manifest) -> None:
    config = ReportConfig(store=raw.store.url, manifests=["raw"], out=Path("unused.html"), workers=0)
    assert "No stage of this manifest wrote questions or answers." in render(collect(config, [raw]))
