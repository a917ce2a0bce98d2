"""Models that ship with the package, by name. They know the pictures of `imm scenes` and nothing else."""

from pathlib import Path

TINY_VLM = Path(__file__).with_name(
    "tiny_vlm"
)  # `python -m trainers.tiny_vlm --out FOLDER --place` puts it here
VLMS = {"tiny": TINY_VLM}


def vlm_folder(named: str | Path) -> Path:
    """The folder of a model: a shipped one's by its name, else the path itself."""
    return VLMS.get(str(named), Path(named))
