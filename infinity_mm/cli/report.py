"""`imm report`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from pipelines.report.stage import ReportConfig, run


def show(result: Mapping[str, Any]) -> str:
    """Where the page is."""
    samples = " and ".join(f"{n:,}" for n in result["samples"])
    size = f"{result['bytes'] / 1e6:.1f} MB"
    return f"wrote {result['out']} ({size}) about {samples} samples: open it in a browser"


app = stage_command(
    ReportConfig, run, show=show, name="report", help="Write a page about a manifest, or two."
)
