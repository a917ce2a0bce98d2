"""Warm up the vision tower of the tiny VLM on scenes whose truth is known, patch by patch.

    python -m trainers.tiny_tower --out FOLDER

A tower that learns from captions alone takes long to tell shapes apart. Here every patch of a picture, a cell
of the grid that scenes are drawn on, is asked which object it holds, its colour, its shape and its size, and
where it lies, which a tower that is asked for objects alone forgets and relations need; the heads that answer
are thrown away, and the tower is written as transformers does, for `vision_tower` of a recipe. Scenes are
drawn by another process while the tower trains. The same seed and number of threads give the same
weights on one machine.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.models.torchvision_ops import import_torchvision
from infinity_mm.scenes.draw import picture
from infinity_mm.scenes.world import COLOURS, GRID, SHAPES, SIZES, Scene, draw_shapes
from trainers.drawn_ahead import drawn_ahead

SEED = 600_000  # far from the seeds that tests and benchmarks draw with
SIDE = 64  # pixels of a picture
BATCH = 64
MOST = 6  # objects
PARTS: dict[str, tuple[str, ...]] = {"colour": tuple(COLOURS), "shape": SHAPES, "size": tuple(SIZES)}
ASKED = {**{part: 1 + len(of) for part, of in PARTS.items()}, "row": GRID, "column": GRID}  # values of each
TOWER: dict[str, Any] = {
    "image_size": SIDE, "patch_size": SIDE // GRID, "hidden_size": 96, "intermediate_size": 384,
    "num_hidden_layers": 4, "num_attention_heads": 3, "vision_use_head": False,
}  # fmt: skip
PIXELS: dict[str, Any] = {
    "image_processor_type": "SiglipImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    "size": {"height": SIDE, "width": SIDE}, "resample": 3,
}  # fmt: skip


class Batch(NamedTuple):
    """`pixels`: uint8 [N, 3, side, side]; `truth`: int64 [N, patches, 5], of each part of PARTS which of its
    values the patch holds, 0 for none, and the patch's row and column."""

    pixels: np.ndarray
    truth: np.ndarray


class Settings(NamedTuple):
    """What is trained, how long and how fast."""

    steps: int
    seed: int
    threads: int
    rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.05


def truth_of(scene: Scene) -> np.ndarray:
    """int64 [patches, 5]: see Batch."""
    cells = np.zeros((GRID, GRID, len(PARTS)), np.int64)
    for thing in scene.things:
        row, column = int(thing.y * GRID / scene.side), int(thing.x * GRID / scene.side)
        cells[row, column] = [1 + of.index(getattr(thing, part)) for part, of in PARTS.items()]
    places = np.indices((GRID, GRID)).transpose(1, 2, 0)
    return np.concatenate([cells, places], axis=2).reshape(GRID * GRID, -1)


def draw_batch(seed: int, step: int) -> Batch:
    """A batch, the same for the same seed and step."""
    rng = np.random.default_rng([seed, step])
    scenes = [draw_shapes(rng, SIDE, int(rng.integers(1, MOST + 1))) for _ in range(BATCH)]
    pixels = np.stack([np.asarray(picture(scene)).transpose(2, 0, 1) for scene in scenes])
    return Batch(pixels, np.stack([truth_of(scene) for scene in scenes]))


def batches(settings: Settings) -> Iterator[Batch]:
    """All batches in order, drawn ahead by a process of their own."""
    return drawn_ahead(draw_batch, ((settings.seed, step) for step in range(settings.steps)))


def train(settings: Settings, every: int = 100) -> Any:
    """The trained tower, a SiglipVisionModel."""
    import_torchvision()
    import torch
    import torch.nn.functional as F
    from torch import nn
    from transformers import SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    tower = SiglipVisionModel(SiglipVisionConfig(**TOWER))
    sizes = list(ASKED.values())
    heads = nn.Sequential(nn.LayerNorm(TOWER["hidden_size"]), nn.Linear(TOWER["hidden_size"], sum(sizes)))
    parameters = [p for part in (tower, heads) for p in part.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
    began = time.process_time()
    for step, batch in enumerate(batches(settings)):
        share = min(1.0, (step + 1) / settings.warmup) * (1 - step / settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * share
        pixels_NCHW = torch.from_numpy(batch.pixels).float().div(127.5).sub(1)
        seen = tower(pixel_values=pixels_NCHW, output_hidden_states=True).hidden_states[-1]
        told = heads(seen).split(sizes, dim=-1)
        truth_NPT = torch.from_numpy(batch.truth)
        losses = [
            F.cross_entropy(one.flatten(0, 1), truth_NPT[..., i].flatten()) for i, one in enumerate(told)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % every == 0:
            there = truth_NPT[..., 0] > 0
            right = [
                (one.argmax(-1) == truth_NPT[..., i])[there].float().mean().item()
                for i, one in enumerate(told)
            ]
            shares = "  ".join(f"{part} {share:.3f}" for part, share in zip(ASKED, right, strict=True))
            print(f"step {step + 1:>6,}  {shares}  processor {time.process_time() - began:.0f} s", flush=True)
    return tower.eval()


def save(tower: Any, out: Path) -> None:
    """Write the tower and how its pixels are normalised, as transformers reads them."""
    tower.save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(PIXELS, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the tower to")
    parser.add_argument("--steps", type=int, default=600, help=f"batches of {BATCH} pictures [600]")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of scenes and weights [{SEED}]")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of the training [1]")
    given = parser.parse_args()
    save(train(Settings(given.steps, given.seed, given.threads)), given.out)


if __name__ == "__main__":
    main()
