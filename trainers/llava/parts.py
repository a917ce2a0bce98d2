"""The parts a model is composed of, as transformers knows them: found, checked, and loaded or made anew.

A vision tower or language model is a hub id, a folder, or a mapping: the configuration of one with random
weights, `model_type` in it. Of a dual model such as SigLIP the tower is its vision side.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trainers.hub_parts import folder_of, line_of, transformers

HALF = (0.5, 0.5, 0.5)
Named = str | Mapping[str, Any]


class Part(NamedTuple):
    """A tower or language model: its configuration, and the folder of its weights; none, and they are
    random."""

    config: Any
    folder: Path | None
    named: str = ""  # as it was asked for, where it is not a configuration


class Seen(NamedTuple):
    """What a tower makes of a tile."""

    leading: int  # tokens before those of patches, such as a class token
    idle: frozenset[str]  # parameters that no feature depends on


def tower_part(named: Named, feature_layer: int = -1) -> Part:
    """A vision tower cut behind the layer whose output is wanted, without the head behind it.

    `feature_layer` counts hidden states as transformers does: -1 is the last layer's output, -2 the one
    before. Raises ValueError.
    """
    config, folder, name = _found("vision tower", named)
    config = getattr(config, "vision_config", config)
    layers = getattr(config, "num_hidden_layers", None)
    if layers is None or getattr(config, "image_size", None) is None:
        raise ValueError(f"vision tower {named!r}: a {config.model_type} has no layers of patches")
    kept = layers + 1 + feature_layer if feature_layer < 0 else feature_layer
    if not 1 <= kept <= layers:
        raise ValueError(
            f"feature_layer {feature_layer}: the vision tower has {layers} layers; give -{layers} to -1"
        )
    config.num_hidden_layers = kept
    if config.model_type.startswith("siglip"):
        config.vision_use_head = False
    return Part(config, folder, name)


def language_part(named: Named) -> Part:
    """A causal language model. Raises ValueError."""
    part = _found("language model", named)
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(part.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"language model {named!r}: a {part.config.model_type} is no causal language model")
    return part


def load_tower(part: Part, dtype: torch.dtype) -> Any:
    """The vision tower itself. Raises ValueError where its folder lacks weights that features depend on."""
    from transformers import MODEL_MAPPING

    return _load(part, MODEL_MAPPING[type(part.config)], dtype, "sdpa", look(part.config).idle)


def load_language(part: Part, dtype: torch.dtype, attention: str) -> Any:
    """The language model itself, with that attention. Raises ValueError where its folder lacks weights."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    model = _load(part, MODEL_FOR_CAUSAL_LM_MAPPING[type(part.config)], dtype, attention, frozenset())
    if getattr(model.lm_head, "bias", None) is not None:
        raise ValueError(f"language model {part.folder or part.config.model_type}: its head has a bias")
    return model


def look(config: Any) -> Seen:
    """What a tower of this configuration makes of a tile, found by having one look without numbers."""
    transformers()
    from transformers import AutoModel

    side, patch = config.image_size, config.patch_size
    with torch.device("meta"), torch.enable_grad():
        tower = AutoModel.from_config(config, attn_implementation="sdpa")
        hidden = tower(pixel_values=torch.empty(1, 3, side, side), output_hidden_states=True).hidden_states
        hidden[-1].sum().backward()
    idle = frozenset(name for name, parameter in tower.named_parameters() if parameter.grad is None)
    leading = hidden[-1].shape[1] - (side // patch) ** 2
    if leading not in (0, 1):
        raise ValueError(
            f"vision tower {config.model_type}: {leading} tokens beside patches'; LlavaOnevision knows one"
        )
    return Seen(leading, idle)


def normalisation(part: Part) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels a tower was trained on; halves for one with random weights."""
    if part.folder is None:
        return HALF, HALF
    transformers()
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(part.folder, local_files_only=True)
    except OSError:
        raise ValueError(
            f"vision tower {part.folder}: no preprocessor_config.json, which says how pixels are normalised"
        ) from None
    said = said.get("image_processor", said)
    return tuple(said.get("image_mean", HALF)), tuple(said.get("image_std", HALF))


def _found(kind: str, named: Named) -> Part:
    """The configuration that a name or mapping means. Raises ValueError."""
    transformers()
    from transformers import CONFIG_MAPPING, AutoConfig

    if isinstance(named, str):
        folder = folder_of(kind, named)
        try:
            return Part(AutoConfig.from_pretrained(folder, local_files_only=True), folder, named)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{kind} {named}: transformers can't read it: {line_of(error)}") from None
    values = dict(named)
    made = values.pop("model_type", None)
    if made not in CONFIG_MAPPING:
        raise ValueError(f"{kind}: model_type {made!r}: give one that transformers knows, such as qwen2")
    return Part(CONFIG_MAPPING[made](**values), None)


def _load(part: Part, model: Any, dtype: torch.dtype, attention: str, spared: frozenset[str]) -> Any:
    """A model of its weights, or with random ones. Raises ValueError."""
    if part.folder is None:
        return model._from_config(part.config, attn_implementation=attention, dtype=dtype)
    try:
        loaded, report = model.from_pretrained(
            part.folder,
            config=part.config,
            local_files_only=True,
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"{part.folder}: transformers can't load it: {line_of(error)}") from None
    missing = set(report["missing_keys"]) - spared
    if missing:
        raise ValueError(f"{part.folder} lacks {len(missing)} weights, such as {min(missing)}")
    return loaded
