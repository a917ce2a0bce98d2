"""`imm mix`."""

from infinity_mm.cli.options import stage_command
from pipelines.mix import MixConfig, run

app = stage_command(MixConfig, run, name="mix", help="Mix manifests by weight, with caps.")
