"""Models that ship with the package, by name. They know the pictures of `imm scenes` and nothing else."""

from pathlib import Path

# `python -m trainers.tiny_vlm --out FOLDER --place` puts the first here, `trainers.tiny_emu3` the other.
TINY_VLM = Path(__file__).with_name("tiny_vlm")
TINY_EMU3 = Path(__file__).with_name("tiny_emu3")
SHIPPED = {"tiny": TINY_VLM, "tiny-emu3": TINY_EMU3}


def shipped_folder(named: str | Path) -> Path:
    """The folder of a model: that of a named one, else the path itself. Raises ValueError for one whose
    weights are not there."""
    folder = SHIPPED.get(str(named))
    if folder is None:
        return Path(named)
    if not folder.is_dir():
        raise ValueError(
            f"model {named}: its weights are not there; make them with "
            f"python -m trainers.{folder.name} --out FOLDER --place, or name a folder of your own"
        )
    return folder
