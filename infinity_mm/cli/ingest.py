"""`imm ingest`."""

from infinity_mm.cli.options import stage_command
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run

app = stage_command(
    IngestConfig, run, name="ingest", help="Bring data into the store; make a manifest of it."
)
