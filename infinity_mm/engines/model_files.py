"""Where the files of a model lie that is loaded in this process, and their digest."""

from collections.abc import Sequence
from pathlib import Path

from infinity_mm.models.hub import WEIGHTS, digests, hub_folder
from infinity_mm.store import digest_of

TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")
OLD_WEIGHTS = "pytorch_model*.bin"


def model_folder(rest: str, spec: str, kind: str = "engine") -> Path:
    """The folder of a model: `rest` itself, or what the hub has under that id. `kind` is what it is to be.

    Raises ValueError.
    """
    folder = Path(rest)
    if rest and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{kind} {spec}: the folder has no config.json")
    else:
        if not rest or rest.count("/") > 1 or rest.startswith((".", "/", "~")):
            raise ValueError(f"{kind} {spec}: there is no such folder")
        folder = hub_folder(rest, spec, [*TEXTS, WEIGHTS], kind)
        if not list(folder.glob(WEIGHTS)):
            folder = hub_folder(rest, spec, [*TEXTS, OLD_WEIGHTS], kind)
    if not _weights(folder):
        raise ValueError(f"{kind} {spec}: no weights in {folder} ({WEIGHTS} or {OLD_WEIGHTS})")
    return folder


def model_digest(folder: Path) -> str:
    """16 hex digits of the files that decide what a model says, wherever they lie."""
    texts = {file for pattern in TEXTS for file in folder.glob(pattern)}
    return digest_of(digests([*texts, *_weights(folder)]))[:16]


def _weights(folder: Path) -> Sequence[Path]:
    return list(folder.glob(WEIGHTS)) or list(folder.glob(OLD_WEIGHTS))
