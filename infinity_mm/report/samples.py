"""Sample cards: a conversation laid out, then what is known of the sample."""

from collections.abc import Sequence

from infinity_mm.report.figures import figure
from infinity_mm.report.html import Html, folded, said, tag
from infinity_mm.report.media import DETAIL_TEXT, NAME_TEXT, medium_box, medium_line, no_picture
from infinity_mm.report.model import Medium, Reading, SampleCard
from infinity_mm.schema import ROLES, Part, Turn

TURN_TEXT, META_TEXT = 1200, 4000  # most characters of a turn's text, and of what the source said


def sample_card(card: SampleCard) -> Html:
    """A sample: its conversation, then what is known of it."""
    shown = {p.media for t in (*card.turns, *(card.rejected or ())) for p in t.parts if p.type != "text"}
    left = [medium for i, medium in enumerate(card.media) if i not in shown]
    turns = [_turn(turn, card.media) for turn in card.turns]
    if left:
        turns.append(tag("div", tag("h5", "shown by no turn"), [_figure(m) for m in left], cls="turn apart"))
    if not card.turns:
        turns.insert(0, tag("p", "An empty conversation.", cls="empty"))
    if card.rejected is not None:
        rejected = [_turn(turn, card.media) for turn in card.rejected]
        turns.append(tag("div", tag("h5", "rejected answer"), rejected, cls="rejected"))
    weight = tag("span", f"weight {figure(card.weight)}", cls="chip") if card.weight != 1 else None
    head = tag("header", tag("b", said(card.source, NAME_TEXT)), weight, cls="card-head")
    lines = tag("p", said(card.origin, NAME_TEXT), " ", tag("code", said(card.sample_id, 64)), cls="where")
    readings = tag("dl", [_reading(r) for r in card.readings], cls="readings") if card.readings else None
    empty = card.meta.strip() in ("", "{}", "null")
    meta = None if empty else folded("meta", tag("pre", said(card.meta, META_TEXT)), cls="meta")
    return tag("article", head, tag("div", turns, cls="chat"), readings, meta, lines, cls="card sample")


def _turn(turn: Turn, media: Sequence[Medium]) -> Html:
    role = turn.role if turn.role in ROLES else "other"
    parts = [_part(part, media) for part in turn.parts] or tag("p", "(says nothing)", cls="empty")
    return tag("div", tag("h5", said(turn.role, NAME_TEXT)), parts, cls=f"turn {role}")


def _part(part: Part, media: Sequence[Medium]) -> Html:
    if part.type == "text":
        return tag("p", said(part.text or "", TURN_TEXT), cls="words")
    if part.media is None or not 0 <= part.media < len(media):
        noun = "clip" if part.type == "video" else "picture"
        return no_picture(f"A place for a {noun} that is not there")
    return _figure(media[part.media])


def _figure(medium: Medium) -> Html:
    return tag("div", medium_box(medium), medium_line(medium), cls="shown")


def _reading(reading: Reading) -> Html:
    if reading.error is not None:
        value = tag("dd", "failed: ", said(reading.error, DETAIL_TEXT), cls="failed-text")
    elif reading.value is None:
        value = tag("dd", "not applicable", cls="quiet")
    else:
        unit = [" ", tag("small", said(reading.unit, NAME_TEXT))] if reading.unit else None
        value = tag("dd", said(figure(reading.value), NAME_TEXT), unit)
    return tag("div", tag("dt", said(reading.name, NAME_TEXT)), value)
