"""`imm fingerprint`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from pipelines.fingerprint import FingerprintConfig, run


def show(result: Mapping[str, Any]) -> str:
    """What was written."""
    rows = ("in", "kept", "failed", "media", "unreadable", "questions", "bytes")
    width = max(map(len, rows))
    lines = [f"{row:<{width}}  {result[row]:>11,}" for row in rows]
    lines.append(f"{'written':<{width}}  {result['out']}, the benchmark {result['name']}")
    return "\n".join([*lines, *([result["note"]] if result["note"] else [])])


app = stage_command(
    FingerprintConfig,
    run,
    show=show,
    name="fingerprint",
    help="Write hashes that tell whether a dataset has a benchmark's items: no picture, no text.",
)
