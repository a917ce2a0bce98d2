"""`imm gc`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli.options import stage_command
from infinity_mm.progress import Progress
from infinity_mm.store import Store
from infinity_mm.withdraw import gc


class GcConfig(BaseModel):
    """Delete what nothing needs and what was withdrawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = Field("store", description="Folder or fsspec URL of the store.")
    dry_run: bool = Field(False, description="Say what would be deleted, delete nothing.")


def run(config: GcConfig, progress: Progress) -> dict[str, Any]:
    return gc(Store.open(config.store), dry_run=config.dry_run)


def show(result: Mapping[str, Any]) -> str:
    """What was deleted, or would be."""
    verb = "would delete" if result["dry_run"] else "deleted"
    return (
        f"{verb} {result['files_deleted']:,} files no named manifest needs and {result['pieces_deleted']:,} "
        f"pieces of finished runs: {result['bytes_freed']:,} bytes\n"
        f"{verb} the bytes of {result['media_erased']:,} withdrawn media and the text of "
        f"{result['samples_erased']:,} withdrawn samples, and {result['measures_erased']:,} rows of their "
        "measures and ledgers"
    )


app = stage_command(
    GcConfig, run, show=show, name="gc", help="Delete what nothing needs and what was withdrawn."
)
