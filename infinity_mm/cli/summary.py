"""A stage's result as a few lines for a person; `--json` prints the same result for programs."""

from collections.abc import Mapping
from typing import Any

SHOWN = 16  # digits of a digest: enough to name it on a command line
COUNTS = ("in", "kept", "dropped", "failed", "made")


# What to do where most of what came was lost for one reason.
HINTS = {
    "missing_file": "most media are not there: --media-root names the folder that their paths start from",
    "path_outside": "most media lie outside the media root: name another with --media-root",
    "no_conversation": "most records lack a field they are read by: look at --map, or --format",
    "damaged_container": "an input is damaged, or not of the format it was said to be",
    "missing_media": "most media are gone: if they were moved, edit roots.json in the store",
}


def format_summary(result: Mapping[str, Any]) -> str:
    """The counts, the reasons of what was dropped or failed, and the manifest made.

    Reads `in`, `kept`, `dropped`, `failed`, `made`, `reasons` (name to count), `name`, `digest`, `parts` and
    `note`, each optional; other keys are for programs and not shown.
    """
    total = result.get("in")
    rows: list[tuple[str, int]] = []
    for name in COUNTS:
        if name in result and (name != "made" or result[name]):
            rows.append((name, result[name]))
        if name == "failed":
            reasons: Mapping[str, int] = result.get("reasons") or {}
            rows += [(f"  {reason}", n) for reason, n in sorted(reasons.items(), key=_most_first)]
    made = [str(result["name"])] if result.get("name") else []
    made += [f"digest {str(result['digest'])[:SHOWN]}"] if result.get("digest") else []
    parts: Mapping[str, Any] = result.get("parts") or {}
    left = max([len(name) for name, _ in rows] + [len("manifest") * bool(made)], default=0)
    right = max((len(f"{n:,}") for _, n in rows), default=0)
    lines = []
    for name, n in rows:
        share = f"  {n / total:6.1%}" if total and name not in ("in", "made") else ""
        lines.append(f"{name:<{left}}  {n:>{right},}{share}")
    if made:
        lines.append(f"{'manifest':<{left}}  {'  '.join(made)}")
    for name, part in parts.items():
        lines.append(f"{name:<{left}}  {part['samples']:>{right},}  digest {part['digest'][:SHOWN]}")
    for reason, count in (result.get("reasons") or {}).items():
        if total and count * 2 > total and reason in HINTS:
            lines.append(f"hint: {HINTS[reason]}")
    if result.get("note"):
        lines.append(str(result["note"]))
    return "\n".join(lines)


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
