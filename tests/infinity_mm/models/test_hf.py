"""transformers' models from a folder: randomly initialised CLIP, SigLIP and ViT, saved small by the test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infinity_mm.models.embedder import Embedder, find_embedder, open_embedder
from infinity_mm.models.tokenizer import FILE
from infinity_mm.models.torchvision_ops import import_torchvision

SIDE, WORDS = 32, ["a red circle", "two blue squares", "图中有一个红色的圆形。"]
PREPARED = {"size": {"height": SIDE, "width": SIDE}, "do_normalize": True, "image_mean": [0.5] * 3}
PREPARED |= {
    "crop_size": PREPARED["size"],
    "image_std": [0.5] * 3,
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
}


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (50, 70, 3), np.uint8)


def saved(model: Any, processor: str, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": processor, **PREPARED})
    )
    return folder


def with_tokenizer(folder: Path, **special: str) -> Path:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_file=str(FILE), **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def vision() -> None:
    pytest.importorskip("transformers")
    import_torchvision()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(1)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small
        | {"vocab_size": 4096, "max_position_embeddings": 20, "eos_token_id": 2, "bos_token_id": 1},
        vision_config=small | {"image_size": SIDE, "patch_size": 16},
        projection_dim=24,
    )
    folder = saved(CLIPModel(config), "CLIPImageProcessor", tmp_path_factory.mktemp("clip"))
    return with_tokenizer(folder, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(2)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config=small | {"vocab_size": 4096, "max_position_embeddings": 16},
        vision_config=small | {"image_size": SIDE, "patch_size": 16},
    )
    folder = saved(SiglipModel(config), "SiglipImageProcessor", tmp_path_factory.mktemp("siglip"))
    return with_tokenizer(folder, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(3)
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
    )
    return saved(ViTModel(config), "ViTImageProcessor", tmp_path_factory.mktemp("vit"))


def check_pictures(embedder: Embedder, dim: int) -> np.ndarray:
    pictures = [noise(i) for i in range(5)]
    found = embedder.images(pictures)
    assert found.shape == (5, dim) == (5, embedder.dim)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(embedder.images(pictures[2:3])[0], found[2], atol=1e-5)
    assert (embedder.dtype, embedder.device, embedder.min_side) == ("float32", "cpu", 2 * SIDE)
    return found


@pytest.mark.parametrize(("name", "dim"), [("clip", 24), ("siglip", 32)])
def test_models_of_pictures_and_texts(name: str, dim: int, request: pytest.FixtureRequest) -> None:
    import torch
    from transformers import AutoModel

    folder = request.getfixturevalue(name)
    embedder = open_embedder(f"hf:{folder}", "cpu")
    found = check_pictures(embedder, dim)
    told = embedder.texts(WORDS)
    assert told.shape == (3, dim)
    assert np.allclose(np.linalg.norm(told, axis=1), 1, atol=1e-5)
    assert np.allclose(embedder.texts(WORDS[1:2])[0], told[1], atol=1e-5)
    assert np.array_equal(embedder.texts(["word " * 500]), embedder.texts(["word " * 900]))  # cut
    # what transformers itself says of how alike they are
    model = AutoModel.from_pretrained(folder)
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(
        WORDS, padding="max_length", truncation=True, max_length=embedder_length(folder), return_tensors="pt"
    )
    pixels = torch.from_numpy(np.stack([embedder.prepare(noise(i)) for i in range(5)]))
    with torch.inference_mode():
        out = model(pixel_values=pixels, **tokens)
    assert np.allclose(found @ told.T, (out.image_embeds @ out.text_embeds.T).numpy(), atol=1e-5)


def embedder_length(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["text_config"]["max_position_embeddings"])


def test_a_vision_tower(vit: Path) -> None:
    found = find_embedder(f"hf:{vit}", "cpu")
    assert not found.has_texts
    embedder = found.load()
    check_pictures(embedder, 32)
    with pytest.raises(ValueError, match="embeds pictures only"):
        embedder.texts(WORDS)


def test_a_pooler_of_random_numbers_is_not_used(vit: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    for file in vit.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(str(vit / "model.safetensors"))
    save_file(
        {k: v for k, v in weights.items() if "pooler" not in k},
        str(tmp_path / "model.safetensors"),
        {"format": "pt"},
    )
    one, two = (open_embedder(f"hf:{tmp_path}", "cpu").images([noise(1)]) for _ in range(2))
    assert np.array_equal(one, two)
    save_file(
        {k: v for k, v in weights.items() if "layernorm" not in k.lower()},
        str(tmp_path / "model.safetensors"),
        {"format": "pt"},
    )
    with pytest.raises(ValueError, match="the checkpoint lacks"):
        open_embedder(f"hf:{tmp_path}", "cpu")


def test_the_digest_is_of_the_files(vit: Path, tmp_path: Path) -> None:
    for file in vit.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = find_embedder(f"hf:{vit}", "cpu").digest
    assert find_embedder(f"hf:{tmp_path}", "cpu").digest == before
    prepared = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared | {"image_mean": [0.4] * 3}))
    assert find_embedder(f"hf:{tmp_path}", "cpu").digest != before


def test_what_is_missing_is_said_in_one_line(
    vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="the folder has no config"):
        find_embedder(f"hf:{tmp_path}", "cpu")
    (tmp_path / "config.json").write_bytes((vit / "config.json").read_bytes())
    with pytest.raises(ValueError, match="no weights in"):
        find_embedder(f"hf:{tmp_path}", "cpu")
    (tmp_path / "model.safetensors").write_bytes((vit / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="which says how pictures are prepared"):
        find_embedder(f"hf:{tmp_path}", "cpu")
    with pytest.raises(ValueError, match="there is no such folder"):
        find_embedder("hf:./nowhere", "cpu")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="hf download nobody/nothing --local-dir FOLDER") as error:
        find_embedder("hf:nobody/nothing", "cpu")
    assert "\n" not in str(error.value)
