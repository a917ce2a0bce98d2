"""A vision tokenizer with random weights, as small as the network allows, written as a folder."""

from pathlib import Path
from typing import Any

import torch

from infinity_mm.models.torchvision_ops import import_torchvision

NETWORK: dict[str, Any] = {
    "codebook_size": 64, "embed_dim": 4, "latent_channels": 4, "temporal_downsample_factor": 4,
    "base_channels": 32, "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [3],
    "hidden_size": 32, "num_attention_heads": 1,
}  # fmt: skip


def random_vq(seed: int = 0, **more: Any) -> Any:
    """An Emu3VQVAE whose codes are many and whose batch norms have been somewhere."""
    import_torchvision()
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    torch.manual_seed(seed)
    vq = Emu3VQVAE(Emu3VQVAEConfig(**NETWORK | more))
    for name, value in vq.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(0, 0.3)
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    torch.nn.init.normal_(vq.quantize.embedding.weight)
    return vq


def write_vq(folder: Path, seed: int = 0, **more: Any) -> Path:
    """The folder of one."""
    random_vq(seed, **more).save_pretrained(folder)
    return folder
