"""open_clip's models: a folder, weights of one's own, tags, and what is said of what is not there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infinity_mm.models.embedder import find_embedder, open_embedder
from infinity_mm.models.open_clip_models import CONFIG, TINY, WEIGHTS

SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
PICTURES = [np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8) for i in range(3)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model of open_clip's own kind, random; open_clip knows it as small-test."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from infinity_mm.models.torchvision_ops import import_torchvision

    import_torchvision()
    import open_clip

    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    save_file(open_clip.model.CLIP(**SMALL).state_dict(), str(folder / WEIGHTS[0]))
    (folder / CONFIG).write_text(json.dumps({"model_cfg": SMALL, "preprocess_cfg": {}}))
    named = tmp_path_factory.mktemp("configs") / "small-test.json"
    named.write_text(json.dumps(SMALL))
    open_clip.add_model_config(named)
    return folder


def test_a_folder_and_a_file_of_weights_are_the_same_model(small: Path) -> None:
    folder = open_embedder(f"open_clip:{small}", "cpu")
    file = open_embedder(f"open_clip:small-test/{small / WEIGHTS[0]}", "cpu")
    texts = ["a red circle", "two blue squares " * 20]
    assert np.array_equal(folder.images(PICTURES), file.images(PICTURES))
    assert np.array_equal(folder.texts(texts), file.texts(texts))
    assert (folder.dim, folder.min_side) == (16, 64)


def test_pictures_are_prepared_as_open_clip_does(small: Path) -> None:
    import open_clip
    import torch
    from PIL import Image

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{small}")
    batch = torch.stack([preprocess(Image.fromarray(p)) for p in PICTURES])
    with torch.inference_mode():
        wanted = model.eval().encode_image(batch, normalize=True).numpy()
    assert np.allclose(open_embedder(f"open_clip:{small}", "cpu").images(PICTURES), wanted, atol=1e-6)


def test_the_shipped_model_is_a_folder_like_any_other() -> None:
    one, two = find_embedder("tiny", "cpu"), find_embedder(f"open_clip:{TINY}", "cpu")
    assert one.digest == two.digest


def test_the_digest_is_of_weights_and_configuration(small: Path, tmp_path: Path) -> None:
    for file in small.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = find_embedder(f"open_clip:{small}", "cpu").digest
    assert find_embedder(f"open_clip:{tmp_path}", "cpu").digest == before
    changed = {"model_cfg": SMALL, "preprocess_cfg": {"mean": [0.5] * 3}}
    (tmp_path / CONFIG).write_text(json.dumps(changed))
    assert find_embedder(f"open_clip:{tmp_path}", "cpu").digest != before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-23/openai", "open_clip has no model 'ViT-B-23'; did you mean 'ViT-B-"),
        ("ViT-B-32/laion2b_s34", "no weights of ViT-B-32; did you mean 'laion2b_s34b_b79k'"),
        ("ViT-B-32", "'nothing' is no file and no weights of ViT-B-32"),
        ("ViT-B-32/nowhere.pt", "'nowhere.pt' is no file and no weights"),
    ],
)
def test_names_that_open_clip_does_not_know(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        find_embedder(f"open_clip:{name}", "cpu")
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit(small: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS[0]).write_bytes((small / WEIGHTS[0]).read_bytes())
    with pytest.raises(ValueError, match="the folder has no open_clip_config"):
        find_embedder(f"open_clip:{tmp_path}", "cpu")
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": SMALL | {"embed_dim": 24}}))
    with pytest.raises(ValueError, match="its weights do not fit its configuration"):
        open_embedder(f"open_clip:{tmp_path}", "cpu")
    (tmp_path / WEIGHTS[0]).unlink()
    with pytest.raises(ValueError, match="has no weights, such as open_clip_model"):
        find_embedder(f"open_clip:{tmp_path}", "cpu")


def test_a_hub_that_can_not_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nowhere")
    for name in ("ViT-B-32/laion2b_s34b_b79k", "hf-hub:nobody/nothing"):
        with pytest.raises(ValueError, match=r"the Hugging Face hub gave no model .*hf download") as error:
            find_embedder(f"open_clip:{name}", "cpu")
        assert "\n" not in str(error.value)
