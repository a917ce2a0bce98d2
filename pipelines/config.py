"""The options that stages share."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.executor import default_workers
from infinity_mm.media.decode import DEFAULT_MAX_PIXELS


class StageConfig(BaseModel):
    """Options that every stage has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = Field("store", description="Folder or fsspec URL of the store.")
    replace: bool = Field(
        False, description="Point an existing NAME to the new manifest; replace a former export."
    )

    def recorded(self) -> dict[str, Any]:
        """The fields that decide what comes out: they go into the manifest and into cache keys."""
        outside = {"store", "out", "workers", "executor", "replace", "dry_run"}
        return {k: v for k, v in self.model_dump(mode="json").items() if k not in outside}


class MapConfig(StageConfig):
    """Options of a stage that has a map step."""

    workers: int = Field(
        default_factory=default_workers, ge=0, description="Worker processes; 0 works in this one."
    )
    executor: Literal["local"] = Field("local", description="Where workers run.")


class LookingConfig(MapConfig):
    """Options of a stage that decodes."""

    max_pixels: int = Field(
        DEFAULT_MAX_PIXELS, ge=1, description="A picture with more pixels is a decompression bomb."
    )


class MeasuringConfig(LookingConfig):
    """What measures can be told."""

    tokenizer: str | None = Field(
        None,
        description="Tokenizer that counts tokens: tokenizer.json, its folder or a hub ID; else an estimate.",
    )
    embedder: str = Field(
        "tiny",
        description="Model of clip_score: open_clip:MODEL/PRETRAINED, hf:ID_OR_FOLDER, or tiny, "
        "which knows the toy data of `imm scenes` and nothing else.",
    )
    scorer: str = Field(
        "tiny",
        description="Model of vlm_loss: hub ID or folder of a vision-language model, ?pixels=N behind it to "
        "shrink pictures; or tiny, which knows the toy data of `imm scenes` and nothing else.",
    )
