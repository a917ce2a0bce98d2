"""The section on duplicates: what it says of groups, near misses and distances."""

import dataclasses
import re
from typing import Any

import pytest

from infinity_mm.report.charts import distances
from infinity_mm.report.distributions import Distances
from infinity_mm.report.duplicates import duplicates
from infinity_mm.report.html import Html
from infinity_mm.report.model import DuplicateGroup, DuplicateMethod, Duplicates, Report, Run, Twin, Utterance

BAR = r'<rect [^>]*height="([\d.]+)" class="(\w+)"'


@pytest.fixture
def found(report: Report) -> Duplicates:
    return report.duplicates[0]


def words(page: Html) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<title>.*?</title>|<desc>.*?</desc>|<[^>]*>", "", page))


def with_groups(found: Duplicates, *groups: DuplicateGroup, **changes: Any) -> Duplicates:
    """Only these groups, of one method."""
    method = dataclasses.replace(found.methods[0], examples=groups, misses=[], distances=None)
    return dataclasses.replace(found, methods=[method], largest=[], joined=[], lost=[], **changes)


def test_the_account_the_policy_and_what_has_lost_its_witness(found: Duplicates) -> None:
    said = words(duplicates([found]))
    for sentence in (
        "864 dropped for 9 samples that are kept.",
        "Of a group is kept what is first by resolution, then longest.",
        "17 samples joined into samples made of several.",
        "Dropped too is what is in benchmark.",
        "13 dropped samples have nobody left: a later stage dropped what was kept for them, "
        "by filter: sharp 11, filter: dark 2.",
    ):
        assert sentence in said
    few = dataclasses.replace(found, groups=1, lost=[("filter: sharp", 1)])
    said = words(duplicates([few]))
    assert "for 1 sample that is kept." in said
    assert "1 dropped sample has nobody left" in said
    assert "nobody left" not in words(duplicates([dataclasses.replace(found, lost=[])]))


def test_methods_stand_in_a_table_and_link_to_what_there_is_to_see(found: Duplicates) -> None:
    idle = DuplicateMethod(
        name="exact", meaning="the same bytes", unit="", threshold=0.0, near_is_high=False, dropped=0,
        alone=0, pairs=0, groups=0, recall="exact search",
    )  # fmt: skip
    page = duplicates([dataclasses.replace(found, methods=[idle, *found.methods])])
    said = words(page)
    assert "≤ 8 bits654543432321recall 0.98" in said
    assert "≥ 0.8 jaccard654432432321–" in said
    anchors = re.findall(r'href="#([^"]+)"', page)
    assert len(anchors) == 2
    assert all(page.count(f'id="{anchor}"') == 1 for anchor in anchors)
    assert "It dropped nothing." not in said


def test_the_kept_one_comes_first_and_is_marked(found: Duplicates) -> None:
    [group] = found.largest
    page = duplicates([with_groups(found, group)])
    order = ["✓ kept", "a1a1a1a1a1a1a1a1", "✕ 7", "b2b2b2b2b2b2b2b2", "✕ exact", "and 39 more"]
    places = [words(page).index(one) for one in order]
    assert places == sorted(places)
    assert "41 dropped · more by exact 5, text 6" in words(page)
    assert page.count("twin stays") == 1
    assert page.count("twin goes") == 2


def test_what_a_twin_says_of_itself(found: Duplicates) -> None:
    said = words(duplicates([with_groups(found, *found.methods[0].examples)]))
    for phrase in (
        "also by semantic, text", "turned", "the same words", "later dropped by filter: sharp",
        "and 3 media more", "640 × 480 · 9.88 kB", "This picture cannot be shown", "birds · a.jsonl:1",
        "withdrawn", "✓ in benchmark",
    ):  # fmt: skip
        assert phrase in said
    joined = words(duplicates([dataclasses.replace(found, methods=[], largest=[])]))
    assert "Joined into one1 joined✓ made of these" in joined


def test_a_method_is_named_where_groups_are_of_all_methods(found: Duplicates) -> None:
    bare = dataclasses.replace(found, methods=[], joined=[])
    assert "✕ 7 bits · perceptual" in words(duplicates([bare]))


def test_differing_words_are_marked_and_long_texts_are_cut(found: Duplicates) -> None:
    runs = [Run(text="<b>two "), Run(text="old", change=-1), Run(text="new", change=1), Run(text="x" * 900)]
    twin = Twin(sample_id="d4" * 16, said=[Utterance(role="user", runs=runs)], method="text", distance="0.9")
    group = DuplicateGroup(kept=twin, dropped=[twin], size=1)
    page = duplicates([with_groups(found, group)])
    assert "&lt;b&gt;two <del>old</del><ins>new</ins>xxx" in page
    assert "… 313 characters more" in page
    assert 'class="strip"' not in page


def test_near_misses_stand_in_pairs(found: Duplicates) -> None:
    method = dataclasses.replace(found.methods[0], examples=[], distances=None, dropped=5)
    page = duplicates([dataclasses.replace(found, methods=[method], largest=[], joined=[])])
    assert "It dropped 5 samples; none is shown." in words(page)
    assert "Nearest misses both kept, nearest to the threshold first9 bits" in words(page)
    assert page.count("twin stays") == 2
    assert "✕" not in page


def test_distances_are_drawn_to_two_scales_with_the_threshold() -> None:
    one = Distances(
        unit="bits", edges=[-0.5, 0.5, 1.5, 2.5, 3.5], counts=[50, 100, 0, 0], beyond=[0, 0, 4_000, 8_000],
        threshold=1.0,
    )  # fmt: skip
    drawn = distances(one)
    bars = re.findall(BAR, drawn)
    assert bars == [("56.0", "beyond"), ("112.0", "beyond"), ("56.0", "dropped"), ("112.0", "dropped")]
    assert '<line x1="37.50%" x2="37.50%" y1="15" y2="132" class="limit">' in drawn
    assert "<title>-0.5 to 0.5: 50 dropped</title>" in drawn
    assert "150 dropped, to what is kept for them12,000 pairs of a sample" in words(drawn)
    none = dataclasses.replace(one, counts=[0] * 4)
    assert "kept for them" not in words(distances(none))
    assert [cls for _, cls in re.findall(BAR, distances(none))] == ["beyond"] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edges": [0.0, 1.0]}, "2 counts and 2 beyond for 2 edges"),
        ({"beyond": [1]}, "2 counts and 1 beyond"),
        ({"edges": [0.0, 2.0, 1.0]}, "must rise"),
        ({"threshold": float("nan")}, "not finite"),
    ],
)
def test_distances_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    fields: dict[str, Any] = {"unit": "bits", "edges": [0.0, 1.0, 2.0], "counts": [1, 2], "beyond": [0, 0]}
    with pytest.raises(ValueError, match=said):
        Distances(**{**fields, "threshold": 1.0, **changes})


def test_no_stage_looked_for_duplicates() -> None:
    assert words(duplicates([])) == "No stage of this manifest looked for duplicates."
