"""`imm types`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from pipelines.types.stage import TypesConfig, run

BEST = 5  # tags that are shown of a type


def show(result: Mapping[str, Any]) -> str:
    """A line a type: its seeds and its best tags."""
    width = max(len("type"), *map(len, result["types"]))
    lines = [f"{'type':<{width}}  {'seeds':>7}  tags"]
    for name, told in result["types"].items():
        tags = ", ".join(f"{tag} {weight:.2f}" for tag, weight in list(told["tags"].items())[:BEST])
        lines.append(f"{name:<{width}}  {told['seeds']:>7,}  {tags}")
    for reason, count in result["failed"].items():
        lines.append(f"left out: {count:,} {reason}")
    return "\n".join([*lines, f"table     {result['out']}"])


app = stage_command(
    TypesConfig, run, show=show, name="types", help="Label questions by type, and join types and image tags."
)
