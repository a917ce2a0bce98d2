"""What `imm ingest` can be told."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipelines.config import MapConfig

FORMATS = Literal[
    "auto",
    "llava",
    "messages",
    "mapped",
    "webdataset",
    "infinity-mm",
    "parquet",
    "datasets",
    "coco",
    "imagefolder",
]


class IngestConfig(MapConfig):
    """Bring data into the store."""

    inputs: list[str] = Field(
        description="Files or folders: LLaVA JSON, messages JSONL, tars, Parquet, datasets or hf:ID, COCO "
        "captions, images with captions.",
        min_length=1,
        json_schema_extra={"positional": True},
    )
    out: str = Field(description="NAME of the manifest made.")
    mode: Literal["copy", "reference"] = Field(
        "copy", description="Copy media into the store, or refer to them where they lie."
    )
    format: FORMATS = Field("auto", description="Format of the inputs; auto recognises it from content.")
    map: str | None = Field(
        None, description="Fields of odd JSON, e.g. question=q,answer=a,image=img; values are dotted paths."
    )
    media_root: Path | None = Field(
        None, description="Folder that media paths start from [default: each input's folder]."
    )
    source: str | None = Field(None, description="Name of the source [default: the input's name].")
    source_field: str | None = Field(None, description="Field of a record that names its source.")
    licence: str | None = Field(None, description="Licence of the source.")
    uri: str | None = Field(None, description="Where the source is from.")
    citation: str | None = Field(None, description="How to cite the source.")
    follow_links: bool = Field(False, description="Follow symbolic links that leave the media root.")
    markers: Literal["keep", "prepend"] = Field(
        "keep", description="Records with media but no marker: keep as they are, or put the media first."
    )
    unit_bytes: int = Field(8 << 20, ge=1, description="Bytes of records a worker reads at a time.")
    shard_bytes: int = Field(256 << 20, ge=1, le=1 << 30, description="Most bytes of media in a media shard.")
