"""Train the tiny vision tokenizer on scenes: 64 x 64 pixels to 8 x 8 codes of 512.

    python -m trainers.tiny_vq --out FOLDER

FOLDER is then a tokenizer that `Emu3VQVAE.from_pretrained` opens, in float16, with its scores on scenes that
it has not seen (`scores.json`). Objects count more than their background, which is easy and most of the
picture. The same command again goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infinity_mm.models.emu3_vq import find_tokenizer
from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.scene_pictures import SIDE, Wanted, batches, draw_batch
from trainers.vision_tokenizer import Batch, Settings, save, scores, train

SEED = 700_000  # far from the seeds that tests and benchmarks draw with
HELD_OUT = 900_000
NETWORK: dict[str, Any] = {
    "codebook_size": 512, "embed_dim": 8, "latent_channels": 8, "temporal_downsample_factor": 4,
    "base_channels": 32, "channel_multiplier": [1, 1, 2, 2], "num_res_blocks": 1, "attn_resolutions": [3],
    "hidden_size": 64, "num_attention_heads": 1,
}  # fmt: skip
WANTED = Wanted(pictures=16, clips=1, chunk=4, foreground=4.0)
STEPS = 1200
RECORD = "scores.json"


def network(seed: int) -> Any:
    """The network before it is trained, an Emu3VQVAE."""
    import_torchvision()
    import torch
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    torch.manual_seed(seed)
    return Emu3VQVAE(Emu3VQVAEConfig(**NETWORK))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the tokenizer to")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"batches of pictures and clips [{STEPS}]")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of scenes and weights [{SEED}]")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the training [2]")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate [0.002]")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    settings = Settings(
        steps=given.steps, seed=given.seed, rate=given.rate, decay=0.97, dtype="bfloat16", save=100
    )

    def drawn(first: int) -> Iterator[Batch]:
        for one in batches(WANTED, given.seed, first, given.steps):
            yield Batch(*one)

    began = time.monotonic(), time.process_time()
    vq = train(
        network(given.seed), drawn, settings, given.out / "checkpoints", lambda line: print(line, flush=True)
    )
    took = time.monotonic() - began[0], time.process_time() - began[1]
    save(vq, given.out, SIDE * SIDE, torch.float16)
    held = draw_batch(WANTED._replace(pictures=512, clips=64), (HELD_OUT,))
    found = scores(find_tokenizer(given.out).load("cpu"), held.pictures, held.clips)
    record = {"steps": given.steps, "seed": given.seed, **found}
    (given.out / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    print(f"{took[0]:.0f} s, {took[1]:.0f} s of processor time")


if __name__ == "__main__":
    main()
