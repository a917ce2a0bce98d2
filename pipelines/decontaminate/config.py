"""The configuration of `imm decontaminate`."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from infinity_mm.store import file_digest
from pipelines.config import LookingConfig

# Options that only some ways of comparing read; elsewhere they would be ignored without a word.
READ_BY = {
    "radius": ("both", "image"),
    "embedder": ("both", "image"),
    "cosine": ("both", "image"),
    "overlap": ("both", "text"),
    "least_shingles": ("both", "text"),
    "most_pictures": ("both", "text"),
}


class DecontaminateConfig(LookingConfig):
    """Drop the samples that are in a benchmark."""

    manifest: str = Field(
        description="Manifest to decontaminate: NAME, digest or path.",
        json_schema_extra={"positional": True},
    )
    against: list[str] = Field(
        min_length=1, description="Fingerprint of a benchmark, as imm fingerprint writes it (repeatable)."
    )
    out: str | None = Field(None, description="NAME of the manifest made; left out with --dry-run.")
    by: Literal["both", "image", "text"] = Field(
        "both",
        description="What a sample must share with one item to be dropped: a picture and a question, "
        "a picture, or a text.",
    )
    radius: int = Field(8, ge=0, le=32, description="Most bits in which the hashes of like pictures differ.")
    overlap: float = Field(
        0.8, gt=0, le=1, description="Least share of a benchmark text's shingles that is in a sample's text."
    )
    least_shingles: int = Field(
        8, ge=1, description="A text that has fewer is too common to be matched without its picture."
    )
    most_pictures: int = Field(
        10, ge=1, description="A question asked about more different pictures is too common likewise."
    )
    embedder: str = Field(
        "tiny", description="Embedder of --cosine: that of the fingerprints; any of imm dedup --embedder."
    )
    cosine: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Least cosine of the embeddings of like pictures; without it they are not compared.",
    )
    dry_run: bool = Field(False, description="Make nothing: print the report of each benchmark.")

    @model_validator(mode="after")
    def _read(self) -> Self:
        for name, ways in READ_BY.items():
            if name in self.model_fields_set and self.by not in ways:
                raise ValueError(
                    f"--{name.replace('_', '-')} would be ignored: it is of --by {' and '.join(ways)}, "
                    f"not of {self.by}"
                )
        if "embedder" in self.model_fields_set and self.cosine is None:
            raise ValueError("--embedder would be ignored: give --cosine to compare embeddings")
        if self.out is None and not self.dry_run:
            raise ValueError("--out is missing: name the manifest to make, or give --dry-run")
        return self

    def recorded(self) -> dict[str, Any]:
        """With what the fingerprints are, beside where they lie. Raises ValueError for one that is not."""
        found = {}
        for path in self.against:
            try:
                found[path] = file_digest(path)
            except OSError as error:
                raise ValueError(
                    f"no fingerprint {path} ({error.strerror}): imm fingerprint makes it"
                ) from None
        return {**super().recorded(), "fingerprints": found}
