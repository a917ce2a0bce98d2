"""Emu3's vision tokenizer: what transformers gives, chunk by chunk, whatever its weights are called."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_vq import NETWORK, random_vq, write_vq

from infinity_mm.models.emu3_vq import VisionTokenizer, find_tokenizer
from infinity_mm.models.emu3_vq_names import new_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vq(tmp_path_factory.mktemp("vq"))


@pytest.fixture(scope="module")
def vq(folder: Path) -> Any:
    return random_vq()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> VisionTokenizer:
    return find_tokenizer(folder).load("cpu")


def noise(seed: int, *shape: int) -> np.ndarray:
    """Pixels that differ from place to place on all scales."""
    rng = np.random.default_rng(seed)
    coarse = (
        rng.integers(0, 256, (*shape[:-3], shape[-3] // 8, shape[-2] // 8, 3)).repeat(8, -3).repeat(8, -2)
    )
    return np.clip(coarse + rng.integers(-40, 40, shape), 0, 255).astype(np.uint8)


def scaled(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(pixels, -1, -3).copy()).float() / 127.5 - 1


def as_bytes(made: torch.Tensor) -> np.ndarray:
    return np.moveaxis(((made + 1) * 127.5).round().clamp(0, 255).numpy(), -3, -1)


@torch.no_grad()
def test_pictures_are_coded_and_decoded_as_transformers_does(vq: Any, tokenizer: VisionTokenizer) -> None:
    pixels = noise(0, 3, 32, 48, 3)
    codes = tokenizer.encode_pictures(pixels)
    theirs = torch.stack(list(vq.encode(scaled(pixels), torch.tensor([[32, 48]] * 3)).image_tokens))
    assert codes.shape == (3, 4, 6) and codes.dtype == np.int32
    assert (codes == theirs.numpy()).all()
    assert len(np.unique(codes)) > 8
    back = tokenizer.decode_pictures(codes)
    assert back.shape == pixels.shape and back.dtype == np.uint8
    assert np.abs(back - as_bytes(vq.decode(theirs))).max() <= 1


@torch.no_grad()
def test_portrait_clips_are_coded_in_chunks(vq: Any, tokenizer: VisionTokenizer) -> None:
    frames = noise(1, 8, 48, 24, 3)
    codes = tokenizer.encode_clip(frames)
    chunks = scaled(frames).unflatten(0, (2, 4))
    latents = vq.quant_conv(vq.encoder(chunks).permute(0, 2, 1, 3, 4)).permute(0, 2, 1, 3, 4)
    theirs = vq.quantize(latents)
    assert codes.shape == (2, 6, 3)
    assert (codes == theirs[:, 0].numpy()).all()
    back = tokenizer.decode_clip(codes)
    assert back.shape == frames.shape
    assert np.abs(back - as_bytes(vq.decode(theirs)).reshape(frames.shape)).max() <= 1


def test_a_chunk_knows_nothing_of_the_others(tokenizer: VisionTokenizer) -> None:
    frames = noise(2, 12, 32, 32, 3)
    codes = tokenizer.encode_clip(frames)
    for at in range(3):
        assert (tokenizer.encode_clip(frames[4 * at : 4 * at + 4])[0] == codes[at]).all()
    assert (tokenizer.encode_clip(frames, batch=1) == codes).all()
    assert (tokenizer.decode_clip(codes)[4:8] == tokenizer.decode_clip(codes[1:2])).all()


def test_a_picture_is_a_clip_that_stands_still(tokenizer: VisionTokenizer) -> None:
    pixels = noise(3, 1, 32, 32, 3)
    codes = tokenizer.encode_pictures(pixels)
    assert (tokenizer.encode_clip(pixels.repeat(4, axis=0)) == codes).all()
    assert (
        np.abs(tokenizer.decode_clip(codes)[0].astype(int) - tokenizer.decode_pictures(codes)[0]).max() <= 1
    )


def test_what_does_not_fit_is_refused(tokenizer: VisionTokenizer) -> None:
    with pytest.raises(ValueError, match="6 frames make no whole chunks of 4"):
        tokenizer.encode_clip(noise(4, 6, 32, 32, 3))
    for wrong in (-1, 64):
        with pytest.raises(ValueError, match="this tokenizer has 0 to 63"):
            tokenizer.decode_pictures(np.full((1, 4, 4), wrong))


# BAAI's names from transformers', to make its weights of ours
BACK = (
    (r"\.middle_block\.", ".mid."),
    (r"^encoder\.down_block\.", "encoder."),
    (r"^decoder\.up_block\.", "decoder."),
    (r"\.mid\.attn_norm\.", ".mid.attn_1.norm."),
    (r"\.attn_norms\.(\d+)\.", r".attn.\1.norm."),
    (r"\.([qkv])_proj\.", r".\1."),
    (r"\.out_proj\.", ".proj_out."),
)
ATTENTION = re.compile(r"attn(_1|\.\d+)\.(q|k|v|proj_out)\.weight$")


def baai_name(name: str) -> str:
    for ours, theirs in BACK:
        name = re.sub(ours, theirs, name)
    return name


def test_baai_s_own_weights_are_the_same_tokenizer(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    names = {name: baai_name(name) for name in weights}
    assert {new: new_name(old) for new, old in names.items()} == {name: name for name in names}
    assert "encoder.mid.attn_1.norm.weight" in names.values()
    assert "decoder.up.3.attn.1.norm.conv_y.weight" in names.values()
    theirs = {
        old: weights[new][..., None, None].contiguous() if ATTENTION.search(old) else weights[new]
        for new, old in names.items()
    }
    assert sum(bool(ATTENTION.search(name)) for name in theirs) == 4 * (2 + 3)
    save_file(theirs, tmp_path / "model.safetensors")
    theirs_config = {
        "codebook_size": 64, "embed_dim": 4, "z_channels": 4, "double_z": False, "in_channels": 3,
        "out_channels": 3, "temporal_downsample_factor": 4, "ch": 32, "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 1, "attn_resolutions": [3], "dropout": 0.0, "model_type": "Emu3VisionVQ",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(theirs_config))
    ours, found = find_tokenizer(folder), find_tokenizer(tmp_path)
    assert found.facts == ours.facts
    pixels = noise(5, 2, 32, 32, 3)
    codes = found.load("cpu").encode_pictures(pixels)
    assert (codes == ours.load("cpu").encode_pictures(pixels)).all()


@pytest.mark.parametrize("prefix", ["vqmodel.", "model.vqmodel."])
def test_a_whole_emu3_has_its_tokenizer(folder: Path, tmp_path: Path, prefix: str) -> None:
    weights = load_file(folder / "model.safetensors")
    whole = {f"{prefix}{name}": value for name, value in weights.items()}
    save_file(whole | {"text_model.lm_head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "emu3", "vq_config": NETWORK}))
    assert find_tokenizer(tmp_path).facts == find_tokenizer(folder).facts


def test_the_digest_is_of_weights_and_configuration(folder: Path, tmp_path: Path) -> None:
    facts = find_tokenizer(folder).facts
    assert (facts.codebook, facts.factor, facts.chunk) == (64, 8, 4)
    assert find_tokenizer(write_vq(tmp_path / "same")).facts == facts
    assert find_tokenizer(write_vq(tmp_path / "other", seed=1)).facts.digest != facts.digest
    weights = load_file(folder / "model.safetensors")
    weights["quantize.embedding.weight"][0, 0] += 1e-6
    (tmp_path / "near").mkdir()
    save_file(weights, tmp_path / "near" / "model.safetensors")
    (tmp_path / "near" / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert find_tokenizer(tmp_path / "near").facts.digest != facts.digest


def test_what_is_no_tokenizer_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json"):
        find_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="there is no such folder"):
        find_tokenizer(tmp_path / "nowhere")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="no weights"):
        find_tokenizer(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({"embed_tokens.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="has no Emu3 vision tokenizer"):
        find_tokenizer(tmp_path)
    lacking = {name: value for name, value in weights.items() if name != "encoder.conv_out.bias"}
    save_file(lacking, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"they lack encoder\.conv_out\.bias"):
        find_tokenizer(tmp_path).model()
    save_file(weights | {"encoder.conv_out.bias": torch.zeros(7)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"don't fit its config\.json"):
        find_tokenizer(tmp_path).model()
