"""Composing a model of hub ids, folders and configurations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llava import LANGUAGE, TOWER, Piece, composition, pack

from infinity_mm.image_tokens import Visual
from infinity_mm.schema import Part, Turn
from trainers.hub_parts import transformers
from trainers.llava.compose import compose


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A SigLIP of two sides, and a language model with a tokenizer that has no picture's token."""
    transformers()
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2Config,
        Qwen2ForCausalLM,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
    )

    tower, language = tmp_path_factory.mktemp("tower"), tmp_path_factory.mktemp("language")
    text = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text["num_attention_heads"] = 2
    vision = {key: value for key, value in TOWER.items() if key != "model_type"}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(tower)
    SiglipImageProcessor(image_mean=[0.4, 0.5, 0.6]).save_pretrained(tower)

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<|im_start|>": 2, "<|im_end|>": 3, "?": 4}, "?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", unk_token="?")
    config = {key: value for key, value in LANGUAGE.items() if key != "model_type"}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=5, **config)).save_pretrained(language)
    tokenizer.save_pretrained(language)
    return tower, language


def test_folders_are_loaded_and_the_tokenizer_gets_what_it_lacks(folders: tuple[Path, Path]) -> None:
    tower, language = folders
    made = compose(str(tower), str(language), template="chatml")
    assert (made.side, made.patch, made.fill) == (32, 8, (102, 127, 153))
    assert made.tokens.image == made.tokens.chat.image_id >= 5 and made.tokens.video == made.tokens.image + 1
    model = made.build()
    assert model.language_model.get_input_embeddings().weight.shape == (64, 32)  # a few tokens, rounded up
    from transformers import Qwen2ForCausalLM, SiglipModel

    whole = SiglipModel.from_pretrained(tower)
    for name, weight in model.vision_tower.state_dict().items():
        torch.testing.assert_close(weight, whole.vision_model.state_dict()[name])
    rows = Qwen2ForCausalLM.from_pretrained(language).lm_head.weight
    torch.testing.assert_close(model.language_model.lm_head.weight[:5], rows)
    assert len(model.vision_tower.encoder.layers) == 2  # of 3: its features are the last but one


def test_a_seed_gives_the_same_weights() -> None:
    one, same, other = (composition().build(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["image_newline"], other["image_newline"])


def test_the_shared_tokenizer_has_a_clips_token_and_speaks_chatml() -> None:
    tokens = composition().tokens
    assert (tokens.image, tokens.video) == (5, 6)
    asked = tokens.chat.encode([Turn("user", (Part("image", None, 0), Part("text", "<image> 你好")))], True)
    assert asked.tokens.tolist().count(5) == 1
    assert tokens.tokenizer.vocab_size == 4096


@pytest.mark.parametrize("name", ["linear", "mlp2x_relu", "mlp2x_silu"])
def test_other_projectors(name: str) -> None:
    model = composition(projector=name).build()
    model(pack(Piece(1, Visual("single", 40, 40)))).sum().backward()
    assert all(p.grad is not None for p in model.multi_modal_projector.parameters())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "projector": ({"projector": "mlp9"}, "projector 'mlp9': there is none; there are mlp2x_gelu"),
    "layer": ({"feature_layer": -4}, "feature_layer -4: the vision tower has 3 layers; give -3 to -1"),
    "template": ({"template": "vicuna"}, "template 'vicuna': there is none; there are chatml"),
    "no tokenizer": ({"tokenizer": None}, "tokenizer: random weights bring none"),
    "no tower": ({"tower": "./nowhere"}, "vision tower ./nowhere: there is no such folder"),
    "no type": ({"language": {"hidden_size": 8}}, "language model: model_type None"),
    "no language": ({"language": {"model_type": "siglip_vision_model"}}, "is no causal language model"),
}


@pytest.mark.parametrize("changes, said", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_composed_is_refused_in_a_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as error:
        composition(**changes)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_hub_out_of_reach_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **more: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ValueError) as error:
        composition(tower="google/siglip")
    assert str(error.value).startswith("vision tower google/siglip: there is no such file or folder here")
    assert "`hf download google/siglip --local-dir FOLDER`" in str(error.value)


def test_a_tokenizer_without_chat_template_is_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="has no chat template: name a built-in one"):
        compose(TOWER, str(folders[1]))


def test_a_folder_that_lacks_weights_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folders[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    found = load_file(tmp_path / "model.safetensors")
    del found["model.norm.weight"]
    save_file(found, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights, such as model.norm.weight"):
        compose(TOWER, str(tmp_path), template="chatml").build()
