"""Train a vision tokenizer on the pictures and clips of a manifest.

    python -m trainers.train_vq MANIFEST --store STORE --out FOLDER --network network.json

`network.json` has the fields of transformers' Emu3VQVAEConfig that differ from Emu3's; `--init` names a
tokenizer to go on from instead. FOLDER is then a tokenizer that `imm tokenize` and
`Emu3VQVAE.from_pretrained` open. The same command again goes on where it was.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from infinity_mm.manifest import Manifest
from infinity_mm.models.emu3_vq import find_tokenizer, import_torch
from infinity_mm.models.torch_device import torch_device
from infinity_mm.store import Store
from trainers.vision_tokenizer import Settings, save, train
from trainers.vq_batches import Crops, MediaBatches


def network(given: Path | None, init: str | None, seed: int) -> Any:
    """The network to train, an Emu3VQVAE. Raises ValueError for settings that it does not take."""
    import_torch(str(init or given or "Emu3"))
    if init is not None:
        return find_tokenizer(init).model()
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    fields = json.loads(given.read_text(encoding="utf-8")) if given else {}
    unknown = sorted(set(fields) - set(Emu3VQVAEConfig().to_dict()))
    if unknown:
        raise ValueError(f"{given}: {unknown[0]!r} is no field of Emu3VQVAEConfig")
    torch.manual_seed(seed)
    return Emu3VQVAE(Emu3VQVAEConfig(**fields))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", help="NAME, digest or path of the manifest")
    parser.add_argument("--store", default="store", help="folder or URL of the store [store]")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the tokenizer to")
    parser.add_argument("--network", type=Path, help="JSON file of the network's settings [Emu3's]")
    parser.add_argument("--init", help="tokenizer to go on from, instead of --network")
    parser.add_argument("--side", type=int, default=256, help="pixels of a crop's side [256]")
    parser.add_argument("--pictures", type=int, default=8, help="pictures of a batch [8]")
    parser.add_argument("--clips", type=int, default=0, help="chunks of clips of a batch [0]")
    parser.add_argument("--steps", type=int, required=True, help="batches to train on")
    parser.add_argument("--rate", type=float, default=1e-4, help="peak learning rate [0.0001]")
    parser.add_argument("--codebook", choices=("ema", "gradient"), default="ema", help="how it learns [ema]")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and crops [0]")
    parser.add_argument("--device", help="cpu, cuda or cuda:N [a GPU where there is one]")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="[float32]")
    given = parser.parse_args()
    if given.init and given.network:
        parser.error("--network would be ignored: give it, or --init")
    try:
        run(given)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


def run(given: argparse.Namespace) -> None:
    """Train and write. Raises ValueError."""
    manifest = Manifest.open(Store.open(given.store), given.manifest)
    device, _ = torch_device(str(given.out), given.device, "vision tokenizer")
    vq = network(given.network, given.init, given.seed)
    factor, chunk = vq.spatial_scale_factor, vq.config.temporal_downsample_factor
    if given.side % factor:
        raise ValueError(f"--side {given.side} is no multiple of {factor}, the pixels of a code's side")
    source = MediaBatches(manifest, Crops(given.side, given.pictures, given.clips, chunk), given.seed)
    settings = Settings(
        steps=given.steps, seed=given.seed, rate=given.rate, codebook=given.codebook, dtype=given.dtype,
        device=device,
    )  # fmt: skip
    if given.codebook == "gradient":
        settings = replace(settings, terms={**settings.terms, "codebook": 1.0})
    train(vq, source.batches, settings, given.out / "checkpoints", lambda line: print(line, flush=True))
    save(vq, given.out, given.side**2, torch.float32)


if __name__ == "__main__":
    main()
