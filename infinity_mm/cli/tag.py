"""`imm tag`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.summary import format_summary
from infinity_mm.cli.tables import columns
from pipelines.tag.stage import TagConfig, run


def show(result: Mapping[str, Any]) -> str:
    """The account, how many media have tags, and the most frequent tags."""
    media = result["media"]
    states = [
        ("media", media),
        ("  tagged", result["tagged"]),
        ("  no tag that counts", result["without"]),
        ("  nothing known", result["media_not_applicable"]),
        ("  failed", result["media_failed"]),
        *((f"    {reason}", n) for reason, n in result["failures"].items()),
    ]
    rows = [(name, f"{n:,}", f"{n / media:.1%}") for name, n in states if n]
    lines = [format_summary(result)]
    if rows:
        lines += ["", *columns(rows, right=range(1, 3))]
    if result["tags"]:
        told = [(tag, f"{n:,}", f"{n / media:.1%}") for tag, n in result["tags"].items()]
        more = result["distinct"] - len(told)
        lines += ["", *columns([("tag", "media", ""), *told], right=range(1, 3))]
        lines += [f"and {more:,} more"] if more else []
    return "\n".join(lines)


app = stage_command(TagConfig, run, show=show, name="tag", help="Give pictures tags with scores.")
