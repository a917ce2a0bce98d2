"""`imm decontaminate`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.summary import format_summary
from infinity_mm.cli.tables import columns
from pipelines.decontaminate.config import DecontaminateConfig
from pipelines.decontaminate.stage import run

WAYS = {"both": "picture and text", "image": "picture", "text": "text"}


def show(result: Mapping[str, Any]) -> str:
    """A line a benchmark: its items, those found, the samples dropped, and those that each way finds."""
    head = ("benchmark", "items", "leaked", "dropped", *(f"by {words}" for words in WAYS.values()))
    rows = [
        (
            one["name"],
            *(f"{one[key]:,}" for key in ("items", "leaked", "dropped")),
            *(f"{one['samples'][way]:,}" if way in one["samples"] else "-" for way in WAYS),
        )
        for one in result["benchmarks"]
    ]
    lines = [*columns([head, *rows], right=range(1, 7)), "", format_summary(result)]
    return "\n".join([*lines, *(["dry run: nothing was made"] if result.get("dry_run") else [])])


app = stage_command(
    DecontaminateConfig,
    run,
    show=show,
    name="decontaminate",
    help="Drop the samples that are in a benchmark, given by its fingerprint.",
)
