"""The funnel: what came into each stage, what was kept, dropped, failed and made; each source beneath."""

from collections.abc import Sequence

from infinity_mm.report.bars import bars, stack
from infinity_mm.report.distributions import Bar
from infinity_mm.report.figures import share
from infinity_mm.report.html import Html, folded, join, said, tag
from infinity_mm.report.media import NAME_TEXT
from infinity_mm.report.model import Account, Stage
from infinity_mm.report.tables import empty, table


def account_line(account: Account) -> Html:
    """`in = kept + dropped + failed`, in numbers."""
    parts = [("kept", account.kept), ("dropped", account.dropped), ("failed", account.failed)]
    sum_of = [
        [" + " if i else " = ", tag("span", tag("i", cls=f"key {name}"), tag("b", f"{count:,}"), f" {name}")]
        for i, (name, count) in enumerate(parts)
    ]
    made = None
    if account.made:
        made = tag("span", tag("i", cls="key made"), tag("b", f"{account.made:,}"), " made")
    came = tag("span", tag("b", f"{account.came:,}"), " in")
    return tag("p", came, sum_of, [", and ", made] if made else None, cls="account")


def funnel(stages: Sequence[Stage]) -> Html:
    """All stages: bars on one scale, what each source kept, then each stage by itself."""
    if not stages:
        return empty("How this manifest came about is not known.")
    most = max(stage.account.came + stage.account.made for stage in stages)
    drawn = tag("ol", [_bar(stage, i, stages, most) for i, stage in enumerate(stages)], cls="funnel")
    return join(drawn, _by_source(stages), [_stage(stage) for stage in stages])


def _bar(stage: Stage, i: int, stages: Sequence[Stage], most: int) -> Html:
    account = stage.account
    parts = [(name, getattr(account, name)) for name in ("kept", "made", "dropped", "failed")]
    before = [stages[i - 1].title] if i else []
    title, came_from = tag("b", said(stage.title, NAME_TEXT)), None
    if stage.parents and list(stage.parents) != before:
        came_from = tag("span", "from ", said(", ".join(stage.parents), NAME_TEXT), cls="quiet")
    kept = f" · {share(account.kept, account.came)} kept" if account.came else None
    out = tag("span", tag("b", f"{account.kept + account.made:,}"), " out", kept)
    return tag(
        "li", tag("div", title, came_from, out, cls="stage-head"), stack(parts, most), account_line(account)
    )


def _by_source(stages: Sequence[Stage]) -> Html | None:
    names = list(dict.fromkeys(name for stage in stages for name, _ in stage.sources))
    if not names:
        return None
    accounts = [dict(stage.sources) for stage in stages]
    rows = [
        (tag("b", said(name, NAME_TEXT)), *(_left(account.get(name)) for account in accounts))
        for name in names
    ]
    heads = ("Source", *(said(stage.title, NAME_TEXT) for stage in stages))
    return join(tag("h3", "What each source kept"), table(heads, rows, numbers=range(1, len(stages) + 1)))


def _left(account: Account | None) -> Html:
    if account is None:
        return tag("span", "–", cls="quiet")
    lost = account.dropped + account.failed
    out = f"{account.kept + account.made:,}"
    return join(out, tag("small", f"−{lost:,}", cls="lost") if lost else None)


def _stage(stage: Stage) -> Html:
    heads = ("Source", "In", "Kept", "Dropped", "Failed", "Made")
    rows = [_row(tag("b", said(name, NAME_TEXT)), account) for name, account in stage.sources]
    rows.append(_row(tag("b", "all sources"), stage.account))
    reasons = None
    if stage.reasons:
        whole = sum(count for _, count in stage.reasons)
        shown = bars([Bar(label=name, count=count) for name, count in stage.reasons], whole)
        reasons = [tag("h4", "Reasons"), shown]
    settings = None
    if stage.settings:
        lines = [
            tag("div", tag("dt", said(k, NAME_TEXT)), tag("dd", said(v, 600))) for k, v in stage.settings
        ]
        settings = [tag("h4", "Settings"), tag("dl", lines, cls="facts mono")]
    names = [" known as ", said(", ".join(stage.names), NAME_TEXT)] if stage.names else None
    made = tag("p", "It made ", tag("code", stage.digest), names, ".", cls="quiet")
    return folded(
        join("Stage ", tag("b", said(stage.title, NAME_TEXT)), ": each source, reasons, settings"),
        table(heads, rows, numbers=range(1, 6)),
        reasons,
        settings,
        made,
        cls="stage",
    )


def _row(name: Html, account: Account) -> tuple[Html | str, ...]:
    counts = (account.came, account.kept, account.dropped, account.failed, account.made)
    return (name, *(f"{count:,}" for count in counts))
