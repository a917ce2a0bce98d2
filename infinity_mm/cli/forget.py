"""`imm forget`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli.options import stage_command
from infinity_mm.progress import Progress
from infinity_mm.store import Store
from infinity_mm.withdraw import forget


class ForgetConfig(BaseModel):
    """Withdraw a sample, a medium or a source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(
        description="Whole sample or medium id, or a source's name or URI.",
        json_schema_extra={"positional": True},
    )
    store: str = Field("store", description="Folder or fsspec URL of the store.")
    why: str = Field("", description="The reason, kept in the tombstone.")


def run(config: ForgetConfig, progress: Progress) -> dict[str, Any]:
    store = Store.open(config.store)
    with store.using():
        return forget(store, config.id, config.why)


def show(result: Mapping[str, Any]) -> str:
    """What was withdrawn and what follows."""
    return (
        f"withdrew {result['kind']} {', '.join(result['values'])}: {result['samples']:,} samples are skipped "
        "from now on; imm gc deletes the bytes"
    )


app = stage_command(
    ForgetConfig, run, show=show, name="forget", help="Withdraw a sample, a medium or a source."
)
