import dataclasses
import html
import json
import re
import zlib
from html.parser import HTMLParser

from infinity_mm.report.distributions import Histogram, Measured
from infinity_mm.report.model import Comparison, Only, Report, SampleCard, Source
from infinity_mm.report.page import POLICY, render
from infinity_mm.schema import Part, Turn

EMPTY = Report(name="none", digest="0" * 64, provenance="1" * 64, stage="filter", samples=0, media=0)

EMPTY_TURNS = Histogram(measured=Measured(name="turns", n=0), edges=[], counts=[])


class _Words(HTMLParser):
    """The words of a page, style left out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.ids += [v or "" for k, v in attrs if k == "id"]
        self.links += [v or "" for k, v in attrs if k == "href"]

    def handle_data(self, data: str) -> None:
        if self._inside != "style":
            self.words.append(data)


def words(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(_Words(page).words))


def test_the_page_begins_with_its_policy_and_asks_for_nothing(report: Report) -> None:
    page = render(report)
    assert page.startswith(
        '<!doctype html>\n<html lang="en"><head><meta http-equiv="Content-Security-Policy"'
    )
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    assert policy == POLICY
    assert html.escape(policy) in page[:400].replace("&#39;", "&#x27;")
    assert "<script" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_the_same_model_gives_the_same_page(report: Report, comparison: Comparison) -> None:
    assert render(report) == render(dataclasses.replace(report))
    assert render(comparison) == render(dataclasses.replace(comparison))


def test_every_number_of_the_model_is_in_the_page(report: Report) -> None:
    text = words(render(report))
    for number in (
        "1,055", "987", "123,456,789", "76,543", "1,234", "1,000", "222", "12", "55", "345", "1,110", "7",
        "31", "17", "64.6 %", "321", "0.25", "900", "2.5", "640 × 480", "9.88 kB", "2.5 s", "and 2 others: 3",
    ):  # fmt: skip
        assert re.search(rf"(?<![\d,.]){re.escape(number)}(?![\d,])", text), number
    assert (
        "1,055 samples 987 pictures and clips 123 MB of media 76,543 text tokens 1,056.5 samples by" in text
    )
    assert "1,234 in = 1,000 kept + 222 dropped + 12 failed , and 55 made" in text
    assert "1 of 2 sources names no licence: 55 samples (5.2 %), of cars" in text
    assert "not applicable 7 failed 3" in text
    assert "below the axis" not in text
    assert "beyond the axis 2" in text


def test_bars_of_a_histogram_say_their_counts_and_their_dropped_part(report: Report) -> None:
    page = render(dataclasses.replace(EMPTY, distributions=report.distributions[:1]))
    assert "<title>0.1 to 1: 101, 101 dropped</title>" in page
    assert "<title>1 to 10: 1,000</title>" in page
    assert page.count('class="dropped"') == 1
    assert page.count('class="limit"') == 2


def test_a_bar_is_as_high_as_its_count(report: Report) -> None:
    histogram = report.distributions[0]
    assert isinstance(histogram, Histogram)
    page = render(dataclasses.replace(EMPTY, distributions=[histogram]))
    bars = re.findall(r'width="([\d.]+)%" y="([\d.]+)" height="([\d.]+)" class="(\w+)"', page)
    assert [(width, cls) for width, _, _, cls in bars] == [
        ("33.33", "dropped"), ("33.33", "kept"), ("33.33", "kept")
    ]  # fmt: skip
    heights = [float(height) for _, _, height, _ in bars]
    assert heights[0] / heights[1] == 11.3 / 112  # 101 of 1,000, to a tenth of a pixel
    assert heights[2] == 2  # 7 of 1,000 would be less than can be seen


def test_empty_cases_say_that_they_are_empty() -> None:
    text = words(render(EMPTY))
    for sentence in (
        "No sources are named.", "No stage of this manifest has rules.", "No other measures were made.",
        "There are no samples to show.", "Nothing failed.", "How this manifest came about is not known.",
    ):  # fmt: skip
        assert sentence in text
    pair = Comparison(a=EMPTY, b=EMPTY, same=0, reweighted=0, only_a=Only(samples=0), only_b=Only(samples=0))
    text = words(render(pair))
    assert "Both name the same data" in text
    assert "Neither has rules." in text
    assert "A has nothing that the other has not." in text


def test_a_rule_without_examples_or_charts(report: Report) -> None:
    rule = dataclasses.replace(report.rules[0], dropped=[], nearly=[], distributions=[])
    text = words(render(dataclasses.replace(report, rules=[rule])))
    assert "It dropped 222 samples; none is shown." in text
    idle = dataclasses.replace(rule, in_sequence=0, alone=0)
    assert "It dropped nothing." in words(render(dataclasses.replace(report, rules=[idle])))


def test_a_histogram_without_values() -> None:
    empty = Histogram(measured=Measured(name="m", n=0, not_applicable=3), edges=[], counts=[])
    text = words(render(dataclasses.replace(EMPTY, distributions=[empty])))
    assert "No values to draw. n 0 not applicable 3" in text


def test_a_picture_that_does_not_decode_is_a_box_that_says_so(report: Report) -> None:
    page = render(dataclasses.replace(EMPTY, cards=report.cards))
    assert "This picture cannot be shown" in page
    assert "truncated" in page
    assert page.count("<img ") == 2  # one of them the frame of a clip
    assert "A place for a picture that is not there" in page


def test_pictures_stand_where_the_turn_has_them_and_rejected_answers_apart() -> None:
    turns = [Turn("user", (Part("text", "before"), Part("image", None, 0), Part("text", "after")))]
    card = SampleCard(
        sample_id="0" * 32, source="s", origin="o", turns=turns,
        rejected=[Turn("assistant", (Part("text", "no"),))],
    )  # fmt: skip
    text = words(render(dataclasses.replace(EMPTY, samples=1, cards=[card])))
    order = [text.index(w) for w in ("before", "A place for a picture", "after", "rejected answer", " no ")]
    assert order == sorted(order)


def test_a_medium_that_no_turn_shows_is_shown_apart(report: Report) -> None:
    assert "shown by no turn" in words(render(report))


def test_licences_are_named_where_all_have_one() -> None:
    sources = [Source(name=n, samples=1, licence=licence) for n, licence in (("a", "MIT"), ("b", "CC0"))]
    assert "Every source names a licence: MIT, CC0" in words(
        render(dataclasses.replace(EMPTY, sources=sources))
    )
    blank = [Source(name="a", samples=0, licence=" ")]
    assert "The only source names no licence" in words(render(dataclasses.replace(EMPTY, sources=blank)))


def test_links_lead_to_places_in_the_page_and_ids_are_unique(report: Report, comparison: Comparison) -> None:
    for page in (render(report), render(comparison)):
        found = _Words(page)
        assert found.links
        assert set(found.links) <= {f"#{one}" for one in found.ids}
        assert len(set(found.ids)) == len(found.ids)


def test_long_texts_are_cut_in_sight() -> None:
    card = SampleCard(
        sample_id="0" * 32, source="s", origin="o", turns=[Turn("user", (Part("text", "字" * 13_545),))],
        meta=json.dumps({"a": "x" * 100_000}),
    )  # fmt: skip
    page = render(dataclasses.replace(EMPTY, cards=[card]))
    assert "… 12,345 characters more" in page
    assert len(page) < 60_000


def test_a_comparison_shows_both_numbers_and_their_difference(report: Report) -> None:
    other = dataclasses.replace(
        report, samples=2_000,
        rules=[dataclasses.replace(report.rules[0], keep="sharpness >= 3", in_sequence=300)],
    )  # fmt: skip
    only = Only(samples=945, sources=[("birds", 945)], cards=report.cards)
    pair = Comparison(a=report, b=other, same=1_000, reweighted=5, only_a=Only(samples=50), only_b=only)
    text = words(render(pair))
    assert "Samples 1,055 2,000 +945" in text
    assert "sharp differs sharpness >= 1 sharpness >= 3 222 300 +78" in text
    assert "50 only in A · 1,000 in both · 5 in both, with another weight · 945 only in B" in text
    assert "<title>1 to 10: A 1,000, B 1,000</title>" in render(pair)
    assert "beyond the axis 2 2 0 not applicable 7 7 0 failed 3 3 0" in text


def test_a_measure_without_values_in_one_of_two(report: Report, comparison: Comparison) -> None:
    other = dataclasses.replace(report, turns=EMPTY_TURNS)
    for a, b in ((report, other), (other, report)):
        text = words(render(dataclasses.replace(comparison, a=a, b=b)))
        assert "turns Only one has values to draw." in text
    text = words(render(dataclasses.replace(comparison, a=other, b=other)))
    assert "turns No values to draw." in text


def test_a_report_with_two_hundred_thumbnails_is_between_one_and_two_megabytes(report: Report) -> None:
    picture = report.rules[0].dropped[0].medium
    assert picture is not None
    assert picture.thumbnail is not None
    noise = b"".join(zlib.crc32(bytes([i % 256, i // 256])).to_bytes(4, "big") for i in range(1_024))
    thumbnail = dataclasses.replace(picture.thumbnail, data=noise)
    example = dataclasses.replace(
        report.rules[0].dropped[0], medium=dataclasses.replace(picture, thumbnail=thumbnail)
    )
    rule = dataclasses.replace(report.rules[0], dropped=[example] * 10, nearly=[])
    size = len(render(dataclasses.replace(report, rules=[rule] * 20)).encode())
    assert 1_000_000 < size < 2_000_000
