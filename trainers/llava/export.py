"""Writing a trained model as a folder that transformers, from 4.45 to the newest, and vLLM load unchanged.

Beside what `hub_layout` says of weights and configuration there are the processor's files under the names
that each version looks for, the tokenizer in the form that version 4 reads too, and the chat template in all
three places it has ever been looked for in. A folder appears at once, whole, or not at all.

transformers before 4.52 and vLLM count the tokens of a picture beyond a geometry's limit as if that were 9: a
model trained with another is understood there up to its limit alone. vLLM cuts each of several pictures as if
it were alone, and refuses a linear projector.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from infinity_mm.image_tokens import Geometry
from trainers.exported import whole_folder, write_weights
from trainers.llava import hub_layout
from trainers.llava.compose import Composition
from trainers.llava.model import Llava
from trainers.llava.tokens import VIDEO, Tokens

BICUBIC = 3


def export(
    model: Llava,
    composition: Composition,
    folder: Path,
    *,
    card: str,
    state: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
    replace: bool = False,
) -> Path:
    """Write a model, its tokenizer and processor, and its card (README.md).

    `state`: the model's whole `state_dict`, where the model itself is sharded over ranks. `dtype`: of the
    weights as written; without it, as they are. A geometry without pinpoints, which transformers does not
    know, is written as a grid of one tile. Raises FileExistsError where the folder is there, unless it is to
    be replaced.
    """
    with whole_folder(folder, replace) as temporary:
        written = write_weights(temporary, hub_layout.weights(model, state), dtype)
        for name, content in _files(model, composition, written).items():
            (temporary / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        _write_tokenizer(temporary, composition.tokens)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return folder


def _files(model: Llava, composition: Composition, dtype: torch.dtype) -> dict[str, Any]:
    """The JSON files of a folder by name, but for the tokenizer's and the weights'."""
    tokens, geometry = composition.tokens, model.geometry
    config = hub_layout.configuration(
        model, image_token_id=tokens.image, video_token_id=tokens.video, dtype=dtype
    )
    pixels = _pixels(composition, geometry)
    strategy = config["vision_feature_select_strategy"]
    ends = [tokens.chat.end_id, tokens.tokenizer.eos_token_id]
    return {
        "config.json": config,
        "generation_config.json": {
            "do_sample": False,
            "eos_token_id": list(dict.fromkeys(end for end in ends if end is not None)),
            "pad_token_id": _pad(tokens),
        },
        "preprocessor_config.json": {
            **pixels,
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "image_grid_pinpoints": config["image_grid_pinpoints"],
            "do_pad": True,
        },
        "video_preprocessor_config.json": {
            **pixels,
            "video_processor_type": "LlavaOnevisionVideoProcessor",
        },
        "processor_config.json": {
            "processor_class": "LlavaOnevisionProcessor",
            "image_token": tokens.tokenizer.convert_ids_to_tokens(tokens.image),
            "video_token": VIDEO,
            "num_image_tokens": geometry.grid**2 + model.leading,
            "vision_feature_select_strategy": strategy,
            "vision_aspect_ratio": config["vision_aspect_ratio"],
        },
        "chat_template.json": {"chat_template": tokens.chat.template},
    }


def _pixels(composition: Composition, geometry: Geometry) -> dict[str, Any]:
    """How pixels become what the tower takes."""
    return {
        "processor_class": "LlavaOnevisionProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": geometry.side, "width": geometry.side},
        "resample": BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(composition.mean),
        "image_std": list(composition.std),
    }


def _pad(tokens: Tokens) -> int:
    pad = tokens.tokenizer.pad_token_id
    return tokens.chat.end_id if pad is None else int(pad)


def _write_tokenizer(folder: Path, tokens: Tokens) -> None:
    """The tokenizer as version 5 writes it, its configuration as version 4 reads it too."""
    tokens.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(tokens.chat.template, encoding="utf-8")
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") in (None, "TokenizersBackend"):  # version 5 alone has the latter
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    extra = config.pop("extra_special_tokens", None)
    if isinstance(extra, list):  # version 4 takes a mapping under this name
        config["additional_special_tokens"] = extra
    config |= {
        "chat_template": tokens.chat.template,
        "processor_class": "LlavaOnevisionProcessor",
        "model_input_names": ["input_ids", "attention_mask"],  # version 4 makes token types too without it
    }
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
