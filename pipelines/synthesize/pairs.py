"""What is written for a picture: pairs of a question and an answer, and what each step found of them."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

CAPTION = "caption"  # the type of a caption


class Image(NamedTuple):
    """A picture to write about. `owner`: the first sample that shows it, whose language is written; `origin`
    and `source` are the owner's."""

    medium: bytes
    owner: bytes
    origin: str
    source: str
    lang: str


class Kind(NamedTuple):
    """A type of question to be written: its id, and in each language what is asked for."""

    id: str
    asks: dict[str, str]


class Rejected(NamedTuple):
    """Why a pair is not kept: a row of the ledger. `failed`: the engine gave no reply."""

    step: str
    reason: str
    value: str | None = None
    limit: str | None = None
    failed: bool = False


@dataclass(slots=True)
class Pair:
    """A question about a picture and its answer, on the way through the steps.

    `found`: what each step measured: relevance, score, loss, the unseen and the blind answer and whether they
    agree; `prompts`: the digest of each prompt it was made with.
    """

    image: Image
    kind: Kind
    style: str
    number: int  # among the picture's pairs
    question: str = ""
    answer: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    rejected: Rejected | None = None

    def reject(
        self, step: str, reason: str, value: object = None, limit: object = None, failed: bool = False
    ) -> None:
        """Take it out; the first reason stays."""
        if self.rejected is None:
            told = [
                None if x is None else f"{x:.4g}" if isinstance(x, float) else str(x) for x in (value, limit)
            ]
            self.rejected = Rejected(step, reason, told[0], told[1], failed)
