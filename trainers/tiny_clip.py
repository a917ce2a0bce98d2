"""Train the tiny CLIP that ships, on scenes drawn for it.

    python -m trainers.tiny_clip --out infinity_mm/models/tiny

Draws scenes with true and false captions (trainers/scene_pairs.py) of the seed given, trains on the CPU,
writes open_clip_config.json and float16 weights, and prints how well the weights as written tell true from
false captions on scenes that no training saw. The loss has three parts: a picture among the captions of its
batch (open_clip's ClipLoss); a caption true or false, as the logit scale * (cosine - MARGIN), so that one
threshold serves all pictures; and a true caption above its false twin. Scenes are drawn by another process
while the model trains. The same seed and number of threads give the same weights on one machine.
"""

import argparse
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.models.embedder import Embedder, open_embedder
from infinity_mm.models.open_clip_models import CONFIG, SHARED, WEIGHTS
from infinity_mm.models.tokenizer import EOS, PAD, SIZE, encode_padded
from infinity_mm.models.torchvision_ops import import_torchvision
from infinity_mm.scenes.randomness import pick_weighted
from trainers.scene_pairs import (
    KINDS,
    SIDE,
    Pair,
    draw_lang,
    draw_pair,
    draw_scene,
    pixels,
    planted,
)  # fmt: skip

SEED = 400_000  # far from the seeds that tests and benchmarks draw with
CHECK_SEED = 500_000
BATCH = 64
PAIRS = 2  # of captions for each picture
AHEAD = 8  # batches drawn ahead
MARGIN = 0.2
CONTEXT = 64
MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 12, "head_width": 32},
    "text_cfg": {
        "context_length": CONTEXT, "vocab_size": SIZE, "width": 64, "heads": 2, "layers": 2,
        "pool_type": "eos", "pad_id": PAD, "eos_id": EOS,
    },
}  # fmt: skip
HALF = (0.5, 0.5, 0.5)
# How often scenes of a kind are drawn, and pairs that are learned early or late: the others count 1.
DRAWN = {"shapes": 0.58, "text": 0.21, "chart": 0.18, "clip": 0.03}
HARD = {"colour": 0.4, "text colour": 0.3, "text": 2.0, "chart": 2.0}


class Batch(NamedTuple):
    """`images`: uint8 [B, SIDE, SIDE, 3]; `tokens`: int64 [B * PAIRS * 2, L], of a true and a false caption
    in turn."""

    images: np.ndarray
    tokens: np.ndarray


class Settings(NamedTuple):
    """What is trained, how long and how fast."""

    steps: int
    seed: int
    threads: int
    rate: float = 3e-3
    warmup: int = 200
    decay: float = 0.05


def draw_batch(seed: int, step: int) -> Batch:
    """A batch, the same for the same seed and step."""
    rng = np.random.default_rng([seed, step])
    images: list[np.ndarray] = []
    texts: list[str] = []
    while len(images) < BATCH:
        scene = draw_scene(pick_weighted(rng, DRAWN), rng)
        odds = {kind: HARD.get(kind, 1.0) for kind, (_, of) in KINDS.items() if scene.kind in of}
        pairs: list[Pair] = []
        while len(pairs) < PAIRS:
            made = KINDS[pick_weighted(rng, odds)][0](scene, draw_lang(rng), rng)
            if made is not None and made.true != made.false:
                pairs.append(made)
        images.append(pixels(scene, rng))
        texts += [text for pair in pairs for text in pair]
    tokens = encode_padded(texts, CONTEXT)
    return Batch(np.stack(images), tokens[:, : int((tokens != PAD).sum(axis=1).max())])


def batches(settings: Settings) -> Iterator[Batch]:
    """All batches in order, drawn ahead by a process of their own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        drawn: deque[Future[Batch]] = deque()
        for step in range(settings.steps + AHEAD):
            if step < settings.steps:
                drawn.append(pool.submit(draw_batch, settings.seed, step))
            if step >= AHEAD:
                yield drawn.popleft().result()


def train(settings: Settings, every: int = 200) -> Any:
    """The trained model."""
    import_torchvision()
    import torch
    import torch.nn.functional as F
    from open_clip.loss import ClipLoss
    from open_clip.model import CLIP

    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    model = CLIP(**MODEL, init_logit_scale=float(np.log(20)))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
    among_batch = ClipLoss()
    truth_BK = torch.tensor([1.0, 0.0] * PAIRS).expand(BATCH, -1)
    began = time.process_time()
    for step, batch in enumerate(batches(settings)):
        rate = settings.rate * _schedule(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        image_BD = F.normalize(model.encode_image(_tensor(batch.images)), dim=-1)
        text_BKD = F.normalize(_texts(model, batch.tokens), dim=-1).view(BATCH, 2 * PAIRS, -1)
        scale = model.logit_scale.exp()
        cosine_BK = torch.einsum("bd,bkd->bk", image_BD, text_BKD)
        truth = F.binary_cross_entropy_with_logits(scale * (cosine_BK - MARGIN), truth_BK)
        order = F.softplus(scale * (cosine_BK[:, 1::2] - cosine_BK[:, 0::2])).mean()
        matching = among_batch(image_BD, text_BKD[:, 0], scale)
        loss = truth + order + 0.5 * matching
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        if (step + 1) % every == 0:
            print(
                f"step {step + 1:>6,}  truth {truth.item():.3f}  order {order.item():.3f}  "
                f"matching {matching.item():.3f}  scale {scale.item():.1f}  "
                f"processor {time.process_time() - began:.0f} s",
                flush=True,
            )
    return model.eval()


def _schedule(step: int, settings: Settings) -> float:
    """Share of the learning rate: a linear rise, then half a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / settings.warmup)
    return rise * float(0.02 + 0.49 * (1 + np.cos(np.pi * step / settings.steps)))


def _tensor(images_BHWC: np.ndarray) -> Any:
    """float32 [B, 3, H, W], normalised as the configuration says."""
    import torch

    return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float().div(255).sub(HALF[0]).div(HALF[0])


def _texts(model: Any, tokens_NL: np.ndarray) -> Any:
    """`model.encode_text` of texts shorter than its context: nothing behind a text's end can matter to it."""
    import torch

    text_NL = torch.from_numpy(tokens_NL)
    length = text_NL.shape[1]
    hidden_NLD = model.token_embedding(text_NL) + model.positional_embedding[:length]
    hidden_NLD = model.transformer(hidden_NLD, attn_mask=model.attn_mask[:length, :length])
    ends_ND = model.ln_final(hidden_NLD)[torch.arange(len(text_NL)), (text_NL == EOS).int().argmax(dim=-1)]
    return ends_ND @ model.text_projection


def save(model: Any, out: Path) -> None:
    """Write the configuration and the weights, floating ones as float16."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": MODEL,
        "preprocess_cfg": {"mean": HALF, "std": HALF, "interpolation": "bicubic", "resize_mode": "squash"},
        "tokenizer": SHARED,
    }
    (out / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, str(out / WEIGHTS[0]))
    (out / WEIGHTS[0]).chmod(0o644)  # safetensors writes for its owner alone


class Told(NamedTuple):
    """How true and false captions of one kind are told apart, as areas under the curve: by the scores of the
    picture they are about; of another picture, which is 0.5 unless captions give themselves away."""

    pairs: int
    area: float
    blind: float


def area_under_curve(true: np.ndarray, false: np.ndarray) -> float:
    """The chance that a true one's score is above a false one's, ties counting half (Mann and Whitney)."""
    scores = np.concatenate([true, false])
    values, place = np.unique(scores, return_inverse=True)
    counts = np.bincount(place, minlength=len(values))
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    above = rank[: len(true)].sum() - len(true) * (len(true) + 1) / 2
    return float(above / (len(true) * len(false)))


def tell(embedder: Embedder, seed: int, pairs: int) -> dict[str, Told]:
    """For each kind of pair, and for each thing that `false_caption` spoils, how well scores tell."""
    found = {}
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, number])
        drawn = [draw_pair(kind, rng, draw_lang(rng)) for _ in range(pairs)]
        found[kind] = _told(embedder, [(pixels(s, rng), pair) for s, pair in drawn])
    rng = np.random.default_rng([seed, len(KINDS)])
    spoiled: dict[str, list[tuple[np.ndarray, Pair]]] = {}
    for place in range(3 * pairs):
        scene, pair, what = planted(("shapes", "text", "chart")[place % 3], rng, draw_lang(rng))
        spoiled.setdefault(f"false_caption: {what}", []).append((pixels(scene, rng), pair))
    return found | {kind: _told(embedder, cases) for kind, cases in sorted(spoiled.items())}


def _told(embedder: Embedder, cases: list[tuple[np.ndarray, Pair]]) -> Told:
    images, true, false = (
        np.concatenate([embed(part) for part in _parts(values)])
        for embed, values in (
            (embedder.images, [image for image, _ in cases]),
            (embedder.texts, [pair.true for _, pair in cases]),
            (embedder.texts, [pair.false for _, pair in cases]),
        )
    )
    scores = [
        area_under_curve(np.einsum("nd,nd->n", seen, true), np.einsum("nd,nd->n", seen, false))
        for seen in (images, np.roll(images, 1, axis=0))
    ]
    return Told(len(cases), *scores)


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    yield from (values[at : at + BATCH] for at in range(0, len(values), BATCH))


def show(found: Mapping[str, Told]) -> str:
    """The table as text."""
    lines = [f"{'captions that differ in':28}{'pairs':>7}{'area':>8}{'blind':>8}"]
    lines += [f"{kind:28}{t.pairs:>7,}{t.area:>8.3f}{t.blind:>8.3f}" for kind, t in found.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=4000, help=f"batches of {BATCH} pictures [4000]")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of scenes and weights [{SEED}]")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of the training [1]")
    parser.add_argument(
        "--pairs", type=int, default=1000, help="pairs of captions a kind in the check [1000]"
    )
    given = parser.parse_args()
    save(train(Settings(given.steps, given.seed, given.threads)), given.out)
    size = (given.out / WEIGHTS[0]).stat().st_size
    print(f"{given.out}: {size:,} bytes of weights\n")
    print(show(tell(open_embedder(f"open_clip:{given.out}", "cpu"), CHECK_SEED, given.pairs)))


if __name__ == "__main__":
    main()
