"""`imm filter`."""

from infinity_mm.cli.options import stage_command
from pipelines.filter import FilterConfig, run

app = stage_command(
    FilterConfig, run, name="filter", help="Keep the samples whose structure is sound and whose media decode."
)
