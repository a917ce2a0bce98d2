"""`imm measure`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.tables import columns, number
from pipelines.measuring import MeasureConfig, run


def show(result: Mapping[str, Any]) -> str:
    """A line a measure: what it is (`--list`), or what its values are like."""
    if "manifest" not in result:
        return show_list(result["measures"])
    counts = ("n", "not_applicable", "failed")
    head = ("measure", "of", "values", "n/a", "failed", "min", "5 %", "median", "95 %", "max")
    numbers, words = [head], [(*head[:5], "commonest")]
    for name, found in result["measures"].items():
        start = (name, found["of"], *(f"{found[key]:,}" for key in counts))
        if "median" in found:
            numbers.append((*start, *(number(found[k]) for k in ("min", "p5", "median", "p95", "max"))))
        else:
            top = [f"{value} {count:,}" for value, count in found.get("top", {}).items()]
            more = found.get("distinct", 0) - len(top)
            words.append((*start, ", ".join([*top, *([f"and {more:,} more"] if more else [])]) or "-"))
    lines = [f"{result['in']:,} samples, {result['media']:,} media"]
    for table, right in ((numbers, range(2, 10)), (words, range(2, 5))):
        lines += ["", *columns(table, right=right)] if len(table) > 1 else []
    return "\n".join([*lines, *([result["note"]] if result["note"] else [])])


def show_list(measures: list[dict[str, str]]) -> str:
    """Every measure by family, with its meaning, unit and source."""
    lines: list[str] = []
    family = None
    for one in measures:
        if one["family"] != family:
            family = one["family"]
            title = (
                f"{family}: of {one['of']}, costs {one['cost']}" if family else "known when a rule is decided"
            )
            lines += ["", title] if lines else [title]
        unit = f" ({one['unit']})" if one["unit"] else ""
        source = f" [{one['source']}]" if one["source"] else ""
        lines.append(f"  {one['name']:<22}{one['meaning']}{unit}{source}")
    lines += ["", "A field of meta is a measure too: meta.FIELD, or meta.A.B for what lies deeper."]
    return "\n".join(lines)


app = stage_command(
    MeasureConfig, run, show=show, name="measure", help="Measure samples and media, or list measures."
)
