"""Keys of what a sample says: equal where two samples say the same, whatever their pictures."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from infinity_mm.schema import ID, ID_BYTES, turns_digest
from infinity_mm.shingles import normalised, text_key
from infinity_mm.sidecars import Family, Measure
from pipelines.measures.sample_look import SampleLook


def conversation(look: SampleLook) -> Sequence[Any]:
    """The measures of CONVERSATION. Raises ValueError for a text that is not valid Unicode."""
    said = "\x1e".join(f"{role}\x1f{normalised(text)}" for role, text in look.turns)
    return (
        turns_digest(look.sample.turns, look.sample.rejected)[:ID_BYTES],
        sha256(said.encode("utf-8", "surrogatepass")).digest()[:ID_BYTES],
        text_key("\n".join(look.questions)) if look.questions else None,
        text_key("\n".join(look.answers)) if look.answers else None,
    )


def open_conversation(settings: dict[str, Any]) -> Callable[[SampleLook], Sequence[Any]]:
    return conversation


CONVERSATION = Family(
    "conversation",
    "samples",
    1,
    {
        "turns_key": Measure(ID, "", "digest of all turns as they are, rejected ones too"),
        "conversation_key": Measure(
            ID, "", "digest of the turns' roles and normalised texts, wherever pictures stand"
        ),
        "questions_key": Measure(ID, "", "digest of what the user says, normalised"),
        "answers_key": Measure(ID, "", "digest of what the assistant says, normalised"),
    },
    open_conversation,
)
