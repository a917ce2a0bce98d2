"""Models on the hub and in transformers, as every trainer has them: folders found, configurations told."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from infinity_mm.models.hub import WEIGHTS, hub_folder
from infinity_mm.models.torchvision_ops import import_torchvision

TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")
NOT_OF_A_PART = (
    *("dtype", "torch_dtype", "transformers_version", "_name_or_path", "architectures", "return_dict"),
    *("id2label", "label2id", "problem_type", "output_hidden_states", "output_attentions"),
    *("chunk_size_feed_forward", "is_encoder_decoder"),
)


def folder_of(kind: str, name: str, weights: bool = True) -> Path:
    """The folder that a hub id or path names. Raises ValueError, in one line with the way out."""
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not name or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ValueError(f"{kind} {name}: there is no such folder")
    return hub_folder(name, name, [*TEXTS, WEIGHTS] if weights else TEXTS, kind)


def transformers() -> None:
    """Import transformers, quiet. Raises ValueError where it is not installed."""
    with suppress(ImportError):  # it does without torchvision too
        import_torchvision()
    try:
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ValueError(f"models need transformers ({error}): pip install 'infinity-mm[models]'") from None
    disable_progress_bar()


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A part's configuration as version 4 of transformers knows it too."""
    found = {name: value for name, value in config.items() if name not in NOT_OF_A_PART}
    rotary = dict(found.get("rope_parameters") or {})
    if "rope_theta" in rotary:
        found["rope_theta"] = rotary["rope_theta"]
    if rotary.get("rope_type", "default") != "default":
        found["rope_scaling"] = {name: value for name, value in rotary.items() if name != "rope_theta"}
    return found


def line_of(error: Exception) -> str:
    """What an error says, in a line."""
    return " ".join(str(error).split())[:200]
