"""What a report says of a manifest, against the manifest itself."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inputs import jpeg, ledger, record, samples

from infinity_mm.manifest import Manifest
from infinity_mm.report.distributions import Categories, Histogram
from infinity_mm.report.model import Comparison, Report
from infinity_mm.withdraw import forget
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.mix import MixConfig
from pipelines.mix import run as run_mix
from pipelines.report.counting import edges_of, histogram
from pipelines.report.stage import ReportConfig, collect, run

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


@pytest.fixture
def made(ingest: Ingest, dataset: Dataset) -> Manifest:
    """Sixty pictures of rising width, one of them cut, and two texts; filtered by width and by loss."""
    files = {f"{i}.jpg": jpeg(i, (20 + i, 16)) for i in range(60)}
    files["30.jpg"] = files["30.jpg"][:-150]
    records = [
        record(f"{i}.jpg", f"Question {i}?", "Yes." if i % 3 else "No.", loss=i / 10, source="ab"[i % 2])
        for i in range(60)
    ]
    records += [record(None, "Say hello.", "Hello.", source="c"), record("gone.jpg", source="a")]
    manifest = ingest(dataset(records, files), source_field="source", licence="CC0-1.0")
    rules = ["narrow: width >= 30", "loss <= QUANTILE_DISC(loss, 0.9) OVER (PARTITION BY source)"]
    config = FilterConfig(store=manifest.store.url, manifest="raw", out="kept", where=rules, workers=0)
    return Manifest.open(manifest.store, run_filter(config)["manifest"])


def report_on(*manifests: Manifest, **options: Any) -> Any:
    names = [m.file for m in manifests]
    config = ReportConfig(
        store=manifests[0].store.url, manifests=names, out=Path("unused.html"), workers=0, **options
    )
    return collect(config, manifests)


def told(made: Manifest) -> Report:
    found = report_on(made)
    assert isinstance(found, Report)
    return found


def test_what_the_dataset_is(made: Manifest) -> None:
    report = told(made)
    assert (report.samples, report.media) == (made.samples, made.samples - 1)
    assert report.digest == made.digest
    assert {s.name: (s.samples, s.licence) for s in report.sources} == {
        name: (count["kept"], "CC0-1.0") for name, count in made.document["ledger"]["sources"].items()
    }
    assert report.kinds is not None
    assert {bar.label: bar.count for bar in report.kinds.bars} == {
        "one picture": made.samples - 1, "text only": 1
    }  # fmt: skip
    assert (
        sum(s.yes or 0 for s in report.sources) + sum(s.no or 0 for s in report.sources) == made.samples - 1
    )
    assert len(report.cards) == 12
    assert {c.sample_id for c in report.cards} <= {s.sample_id.hex() for s in samples(made)}


def test_the_way_of_the_data(made: Manifest) -> None:
    first, second = told(made).stages
    assert (first.kind, second.kind) == ("ingest", "filter")
    assert second.parents == [first.title]
    assert (first.account.came, first.account.failed) == (62, 1)
    counts = made.document["counts"]
    assert (second.account.came, second.account.kept) == (counts["in"], counts["kept"])
    assert dict(second.reasons) == made.document["ledger"]["reasons"]


def test_what_each_rule_dropped_and_nearly_dropped(made: Manifest) -> None:
    rules = {rule.name: rule for rule in told(made).rules}
    rows = ledger(made)
    narrow = rules["narrow"]
    assert narrow.in_sequence == narrow.alone == 10
    assert [e.value for e in narrow.dropped] == [
        row["value"] for row in rows if row["sample_id"].hex() in {e.sample_id for e in narrow.dropped}
    ]
    assert len(narrow.dropped) == 10
    assert all(e.medium and e.medium.thumbnail for e in narrow.dropped)
    assert [e.value for e in narrow.nearly] == ["30", "31", "32", "33", "34", "35"]
    assert {e.sample_id for e in narrow.nearly} <= {s.sample_id.hex() for s in samples(made)}
    [widths] = narrow.distributions
    assert isinstance(widths, Histogram)
    assert (widths.measured.n, sum(widths.dropped)) == (60, 10)
    assert (widths.measured.not_applicable, [limit.at for limit in widths.limits]) == (1, [30])
    [losses] = rules["loss"].distributions
    assert [(round(l.at, 2), l.label) for l in losses.limits] == [(5.2, "a"), (5.3, "b")]  # noqa: E741
    assert all(e.limit.startswith("loss <= 5.") for e in rules["loss"].nearly)
    assert rules["no_turns"].distributions == []


def test_what_failed_is_told_by_class(made: Manifest) -> None:
    failures = {failure.code: failure for failure in told(made).failures}
    assert set(failures) == {"missing_file", "truncated"}
    assert failures["missing_file"].examples[0].origin == "data.json:61"
    [cut] = failures["truncated"].examples
    assert cut.medium is not None
    assert (cut.medium.thumbnail, cut.medium.fault and cut.medium.fault.code) == (None, "truncated")
    assert all(failure.meaning for failure in failures.values())


def test_every_measure_is_counted(made: Manifest) -> None:
    report = told(made)
    for one in [*report.distributions, report.turns, report.lengths, report.languages, report.formats]:
        assert isinstance(one, Histogram | Categories)
        about = one.measured
        total = report.samples if about.of == "samples" else report.media
        assert about.n + about.not_applicable + about.failed == total, about.name
    widths = next(d for d in report.distributions if d.measured.name == "width")
    assert isinstance(widths, Histogram)
    known = [20 + int(re.search(r"\d+", s.names[0])[0]) for s in samples(made) if s.names]  # type: ignore[index]
    assert (widths.minimum, widths.median, widths.maximum) == (min(known), np.median(known), max(known))
    assert report.sizes is not None
    assert sum(map(sum, report.sizes.counts)) == report.media


def test_what_is_withdrawn_is_not_shown(made: Manifest) -> None:
    shown = told(made).cards[0]
    forget(made.store, shown.sample_id, "")
    again = told(Manifest.open(made.store, made.file))
    assert shown.sample_id not in {c.sample_id for c in again.cards}
    everything = json.dumps(repr(again))
    assert shown.sample_id not in everything


def test_two_manifests_side_by_side(made: Manifest) -> None:
    raw = Manifest.open(made.store, "raw")
    pair = report_on(raw, made)
    assert isinstance(pair, Comparison)
    assert (pair.same, pair.only_a.samples, pair.only_b.samples) == (
        made.samples,
        raw.samples - made.samples,
        0,
    )
    assert dict(pair.only_a.sources) == {"a": 9, "b": 8}
    assert len(pair.only_a.cards) == 4
    reasons = {row["sample_id"].hex(): row["reason"] for row in ledger(made)}
    for card in pair.only_a.cards:
        assert str(card.readings[0].value).endswith(f": {reasons[card.sample_id]}")
    assert (pair.a.samples, pair.b.samples) == (raw.samples, made.samples)


def test_an_empty_manifest(made: Manifest, tmp_path: Path) -> None:
    config = FilterConfig(store=made.store.url, manifest="kept", out="none", where=["chars < 0"], workers=0)
    run_filter(config)
    result = run(
        ReportConfig(store=made.store.url, manifests=["none"], out=tmp_path / "none.html", workers=0)
    )
    assert result["samples"] == [0]


def test_the_page_is_written_whole_and_the_same_each_time(made: Manifest, tmp_path: Path) -> None:
    base = {"store": made.store.url, "manifests": ["kept"], "workers": 0}
    for name in ("a.html", "b.html"):
        run(ReportConfig(**base, out=tmp_path / "deep" / name))
    page = (tmp_path / "deep/a.html").read_text()
    assert page == (tmp_path / "deep/b.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f"{made.samples:,}" in page
    assert made.store.root not in page
    with pytest.raises(ValueError, match=r"a\.html is there already: give --replace"):
        run(ReportConfig(**base, out=tmp_path / "deep/a.html"))
    run(ReportConfig(**base, out=tmp_path / "deep/a.html", replace=True))


def test_more_samples_do_not_make_a_larger_page(ingest: Ingest, dataset: Dataset, tmp_path: Path) -> None:
    sizes = []
    for count in (100, 3000):
        files = {f"{i}.jpg": jpeg(i) for i in range(20)}
        records = [record(f"{i % 20}.jpg", f"Question {i}?") for i in range(count)]
        manifest = ingest(dataset(records, files, name=f"d{count}"), store=f"s{count}")
        config = ReportConfig(
            store=manifest.store.url, manifests=["raw"], out=tmp_path / f"{count}.html", workers=0
        )
        sizes.append(run(config)["bytes"])
    assert sizes[1] < 1.1 * sizes[0]


@pytest.mark.parametrize(
    "values",
    [[0], [1, 1, 1], [0.5], [-3.5, 2], list(range(200)), [0.001, 1, 1e6], [2.0**40], [-1, 0, 1e-9]],
)
def test_edges_hold_what_they_are_made_of(values: list[float]) -> None:
    from infinity_mm.report.distributions import Measured

    array = np.array(values)
    edges, log = edges_of([array], whole=array.dtype.kind == "i")
    one = histogram(Measured(name="x", n=len(values)), array, edges, log)
    assert sum(one.counts) + one.below + one.above == len(values)
    assert one.below + one.above <= 0.02 * len(values) + 1


def test_a_picture_with_a_clip(ingest: Ingest, dataset: Dataset, shared_data: Path) -> None:
    clip = next(p for p in sorted(shared_data.rglob("*.mp4")))
    data = dataset(
        [{"video": "a.mp4", "conversations": [{"from": "human", "value": "<video>\nWhat?"}]}],
        {"a.mp4": clip.read_bytes()},
    )
    report = told(ingest(data))
    [card] = report.cards
    thumbnail = card.media[0].thumbnail
    assert thumbnail is not None
    assert max(thumbnail.width, thumbnail.height) == 176
    assert card.media[0].seconds


def test_many_ingests_are_told_as_one(ingest: Ingest, dataset: Dataset) -> None:
    for i in range(8):
        files = {"a.jpg": jpeg(i)}
        manifest = ingest(dataset([record("a.jpg", f"{i}?")] * 2, files, name=f"d{i}"), out=f"m{i}")
    mixed = run_mix(MixConfig(store=manifest.store.url, manifests=[f"m{i}" for i in range(8)], out="mixed"))
    first, second = told(Manifest.open(manifest.store, mixed["manifest"])).stages
    assert (first.kind, first.account.came, first.account.kept, len(first.sources)) == ("ingest", 16, 8, 1)
    assert (second.parents, second.account.came) == ([first.title], 8)


def test_the_offending_picture_is_the_one_that_is_shown(ingest: Ingest, dataset: Dataset) -> None:
    files = {"a/image.png": jpeg(1, (64, 64)), "b/image.png": jpeg(2, (16, 16))}
    data = dataset([record(["a/image.png", "b/image.png"])], files)
    manifest = ingest(data)
    config = FilterConfig(
        store=manifest.store.url, manifest="raw", out="x", where=["short_side >= 32"],
        allow=["wrong_format"], workers=0,
    )  # fmt: skip
    report = told(Manifest.open(manifest.store, run_filter(config)["manifest"]))
    [example] = next(rule for rule in report.rules if rule.name == "short_side").dropped
    assert example.medium is not None
    assert (example.value, example.medium.width) == ("16", 16)


def test_histograms_agree_with_what_was_dropped(ingest: Ingest, dataset: Dataset) -> None:
    """A limit between two floats of 32 bits; a tail far off; values that are no numbers."""
    files = {f"{i}.jpg": jpeg(i, (24, 10)) for i in range(3)}
    records = [record(f"{i}.jpg", "x" * (6 + i * 400), loss=10.0**i) for i in range(3)]
    manifest = ingest(dataset(records, files))
    where = [
        *("aspect <= 2.4", "chars <= 500", "loss <= 50", "odd: loss / urls >= 1", "none: urls / urls <= 1"),
        "between: chars BETWEEN 20 AND 700",
    ]
    config = FilterConfig(store=manifest.store.url, manifest="raw", out="x", where=where, workers=0)
    report = told(Manifest.open(manifest.store, run_filter(config)["manifest"]))
    for rule in report.rules:
        for one in rule.distributions:
            assert isinstance(one, Histogram)
            assert (sum(one.dropped), one.below, one.above) == (rule.alone, 0, 0), rule.name
    between = next(rule for rule in report.rules if rule.name == "between")
    assert between.alone == 2
    [one] = between.distributions
    assert isinstance(one, Histogram)
    assert [limit.at for limit in one.limits] == [20, 700]


def test_one_distinct_picture(ingest: Ingest, dataset: Dataset) -> None:
    report = told(ingest(dataset([record("a.jpg", f"{i}?", n=10**18) for i in range(4)], {"a.jpg": jpeg(1)})))
    assert report.media == 1


def test_an_empty_manifest_beside_a_full_one(made: Manifest) -> None:
    config = FilterConfig(store=made.store.url, manifest="kept", out="none", where=["chars < 0"], workers=0)
    none = Manifest.open(made.store, run_filter(config)["manifest"])
    pair = report_on(none, made)
    assert isinstance(pair, Comparison)
    assert {d.measured.name for d in pair.b.distributions} == {
        d.measured.name for d in told(made).distributions
    }
    assert pair.b.turns is not None


def test_cards_are_of_what_is_left(made: Manifest) -> None:
    for card in told(made).cards:
        forget(made.store, card.sample_id, "")
    again = told(Manifest.open(made.store, made.file))
    assert len(again.cards) == 12
    assert again.samples == made.samples - 12
    assert any("12 samples were withdrawn" in note for note in again.notes)
