"""`imm split`."""

from infinity_mm.cli.options import stage_command
from pipelines.split import SplitConfig, run

app = stage_command(
    SplitConfig, run, name="split", help="Split a manifest so that no picture is in two parts."
)
