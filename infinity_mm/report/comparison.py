"""The sections of two manifests side by side; A is always left and filled, B right and a line."""

from infinity_mm.report.bars import bars, stack
from infinity_mm.report.charts import overlay
from infinity_mm.report.distributions import Bar, Categories, Histogram
from infinity_mm.report.figures import figure, plural, signed
from infinity_mm.report.funnel import funnel
from infinity_mm.report.html import Child, Html, join, said, tag
from infinity_mm.report.media import NAME_TEXT
from infinity_mm.report.model import Comparison, Only, Report, Rule, histograms
from infinity_mm.report.samples import sample_card
from infinity_mm.report.sections import licences
from infinity_mm.report.tables import Section, empty, table

MISSING = "–"
HEADS = ("", "A", "B", "B − A")


def head(pair: Comparison) -> Html:
    """Both names, and how much they share."""
    parts = [
        ("a", "only in A", pair.only_a.samples),
        ("both", "in both", pair.same),
        ("made", "in both, with another weight", pair.reweighted),
        ("b", "only in B", pair.only_b.samples),
    ]
    parts = [part for part in parts if part[2] or part[0] != "made"]
    total = sum(count for _, _, count in parts)
    keys = [
        tag("span", tag("i", cls=f"key {cls}"), tag("b", f"{count:,}"), f" {words}")
        for cls, words, count in parts
    ]
    same = tag("p", "Both name the same data: their digests are equal.", cls="note")
    return tag(
        "header",
        tag("p", "Comparison of two datasets", cls="kicker"),
        tag("div", _name("A", pair.a), _name("B", pair.b), cls="two"),
        stack([(cls, count) for cls, _, count in parts], total),
        tag("p", [[" · " if i else None, key] for i, key in enumerate(keys)], cls="account"),
        same if pair.a.digest == pair.b.digest else None,
        cls="top",
    )


def _name(letter: str, report: Report) -> Html:
    made = f", {report.made}" if report.made else None
    return tag(
        "div",
        tag("h1", _letter(letter), " ", said(report.name, NAME_TEXT)),
        tag("p", tag("code", report.digest), " made by ", said(report.stage, NAME_TEXT), made, cls="by"),
        licences(report.sources),
        [tag("p", said(note, 600), cls="note") for note in report.notes],
    )


def sections(pair: Comparison) -> list[Section]:
    """All sections, in order."""
    return [
        Section("numbers", "Numbers", _numbers(pair)),
        Section("what", "What they are", _what(pair)),
        Section("distributions", "Distributions", _distributions(pair)),
        Section("rules", "Rules", _rules(pair)),
        Section("only-a", "Only in A", _only(pair.only_a, "a")),
        Section("only-b", "Only in B", _only(pair.only_b, "b")),
        Section("funnels", "Funnels", _funnels(pair)),
        Section("failures", "Failures", _failures(pair)),
    ]


def _numbers(pair: Comparison) -> Html:
    a, b = pair.a, pair.b
    rows = [
        _difference("Samples", a.samples, b.samples),
        _difference("Pictures and clips", a.media, b.media),
        _difference("Bytes of media", a.bytes, b.bytes),
        _difference("Text tokens", a.tokens, b.tokens),
        _difference("Samples by weight", a.weight, b.weight),
    ]
    return table(HEADS, rows, numbers=(1, 2, 3))


def _difference(label: Child, a: float | None, b: float | None) -> tuple[Child, ...]:
    """A line of a table: both numbers and by how much B is more."""
    difference = MISSING if a is None or b is None else signed(b - a)
    return (label, *(MISSING if x is None else figure(x) for x in (a, b)), difference)


def _what(pair: Comparison) -> Html:
    a, b = ({s.name: s for s in report.sources} for report in (pair.a, pair.b))
    rows = []
    for name in dict.fromkeys([*a, *b]):
        known = [s.licence for s in (a.get(name), b.get(name)) if s is not None]
        licence = " / ".join(dict.fromkeys(x or "none" for x in known))
        counts = _difference(
            tag("b", said(name, NAME_TEXT)),
            a[name].samples if name in a else 0,
            b[name].samples if name in b else 0,
        )
        rows.append((*counts, said(licence, NAME_TEXT)))
    sources = table(("Source", *HEADS[1:], "Licence"), rows, numbers=(1, 2, 3))
    pairs = (
        ("Kinds of samples", pair.a.kinds, pair.b.kinds),
        ("Languages", pair.a.languages, pair.b.languages),
        ("Formats of media", pair.a.formats, pair.b.formats),
    )
    charts = [_categories(title, x, y) for title, x, y in pairs if x or y]
    return join(sources if rows else empty("Neither names a source."), tag("div", charts, cls="charts"))


def _categories(title: str, a: Categories | None, b: Categories | None) -> Html:
    """A table of both counts; the bars are shares of each manifest's whole, so that the two compare."""
    counts = [{bar.label: bar.count for bar in x.bars} if x else {} for x in (a, b)]
    totals = [x.measured.n if x else 0 for x in (a, b)]
    rows = []
    for label in dict.fromkeys([*counts[0], *counts[1]]):
        both = [c.get(label, 0) for c in counts]
        drawn = [stack([(cls, n)], total) for cls, n, total in zip("ab", both, totals, strict=True) if total]
        rows.append((said(label or "(empty)", NAME_TEXT), *(f"{n:,}" for n in both), drawn))
    further = [x.others_count if x else 0 for x in (a, b)]
    if any(further):
        rows.append((tag("span", "others", cls="quiet"), *(f"{n:,}" for n in further), ""))
    caption = tag("figcaption", tag("h4", said(title, NAME_TEXT)))
    body = table(("", "A", "B", "Shares"), rows, numbers=(1, 2)) if rows else empty("No values to draw.")
    return tag("figure", caption, body, cls="chart")


def _distributions(pair: Comparison) -> Html:
    a, b = histograms(pair.a), histograms(pair.b)
    charts = [_overlaid(name, a[name], b[name]) for name in a if name in b]
    charts += [
        _categories(x.measured.name, x, y)
        for x in pair.a.distributions
        for y in pair.b.distributions
        if isinstance(x, Categories) and isinstance(y, Categories) and x.measured.name == y.measured.name
    ]
    one_sided = [
        [
            tag("p", f"Measured only in {letter}: ", said(", ".join(names), 600), ".", cls="quiet")
            for letter, names in (("A", [n for n in a if n not in b]), ("B", [n for n in b if n not in a]))
            if names
        ]
    ]
    if not charts:
        return join(empty("No measure was made of both."), one_sided)
    keys = [tag("i", cls="key a"), "A, filled, and ", tag("i", cls="key b"), "B, a line: shares of its own."]
    return join(tag("p", keys, cls="quiet"), tag("div", charts, cls="charts"), one_sided)


def _overlaid(name: str, a: Histogram, b: Histogram) -> Html:
    lines = [
        _difference("n", a.measured.n, b.measured.n),
        _difference("min", a.minimum, b.minimum),
        _difference("median", a.median, b.median),
        _difference("max", a.maximum, b.maximum),
        _difference("beyond the axis", a.below + a.above, b.below + b.above),
        _difference("not applicable", a.measured.not_applicable, b.measured.not_applicable),
        _difference("failed", a.measured.failed, b.measured.failed),
    ]
    lines = [line for line in lines if line[0] == "n" or any(x not in ("0", MISSING) for x in line[1:3])]
    meaning = tag("p", said(a.measured.meaning, 400), cls="quiet") if a.measured.meaning else None
    caption = tag("figcaption", tag("h4", said(name, NAME_TEXT), cls="mono"), meaning)
    return tag("figure", caption, overlay(a, b), table(HEADS, lines, numbers=(1, 2, 3)), cls="chart")


def _rules(pair: Comparison) -> Html:
    a, b = ({r.name: r for r in report.rules} for report in (pair.a, pair.b))
    rows = []
    for name in dict.fromkeys([*a, *b]):
        x, y = a.get(name), b.get(name)
        changed = x is None or y is None or x.keep != y.keep
        note = tag("small", "differs", cls="chip") if changed else None
        label = [tag("b", said(name, NAME_TEXT), cls="mono"), " ", note]
        dropped = (None if rule is None else rule.in_sequence for rule in (x, y))
        rows.append((label, *map(_kept_by, (x, y)), *_difference("", *dropped)[1:]))
    if not rows:
        return empty("Neither has rules.")
    heads = ("Rule", "A keeps", "B keeps", "A dropped", "B dropped", "B − A")
    return table(heads, rows, numbers=(3, 4, 5), wide=(1, 2))


def _kept_by(rule: Rule | None) -> Html:
    if rule is None:
        return tag("span", "no such rule", cls="quiet")
    return tag("code", said(rule.keep, 600))


def _only(only: Only, letter: str) -> Html:
    if not only.samples:
        return empty(f"{letter.upper()} has nothing that the other has not.")
    drawn = bars([Bar(label=name, count=count) for name, count in only.sources], only.samples)
    cards = tag("div", [sample_card(card) for card in only.cards], cls="cards") if only.cards else None
    shown = f" {len(only.cards):,} of them:" if only.cards else ""
    return tag(
        "div", tag("p", plural(only.samples, "sample"), ", by source:"), drawn,
        tag("p", shown) if shown else None, cards, cls=f"only {letter}",
    )  # fmt: skip


def _funnels(pair: Comparison) -> Html:
    sides = (("A", pair.a), ("B", pair.b))
    return tag(
        "div",
        [tag("div", tag("h3", _letter(letter)), funnel(report.stages)) for letter, report in sides],
        cls="two",
    )


def _letter(letter: str) -> Html:
    return tag("span", letter, cls=f"letter {letter.lower()}")


def _failures(pair: Comparison) -> Html:
    a, b = ({(f.stage, f.code): f for f in report.failures} for report in (pair.a, pair.b))
    rows = []
    for key in dict.fromkeys([*a, *b]):
        meaning = (a.get(key) or b[key]).meaning
        counts = _difference("", *(side[key].count if key in side else 0 for side in (a, b)))
        code = tag("b", said(key[1], NAME_TEXT), cls="mono")
        rows.append((code, said(key[0], NAME_TEXT), *counts[1:], said(meaning, 600)))
    if not rows:
        return empty("Nothing failed in either.")
    return table(("Class", "Stage", *HEADS[1:], "Meaning"), rows, numbers=(2, 3, 4), wide=(5,))
