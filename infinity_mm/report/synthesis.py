"""Synthesis: its steps, its scores, pairs that were accepted, and pairs that were refused by their reason."""

import dataclasses
from collections.abc import Sequence

from infinity_mm.report.charts import distribution
from infinity_mm.report.examples import strip
from infinity_mm.report.figures import figure, plural, share
from infinity_mm.report.html import Html, join, said, tag
from infinity_mm.report.media import NAME_TEXT, medium_box
from infinity_mm.report.model import Refusal, Synthesis, SynthesisStep, SynthesisType, Written
from infinity_mm.report.tables import empty, table
from infinity_mm.report.types import types_section

MEANING_TEXT, TURN_TEXT, ANSWER_TEXT = 600, 1200, 200  # most characters
SHOWN_ID = 16  # characters of a sample's id: enough for `imm trace`


def synthesis(every: Sequence[Synthesis]) -> Html:
    """Each stage that wrote questions and answers."""
    if not every:
        return empty("No stage of this manifest wrote questions or answers.")
    return join(_stage(one, len(every) > 1) for one in every)


def _stage(one: Synthesis, several: bool) -> Html:
    charts = tag("div", [distribution(chart) for chart in one.distributions], cls="charts")
    types = None
    if one.table:
        section = types_section([dataclasses.asdict(row) for row in one.table])
        types = join(tag("h3", section.title), section.body)
    return join(
        tag("h3", said(one.stage, NAME_TEXT)) if several else None,
        _account(one),
        _steps(one.steps),
        _types(one.types),
        tag("h3", "Scores of the accepted") if one.distributions else None,
        charts if one.distributions else None,
        _gallery(one),
        [_refusal(refusal, one.drawn) for refusal in one.refusals],
        types,
    )


def _account(one: Synthesis) -> Html:
    lines = [
        tag(
            "p", tag("b", f"{one.accepted:,}"), f" of {plural(one.drawn, 'pair')} accepted",
            f" ({share(one.accepted, one.drawn)})" if one.drawn else None,
            f", about {one.done:,} of {plural(one.pictures, 'picture')}.",
        )
    ]  # fmt: skip
    if one.stopped:
        lines.append(tag("p", "Stopped by ", said(one.stopped, NAME_TEXT), ".", cls="warning"))
    models = [
        tag("div", tag("dt", said(name, NAME_TEXT)), tag("dd", said(value, MEANING_TEXT)))
        for name, value in one.models
    ]
    return tag("div", lines, tag("dl", models, cls="facts mono") if models else None)


def _steps(steps: Sequence[SynthesisStep]) -> Html | None:
    if not steps:
        return None
    rows = [
        (
            said(step.name, NAME_TEXT),
            said(step.meaning, MEANING_TEXT),
            f"{step.taken:,}",
            f"{step.passed:,}",
            share(step.passed, step.taken),
            f"{step.taken - step.passed - step.failed:,}",
            f"{step.failed:,}",
        )
        for step in steps
    ]
    heads = ("Step", "Passes when", "Taken", "Passed", "", "Refused", "Failed")
    return table(heads, rows, numbers=range(2, 7), wide=(1,))


def _types(types: Sequence[SynthesisType]) -> Html | None:
    if not types:
        return None
    rows = [
        (
            said(one.name, NAME_TEXT),
            "–" if one.drawn is None else f"{one.drawn:,}",
            f"{one.accepted:,}",
            share(one.accepted, one.drawn) if one.drawn else "–",
            "–" if one.loss_limit is None else f"≤ {figure(one.loss_limit)}",
        )
        for one in types
    ]
    return table(("Type", "Drawn", "Accepted", "", "Loss kept"), rows, numbers=range(1, 5))


def _gallery(one: Synthesis) -> Html:
    if not one.pairs:
        return empty("No accepted pair is shown.")
    note = tag("small", f" {len(one.pairs):,} of {one.accepted:,}")
    cards = tag("div", [_written(pair) for pair in one.pairs], cls="cards")
    return join(tag("h3", "Accepted pairs", note), cards)


def _written(pair: Written) -> Html:
    """A pair as a card: its picture, what is asked and answered, and what each step found."""
    found = [
        (name, tag("dd", figure(value)))
        for name, value in (("relevance", pair.relevance), ("score", pair.score), ("loss", pair.loss))
        if value is not None
    ]
    if pair.again is not None:
        found.append(("unseen", tag("dd", said(pair.again, ANSWER_TEXT), " ", _agreement(pair))))
    if pair.blind is not None:
        mark = tag("b", " ✕ right without the picture", cls="lost") if pair.blind_right else None
        found.append(("blind", tag("dd", said(pair.blind, ANSWER_TEXT), mark)))
    return tag(
        "article",
        tag(
            "header",
            tag("b", said(pair.type, NAME_TEXT)),
            tag("span", said(pair.style, NAME_TEXT), cls="chip"),
            cls="card-head",
        ),
        tag("div", medium_box(pair.medium), cls="shown") if pair.medium else None,
        tag("div", _turn("user", pair.question), _turn("assistant", pair.answer), cls="chat"),
        tag("dl", [tag("div", tag("dt", name), value) for name, value in found], cls="readings"),
        tag("p", tag("code", said(pair.sample_id[:SHOWN_ID], SHOWN_ID)), cls="where"),
        cls="card sample",
    )


def _agreement(pair: Written) -> Html | None:
    if pair.agrees:
        return tag("b", "✓ agrees")
    if pair.judged is not None:
        return tag(
            "span", "differs; the answer judged right with ", tag("b", figure(pair.judged)), cls="quiet"
        )
    return tag("span", "differs", cls="quiet")


def _turn(role: str, text: str) -> Html:
    return tag("div", tag("h5", role), tag("p", said(text, TURN_TEXT), cls="words"), cls=f"turn {role}")


def _refusal(refusal: Refusal, drawn: int) -> Html:
    cls = "failed" if refusal.failed else "dropped"
    part = f" ({share(refusal.count, drawn)})" if drawn else None
    return tag(
        "article",
        tag(
            "header",
            tag("h3", said(refusal.name, NAME_TEXT), cls="mono"),
            tag(
                "span",
                tag("b", f"{refusal.count:,}", cls=f"{'failed-text' if refusal.failed else 'lost'}"),
                " failed" if refusal.failed else " refused",
                part,
                cls="count",
            ),
            cls="rule-head",
        ),
        tag("p", said(refusal.meaning, MEANING_TEXT)) if refusal.meaning else None,
        strip(refusal.examples, "Examples of this refusal", cls) if refusal.examples else None,
        cls="card rule",
    )
