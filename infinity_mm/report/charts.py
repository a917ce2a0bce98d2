"""Charts as SVG. Across, everything is in per cent, so that text keeps its size on any screen."""

import math
from collections.abc import Callable, Sequence

from infinity_mm.report.bars import LABEL, category_bars
from infinity_mm.report.distributions import Distances, Distribution, Histogram, Limit, Measured
from infinity_mm.report.figures import compact, figure, log_ticks, plural, ticks, whole_numbers
from infinity_mm.report.html import Html, folded, join, said, tag

TOP, BOTTOM, HEIGHT = 20, 132, 166  # of the plot and of the whole chart, in CSS pixels
SHORT = 24  # most characters of an axis' title
LEAST = 2  # the height, in CSS pixels, below which a count that is not 0 would not be seen


def distribution(one: Distribution, name: str | None = None) -> Html:
    """A distribution with its name, meaning and account. `name`: another title than the measure's."""
    body = histogram(one) if isinstance(one, Histogram) else category_bars(one)
    return tag("figure", _caption(one.measured, name), body, _account(one), cls="chart")


def _caption(measured: Measured, name: str | None) -> Html:
    title = tag("h4", said(name or measured.name, LABEL), cls=None if name else "mono")
    meaning = said(measured.meaning, 400) if measured.meaning else None
    source = [" ", tag("cite", said(measured.source, 200))] if measured.source else None
    return tag("figcaption", title, tag("p", meaning, source, cls="quiet") if meaning or source else None)


def _account(one: Distribution) -> Html:
    measured = one.measured
    numbers = [("n", f"{measured.n:,}")]
    if measured.not_applicable:
        numbers.append(("not applicable", f"{measured.not_applicable:,}"))
    if measured.failed:
        numbers.append(("failed", f"{measured.failed:,}"))
    if isinstance(one, Histogram):
        for label, value in (("min", one.minimum), ("median", one.median), ("max", one.maximum)):
            if value is not None:
                numbers.append((label, figure(value)))
        for label, count in (("below the axis", one.below), ("beyond the axis", one.above)):
            if count:
                numbers.append((label, f"{count:,}"))
        if one.dropped:
            numbers.append(("dropped", f"{sum(one.dropped):,}"))
    return tag("dl", [tag("div", tag("dt", k), tag("dd", v)) for k, v in numbers], cls="stats")


def _scale(one: Histogram) -> Callable[[float], float]:
    """Values to per cent of the width."""
    form: Callable[[float], float] = math.log10 if one.log else float
    low, high = form(one.edges[0]), form(one.edges[-1])

    def place(value: float) -> float:
        if one.log and value <= 0:
            return 0.0
        return min(100.0, max(0.0, 100 * (form(value) - low) / (high - low)))

    return place


def _axis(one: Histogram, place: Callable[[float], float]) -> Html:
    low, high = one.edges[0], one.edges[-1]
    marks = log_ticks(low, high) if one.log else ticks(low, high, whole_numbers(one.edges))
    unit = (one.measured.unit or one.measured.name)[:SHORT]
    return join(
        tag("line", x1="0%", x2="100%", y1=BOTTOM + 0.5, y2=BOTTOM + 0.5, cls="axis"),
        [_tick(place(mark), compact(mark)) for mark in marks],
        tag("text", f"{unit}, logarithmic" if one.log else unit, x="50%", y=BOTTOM + 31, cls="mid unit"),
    )


def _tick(at: float, label: str) -> Html:
    where = f"{at:.2f}%"
    return join(
        tag("line", x1=where, x2=where, y1=BOTTOM, y2=BOTTOM + 4, cls="axis"),
        tag("text", label, x=where, y=BOTTOM + 16, cls=anchor(at)),
    )


def anchor(at: float) -> str:
    """The class of a label at `at` per cent of the width, so that it stays inside."""
    return "start" if at < 7 else "end" if at > 93 else "mid"


def _grid(most: float, unit: str, label: Callable[[float], str]) -> Html:
    """Lines across at about half and at the top, their labels and the unit in the margin at the left."""
    marks = [m for m in ticks(0, most, whole=most >= 4) if 0 < m <= most]
    marks = marks[-1:] if len(marks) < 3 else [marks[len(marks) // 2 - 1], marks[-1]]
    out = [tag("text", unit[:SHORT], x=-6, y=9, cls="end unit")]
    for mark in marks:
        y = BOTTOM - (BOTTOM - TOP) * mark / most
        out.append(tag("line", x1="0%", x2="100%", y1=f"{y:.1f}", y2=f"{y:.1f}", cls="grid"))
        out.append(tag("text", label(mark), x=-6, y=f"{y + 4:.1f}", cls="end"))
    return join(out)


def _bar(left: float, width: float, height: float, base: float, cls: str) -> Html:
    return tag(
        "rect",
        x=f"{left:.2f}%",
        width=f"{width:.2f}%",
        y=f"{base - height:.1f}",
        height=f"{height:.1f}",
        cls=cls,
    )


def _tall(count: float, most: float) -> float:
    return max(float(LEAST), (BOTTOM - TOP) * count / most) if count else 0.0


def histogram(one: Histogram) -> Html:
    """Counts as bars, the dropped part of each coloured at its foot, and limits as lines."""
    if not one.counts or not any(one.counts):
        return tag("p", "No values to draw.", cls="empty")
    place, most = _scale(one), max(one.counts)
    dropped = one.dropped or [0] * len(one.counts)
    bars = []
    for low, high, count, lost in zip(one.edges, one.edges[1:], one.counts, dropped, strict=False):
        if not count:
            continue
        left, width = place(low), place(high) - place(low)
        foot, whole = _tall(lost, most), _tall(count, most)
        body = max(whole - foot, LEAST if count > lost else 0)
        words = f"{figure(low)} to {figure(high)}: {count:,}" + (f", {lost:,} dropped" if lost else "")
        bars.append(
            tag(
                "g",
                tag("title", words),
                _bar(left, width, body, BOTTOM - foot, "kept") if body else None,
                _bar(left, width, foot, BOTTOM, "dropped") if lost else None,
            )
        )
    return join(
        svg(
            _title("Histogram of", one.measured),
            _described(one),
            _grid(most, one.measured.of, compact),
            bars,
            _axis(one, place),
            _limits(one.limits, place),
        ),
        _limit_list(one.limits),
    )


def svg(title: str, description: str, *children: Html | list[Html], height: int = HEIGHT) -> Html:
    """A chart that can be read aloud, as wide as its box."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        role="img",
        width="100%",
        height=height,
        cls="plot",
    )


def _title(kind: str, measured: Measured) -> str:
    unit = f" ({measured.unit})" if measured.unit else ""
    return f"{kind} {measured.name[:LABEL]}{unit[:LABEL]}"


def _described(one: Histogram) -> str:
    words = [f"{one.measured.n:,} {one.measured.of}"]
    for label, value in (("minimum", one.minimum), ("median", one.median), ("maximum", one.maximum)):
        if value is not None:
            words.append(f"{label} {figure(value)}")
    if one.dropped:
        words.append(f"{sum(one.dropped):,} dropped")
    words += [f"limit {figure(limit.at)} {limit.label[:LABEL]}".strip() for limit in one.limits]
    return ", ".join(words) + "."


def _limits(limits: Sequence[Limit], place: Callable[[float], float]) -> Html:
    """A line each; its value above it, or its number in the list below where there are more than two."""
    out, last = [], -100.0
    for number, limit in sorted(enumerate(limits, 1), key=lambda pair: pair[1].at):
        at = place(limit.at)
        where = f"{at:.2f}%"
        out.append(tag("line", x1=where, x2=where, y1=TOP - 5, y2=BOTTOM, cls="limit"))
        label = str(number) if len(limits) > 2 else f"limit {figure(limit.at)}"
        if at - last >= (6 if len(limits) > 2 else 35):
            side = "start" if at < 25 else "end" if at > 75 else "mid"
            out.append(tag("text", label, x=where, y=TOP - 9, cls=f"{side} limit-label halo"))
            last = at
    return join(out)


def _limit_list(limits: Sequence[Limit]) -> Html | None:
    if len(limits) < 2 and not any(limit.label for limit in limits):
        return None
    rows = tag(
        "ol", [tag("li", said(x.label, LABEL), " ", tag("b", figure(x.at))) for x in limits], cls="limits"
    )
    return rows if len(limits) <= 6 else folded(plural(len(limits), "limit"), rows)


def overlay(a: Histogram, b: Histogram) -> Html:
    """Two histograms with the same edges, as shares of each: the first filled, the second as a line."""
    if not any(a.counts) or not any(b.counts):
        one = any(a.counts) or any(b.counts)
        return tag("p", "Only one has values to draw." if one else "No values to draw.", cls="empty")
    shares = [[count / h.measured.n for count in h.counts] for h in (a, b)]
    most = max(*shares[0], *shares[1])
    place = _scale(a)
    bars, steps, before = [], [], BOTTOM + 0.0
    for i, (low, high) in enumerate(zip(a.edges, a.edges[1:], strict=False)):
        left, right = place(low), place(high)
        tops = [BOTTOM - _tall(s[i], most) for s in shares]
        title = tag("title", f"{figure(low)} to {figure(high)}: A {a.counts[i]:,}, B {b.counts[i]:,}")
        height = BOTTOM - tops[0]
        bars.append(tag("g", title, _bar(left, right - left, height, BOTTOM, "a") if height else None))
        steps.append(_line(left, left, before, tops[1]))
        steps.append(_line(left, right, tops[1], tops[1]))
        before = tops[1]
    steps.append(_line(100, 100, before, BOTTOM))
    lines = _grid(100 * most, "share", lambda m: f"{figure(m)} %")
    described = f"A: {_described(a)} B: {_described(b)}"
    return svg(_title("Two histograms of", a.measured), described, lines, bars, steps, _axis(a, place))


def distances(one: Distances) -> Html:
    """What is dropped as bars; beyond the threshold pairs of a sample, paler and to a scale of their own."""
    within, beyond = sum(one.counts), sum(one.beyond)
    about = Measured(name="distances", n=within, unit=one.unit)
    limits = [Limit(at=one.threshold)]
    shape = Histogram(measured=about, edges=one.edges, counts=one.counts, limits=limits)
    place, bars = _scale(shape), []
    for counts, cls, words in ((one.beyond, "beyond", "pairs beyond"), (one.counts, "dropped", "dropped")):
        for low, high, count in zip(one.edges, one.edges[1:], counts, strict=False):
            if count:
                title = tag("title", f"{figure(low)} to {figure(high)}: {count:,} {words}")
                bar = _bar(place(low), place(high) - place(low), _tall(count, max(counts)), BOTTOM, cls)
                bars.append(tag("g", title, bar))
    described = (
        f"{plural(within, 'sample')} dropped within the threshold {figure(one.threshold)}; "
        f"{plural(beyond, 'pair')} of a sample beyond it."
    )
    keys = [
        tag("p", tag("i", cls=f"key {cls}"), tag("b", f"{count:,}"), words)
        for cls, count, words in (
            ("dropped", within, " dropped, to what is kept for them"),
            ("beyond", beyond, " pairs of a sample, to their own scale"),
        )
        if count
    ]
    drawn = svg(
        _title("Histogram of", about),
        described,
        _grid(max(one.counts), "dropped", compact) if within else [],
        bars,
        _axis(shape, place),
        _limits(limits, place),
    )
    return tag(
        "figure", tag("figcaption", tag("h4", "Distances")), drawn, tag("div", keys, cls="quiet"), cls="chart"
    )


def _line(x1: float, x2: float, y1: float, y2: float) -> Html:
    return tag("line", x1=f"{x1:.2f}%", x2=f"{x2:.2f}%", y1=f"{y1:.1f}", y2=f"{y2:.1f}", cls="b")
