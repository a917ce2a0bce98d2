"""`imm synthesize`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.summary import format_summary
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.stage import run


def show(result: Mapping[str, Any]) -> str:
    """What each step took and let pass, and the account; or the plan."""
    steps = [f"{'step':<10}  {'taken':>9}  {'passed':>9}  {'failed':>7}"]
    for name, count in result["steps"].items():
        steps.append(f"{name:<10}  {count['taken']:>9,}  {count['passed']:>9,}  {count.get('failed', 0):>7,}")
    if result.get("plan"):
        return "\n".join([*_plan(result), "", *steps])
    seconds = result["seconds"]
    rate = f", {result['tokens'] / seconds:,.0f} tokens/s" if result["asked"] and seconds else ""
    asked = f"asked     {result['asked']:,} of {result['asked'] + result['stored']:,} requests{rate}"
    pictures = f"pictures  {result['done']:,} of {result['pictures']:,}"
    return "\n".join([*steps, "", pictures, asked, format_summary(result)])


def _plan(result: Mapping[str, Any]) -> list[str]:
    lines = [f"pictures  {result['pictures']:,}, of which {result['tried']:,} were tried"]
    if result["calls"] is None:
        lines.append("calls     not known: the answers about those tried were stored already")
    else:
        lines.append(f"calls     about {result['calls']:,}")
        lines.append(f"tokens    about {result['tokens']:,}, at {result['tokens_per_second']:,.0f} a second")
        lines.append(f"hours     about {result['hours']:,.2f}")
    return lines


app = stage_command(
    SynthesizeConfig,
    run,
    show=show,
    name="synthesize",
    help="Write questions and answers for pictures by a VLM, and check them.",
)
