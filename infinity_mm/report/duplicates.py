"""Duplicates: groups side by side with the kept one first, and the nearest pairs that are not duplicates."""

from collections.abc import Sequence

from infinity_mm.report.charts import distances, distribution
from infinity_mm.report.figures import figure, plural
from infinity_mm.report.html import Html, join, said, tag
from infinity_mm.report.media import DETAIL_TEXT, NAME_TEXT, medium_box, medium_line, no_picture
from infinity_mm.report.model import (
    DuplicateGroup,
    DuplicateMethod,
    Duplicates,
    Miss,
    Run,
    Twin,
    Utterance,
)
from infinity_mm.report.tables import empty, table

TEXT, TEXT_BY_PICTURE = 600, 240  # most characters of what a role says
SHOWN_ID = 16  # characters of a sample's id: enough for `imm trace`
MEANING_TEXT = 600


def duplicates(every: Sequence[Duplicates]) -> Html:
    """Each stage that looked for duplicates, and each of its methods."""
    if not every:
        return empty("No stage of this manifest looked for duplicates.")
    return join(_stage(one, number, len(every) > 1) for number, one in enumerate(every, 1))


def _stage(one: Duplicates, number: int, several: bool) -> Html:
    anchors = [f"duplicates-{number}-{i}" for i in range(1, len(one.methods) + 1)]
    largest = None
    if one.largest:
        note = tag("small", f" {len(one.largest):,} of {plural(one.groups, 'group')}")
        chart = tag("div", distribution(one.sizes, "Sizes of groups"), cls="charts") if one.sizes else None
        shown = tag("div", tag("h4", "Groups", note), _groups(one.largest, True), cls="strips")
        head = tag("header", tag("h3", "Largest groups"), cls="rule-head")
        largest = tag("article", head, tag("div", chart, shown, cls="rule-body"), cls="card rule")
    joined = None
    if one.joined:
        head = tag("header", tag("h3", "Joined into one"), cls="rule-head")
        joined = tag("article", head, _groups(one.joined, True, "joined"), cls="card rule")
    return join(
        tag("h3", said(one.stage, NAME_TEXT)) if several else None,
        _account(one),
        _lost(one.lost),
        _methods(one.methods, anchors),
        [
            _method(m, one.stage, anchor)
            for m, anchor in zip(one.methods, anchors, strict=True)
            if _has_more(m)
        ],
        largest,
        joined,
    )


def _account(one: Duplicates) -> Html:
    lines = [
        tag(
            "p", tag("b", f"{one.dropped:,}", cls="lost"), " dropped for ", tag("b", f"{one.groups:,}"),
            f" {'sample' if one.groups == 1 else 'samples'} that {'is' if one.groups == 1 else 'are'} kept.",
        )
    ]  # fmt: skip
    if one.keep:
        order = said(", then ".join(one.keep), NAME_TEXT)
        lines.append(tag("p", "Of a group is kept what is first by ", order, "."))
    if one.merged:
        lines.append(tag("p", f"{plural(one.merged, 'sample')} joined into samples made of several."))
    if one.against:
        lines.append(tag("p", "Dropped too is what is in ", said(", ".join(one.against), NAME_TEXT), "."))
    return tag("div", lines)


def _lost(lost: Sequence[tuple[str, int]]) -> Html | None:
    """That a later stage dropped what stood for others."""
    if not lost:
        return None
    count = sum(number for _, number in lost)
    words = (
        f"{plural(count, 'dropped sample')} {'has' if count == 1 else 'have'} nobody left: "
        "a later stage dropped what was kept for them, by "
    )
    why = [[", " if i else None, said(by, NAME_TEXT), f" {number:,}"] for i, (by, number) in enumerate(lost)]
    return tag("p", words, why, ".", cls="warning")


def _methods(methods: Sequence[DuplicateMethod], anchors: Sequence[str]) -> Html:
    rows = [
        (
            tag("a", said(method.name, NAME_TEXT), href=f"#{anchor}")
            if _has_more(method)
            else said(method.name, NAME_TEXT),
            said(method.meaning, MEANING_TEXT),
            _threshold(method),
            f"{method.pairs:,}",
            f"{method.alone:,}",
            f"{method.dropped:,}",
            f"{method.groups:,}",
            said(method.recall or "–", NAME_TEXT),
        )
        for method, anchor in zip(methods, anchors, strict=True)
    ]
    heads = ("Method", "Finds", "Threshold", "Pairs", "Drops alone", "In sequence", "Groups", "Recall")
    return table(heads, rows, numbers=(3, 4, 5, 6), wide=(1, 7))


def _has_more(method: DuplicateMethod) -> bool:
    """Whether there is more to see of a method than its line of the table."""
    return bool(method.dropped or method.misses or method.distances)


def _threshold(method: DuplicateMethod) -> Html:
    sign = "≥" if method.near_is_high else "≤"
    return join(f"{sign} {figure(method.threshold)} ", said(method.unit, NAME_TEXT))


def _method(method: DuplicateMethod, stage: str, anchor: str) -> Html:
    alone = f", {method.alone:,} alone" if method.alone != method.dropped else None
    chart = tag("div", distances(method.distances), cls="charts") if method.distances else None
    return tag(
        "article",
        tag(
            "header",
            tag("h3", said(method.name, NAME_TEXT), cls="mono"),
            tag("span", said(stage, NAME_TEXT), cls="chip"),
            tag("span", tag("b", f"{method.dropped:,}", cls="lost"), " dropped", alone, cls="count"),
            cls="rule-head",
        ),
        tag("p", said(method.meaning, MEANING_TEXT)) if method.meaning else None,
        tag("p", said(method.recall, MEANING_TEXT), cls="quiet") if method.recall else None,
        tag("div", _examples(method), cls="strips"),
        tag("div", chart, _misses(method), cls="rule-body") if chart or method.misses else None,
        id=anchor,
        cls="card rule",
    )


def _examples(method: DuplicateMethod) -> Html:
    if not method.examples:
        words = f"It dropped {plural(method.dropped, 'sample')}; none is shown."
        return empty(words if method.dropped else "It dropped nothing.")
    note = tag("small", f" {len(method.examples):,} of {method.groups:,}")
    return join(tag("h4", "Groups", note), _groups(method.examples, False))


def _groups(groups: Sequence[DuplicateGroup], methods: bool, verb: str = "dropped") -> Html:
    return tag("div", [_group(group, methods, verb) for group in groups], cls="groups")


def _group(group: DuplicateGroup, methods: bool, verb: str) -> Html:
    """The kept sample and those dropped for it; `methods`: each with the method that dropped it."""
    more = group.size - len(group.dropped)
    elsewhere = [
        [", " if i else " · more by ", said(name, NAME_TEXT), f" {count:,}"]
        for i, (name, count) in enumerate(group.elsewhere)
    ]
    twins = [_twin(group.kept, _standing(group))]
    twins += [_twin(twin, _distance(twin, methods), dropped=True) for twin in group.dropped]
    if more:
        twins.append(tag("p", f"and {more:,} more", cls="and-more"))
    head = tag("p", f"{group.size:,} {verb}", elsewhere, cls="quiet")
    return _side_by_side(head, twins, [group.kept, *group.dropped])


def _side_by_side(head: Html, cards: Sequence[Html], twins: Sequence[Twin]) -> Html:
    """Pictures in a row that scrolls beside the first, texts beneath each other where there is no room."""
    if any(twin.media for twin in twins):
        row = tag("div", cards, cls="strip", role="group", tabindex=0, aria_label="Samples side by side")
        return tag("div", head, row, cls="group of-many" if len(cards) > 2 else "group")
    return tag("div", head, tag("div", cards, cls="texts"), cls="group")


def _standing(group: DuplicateGroup) -> Html:
    if group.made:
        return tag("p", tag("b", "✓ made"), " of these", cls="mark")
    if group.against is not None:
        return tag("p", tag("b", "✓ in "), tag("b", said(group.against, NAME_TEXT)), cls="mark")
    return tag("p", tag("b", "✓ kept"), cls="mark")


def _distance(twin: Twin, methods: bool) -> Html:
    """How far a dropped sample is from the kept one; of a method that knows no distance, its name."""
    method = said(twin.method, NAME_TEXT) if twin.method is not None else None
    if twin.distance is None or not twin.unit:
        return tag("p", tag("b", "✕ ", method), cls="mark")
    unit = [said(twin.unit, NAME_TEXT), [" · ", method] if methods else None]
    return tag("p", tag("b", "✕ ", said(twin.distance, NAME_TEXT)), " ", tag("small", unit), cls="mark")


def _twin(twin: Twin, mark: Html | None, dropped: bool = False) -> Html:
    most = TEXT_BY_PICTURE if twin.media else TEXT
    talk = [_utterance(one, most) for one in twin.said]
    more = plural(twin.more_media, "medium", "media")
    if twin.same_words:
        talk.append(tag("p", "the same words", cls="empty"))
    return tag(
        "article",
        mark,
        [[medium_box(medium), medium_line(medium)] for medium in twin.media],
        tag("p", f"and {more} more", cls="quiet") if twin.more_media else None,
        no_picture(twin.gone) if twin.gone else None,
        tag("div", talk, cls="talk") if talk else None,
        tag("p", said(twin.detail, DETAIL_TEXT), cls="detail") if twin.detail else None,
        tag("p", "also by ", said(", ".join(twin.others), NAME_TEXT), cls="quiet") if twin.others else None,
        tag("p", "later dropped by ", said(twin.later, NAME_TEXT), cls="later") if twin.later else None,
        tag(
            "p", said(twin.source, NAME_TEXT), " · ", said(twin.origin, NAME_TEXT), " ",
            tag("code", twin.sample_id[:SHOWN_ID]), cls="where",
        ),
        cls="example twin goes" if dropped else "example twin stays",
    )  # fmt: skip


def _utterance(one: Utterance, most: int) -> Html:
    """What a role says: what it alone says is marked, what only the kept one says is struck out."""
    words, left = [], most
    for run in one.runs:
        words.append(_run(run, max(0, left)))
        left -= len(run.text)
    more = tag("span", f" … {plural(-left, 'character')} more", cls="more") if left < 0 else None
    role = tag("small", said(one.role, NAME_TEXT), " ")
    return tag("p", role, tag("bdi", words), more)


def _run(run: Run, most: int) -> Html:
    text = join(run.text[:most])
    return tag("ins", text) if run.change > 0 else tag("del", text) if run.change < 0 else text


def _misses(method: DuplicateMethod) -> Html | None:
    if not method.misses:
        return None
    unit = method.unit
    note = tag("small", " both kept, nearest to the threshold first")
    pairs = tag("div", [_miss(miss, unit) for miss in method.misses], cls="groups")
    return tag("div", tag("h4", "Nearest misses", note), pairs, cls="strips")


def _miss(miss: Miss, unit: str) -> Html:
    head = tag("p", tag("b", figure(miss.distance)), " ", tag("small", said(unit, NAME_TEXT)), cls="apart-by")
    return _side_by_side(head, [_twin(miss.a, None), _twin(miss.b, None)], [miss.a, miss.b])
