"""The sections of a report of one manifest."""

from collections.abc import Sequence

from infinity_mm.report.bars import stack
from infinity_mm.report.charts import distribution
from infinity_mm.report.duplicates import duplicates
from infinity_mm.report.examples import strip
from infinity_mm.report.figures import figure, plural, share, size
from infinity_mm.report.funnel import account_line, funnel
from infinity_mm.report.html import Html, folded, join, said, tag
from infinity_mm.report.media import NAME_TEXT
from infinity_mm.report.model import Failure, Report, Source
from infinity_mm.report.rules import rules
from infinity_mm.report.samples import sample_card
from infinity_mm.report.size_chart import size_chart
from infinity_mm.report.synthesis import synthesis
from infinity_mm.report.tables import Section, empty, table, tiles

URI_TEXT = 300  # most characters of an address or a citation


def head(report: Report) -> Html:
    """The name, what made it, the large numbers, the account and the licences."""
    made = f", {report.made}" if report.made else None
    account = report.stages[-1].account if report.stages else None
    return tag(
        "header",
        tag("p", "Dataset report", cls="kicker"),
        tag("h1", said(report.name, NAME_TEXT)),
        tag("p", tag("code", report.digest[:12]), " made by ", said(report.stage, NAME_TEXT), made, cls="by"),
        tiles(_large(report)),
        account_line(account) if account else None,
        licences(report.sources),
        [tag("p", said(note, 600), cls="note") for note in report.notes],
        folded("Digests and software", _facts(report)),
        cls="top",
    )


def _large(report: Report) -> list[tuple[str, str]]:
    numbers = [
        ("sample" if report.samples == 1 else "samples", f"{report.samples:,}"),
        ("picture or clip" if report.media == 1 else "pictures and clips", f"{report.media:,}"),
    ]
    if report.bytes is not None:
        numbers.append(("of media", size(report.bytes)))
    if report.tokens is not None:
        numbers.append(("text tokens", f"{report.tokens:,}"))
    if report.weight is not None and report.weight != report.samples:
        numbers.append(("samples by weight", figure(report.weight)))
    return numbers


def _facts(report: Report) -> Html:
    lines = [("digest of the data", report.digest), ("digest of the provenance", report.provenance)]
    if report.bytes is not None:
        lines.append(("bytes of media", f"{report.bytes:,}"))
    lines += report.facts
    rows = [tag("div", tag("dt", said(k, NAME_TEXT)), tag("dd", said(v, 600))) for k, v in lines]
    return tag("dl", rows, cls="facts mono")


def has_licence(source: Source) -> bool:
    return bool((source.licence or "").strip())


def licences(sources: Sequence[Source]) -> Html | None:
    """Whether every source names its licence, and which do not."""
    if not sources:
        return None
    without = [s for s in sources if not has_licence(s)]
    if not without:
        known = ", ".join(dict.fromkeys(s.licence or "" for s in sources))
        return tag("p", "Every source names a licence: ", said(known, URI_TEXT), ".", cls="quiet licences")
    lost, total = sum(s.samples for s in without), sum(s.samples for s in sources)
    part = f" ({share(lost, total)})" if lost else ""
    some = "The only source names" if len(sources) == 1 else (
        f"{len(without):,} of {plural(len(sources), 'source')} {'names' if len(without) == 1 else 'name'}"
    )  # fmt: skip
    words = f"{some} no licence: {plural(lost, 'sample')}{part}, of "
    return tag("p", words, said(", ".join(s.name for s in without), URI_TEXT), ".", cls="warning")


def sections(report: Report) -> list[Section]:
    """All sections, in order. What there is nothing to say of says so."""
    return [
        Section("what", "What it is", _what(report)),
        Section("funnel", "Funnel", funnel(report.stages)),
        Section("rules", "Rules", rules(report.rules)),
        Section("duplicates", "Duplicates", duplicates(report.duplicates)),
        Section("synthesis", "Synthesis", synthesis(report.synthesis)),
        Section("distributions", "Distributions", _distributions(report)),
        Section("samples", "Samples", _samples(report)),
        Section("failures", "Failures", failures(report.failures)),
    ]


def _what(report: Report) -> Html:
    charts = [
        distribution(one, name)
        for one, name in (
            (report.kinds, "Kinds of samples"),
            (report.languages, "Languages"),
            (report.formats, "Formats of media"),
            (report.turns, "Turns"),
            (report.lengths, "Length in tokens"),
        )
        if one is not None
    ]
    if report.sizes is not None:
        charts.append(size_chart(report.sizes))
    return join(_sources(report.sources), tag("div", charts, cls="charts"), _yes_no(report.sources))


def _sources(sources: Sequence[Source]) -> Html:
    if not sources:
        return empty("No sources are named.")
    total = sum(s.samples for s in sources)
    rows = [
        (
            tag("b", said(s.name, NAME_TEXT)),
            f"{s.samples:,}",
            [share(s.samples, total), stack([("kept", s.samples)], total)],
            said(s.licence or "", NAME_TEXT) if has_licence(s) else tag("b", "none", cls="bad"),
            _address(s),
        )
        for s in sources
    ]
    return table(
        ("Source", "Samples", "Share", "Licence", "Address and citation"), rows, numbers=(1,), wide=(4,)
    )


def _address(source: Source) -> Html:
    return join(
        said(source.uri, URI_TEXT, "mono") if source.uri else None,
        tag("p", said(source.citation, URI_TEXT), cls="quiet") if source.citation else None,
    )


def _yes_no(sources: Sequence[Source]) -> Html | None:
    counted = [(s, s.yes or 0, s.no or 0) for s in sources if s.yes or s.no]
    if not counted:
        return None
    rows = [
        (
            said(s.name, NAME_TEXT),
            f"{yes:,}",
            f"{no:,}",
            [share(yes, yes + no), stack([("a", yes), ("b", no)], yes + no)],
        )
        for s, yes, no in counted
    ]
    heads = ("Source", "Yes", "No", "Share of yes")
    return join(tag("h3", "Yes and no"), table(heads, rows, numbers=(1, 2)))


def _distributions(report: Report) -> Html:
    if not report.distributions:
        return empty("No other measures were made.")
    return tag("div", [distribution(one) for one in report.distributions], cls="charts")


def _samples(report: Report) -> Html:
    if not report.cards:
        return empty("There are no samples to show.")
    words = f"{plural(len(report.cards), 'sample')} of {report.samples:,}."
    cards = tag("div", [sample_card(card) for card in report.cards], cls="cards")
    return join(tag("p", words, cls="quiet"), cards)


def failures(every: Sequence[Failure]) -> Html:
    """Failures by class, with examples."""
    if not every:
        return empty("Nothing failed.")
    return join(_failure(failure) for failure in every)


def _failure(failure: Failure) -> Html:
    return tag(
        "article",
        tag(
            "header",
            tag("h3", said(failure.code, NAME_TEXT), cls="mono"),
            tag("span", said(failure.stage, NAME_TEXT), cls="chip"),
            tag("span", f"{failure.count:,} failed", cls="count failed-text"),
            cls="rule-head",
        ),
        tag("p", said(failure.meaning, 600)) if failure.meaning else None,
        strip(failure.examples, "Examples of this failure", "failed") if failure.examples else None,
        cls="card rule",
    )
