"""The structure of a conversation: what a trainer must be able to rely on, as measures of a sample.

The format check of the Infinity-MM release (its preprocessing folder, check_list.py) tests one marker an
image, no empty turn, and human and gpt in turn; these are the same tests for any number of media.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.schema import Turn
from infinity_mm.sidecars import Family, Measure
from pipelines.measures.sample_look import SampleLook


def empty(turn: Turn) -> bool:
    """No picture, no clip, and no character that shows."""
    return not any(p.type != "text" or (p.text or "").strip() for p in turn.parts)


def order_fault(turns: Sequence[Turn]) -> str | None:
    """Where the roles leave the order (system)* (user (assistant (tool assistant)*))+, or None.

    The text names the turn and what came where: `turn 2: user after user`.
    """
    after = {
        None: ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("assistant", "tool"),
    }
    previous: str | None = None
    for number, turn in enumerate(turns):
        if turn.role == "system" and previous is None:
            continue
        if turn.role not in after[previous]:
            return f"turn {number}: {turn.role} after {previous or 'the start'}"
        previous = turn.role
    return None


def structure(look: SampleLook) -> Sequence[Any]:
    """The measures of STRUCTURE."""
    sample = look.sample
    every = [*sample.turns, *(sample.rejected or ())]
    used = [p for turn in every for p in turn.parts if p.type != "text"]
    kinds = {p.media: p.type[0] for p in used if p.media is not None}
    return (
        len(sample.turns),
        sum(empty(turn) for turn in every),
        order_fault(sample.turns) or "none",
        sum(turn.role == "assistant" for turn in sample.turns),
        sum(p.media is None for p in used),
        len(sample.media) - len(kinds),
        len(sample.media) if sample.media else None,
        "".join(kinds.get(i, "-") for i in range(len(sample.media))) if sample.media else None,
        sample.turns[-1].role if sample.turns else "none",
    )


STRUCTURE = Family(
    "structure",
    "samples",
    1,
    {
        "turns": Measure(pa.int32(), "turns", "how many turns the conversation has"),
        "empty_turns": Measure(
            pa.int32(), "turns", "turns with neither text nor media, rejected ones included"
        ),
        "role_fault": Measure(pa.string(), "", "the first turn out of order, or none"),
        "answers": Measure(pa.int32(), "turns", "turns of the assistant"),
        "markers_without_media": Measure(
            pa.int32(), "parts", "places for a picture or clip that is not there"
        ),
        "media_without_marker": Measure(pa.int32(), "media", "pictures or clips that no turn shows"),
        "media_count": Measure(pa.int32(), "media", "media of the sample; not applicable to text only"),
        "media_shown_as": Measure(
            pa.string(), "", "a letter a medium: i(mage), v(ideo) or - where no turn shows it"
        ),
        "last_role": Measure(pa.string(), "", "the role of the last turn"),
    },
    lambda settings: structure,
)
