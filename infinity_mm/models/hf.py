"""Models that transformers loads: vision towers (ViT, DINOv2 and their like), CLIP, SigLIP and their like.

A model with a text side gives its picture and text features; one without, its pooled output, else the mean of
its last hidden states: `pooler_output` only where its weights came with the checkpoint. Preprocessing is the
checkpoint's own.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infinity_mm.models.embedder import Found, Model, Pixels
from infinity_mm.models.hub import WEIGHTS, digests, hub_folder
from infinity_mm.models.torch_device import to_numpy, torch_device
from infinity_mm.models.torchvision_ops import import_torchvision

LIBRARIES = ("torch", "transformers")
TEXTS = ("*.json", "*.txt", "*.model")
OLD_WEIGHTS = "pytorch_model*.bin"
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")


def find(rest: str, device: str | None) -> Found:
    """What `hf:` names: a folder with config.json, or an id of the hub. Raises ValueError."""
    spec = f"hf:{rest}"
    place, dtype = torch_device(spec, device)
    folder = Path(rest)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"embedder {spec}: the folder has no config.json")
    else:
        if not rest or rest.count("/") > 1 or rest.startswith((".", "/", "~")):
            raise ValueError(f"embedder {spec}: there is no such folder")
        folder = hub_folder(rest, spec, [*TEXTS, WEIGHTS])
        if not list(folder.glob(WEIGHTS)):
            folder = hub_folder(rest, spec, [*TEXTS, OLD_WEIGHTS])
    weights = list(folder.glob(WEIGHTS)) or list(folder.glob(OLD_WEIGHTS))
    if not weights:
        raise ValueError(f"embedder {spec}: no weights in {folder} ({WEIGHTS} or {OLD_WEIGHTS})")
    prepared = next((folder / name for name in PREPROCESSING if (folder / name).is_file()), None)
    if prepared is None:
        raise ValueError(
            f"embedder {spec}: {folder} has no {PREPROCESSING[0]}, which says how pictures are prepared; "
            "write one with transformers: AutoImageProcessor.from_pretrained(ID).save_pretrained(FOLDER)"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files = [file for pattern in TEXTS for file in folder.glob(pattern)]
    return Found(
        spec,
        content=partial(digests, [*files, *weights]),
        libraries=LIBRARIES,
        device=place,
        dtype=dtype,
        side=_side(config, json.loads(prepared.read_text(encoding="utf-8"))),
        has_texts=_is_dual(config),
        load=lambda threads: _load(spec, folder, place, _is_dual(config)),
    )


def _is_dual(config: dict[str, Any]) -> bool:
    """Whether a configuration is of a model with a picture side and a text side."""
    return "vision_config" in config and ("text_config" in config or "text_config_dict" in config)


def _side(config: dict[str, Any], preprocessing: dict[str, Any]) -> int:
    """The shorter side of what the preprocessing gives, or takes a crop of."""
    preprocessing = preprocessing.get("image_processor", preprocessing)
    sides = []
    for name in ("size", "crop_size"):
        size = preprocessing.get(name)
        values = size.values() if isinstance(size, dict) else [size]
        sides += [min(found) for found in [[v for v in values if isinstance(v, int)]] if found]
    vision = config.get("vision_config", config)
    return int(max(sides) if sides else vision.get("image_size", 224))


def _load(spec: str, folder: Path, device: str, dual: bool) -> Model:
    import torch

    with suppress(ImportError):  # transformers prepares pictures without it too
        import_torchvision()
    try:
        from transformers import AutoImageProcessor, AutoModel
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ValueError(
            f"embedder {spec} needs transformers ({error}): pip install 'infinity-mm[models]'"
        ) from None
    dtype = torch.float32 if device == "cpu" else torch.float16
    disable_progress_bar()  # the command has its own
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model, loading = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"embedder {spec}: transformers can't load {folder}: {said}") from None
    missing = set(loading["missing_keys"])
    pooled = not any("pooler" in name for name in missing)
    _complete(spec, {name for name in missing if "pooler" not in name or dual})
    model = model.to(device, dtype).eval()
    if dual and not hasattr(model, "get_image_features"):
        raise ValueError(f"embedder {spec}: a {model.config.model_type} has no features of pictures alone")

    def prepare(pixels: Pixels) -> np.ndarray:
        made = processor(images=[pixels], input_data_format="channels_last", return_tensors="np")
        extra = set(made) - {"pixel_values"}
        if extra or made["pixel_values"].ndim != 4:
            raise ValueError(f"embedder {spec}: its pictures come with {', '.join(sorted(extra))}")
        return np.asarray(made["pixel_values"][0])

    @torch.inference_mode()
    def pictures(batch: np.ndarray) -> np.ndarray:
        pixels_BCHW = torch.from_numpy(np.ascontiguousarray(batch)).to(device, dtype)
        if dual:
            return np.asarray(to_numpy(_features(model.get_image_features(pixel_values=pixels_BCHW))))
        found = model(pixel_values=pixels_BCHW)
        return np.asarray(to_numpy(_pooled(found, pooled)))

    dim = pictures(prepare(np.full((64, 64, 3), 128, np.uint8))[None]).shape[1]
    texts = _texts(spec, folder, model, device) if dual else None
    return Model(dim, str(dtype).removeprefix("torch."), prepare, pictures, texts)


def _complete(spec: str, missing: set[str]) -> None:
    """Raises ValueError for weights that the checkpoint lacks: they would be random numbers."""
    if missing:
        raise ValueError(
            f"embedder {spec}: the checkpoint lacks {len(missing)} weights, such as {min(missing)}; "
            "it may be of another version of transformers"
        )


def _features(found: Any) -> Any:
    """Features [B, dim]: transformers 5 gives them as an output's pooled part, 4 as they are."""
    return found.pooler_output if hasattr(found, "pooler_output") else found


def _pooled(found: Any, has_pooler: bool) -> Any:
    """One vector a picture from a vision model's output: [B, dim]."""
    pooled = getattr(found, "pooler_output", None)
    if pooled is not None and has_pooler:
        return pooled.flatten(1)
    hidden = found.last_hidden_state
    return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))


def _texts(spec: str, folder: Path, model: Any, device: str) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from texts to features, padded to the model's context: SigLIP knows no other length."""
    import torch
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"embedder {spec}: no tokenizer in {folder}: {said}") from None
    length = model.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def texts(given: Sequence[str]) -> np.ndarray:
        tokens = tokenizer(
            list(given), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        return np.asarray(to_numpy(_features(model.get_text_features(**tokens.to(device)))))

    return texts
