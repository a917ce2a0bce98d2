"""CLIP models that open_clip builds: by tag, from a file or folder of one's own, and the one that ships.

A folder is what open_clip writes: open_clip_config.json and weights. Where its configuration says
`"tokenizer": "infinity_mm"`, texts go through the small tokenizer that the project's models share.
"""

import json
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infinity_mm.models.embedder import Found, Model, Pixels
from infinity_mm.models.hub import digests, hub_folder
from infinity_mm.models.tokenizer import FILE as TOKENIZER
from infinity_mm.models.tokenizer import encode_padded
from infinity_mm.models.torch_device import to_numpy, torch_device
from infinity_mm.models.torchvision_ops import import_torchvision

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TINY = Path(__file__).with_name("tiny")
LIBRARIES = ("torch", "open_clip_torch")
HUB = "hf-hub:"
SHARED = "infinity_mm"  # the tokenizer's name in a configuration


def find_tiny(rest: str, device: str | None) -> Found:
    """The CLIP that ships. Raises ValueError."""
    if rest:
        raise ValueError(f"embedder tiny:{rest}: it is just `tiny`; another one is open_clip:FOLDER")
    return _folder("tiny", TINY, device)


def find(rest: str, device: str | None) -> Found:
    """What `open_clip:` names. Raises ValueError."""
    spec = f"open_clip:{rest}"
    if rest.startswith(HUB):
        name = rest.removeprefix(HUB)
        folder = hub_folder(name, spec, ["*.json", "*.txt", WEIGHTS[0]])
        if not (folder / WEIGHTS[0]).is_file():
            folder = hub_folder(name, spec, ["*.json", "*.txt", WEIGHTS[1]])
        return _folder(spec, folder, device)
    if (Path(rest) / CONFIG).is_file():
        return _folder(spec, Path(rest), device)
    if Path(rest).is_dir():
        raise ValueError(f"embedder {spec}: the folder has no {CONFIG}")
    return _named(spec, rest, device)


def _folder(spec: str, folder: Path, device: str | None) -> Found:
    """A folder with CONFIG and weights."""
    place, dtype = torch_device(spec, device)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if "model_cfg" not in config:
        raise ValueError(f"embedder {spec}: {folder / CONFIG} has no model_cfg")
    shared = config.get("tokenizer") == SHARED
    files = [p for p in folder.iterdir() if p.suffix in (".json", ".txt", ".model", *_weights(folder))]
    if not any(p.suffix in _weights(folder) for p in files):
        raise ValueError(f"embedder {spec}: the folder {folder} has no weights, such as {WEIGHTS[0]}")
    if shared:
        files.append(TOKENIZER)
    return Found(
        spec,
        content=partial(digests, files),
        libraries=LIBRARIES,
        device=place,
        dtype=dtype,
        side=_side(config["model_cfg"]),
        has_texts=True,
        load=lambda threads: _load(spec, f"local-dir:{folder}", None, place, shared),
    )


def _weights(folder: Path) -> tuple[str, ...]:
    """The suffix of the weights that open_clip takes from a folder: safetensors where there are any."""
    return (".safetensors",) if any(folder.glob("*.safetensors")) else (".bin", ".pth", ".pt")


def _named(spec: str, rest: str, device: str | None) -> Found:
    """MODEL/TAG or MODEL/FILE."""
    place, dtype = torch_device(spec, device)
    open_clip = _library(spec)
    name, _, tag = rest.partition("/")
    if name not in open_clip.list_models():
        near = get_close_matches(name, open_clip.list_models(), n=1, cutoff=0.5)
        raise ValueError(
            f"embedder {spec}: open_clip has no model {name!r}{_hint(near)}; "
            "open_clip.list_models() names them all"
        )
    weights = Path(tag)
    preprocessing: dict[str, Any] = {}
    if not (tag and weights.is_file()):
        weights, preprocessing = _of_tag(spec, name, tag, open_clip)
    config = open_clip.get_model_config(name)
    return Found(
        spec,
        content=lambda: [digests([weights])[weights.name], config, preprocessing],
        libraries=LIBRARIES,
        device=place,
        dtype=dtype,
        side=_side(config),
        has_texts=True,
        load=lambda threads: _load(spec, name, str(weights), place, False, preprocessing),
    )


def _of_tag(spec: str, name: str, tag: str, open_clip: Any) -> tuple[Path, dict[str, Any]]:
    """The weights of a tag on this disk, fetched if need be, and what the tag says of preprocessing."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        near = get_close_matches(tag, tags, n=1, cutoff=0.3)
        raise ValueError(
            f"embedder {spec}: {tag or 'nothing'!r} is no file and no weights of {name}{_hint(near)}; "
            f"they are {', '.join(tags) or 'none: give a file'}"
        )
    said = {k: config[k] for k in ("mean", "std", "interpolation", "resize_mode") if k in config}
    name_there = config.get("hf_hub")
    if name_there:
        repository, _, file = name_there.rpartition("/")
        for wanted in (file,) if file else WEIGHTS:
            found = hub_folder(repository, spec, [wanted]) / wanted
            if found.is_file():
                return found, said
        raise ValueError(f"embedder {spec}: {repository} on the hub has no {file or WEIGHTS[0]}")
    try:
        return Path(open_clip.download_pretrained(config)), said
    except OSError as error:
        raise ValueError(
            f"embedder {spec}: {config.get('url')} could not be fetched ({error}); fetch it where there is a "
            f"network, and give open_clip:{name}/FILE"
        ) from None


def _hint(near: Sequence[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""


def _side(config: dict[str, Any]) -> int:
    size = config["vision_cfg"]["image_size"]
    return int(min(size) if isinstance(size, list | tuple) else size)


def _library(spec: str) -> Any:
    """open_clip, imported. Raises ValueError where it is not installed."""
    try:
        import_torchvision()
        import open_clip
    except ImportError as error:
        raise ValueError(
            f"embedder {spec} needs open_clip ({error}): pip install 'infinity-mm[models]'"
        ) from None
    return open_clip


def _load(
    spec: str,
    name: str,
    weights: str | None,
    device: str,
    shared: bool,
    preprocessing: dict[str, Any] | None = None,
) -> Model:
    import torch
    from PIL import Image

    open_clip = _library(spec)
    from open_clip.transform import PreprocessCfg, image_transform_v2

    half = device != "cpu"
    try:
        model = open_clip.create_model(
            name,
            weights,
            precision="fp16" if half else "fp32",
            device=device,
            force_preprocess_cfg=preprocessing or None,
        ).eval()
    except (RuntimeError, KeyError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"embedder {spec}: its weights do not fit its configuration: {said}") from None
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    dtype = torch.float16 if half else torch.float32

    def prepare(pixels: Pixels) -> np.ndarray:
        made: np.ndarray = transform(Image.fromarray(pixels)).numpy()
        return made

    @torch.inference_mode()
    def pictures(batch: np.ndarray) -> np.ndarray:
        images_BCHW = torch.from_numpy(batch).to(device, dtype)
        return np.asarray(to_numpy(model.encode_image(images_BCHW)))

    tokens_of = _tokens_of(name, model, shared, open_clip)

    @torch.inference_mode()
    def texts(given: Sequence[str]) -> np.ndarray:
        return np.asarray(to_numpy(model.encode_text(tokens_of(given).to(device))))

    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    dim = pictures(np.zeros((1, 3, height, width), np.float32)).shape[1]
    return Model(dim, str(dtype).removeprefix("torch."), prepare, pictures, texts)


def _tokens_of(name: str, model: Any, shared: bool, open_clip: Any) -> Callable[[Sequence[str]], Any]:
    """A function from texts to int64 tokens [n, context], cut to the model's context."""
    import torch

    if not shared:
        tokenizer = open_clip.get_tokenizer(name)
        return lambda texts: tokenizer(list(texts))
    length = model.context_length
    return lambda texts: torch.from_numpy(encode_padded(texts, length))
