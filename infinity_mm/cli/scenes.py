"""`imm scenes`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.progress import Progress
from infinity_mm.scenes import ScenesConfig, make_scenes


def run(config: ScenesConfig, progress: Progress) -> dict[str, Any]:
    """Draw scenes, counting records on `progress`."""
    progress.start("scenes", config.count, "records")
    seen = 0

    def advance(done: int, total: int) -> None:
        nonlocal seen
        progress.advance(done - seen)
        seen = done

    return make_scenes(config, advance)


def show(result: Mapping[str, Any]) -> str:
    """The summary as lines."""
    lines = [f"drew {result['records']:,} records in {result['out']}"]
    for key in ("kind", "medium", "language", "defect"):
        counts = ", ".join(f"{n} {c:,}" for n, c in sorted(result.get(key, {}).items(), key=lambda i: -i[1]))
        if counts:
            lines.append(f"  {key}: {counts}")
    lines.append(f"next: imm ingest {result['out']}/data.json --out raw")
    return "\n".join(lines)


app = stage_command(
    ScenesConfig, run, show=show, name="scenes", help="Draw pictures and conversations whose truth is known."
)
