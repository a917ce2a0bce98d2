"""BAAI's own names of a vision tokenizer's weights and settings, and what transformers calls them.

The same network twice: attention is written as 1 x 1 convolutions there, as linear layers here, and its norm
lies within its block there, beside it here. All other names differ by a prefix of a folder.
"""

import re
from collections.abc import Mapping
from typing import Any

# In this order: (BAAI's, transformers'). The norm first, while it is still named within its block.
RENAMES: tuple[tuple[str, str], ...] = (
    (r"\.mid\.attn_1\.norm\.", ".mid.attn_norm."),
    (r"\.attn\.(\d+)\.norm\.", r".attn_norms.\1."),
    (r"\.(attn\.\d+|attn_1)\.([qkv])\.", r".\1.\2_proj."),
    (r"\.(attn\.\d+|attn_1)\.proj_out\.", r".\1.out_proj."),
    (r"^encoder\.down\.", "encoder.down_block.down."),
    (r"^decoder\.up\.", "decoder.up_block.up."),
    (r"\.mid\.", ".middle_block."),
)
PROJECTION = re.compile(r"\.(q|k|v|out)_proj\.weight$")
SETTINGS = {
    "z_channels": "latent_channels",
    "double_z": "double_latent",
    "ch": "base_channels",
    "ch_mult": "channel_multiplier",
}


def is_original(names: Mapping[str, Any]) -> bool:
    """Whether weights have BAAI's names."""
    return any(name.startswith(("encoder.down.", "encoder.mid.")) for name in names)


def new_name(name: str) -> str:
    """What transformers calls a weight."""
    for old, new in RENAMES:
        name = re.sub(old, new, name)
    return name


def renamed(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by transformers' names; 1 x 1 convolutions of attention [C, C, 1, 1] as matrices [C, C]."""
    found = {new_name(name): value for name, value in weights.items()}
    return {
        name: value.reshape(value.shape[:2]) if PROJECTION.search(name) else value
        for name, value in found.items()
    }


def renamed_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """BAAI's settings as fields of Emu3VQVAEConfig. Attention is as wide as the last level, with one head."""
    found = {SETTINGS.get(name, name): value for name, value in config.items()}
    width = found.get("base_channels", 256) * list(found.get("channel_multiplier", [1, 2, 2, 4]))[-1]
    return found | {"hidden_size": width, "num_attention_heads": 1}
