"""`imm filter`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.summary import format_summary
from infinity_mm.cli.tables import columns
from pipelines.filter import FilterConfig, run


def show(result: Mapping[str, Any]) -> str:
    """The account; before it, for a dry run, what each rule drops."""
    if not result.get("dry_run"):
        return format_summary(result)
    head = ("rule", "alone", "in sequence", "failed", "n/a", "keeps")
    rows = [
        (r["name"], *(f"{r[k]:,}" for k in ("alone", "dropped", "undecided", "not_applicable")), r["keep"])
        for r in result["rules"]
    ]
    return "\n".join(
        [*columns([head, *rows], right=range(1, 5)), "", format_summary(result), "dry run: nothing was made"]
    )


app = stage_command(
    FilterConfig, run, show=show, name="filter", help="Measure samples and keep those that pass the rules."
)
