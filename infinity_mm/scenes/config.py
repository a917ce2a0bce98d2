"""The one validated configuration of `imm scenes`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# Kinds of record that show one still picture, with how often each is drawn.
IMAGE_KINDS: dict[str, float] = {
    "caption": 0.20,
    "colour": 0.09,
    "shape": 0.10,
    "size": 0.07,
    "count": 0.12,
    "relation": 0.10,
    "exists": 0.06,
    "read_text": 0.06,
    "chart": 0.06,
    "write_question": 0.035,
    "judge_relevance": 0.035,
    "judge_answer": 0.035,
    "score_answer": 0.035,
}


class ScenesConfig(BaseModel):
    """What to draw, how much of it, and how much of it to spoil."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(description="folder to write; it must be empty or not exist")
    count: int = Field(ge=1, description="number of records in data.json")
    seed: int = Field(
        0, ge=0, description="record i is a function of (seed, i); copies also of earlier records"
    )
    defects: float = Field(0.0, ge=0.0, le=1.0, description="share of records with a planted, known defect")
    size: int = Field(
        64, ge=32, le=1024, multiple_of=16, description="side of every picture and clip in pixels"
    )
    other_share: float = Field(
        0.2, ge=0.0, le=1.0, description="share of captions, conversations, judgements about texts and charts"
    )
    max_objects: int = Field(4, ge=1, le=9, description="most objects in one picture")
    kinds: tuple[str, ...] = Field(
        (), description="kinds of one-picture record to draw; empty: all, weighted"
    )
    multi_turn_share: float = Field(
        0.2, ge=0.0, le=1.0, description="share of one-picture and clip records with several questions"
    )
    turns: int = Field(4, ge=2, le=16, description="most questions in a record of several")
    apart: bool = Field(
        False,
        description="no object is named by two questions of a record, so that none tells another's answer",
    )
    judged: int = Field(
        1, ge=1, le=16, description="questions, replies or verdicts in a record that writes or judges them"
    )
    brief_share: float = Field(
        0.25, ge=0.0, le=1.0, description="share of questions that ask for a word or phrase"
    )
    multi_image_share: float = Field(
        0.06, ge=0.0, le=1.0, description="share of records that compare two pictures"
    )
    video_share: float = Field(0.05, ge=0.0, le=1.0, description="share of records about a clip")
    text_only_share: float = Field(0.03, ge=0.0, le=1.0, description="share of records without any picture")
    chinese_share: float = Field(
        0.3, ge=0.0, le=1.0, description="share of records in Chinese; the rest is English"
    )
    png_share: float = Field(
        0.5, ge=0.0, le=1.0, description="share of pictures stored as PNG; the rest is JPEG"
    )
    system_share: float = Field(
        0.05, ge=0.0, le=1.0, description="share of records that open with a system turn"
    )

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(kinds) - set(IMAGE_KINDS))
        if unknown:
            raise ValueError(f"unknown kinds {unknown}; choose from {', '.join(IMAGE_KINDS)}")
        return kinds

    @model_validator(mode="after")
    def _shares_and_kinds_fit(self) -> "ScenesConfig":
        total = self.multi_image_share + self.video_share + self.text_only_share
        if total > 1.0:
            raise ValueError(
                f"multi_image_share + video_share + text_only_share is {total:g}; lower them to 1 at most"
            )
        if self.kinds and self.max_objects < 2 and set(self.kinds) == {"relation"}:
            raise ValueError(
                "kinds is only 'relation', which needs two objects; set max_objects to 2 or more"
            )
        return self

    def image_kinds(self) -> dict[str, float]:
        """Weights of the one-picture kinds this configuration draws from."""
        chosen = {k: w for k, w in IMAGE_KINDS.items() if not self.kinds or k in self.kinds}
        if self.max_objects < 2:
            chosen.pop("relation", None)
        return chosen
