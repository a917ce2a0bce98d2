"""Rules: what each keeps, how many it dropped, and some of what it dropped and of what it nearly dropped."""

from collections.abc import Sequence

from infinity_mm.report.charts import distribution
from infinity_mm.report.examples import strip
from infinity_mm.report.figures import plural
from infinity_mm.report.html import Html, join, said, tag
from infinity_mm.report.media import NAME_TEXT
from infinity_mm.report.model import Example, Rule
from infinity_mm.report.tables import empty, table

SQL_TEXT = 600  # most characters of an expression


def rules(every: Sequence[Rule]) -> Html:
    """A table of all rules, then each by itself that dropped something or has a limit to look at."""
    if not every:
        return empty("No stage of this manifest has rules.")
    several = len({rule.stage for rule in every}) > 1
    rows = [
        (
            tag("a", said(rule.name, NAME_TEXT), href=f"#rule-{number}")
            if _has_more(rule)
            else said(rule.name, NAME_TEXT),
            *([said(rule.stage, NAME_TEXT)] if several else []),
            tag("code", said(rule.keep, SQL_TEXT)),
            "–" if rule.alone is None else f"{rule.alone:,}",
            f"{rule.in_sequence:,}",
            f"{rule.failed:,}",
        )
        for number, rule in enumerate(every, 1)
    ]
    heads = ("Rule", *(["Stage"] if several else []), "Keeps", "Drops alone", "In sequence", "Failed")
    last = len(heads)
    return join(
        table(heads, rows, numbers=(last - 3, last - 2, last - 1), wide=(last - 4,)),
        [_rule(rule, number) for number, rule in enumerate(every, 1) if _has_more(rule)],
    )


def _has_more(rule: Rule) -> bool:
    """Whether there is more to see of a rule than its line of the table."""
    return bool(rule.in_sequence or rule.alone or rule.failed or rule.nearly or rule.distributions)


def _rule(rule: Rule, number: int) -> Html:
    shown = [_strip("Dropped", rule.dropped, rule.in_sequence, "dropped"), _nearly(rule)]
    charts = None
    if rule.distributions:
        charts = tag("div", [distribution(one) for one in rule.distributions], cls="charts")
    return tag(
        "article",
        tag(
            "header",
            tag("h3", said(rule.name, NAME_TEXT), cls="mono"),
            tag("span", said(rule.stage, NAME_TEXT), cls="chip"),
            _counts(rule),
            cls="rule-head",
        ),
        tag("p", said(rule.meaning, SQL_TEXT)) if rule.meaning else None,
        tag("p", "keeps ", tag("code", said(rule.keep, SQL_TEXT)), cls="keep"),
        tag("div", charts, tag("div", shown, cls="strips"), cls="rule-body"),
        id=f"rule-{number}",
        cls="card rule",
    )


def _counts(rule: Rule) -> Html:
    words = [tag("b", f"{rule.in_sequence:,}", cls="lost"), " dropped"]
    if rule.alone is not None and rule.alone != rule.in_sequence:
        words.append(f", {rule.alone:,} alone")
    if rule.failed:
        words.append(tag("span", f", {rule.failed:,} failed", cls="failed-text"))
    return tag("span", words, cls="count")


def _strip(title: str, examples: Sequence[Example], count: int, cls: str) -> Html:
    if not examples:
        words = (
            "It dropped nothing." if not count else f"It dropped {plural(count, 'sample')}; none is shown."
        )
        return empty(words)
    heading = tag("h4", title, tag("small", f" {len(examples):,} of {count:,}"))
    return join(heading, strip(examples, title, cls))


def _nearly(rule: Rule) -> Html | None:
    if not rule.nearly:
        return None
    heading = tag("h4", "Nearly dropped", tag("small", " kept, nearest to the limit"))
    return join(heading, strip(rule.nearly, "Nearly dropped", "nearly"))
