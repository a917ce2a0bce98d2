"""The options of `imm synthesize`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipelines.config import StageConfig

STYLES = ("brief", "reasoned", "detailed")


class SynthesizeConfig(StageConfig):
    """Write questions and answers for a manifest's pictures by a VLM, and check them."""

    manifest: str = Field(
        description="Manifest whose pictures are asked about.", json_schema_extra={"positional": True}
    )
    out: str = Field(description="NAME of the manifest made: what came in, and the samples written.")
    engine: str = Field(
        "tiny", description="Model that writes: transformers:ID, vllm:ID, openai:MODEL@URL or tiny."
    )
    judge: str | None = Field(None, description="Model that checks [default: the one that writes].")
    loss: str | None = Field(None, description="Model whose loss is measured: a hub ID, a folder or tiny.")
    device: str | None = Field(None, description="cpu, cuda or cuda:N [default: a GPU where there is one].")
    batch: int = Field(16, ge=1, description="Requests at once, where the engine does not batch by itself.")
    concurrency: int = Field(16, ge=1, description="Requests under way at once, to a server.")
    prompts: str = Field("general", description="Set of prompts: general, scenes, or a folder of your own.")
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Language written; auto takes that of the picture's first sample."
    )
    types: str = Field("general", description="Taxonomy of questions: general, scenes, or a YAML file.")
    table: str | None = Field(None, description="Table of tags and types, as `imm types` writes it.")
    questions: int = Field(4, ge=0, description="Questions written for a picture; 0 writes captions alone.")
    examples: int = Field(
        0, ge=0, le=4, description="Examples of its type shown with each request for a question."
    )
    captions: bool = Field(True, description="Write a detailed caption for each picture.")
    styles: dict[str, float] = Field(
        {"brief": 1.0, "reasoned": 1.0, "detailed": 1.0}, description="Styles of answers, with their weights."
    )
    temperature: float = Field(0.0, ge=0, description="Of questions and answers; 0 takes the likeliest.")
    max_answer: int = Field(512, ge=1, description="Tokens of an answer at most.")
    min_relevance: float = Field(0.5, ge=0, le=1, description="Probability that a question fits its picture.")
    min_score: float = Field(8.0, ge=1, le=10, description="Score of an answer, 1 to 10.")
    again: bool = Field(True, description="Answer once more, unseen, and drop what does not agree.")
    judge_all: bool = Field(False, description="Ask the judge about answers that agree, too.")
    min_judged: float = Field(0.5, ge=0, le=1, description="Probability that a judged answer is right.")
    blind: Literal["none", "text", "gray"] = Field(
        "text",
        description="Answer without the picture, or with a gray one, and mark what is right all the same.",
    )
    drop_blind: bool = Field(False, description="Drop what is right without its picture, too.")
    max_loss: float = Field(0.95, gt=0, le=1, description="Quantile of loss, within a type, that is kept.")
    max_same: float = Field(0.9, gt=0, le=1, description="Likeness of two questions about one picture.")
    turns: int = Field(8, ge=1, description="Questions of one sample at most.")
    source: str = Field("synthesized", description="Source that the samples made are of.")
    licence: str | None = Field(None, description="Licence of what is written.")
    seed: int = Field(0, ge=0, description="Of types, styles and sampling.")
    max_samples: int | None = Field(None, ge=1, description="Stop when so many samples are made.")
    max_tokens: int | None = Field(None, ge=1, description="Stop when so many tokens were read and written.")
    max_hours: float | None = Field(None, gt=0, description="Stop after so many hours.")
    plan: bool = Field(False, description="Try a few pictures, and tell what all of them will take.")

    @field_validator("styles")
    @classmethod
    def _known_styles(cls, styles: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(styles) - set(STYLES))
        if unknown or not any(weight > 0 for weight in styles.values()):
            raise ValueError(f"unknown or no styles {unknown}: give weights to some of {', '.join(STYLES)}")
        return styles

    @model_validator(mode="after")
    def _writes_something(self) -> "SynthesizeConfig":
        if self.examples and self.table is None:
            raise ValueError("examples come with a table of types: give --table, made by `imm types`")
        if not self.questions and not self.captions:
            raise ValueError("questions is 0 and captions is false: nothing would be written")
        return self

    def prompt_folders(self) -> list[Path]:
        """Where prompts are looked for before those that ship for any model."""
        if self.prompts == "general":
            return []
        shipped = Path(__file__).parents[1] / "prompts" / self.prompts
        return [shipped if "/" not in self.prompts and shipped.is_dir() else Path(self.prompts)]
