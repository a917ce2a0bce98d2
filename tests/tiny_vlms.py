"""Folders of small vision-language models with random weights, as transformers loads them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_llava import LANGUAGE, TOWER, composition

from infinity_mm.image_tokens import Geometry
from trainers.llava.export import export

GRIDS = Geometry(32, 8, ((32, 32), (32, 64), (64, 32), (64, 64)))
CONTEXT = 512  # tokens
QWEN_SPECIAL = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
# As Qwen2-VL's own: a system turn of its own where there is none, a picture between two tokens.
QWEN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def llava(folder: Path) -> Path:
    """A LLaVA-OneVision model, exported by the trainer."""
    made = composition(tower=TOWER, language=LANGUAGE | {"max_position_embeddings": CONTEXT})
    made = replace(made, geometry=GRIDS)
    return export(_spread(made.build(seed=0)), made, folder, card="")


def qwen2_vl(folder: Path) -> Path:
    """A Qwen2-VL model: its positions are three-dimensional, and told by the kinds of its tokens."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    from infinity_mm.models.tokenizer import FILE

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(FILE)))
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=True) for t in QWEN_SPECIAL], True)
    tokenizer.pad_token, tokenizer.eos_token = "<pad>", "<|im_end|>"
    ids = dict(zip(QWEN_SPECIAL, tokenizer.convert_tokens_to_ids(list(QWEN_SPECIAL)), strict=True))
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": CONTEXT,
            "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 4, "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8,
        },
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        tie_word_embeddings=True,
    )  # fmt: skip
    size: dict[str, Any] = {"patch_size": 8, "size": {"shortest_edge": 256, "longest_edge": 16384}}
    torch.manual_seed(0)
    _spread(Qwen2VLForConditionalGeneration(config)).save_pretrained(folder)
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**size), tokenizer, Qwen2VLVideoProcessor(**size), chat_template=QWEN_TEMPLATE
    )
    processor.save_pretrained(folder)
    return folder


def _spread(model: Any) -> Any:
    """The model with larger weights, so that its losses tell what it reads."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model
