"""Models of the Hugging Face hub, as folders on disk: fetched once, and found there without a network."""

from collections.abc import Sequence
from pathlib import Path

from infinity_mm.store import file_digest

WEIGHTS = "*.safetensors"


def hub_folder(name: str, spec: str, patterns: Sequence[str], kind: str = "embedder") -> Path:
    """The folder with a hub model's files of these patterns, right below its root, as far as it has them.

    `kind` is what the model is to be and `spec` how it was named. Raises ValueError, in one line with the
    way out, where the hub has no such model or can't be reached.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(f"{kind} {spec} needs the library of the hub: pip install huggingface_hub") from None

    prefix = f"{spec.partition(':')[0]}:" if ":" in spec else ""
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), ignore_patterns=["*/*"]))
    except Exception as error:  # which, depends on the hub library's HTTP library
        raise ValueError(
            f"{kind} {spec}: there is no such file or folder here, and the Hugging Face hub gave no model "
            f"{name!r} ({type(error).__name__}); is the name right? Where the hub can't be reached, run "
            f"`hf download {name} --local-dir FOLDER` where it can, and give {prefix}FOLDER"
        ) from None


def digests(files: Sequence[Path]) -> dict[str, str]:
    """sha256 of files by their name."""
    return {file.name: file_digest(str(file)) for file in sorted(files)}
