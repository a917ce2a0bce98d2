"""A model in the layout of the hub's LLaVA-OneVision folders, which every transformers from 4.45 and vLLM
load.

Weights are named `vision_tower.vision_model.*`, `multi_modal_projector.*`, `image_newline`,
`language_model.model.*` and `language_model.lm_head.weight`, whatever transformers is installed: version 5
writes SigLIP's and CLIP's towers without `vision_model.`, and version 4 then runs with a random tower. A
configuration says what both know it by: rotary angles under their old names too, and the dtype under both of
its names.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from infinity_mm.image_tokens import Geometry
from trainers.llava.model import Llava
from trainers.llava.parts import HALF, transformers
from trainers.llava.projector import Linear, Mlp

WEIGHTS = "model.safetensors"
SHARD = 5 << 30  # bytes of a file of weights; larger models are several
WRAPPED = ("siglip_vision_model", "clip_vision_model")  # towers with a `vision_model` in the hub's folders
ARCHITECTURE = "LlavaOnevisionForConditionalGeneration"


class Exported(NamedTuple):
    """What an exported folder says of its model."""

    vision: Any
    text: Any
    projector: str
    image_token: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    geometry: Geometry


def weights(model: Llava) -> dict[str, torch.Tensor]:
    """The model's weights under the hub's names; tied ones twice, as two tensors."""
    found = {"image_newline": model.image_newline.detach()}
    inside = "vision_model." if model.vision_tower.config.model_type in WRAPPED else ""
    for name, value in model.vision_tower.state_dict().items():
        found[f"vision_tower.{inside}{name.removeprefix(inside)}"] = value
    projector = model.multi_modal_projector
    assert isinstance(projector, Mlp | Linear)
    found |= {f"multi_modal_projector.{name}": value for name, value in projector.hub_weights().items()}
    found |= {f"language_model.{name}": value for name, value in model.language_model.state_dict().items()}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def configuration(
    model: Llava, *, image_token_id: int, video_token_id: int, dtype: torch.dtype
) -> dict[str, Any]:
    """What config.json says."""
    text = _portable(model.language_model.config.to_dict())
    vision = _portable(model.vision_tower.config.to_dict())
    geometry = model.geometry
    projector = model.multi_modal_projector
    pinpoints = geometry.pinpoints or ((geometry.side, geometry.side),)
    kept = "torch_dtype", "dtype"
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llava_onevision",
        "image_token_index": image_token_id,
        "video_token_index": video_token_id,
        "image_grid_pinpoints": [list(pinpoint) for pinpoint in pinpoints],
        "vision_aspect_ratio": f"anyres_max_{geometry.limit}",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default" if model.leading else "full",
        "projector_hidden_act": projector.activation,
        "multimodal_projector_bias": True,
        "tie_word_embeddings": bool(model.language_model.config.tie_word_embeddings),
        **dict.fromkeys(kept, str(dtype).removeprefix("torch.")),
        "text_config": text,
        "vision_config": vision,
    }


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A part's configuration as version 4 of transformers knows it too."""
    dropped = ("dtype", "torch_dtype", "transformers_version", "_name_or_path", "architectures")
    found = {name: value for name, value in config.items() if name not in dropped}
    rotary = dict(found.get("rope_parameters") or {})
    if "rope_theta" in rotary:
        found["rope_theta"] = rotary["rope_theta"]
    if rotary.get("rope_type", "default") != "default":
        found["rope_scaling"] = {name: value for name, value in rotary.items() if name != "rope_theta"}
    return found


def read(folder: Path) -> Exported:
    """What a folder in this layout says of its model. Raises ValueError."""
    transformers()
    from transformers import CONFIG_MAPPING

    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        pixels = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no exported model: {error}") from None
    if said.get("model_type") != "llava_onevision":
        raise ValueError(f"{folder} is a {said.get('model_type')}; only a llava_onevision can be loaded here")
    parts = {name: dict(said[name]) for name in ("vision_config", "text_config")}
    vision, text = (CONFIG_MAPPING[part.pop("model_type")](**part) for part in parts.values())
    pinpoints = tuple((height, width) for height, width in said["image_grid_pinpoints"])
    limit = int(said["vision_aspect_ratio"].removeprefix("anyres_max_"))
    return Exported(
        vision,
        text,
        f"mlp2x_{said['projector_hidden_act']}" if said["projector_hidden_act"] != "linear" else "linear",
        processor.get("image_token", "<image>"),
        tuple(pixels.get("image_mean", HALF)),
        tuple(pixels.get("image_std", HALF)),
        Geometry(vision.image_size, vision.patch_size, pinpoints, limit),
    )


def load(model: Llava, folder: Path) -> None:
    """Load an exported folder's weights. Raises ValueError where some are missing or do not fit."""
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    found: dict[str, torch.Tensor] = {}
    for file in files:
        found |= load_file(file)
    inside = "vision_model." if model.vision_tower.config.model_type in WRAPPED else ""
    names = {f"vision_tower.{inside}{n.removeprefix(inside)}": n for n in model.vision_tower.state_dict()}
    renamed = {
        f"vision_tower.{names[name]}" if name in names else name: value for name, value in found.items()
    }
    unknown = set(renamed) - set(model.state_dict())
    if isinstance(model.multi_modal_projector, Linear):
        unknown -= {"multi_modal_projector.linear_2.weight", "multi_modal_projector.linear_2.bias"}
    missing = set(model.state_dict()) - set(renamed)
    if missing or unknown:
        wrong = f"lacks {min(missing)}" if missing else f"has {min(unknown)}, which the model has not"
        raise ValueError(f"{folder}: {wrong} ({len(missing)} missing, {len(unknown)} unknown weights)")
    try:
        model.load_state_dict({name: renamed[name] for name in model.state_dict()})
    except RuntimeError as error:
        raise ValueError(f"{folder}: its weights do not fit: {' '.join(str(error).split())[:300]}") from None
