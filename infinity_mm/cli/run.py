"""`imm run`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.summary import format_summary
from pipelines.recipe import RecipeConfig, run


def show(result: Mapping[str, Any]) -> str:
    """Each stage's summary under its name."""
    blocks = []
    for stage in result["stages"]:
        head = f"{stage['stage']}: unchanged, skipped" if stage["skipped"] else stage["stage"]
        blocks.append(f"{head}\n{format_summary(stage)}")
    return "\n\n".join(blocks)


app = stage_command(RecipeConfig, run, show=show, name="run", help="Run the stages of a recipe.")
