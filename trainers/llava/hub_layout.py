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
from trainers.hub_parts import portable, transformers
from trainers.llava.model import Llava
from trainers.llava.parts import HALF
from trainers.llava.projector import Linear, Mlp

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


def weights(model: Llava, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The model's weights under the hub's names. `state`: its whole `state_dict` where it is sharded."""
    state = model.state_dict() if state is None else state
    inside = _inside(model)
    found = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == "vision_tower":
            found[f"vision_tower.{inside}{rest.removeprefix(inside)}"] = value
        elif part != "multi_modal_projector":
            found[name] = value
    part = "multi_modal_projector."
    own = {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)}
    projector = model.multi_modal_projector
    assert isinstance(projector, Mlp | Linear)
    return found | {part + name: value for name, value in projector.hub_weights(own).items()}


def _inside(model: Llava) -> str:
    """What the hub's names have behind `vision_tower.` that the model's may lack."""
    return "vision_model." if model.vision_tower.config.model_type in WRAPPED else ""


def configuration(
    model: Llava, *, image_token_id: int, video_token_id: int, dtype: torch.dtype
) -> dict[str, Any]:
    """What config.json says."""
    text = portable(model.language_model.config.to_dict())
    vision = portable(model.vision_tower.config.to_dict())
    geometry = model.geometry
    pinpoints = geometry.pinpoints or ((geometry.side, geometry.side),)
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llava_onevision",
        "image_token_index": image_token_id,
        "video_token_index": video_token_id,
        "image_grid_pinpoints": [list(pinpoint) for pinpoint in pinpoints],
        "vision_aspect_ratio": f"anyres_max_{geometry.limit}",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default" if model.leading else "full",
        "projector_hidden_act": model.multi_modal_projector.activation,
        "multimodal_projector_bias": True,
        "tie_word_embeddings": bool(model.language_model.config.tie_word_embeddings),
        **dict.fromkeys(("torch_dtype", "dtype"), str(dtype).removeprefix("torch.")),
        "text_config": text,
        "vision_config": vision,
    }


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
    inside = _inside(model)
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
