"""The configuration of `imm dedup`."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.config import MeasuringConfig
from pipelines.dedup.population import KEEP, SOURCES
from pipelines.measures.registry import is_known, measure_of, unknown

METHODS = ("exact", "perceptual", "text", "semantic")
# The options that each method reads; where no method reads an option it would be ignored without a word.
READS = {
    "exact": {"exact_key", "texts"},
    "perceptual": {"radius", "flips", "texts"},
    "text": {"field", "media"},
    "semantic": {"embedder", "cosine", "texts", "recall"},
}
NEAR_TEXTS = {"jaccard", "shingle", "permutations", "recall"}
NEAR_MEDIA = {"radius", "flips"}


class DedupConfig(MeasuringConfig):
    """Keep one of what says the same about the same."""

    manifest: str = Field(
        description="Manifest to dedup: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    out: str = Field(description="NAME of the manifest made.")
    by: list[str] = Field(
        ["exact", "perceptual"],
        description="Methods, in the order that names the reason: exact, perceptual, text, semantic; "
        "several with commas.",
    )
    against: list[str] = Field(
        [],
        description="Manifest to compare with (repeatable): drop what is already there, "
        "and compare the samples of this one with those alone.",
    )
    keep: list[str] = Field(
        ["resolution", "longest"],
        description="Which of equals is kept (repeatable, the first decides): resolution, longest, "
        "source:A>B, first, a measure (more is better) or -MEASURE; at last the sample's id.",
    )
    texts: Literal["same", "near", "any"] = Field(
        "same",
        description="What the conversations of two samples with like pictures must be: same, "
        "near (as --jaccard says), or any.",
    )
    media: Literal["same", "near", "any"] = Field(
        "same",
        description="What the media of two samples with like texts must be: same, near (as --radius says), "
        "or any.",
    )
    exact_key: Literal["bytes", "pixels", "phash"] = Field(
        "pixels",
        description="What is exactly the same: files, decoded pixels, or perceptual hashes "
        "(the published rule of Infinity-MM).",
    )
    radius: int = Field(8, ge=0, le=32, description="Most bits in which two perceptual hashes differ.")
    flips: bool = Field(False, description="Take mirrored and turned pictures for the same.")
    field: Literal["conversation", "questions", "answers"] = Field(
        "conversation", description="Which texts the method text compares."
    )
    jaccard: float = Field(
        0.8, gt=0, le=1, description="Least share of shingles that near texts have in common."
    )
    shingle: int = Field(
        5, ge=1, le=32, description="Tokens of a shingle; shorter texts are compared exactly."
    )
    permutations: int = Field(128, ge=1, le=4096, description="Length of a MinHash signature.")
    cosine: float = Field(0.95, gt=0, le=1, description="Least cosine of the embeddings of like pictures.")
    recall: float = Field(
        0.99, gt=0, lt=1, description="Share of true pairs that approximate searches shall find."
    )
    merge_turns: bool = Field(
        False, description="Join samples that ask other things of the same picture into one of many turns."
    )

    @field_validator("by", mode="before")
    @classmethod
    def _methods(cls, value: object) -> object:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list):
            return given
        names = [name.strip() for text in given for name in str(text).split(",")]
        for name in names:
            if name not in METHODS:
                raise ValueError(f"{name!r}: the methods are {', '.join(METHODS)}")
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is given twice")
        if not names:
            raise ValueError(f"give one of {', '.join(METHODS)}, or several with commas")
        return names

    @field_validator("keep")
    @classmethod
    def _policies(cls, names: list[str]) -> list[str]:
        for name in names:
            if name in KEEP or name.startswith(SOURCES):
                continue
            measure = name.removeprefix("-")
            if not is_known(measure):
                raise ValueError(
                    f"{name!r}: give {', '.join(KEEP)}, source:A>B, or a measure; {unknown(measure)}"
                )
            if not measure.startswith("meta.") and not _is_number(measure):
                raise ValueError(f"{name!r} is no number: the more of it is not the better")
        return names

    @model_validator(mode="after")
    def _read(self) -> Self:
        read = set().union(*(READS[name] for name in self.by))
        if "text" in self.by or self.texts == "near":
            read |= NEAR_TEXTS
        if "text" in self.by and self.media == "near":
            read |= NEAR_MEDIA
        ignored = (set().union(*READS.values()) | NEAR_TEXTS) & self.model_fields_set - read
        for name in sorted(ignored):
            raise ValueError(
                f"--{name.replace('_', '-')} would be ignored: nothing in --by {','.join(self.by)} reads it"
            )
        if "semantic" in self.by and "embedder" not in self.model_fields_set:
            raise ValueError(
                "--by semantic compares embeddings: name a model with --embedder (open_clip:MODEL/WEIGHTS, "
                "hf:ID_OR_FOLDER, onnx:FILE; tiny knows the toy data of `imm scenes` and nothing else)"
            )
        if self.merge_turns and self.against:
            raise ValueError("--merge-turns joins samples of one manifest: leave out --against")
        if self.merge_turns and self.texts == "any":
            raise ValueError(
                "with --texts any there are no other questions left to join: leave out --merge-turns"
            )
        return self


def _is_number(name: str) -> bool:
    import pyarrow as pa

    kind = measure_of(name).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind)) and "phash" not in name
