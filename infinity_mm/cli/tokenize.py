"""`imm tokenize`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.summary import format_summary
from infinity_mm.cli.tables import columns
from pipelines.tokenize.stage import TokenizeConfig, run


def show(result: Mapping[str, Any]) -> str:
    """The account, and what became of the media."""
    media = result["media"]
    states = [
        ("media", media),
        ("  tokenized", result["tokenized"]),
        ("    of them clips", result["clips"]),
        ("  failed", result["media_failed"]),
        *((f"    {reason}", n) for reason, n in result["failures"].items()),
    ]
    rows = [(name, f"{n:,}", f"{n / media:.1%}") for name, n in states if n]
    lines = [format_summary(result)]
    if rows:
        lines += ["", *columns(rows, right=range(1, 3))]
    return "\n".join(lines)


app = stage_command(
    TokenizeConfig, run, show=show, name="tokenize", help="Make codes of pictures and clips, for an Emu3."
)
