"""What a report says of a stage of dedup, against its ledger and its document."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from deduped import Drop, deduped, method
from hypothesis import given
from hypothesis import strategies as st
from inputs import jpeg, record, samples

from infinity_mm.manifest import Manifest
from infinity_mm.report.model import DuplicateMethod, Duplicates, Report, Twin
from infinity_mm.report.page import render
from infinity_mm.schema import Sample
from infinity_mm.withdraw import forget, gc
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.mix import MixConfig
from pipelines.mix import run as run_mix
from pipelines.report.duplicates import MOST_DROPPED, MOST_GROUPS, MOST_MISSES, spread
from pipelines.report.stage import ReportConfig, collect

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]
TALK = "a picture of a small house beside a lake with two boats and a red tree"
PERCEPTUAL = method("perceptual")
TEXT = method("text", unit="jaccard", threshold=0.8, near_is="high")


def told(manifest: Manifest) -> tuple[Report, Duplicates]:
    config = ReportConfig(
        store=manifest.store.url, manifests=[manifest.file], out=Path("unused.html"), workers=0
    )
    report = collect(config, [manifest])
    assert isinstance(report, Report)
    [found] = report.duplicates
    assert render(report)
    return report, found


def of(found: Duplicates, name: str) -> DuplicateMethod:
    return next(m for m in found.methods if m.name == name)


def shown(found: Duplicates) -> list[tuple[str, list[str | None]]]:
    """The kept sample and the distances of each group of the first method."""
    return [(g.kept.sample_id, [t.distance for t in g.dropped]) for g in found.methods[0].examples]


def said(twin: Twin) -> str:
    """What a twin says, +new+ and -not there-."""
    marks = {0: "", 1: "+", -1: "-"}
    return " | ".join(
        "".join(f"{marks[run.change]}{run.text}{marks[run.change]}" for run in one.runs) for one in twin.said
    )


@pytest.fixture
def raw(ingest: Ingest, dataset: Dataset) -> Manifest:
    """Forty pictures, one of them cut, ten texts and a pair of pictures."""
    files = {f"{i}.jpg": jpeg(i, (40 + i, 40)) for i in range(40)}
    files["39.jpg"] = files["39.jpg"][:-150]
    records = [record(f"{i}.jpg", f"What is in picture {i}?", TALK) for i in range(40)]
    records += [record(None, f"Say {i}.", TALK.replace("two", f"{i + 3}")) for i in range(10)]
    records.append(record(["1.jpg", "2.jpg"], "Compare.", "Not the same."))
    return ingest(dataset(records, files), licence="CC0-1.0")


def ids(of: Iterable[Sample]) -> list[bytes]:
    return [sample.sample_id for sample in of]


def test_groups_their_kept_sample_and_those_dropped_for_it(raw: Manifest) -> None:
    every = ids(samples(raw))
    drops = {every[i]: Drop("perceptual", str(8 - i), every[0], others=["text"]) for i in (1, 2, 3)}
    drops |= {every[5]: Drop("perceptual", "4", every[4]), every[6]: Drop("text", "0.91", every[4])}
    _, found = told(deduped(raw, drops, [PERCEPTUAL, TEXT]))
    assert (found.groups, found.dropped, found.lost, found.largest) == (2, 5, [], [])
    assert found.keep == ["resolution", "longest"]
    assert {m.name: (m.dropped, m.groups, m.near_is_high) for m in found.methods} == {
        "perceptual": (4, 2, False), "text": (1, 1, True)
    }  # fmt: skip
    assert sorted(shown(found)) == sorted([(every[0].hex(), ["5", "6", "7"]), (every[4].hex(), ["4"])])
    groups = {g.kept.sample_id: g for g in of(found, "perceptual").examples}
    first, second = groups[every[0].hex()], groups[every[4].hex()]
    assert first.kept.origin == "data.json:0"
    assert first.kept.media[0].thumbnail is not None
    assert said(first.kept) == f"What is in picture 0? | {TALK}"
    nearest = first.dropped[0]
    assert (nearest.origin, nearest.others, nearest.unit, nearest.method) == (
        "data.json:3", ["text"], "bits", "perceptual"
    )  # fmt: skip
    assert said(nearest) == "What is in picture -0-+3+?"
    assert nearest.media[0].width == 43
    assert (second.size, second.elsewhere) == (1, [("text", 1)])
    assert sum(g.size for m in found.methods for g in m.examples) == 5
    assert found.sizes is not None
    assert (found.sizes.measured.n, found.sizes.minimum, found.sizes.maximum) == (2, 3.0, 4.0)


def test_many_groups_and_many_members_are_shown_in_part(raw: Manifest) -> None:
    every = ids(samples(raw))
    drops = {one: Drop("perceptual", str(i % 9), every[0]) for i, one in enumerate(every[1:20])}
    drops |= {every[i]: Drop("perceptual", "3", every[i + 1]) for i in range(20, 50, 2)}
    _, found = told(deduped(raw, drops, [PERCEPTUAL]))
    [method_] = found.methods
    assert (found.groups, len(method_.examples)) == (16, MOST_GROUPS)
    [largest] = found.largest
    assert (largest.kept.sample_id, largest.size, len(largest.dropped)) == (every[0].hex(), 19, MOST_DROPPED)
    distances = [int(t.distance or -1) for t in largest.dropped]
    assert distances == sorted(distances)
    assert (distances[0], distances[-1]) == (0, 8)
    assert every[0].hex() not in {g.kept.sample_id for g in method_.examples}


def test_of_similarities_the_highest_is_the_nearest(raw: Manifest) -> None:
    every = ids(samples(raw))
    drops = {one: Drop("text", f"0.{81 + i}", every[0]) for i, one in enumerate(every[1:4])}
    misses = [
        {"a": every[10].hex(), "b": every[10 + i].hex(), "distance": 0.5 + i / 100} for i in range(1, 20)
    ]
    _, found = told(deduped(raw, drops, [TEXT | {"misses": misses}]))
    assert shown(found) == [(every[0].hex(), ["0.83", "0.82", "0.81"])]
    assert [m.distance for m in found.methods[0].misses] == [
        0.5 + i / 100 for i in range(19, 19 - MOST_MISSES, -1)
    ]


def test_near_misses_stand_side_by_side_with_their_words(raw: Manifest) -> None:
    every = samples(raw)
    misses = [
        {"a": every[41].sample_id.hex(), "b": every[42].sample_id.hex(), "distance": 12.0},
        {"a": every[39].sample_id.hex(), "b": every[50].sample_id.hex(), "distance": 9.0},
    ]
    drops = {every[0].sample_id: Drop("perceptual", "0", every[1].sample_id)}
    _, found = told(deduped(raw, drops, [PERCEPTUAL | {"misses": misses}]))
    near, far = found.methods[0].misses
    assert (near.distance, far.distance) == (9.0, 12.0)
    assert near.a.media[0].fault is not None
    assert (near.a.media[0].fault.code, near.a.media[0].thumbnail) == ("truncated", None)
    assert [m.width for m in near.b.media] == [41, 42]
    assert said(far.a).startswith("Say 1. | a picture")
    assert "-4-+5+ boats" in said(far.b)


def test_distances_and_beyond(raw: Manifest) -> None:
    every = ids(samples(raw))
    histogram = {"edges": [-0.5, 8.5, 9.5], "counts": [1, 0], "beyond": [0, 7]}
    exact = method("exact", unit="", histogram={"edges": [-0.5, 0.5], "counts": [9], "beyond": [0]})
    drops = {every[0]: Drop("perceptual", "0", every[1])}
    _, found = told(deduped(raw, drops, [exact, PERCEPTUAL | {"histogram": histogram}, TEXT]))
    assert [m.distances is None for m in found.methods] == [True, False, True]
    drawn = of(found, "perceptual").distances
    assert drawn is not None
    assert (list(drawn.counts), list(drawn.beyond), drawn.threshold) == ([1, 0], [0, 7], 8.0)


def test_a_witness_that_a_later_stage_dropped(raw: Manifest) -> None:
    every = ids(samples(raw))
    drops = {every[i]: Drop("perceptual", "1", every[0]) for i in (1, 2)}
    drops |= {every[4]: Drop("perceptual", "1", every[3])}
    unique = deduped(raw, drops, [PERCEPTUAL])
    config = FilterConfig(
        store=raw.store.url, manifest=unique.file, out="sound", where=["narrow: width >= 43"], workers=0
    )
    sound = Manifest.open(raw.store, run_filter(config)["manifest"])
    assert told(unique)[1].lost == []
    report, found = told(sound)
    assert found.lost == [("filter → sound: narrow", 2)]
    later = {g.kept.sample_id: g.kept.later for g in found.methods[0].examples}
    assert later == {every[0].hex(): "filter → sound: narrow", every[3].hex(): ""}
    assert [stage.kind for stage in report.stages] == ["ingest", "dedup", "filter"]


def test_a_witness_dropped_for_another_that_is_there(raw: Manifest) -> None:
    """What stands for the second stands for the first no more: it is said by what, and counted once."""
    every = ids(samples(raw))
    first = deduped(raw, {every[1]: Drop("perceptual", "1", every[0])}, [PERCEPTUAL], name="first")
    second = deduped(first, {every[0]: Drop("text", "0.9", every[2])}, [TEXT], name="second")
    config = ReportConfig(store=raw.store.url, manifests=[second.file], out=Path("unused.html"), workers=0)
    report = collect(config, [second])
    assert isinstance(report, Report)
    assert [d.lost for d in report.duplicates] == [[("dedup → second: text", 1)], []]
    assert [d.stage for d in report.duplicates] == ["dedup → first", "dedup → second"]


def test_a_witness_that_came_in_twice_is_still_there(raw: Manifest) -> None:
    every = ids(samples(raw))
    deduped(raw, {every[1]: Drop("perceptual", "1", every[0])}, [PERCEPTUAL])
    config = MixConfig(store=raw.store.url, manifests=["raw", "unique"], out="mixed")
    mixed = Manifest.open(raw.store, run_mix(config)["manifest"])
    assert mixed.document["ledger"]["reasons"] == {"repeat": raw.samples - 1}
    _, found = told(mixed)
    assert found.lost == []
    assert found.methods[0].examples[0].kept.later == ""


def test_what_another_branch_dropped_is_not_what_was_dropped_later(raw: Manifest) -> None:
    every = ids(samples(raw))
    unique = deduped(raw, {every[1]: Drop("perceptual", "1", every[0])}, [PERCEPTUAL])
    for source, rule, out in ((raw, "narrow: width >= 45", "branch"), (unique, "low: width >= 41", "later")):
        run_filter(FilterConfig(store=raw.store.url, manifest=source.file, out=out, where=[rule], workers=0))
    config = MixConfig(store=raw.store.url, manifests=["branch", "later"], out="mixed")
    _, found = told(Manifest.open(raw.store, run_mix(config)["manifest"]))
    assert found.lost == [("filter → later: low", 1)]


def test_a_witness_in_another_manifest(raw: Manifest, ingest: Ingest, dataset: Dataset) -> None:
    other = ingest(dataset([record("z.jpg", "Elsewhere?", TALK)], {"z.jpg": jpeg(99)}, name="o"), out="bench")
    [stranger] = ids(samples(other))
    every = ids(samples(raw))
    unique = deduped(raw, {every[3]: Drop("perceptual", "2", stranger)}, [PERCEPTUAL], against=[other])
    _, found = told(unique)
    [group] = found.methods[0].examples
    assert (group.against, group.kept.sample_id) == (other.digest[:12], stranger.hex())
    assert said(group.kept) == f"Elsewhere? | {TALK}"
    assert group.kept.media[0].thumbnail is not None
    other.store.delete(f"manifests/{other.file}.json")
    report, found = told(unique)
    [group] = found.methods[0].examples
    assert group.kept.gone
    assert any("is gone: what it has of the duplicates" in note for note in report.notes)
    assert said(group.dropped[0]) == f"What is in picture 3? | {TALK}"


def test_what_was_joined_is_shown_around_what_was_made(raw: Manifest) -> None:
    every = ids(samples(raw))
    child = every[10]
    drops = {every[i]: Drop("merged", "", None, child=child) for i in (1, 2)}
    drops |= {every[3]: Drop("perceptual", "3", every[1], child=child)}
    _, found = told(deduped(raw, drops, [PERCEPTUAL], merged=2))
    [joined] = found.joined
    assert (joined.made, joined.size, joined.elsewhere) == (True, 2, [("perceptual", 1)])
    assert joined.kept.sample_id == child.hex()
    assert [one.role for one in joined.kept.said] == ["user", "assistant"]
    assert [said(twin).split(" | ")[0] for twin in joined.dropped] == [
        "What is in picture 1?", "What is in picture 2?"
    ]  # fmt: skip
    assert (found.groups, found.dropped, found.merged) == (1, 1, 2)
    assert of(found, "perceptual").examples[0].made


def test_what_is_withdrawn_is_not_shown(raw: Manifest) -> None:
    every = samples(raw)
    drops = {every[41].sample_id: Drop("text", "0.9", every[42].sample_id, detail="boats")}
    unique = deduped(raw, drops, [TEXT])
    for one in (every[41], every[42]):
        forget(raw.store, one.sample_id.hex(), "")
    for _ in range(2):
        report, found = told(Manifest.open(unique.store, unique.file))
        [group] = found.methods[0].examples
        assert [twin.gone for twin in (group.kept, *group.dropped)] == [
            "withdrawn, or in a manifest that is gone"
        ] * 2
        assert "Say 1." not in repr(report)
        gc(raw.store)


def test_who_says_the_same_and_who_says_nothing(ingest: Ingest, dataset: Dataset) -> None:
    files = {f"{i}.jpg": jpeg(i) for i in range(4)}
    records = [record(f"{i}.jpg", "What?" if i < 2 else "", TALK if i < 2 else "") for i in range(4)]
    manifest = ingest(dataset(records, files))
    every = ids(samples(manifest))
    drops = {every[1]: Drop("perceptual", "1", every[0]), every[3]: Drop("perceptual", "1", every[2])}
    _, found = told(deduped(manifest, drops, [PERCEPTUAL]))
    same = {group.kept.sample_id: group.dropped[0].same_words for group in found.methods[0].examples}
    assert same == {every[0].hex(): True, every[2].hex(): False}


def test_nothing_was_dropped(raw: Manifest) -> None:
    _, found = told(deduped(raw, {}, [PERCEPTUAL, TEXT]))
    assert (found.groups, found.dropped, found.sizes, found.lost) == (0, 0, None, [])
    assert [m.examples for m in found.methods] == [[], []]


def test_a_distance_that_is_no_number_is_shown_as_it_is(raw: Manifest) -> None:
    every = ids(samples(raw))
    drops = {every[1]: Drop("text", "0.912345", every[0]), every[2]: Drop("text", "unknown", every[0])}
    _, found = told(deduped(raw, drops, [TEXT]))
    assert sorted(shown(found)[0][1], key=str) == ["0.9123", "unknown"]


def test_the_page_shows_the_section(raw: Manifest) -> None:
    every = ids(samples(raw))
    report, _ = told(deduped(raw, {every[41]: Drop("text", "0.9", every[40])}, [PERCEPTUAL, TEXT]))
    page = render(report)
    assert 'id="duplicates"' in page
    assert re.search(r"<del>3</del><ins>4</ins> boats", page)
    assert raw.store.root not in page


@given(count=st.integers(0, 500), most=st.integers(1, 9))
def test_what_is_shown_of_many_reaches_from_end_to_end(count: int, most: int) -> None:
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert np.all(np.diff(places) > 0)
    if count and most > 1:
        assert (places[0], places[-1]) == (0, count - 1)
