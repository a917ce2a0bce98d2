"""Train a vision tokenizer: the network of Emu3's, `Emu3VQVAE`, of any size, on pictures and clips.

A picture, or a chunk of a clip, is encoded, quantised and decoded; what comes out is to be what went in. The
loss is a sum of named terms (`TERMS`), each with its weight. The codebook follows its latents as a moving
average, or by the gradient; dead codes are revived, and how much of it is in use is told for pictures and
clips apart: a codebook may serve one and not the other.

The batch norms of the temporal blocks stay as they were opened: with the statistics of a batch a picture's
codes would depend on its neighbours, and differ between training and use. A fresh network's are the identity.

A run goes on where its newest checkpoint stands, with the same numbers: batches are a function of the step.
Memory: the network three times (weights, gradient and moments), and the activations of a batch; of a picture
one frame, of a chunk all.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from infinity_mm.models.emu3_vq import VisionTokenizer, latents_of_clips, latents_of_pictures, pixels_of
from trainers.checkpoint import Checkpoints, newest, restore
from trainers.codebook import Codebook, Quantised, Usage, quantise
from trainers.parallel import World
from trainers.picture_scores import psnr, ssim

FORMAT = "vision tokenizer"
EVERY = 50  # steps between two lines
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a tokenizer is trained. Raises ValueError for a term that does not exist."""

    steps: int
    seed: int = 0
    rate: float = 1e-3
    warmup: int = 50  # steps
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0  # most norm of the gradient
    codebook: Literal["ema", "gradient"] = "ema"
    decay: float = 0.99  # of the moving averages
    least: float = 0.1  # share of an even use below which a code is dead
    terms: Mapping[str, float] = field(default_factory=lambda: {"l2": 1.0, "commitment": 0.25})
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the network's sums; the codebook's are float32
    device: str = "cpu"
    save: int = 200  # steps between two checkpoints

    def __post_init__(self) -> None:
        for name in self.terms:
            if name not in TERMS:
                raise ValueError(f"terms: no term {name!r}; there are {', '.join(TERMS)}")
        if self.codebook == "gradient" and "codebook" not in self.terms:
            raise ValueError("a codebook that learns by the gradient needs the term 'codebook'")


class Batch(NamedTuple):
    """`pictures`: uint8 [B, H, W, 3]; `clips`: uint8 [N, chunk, H, W, 3], chunks; either may be empty.
    With them how much each pixel counts, float32 [B, H, W] and [N, chunk, H, W], or None for all alike."""

    pictures: Frames
    clips: Frames
    picture_weights: npt.NDArray[np.float32] | None = None
    clip_weights: npt.NDArray[np.float32] | None = None


class Seen(NamedTuple):
    """What terms look at: frames made and true, [B, T, 3, H, W] from -1 to 1, how much each pixel counts,
    [B, T, 1, H, W], the latents [B, 1, h, w, D] and what became of them."""

    made: torch.Tensor
    true: torch.Tensor
    weights: torch.Tensor
    latents: torch.Tensor
    quantised: Quantised


def l2(seen: Seen) -> torch.Tensor:
    """Mean squared error, weighted by pixel; pixels are from -1 to 1."""
    error = (seen.made - seen.true).square().mean(2, keepdim=True)
    return (error * seen.weights).sum() / seen.weights.sum()


def l1(seen: Seen) -> torch.Tensor:
    """Mean absolute error, weighted by pixel."""
    error = (seen.made - seen.true).abs().mean(2, keepdim=True)
    return (error * seen.weights).sum() / seen.weights.sum()


def commitment(seen: Seen) -> torch.Tensor:
    """How far latents are from their codes; it moves the latents (arXiv 1711.00937, equation 3)."""
    return F.mse_loss(seen.latents, seen.quantised.nearest.detach())


def codebook(seen: Seen) -> torch.Tensor:
    """The same distance; it moves the codes."""
    return F.mse_loss(seen.quantised.nearest, seen.latents.detach())


Term = Callable[[Seen], torch.Tensor]
TERMS: dict[str, Term] = {"l2": l2, "l1": l1, "commitment": commitment, "codebook": codebook}


class Trained(nn.Module):
    """A tokenizer's network and what its codebook remembers."""

    def __init__(self, vq: Any, settings: Settings) -> None:
        super().__init__()
        self.vq = vq.eval().to(settings.device, torch.float32)
        table = vq.quantize.embedding.weight
        self.moves = settings.codebook == "ema"
        table.requires_grad_(not self.moves)
        self.codebook = Codebook(*table.shape, decay=settings.decay, least=settings.least).to(settings.device)

    @property
    def table(self) -> torch.Tensor:
        weight: torch.Tensor = self.vq.quantize.embedding.weight
        return weight

    def forward(self, frames: torch.Tensor, weights: torch.Tensor | None, dtype: torch.dtype) -> Seen:
        """Frames [B, T, 3, H, W] from -1 to 1: pictures where T is 1, else chunks."""
        picture = frames.shape[1] == 1
        with torch.autocast(frames.device.type, dtype, enabled=dtype != torch.float32):
            latents = (
                latents_of_pictures(self.vq, frames[:, 0]) if picture else latents_of_clips(self.vq, frames)
            )
        latents = latents.float().permute(0, 1, 3, 4, 2)
        if not self.codebook.uses.any():
            self.codebook.begin(self.table.data, latents.detach().flatten(0, -2))
        found = quantise(latents, self.table)
        with torch.autocast(frames.device.type, dtype, enabled=dtype != torch.float32):
            made = pixels_of(self.vq, found.vectors.permute(0, 1, 4, 2, 3), frames=frames.shape[1])
        if weights is None:
            weights = torch.ones_like(frames[:, :, :1])
        return Seen(made.float(), frames, weights, latents, found)


def train(
    vq: Any,
    batches: Callable[[int], Iterator[Batch]],
    settings: Settings,
    folder: Path,
    say: Callable[[str], None] = print,
) -> Any:
    """Train an `Emu3VQVAE` in place; it is returned. `batches(step)` gives the batches from that step on, the
    same for the same step. Checkpoints lie in `folder`. Raises ValueError for those of another training."""
    torch.manual_seed(settings.seed)
    model = Trained(vq, settings)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.rate, betas=settings.betas, weight_decay=0.0)
    world = World(0, 1, torch.device(settings.device))
    checkpoints = Checkpoints(folder, 2, world)
    configuration = {"format": FORMAT, "settings": _plain(settings), "network": _network(vq)}
    first = _resumed(model, optimizer, world, folder, configuration, say)
    usage, revived, last, began = Usage(len(model.table)), 0, first, time.monotonic()
    dtype = getattr(torch, settings.dtype)
    source = batches(first) if first < settings.steps else iter(())
    try:
        for step, batch in enumerate(source, first):
            rate = settings.rate * min(1.0, (step + 1) / settings.warmup) * (1 - step / settings.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            seen = {name: model(*given, dtype) for name, given in _given(batch, settings.device).items()}
            total, told = losses(seen, settings.terms)
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(parameters, settings.clip)
            optimizer.step()
            latents = torch.cat([one.latents.detach().flatten(0, -2) for one in seen.values()])
            codes = torch.cat([one.quantised.codes.flatten() for one in seen.values()])
            revived += model.codebook.update(model.table.data, latents, codes, move=model.moves)
            for name, one in seen.items():
                usage.add(name, one.quantised.codes)
            done = step + 1
            if done % EVERY == 0 or done == settings.steps:
                say(_line(done, told, usage, revived, (done - last) / (time.monotonic() - began)))
                revived, last, began = 0, done, time.monotonic()
            if done % settings.save == 0 or done == settings.steps:
                checkpoints.save(model, optimizer, {"step": done, **configuration})
            if done == settings.steps:
                break
    finally:
        checkpoints.wait()
    return vq


def losses(seen: Mapping[str, Seen], terms: Mapping[str, float]) -> tuple[torch.Tensor, dict[str, float]]:
    """The weighted sum of all terms over all modalities, each by its share of the frames; and each term."""
    frames = {name: one.true.shape[0] * one.true.shape[1] for name, one in seen.items()}
    whole = sum(frames.values())
    found = {
        term: torch.stack([TERMS[term](one) * (frames[name] / whole) for name, one in seen.items()]).sum()
        for term in terms
    }
    total = torch.stack([weight * found[term] for term, weight in terms.items()]).sum()
    return total, {term: value.item() for term, value in found.items()}


def _given(batch: Batch, device: str) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """Frames and weights of each modality that the batch has."""
    found = {}
    for name, frames, weights in (
        ("pictures", batch.pictures[:, None], _time(batch.picture_weights)),
        ("clips", batch.clips, batch.clip_weights),
    ):
        if len(frames):
            pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 1, 4, 2, 3)
            counts = None if weights is None else torch.from_numpy(weights).to(device)[:, :, None]
            found[name] = (pixels.float().div(127.5).sub(1), counts)
    return found


def _time(weights: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32] | None:
    return None if weights is None else weights[:, None]


def _resumed(
    model: Trained,
    optimizer: torch.optim.Optimizer,
    world: World,
    folder: Path,
    configuration: dict[str, Any],
    say: Callable[[str], None],
) -> int:
    """The step to go on with."""
    found, refused = newest(folder)
    for path, why in refused.items():
        say(f"passed over {path.name}: {why}")
    if found is None:
        return 0
    was = {key: found.about.get(key) for key in configuration}
    if was != configuration:
        other = next(key for key in configuration if was[key] != configuration[key])
        raise ValueError(
            f"{folder} has checkpoints of another training ({other} is not the same): give another folder"
        )
    restore(found.path, model, optimizer, world, 1)
    say(f"goes on after step {found.about['step']}")
    return int(found.about["step"])


def _plain(settings: Settings) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(settings).items()
        if key != "save"
    }


def _network(vq: Any) -> dict[str, list[int]]:
    return {name: list(p.shape) for name, p in vq.named_parameters()}


def _line(step: int, told: Mapping[str, float], usage: Usage, revived: int, speed: float) -> str:
    terms = "  ".join(f"{name} {value:.4f}" for name, value in told.items())
    used = "  ".join(
        f"{name} {one['used']:.0%} of the codes, perplexity {one['perplexity']:.0f}"
        for name, one in usage.told().items()
    )
    return f"step {step:>6,}  {terms}  {used}  revived {revived}  {speed:.2f} steps/s"


def save(vq: Any, out: Path, area: int, dtype: torch.dtype) -> None:
    """Write a tokenizer as transformers reads it, and how pictures of `area` pixels are prepared for it."""
    preprocessing = {
        "image_processor_type": "Emu3ImageProcessor", "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "min_pixels": area, "max_pixels": area, "spatial_factor": vq.spatial_scale_factor, "resample": 3,
        "rescale_factor": 1 / 255,
    }  # fmt: skip
    vq.to(dtype).save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=1) + "\n")


def scores(tokenizer: VisionTokenizer, pictures: Frames, clips: Frames, batch: int = 16) -> dict[str, Any]:
    """How well a tokenizer gives back pictures uint8 [N, H, W, 3] and chunks uint8 [M, chunk, H, W, 3]: PSNR
    in dB and SSIM, means over pictures (frames), and the share of the codes in use, of each and of both."""
    usage, found = Usage(tokenizer.facts.codebook), dict[str, Any]()
    for name, given in (("pictures", pictures), ("clips", clips)):
        if not len(given):
            continue
        made = []
        for at in range(0, len(given), batch):
            part = given[at : at + batch]
            codes = tokenizer.encode_pictures(part) if part.ndim == 4 else tokenizer.encode_chunks(part)
            for of in (name, "both"):
                usage.add(of, torch.from_numpy(codes))
            made.append(
                tokenizer.decode_pictures(codes) if part.ndim == 4 else tokenizer.decode_clip(codes, batch)
            )
        true, back = given.reshape(-1, *given.shape[-3:]), np.concatenate(made)
        found[name] = {"psnr": float(psnr(back, true).mean()), "ssim": float(ssim(back, true).mean())}
    for name, told in usage.told().items():
        found[name] = found.get(name, {}) | told
    return found
