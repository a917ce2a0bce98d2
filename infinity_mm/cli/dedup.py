"""`imm dedup`."""

from infinity_mm.cli.options import stage_command
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.stage import run

app = stage_command(
    DedupConfig,
    run,
    name="dedup",
    help="Drop samples that say the same about the same; name what stands for each.",
)
