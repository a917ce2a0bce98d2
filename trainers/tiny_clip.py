"""Train the tiny CLIP that ships, on scenes drawn for it.

    python -m trainers.tiny_clip --out infinity_mm/models/tiny

Draws scenes with true and false captions (trainers/scene_pairs.py) of the seed given, trains on the CPU,
writes open_clip_config.json and float16 weights, and prints how well the weights as written tell true from
false captions on scenes that no training saw.

Training goes by STAGES. Each tower alone first learns to tell facts (trainers/scene_facts.py), both through
one linear head on their embeddings, texts by short captions of two things; without that, swapped colours and
relations stay at chance. Then the loss has three parts more: a picture among the captions of its batch
(open_clip's ClipLoss); a caption true or false, as the logit scale * (cosine - MARGIN), so that one threshold
serves all pictures; and a true caption above its false twin. The head is thrown away.

Scenes are drawn by another process while the model trains. The same seed and number of threads give the same
weights on one machine.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.models.embedder import Embedder, open_embedder
from infinity_mm.models.open_clip_models import CONFIG, SHARED, WEIGHTS
from infinity_mm.models.tokenizer import EOS, PAD, SIZE
from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.scene_batches import BATCH, CONTEXT, Batch, Stage, batches
from trainers.scene_facts import FACTS, UNSAID
from trainers.scene_pairs import KINDS, SIDE, Pair, draw_lang, draw_pair, pixels, planted

SEED = 400_000  # far from the seeds that tests and benchmarks draw with
CHECK_SEED = 500_000
MARGIN = 0.2
# Of the losses of a stage that has all of them.
LOSSES = {"shown": 0.05, "told": 0.05, "truth": 1.0, "order": 1.0, "matching": 0.5}
MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 12, "head_width": 32},
    "text_cfg": {
        "context_length": CONTEXT, "vocab_size": SIZE, "width": 64, "heads": 4, "layers": 2,
        "pool_type": "eos", "pad_id": PAD, "eos_id": EOS,
    },
}  # fmt: skip
HALF = (0.5, 0.5, 0.5)
# How often scenes of a kind are drawn, and pairs of captions: those learned early less often than late ones.
DRAWN = {"shapes": 0.58, "text": 0.21, "chart": 0.18, "clip": 0.03}
PAIRED = dict.fromkeys(KINDS, 1.0) | {
    "colour": 0.4, "text colour": 0.3, "text": 2.0, "chart": 2.0, "owners": 2.5, "relation": 3.0,
}  # fmt: skip
FULL: dict[str, Any] = {"scenes": DRAWN, "paired": PAIRED}
SHORT: dict[str, Any] = {
    "scenes": {"two": 1.0}, "paired": {"owners": 1.0, "relation": 1.0}, "untold": ("size", "number"),
}  # fmt: skip
STAGES = (
    Stage("texts", 1000, 2e-3, pictures=False, pairs=1, **SHORT),
    Stage("pictures", 1000, 3e-3, pictures=True, pairs=0, **FULL),
    Stage("binding", 250, 2e-3, pictures=True, pairs=2, **SHORT),
    Stage("all", 2600, 2e-3, pictures=True, pairs=2, **FULL),
)


class Settings(NamedTuple):
    """What is trained, and how."""

    seed: int
    threads: int
    stages: tuple[Stage, ...] = STAGES
    warmup: int = 100
    decay: float = 0.05


def train(settings: Settings, every: int = 200) -> Any:
    """The trained model."""
    import_torchvision()
    import torch
    from open_clip.model import CLIP

    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    model = CLIP(**MODEL, init_logit_scale=float(np.log(20)))
    model.visual.to(memory_format=torch.channels_last)
    head = torch.nn.Linear(MODEL["embed_dim"], len(FACTS))
    torch.nn.init.constant_(head.bias, -2.0)
    learned = [*model.parameters(), *head.parameters()]
    drawn, began = batches(settings.stages, settings.seed), time.process_time()
    for stage in settings.stages:
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in learned if p.ndim > 1], "weight_decay": settings.decay},
                {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        for step in range(stage.steps):
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * _schedule(step, stage.steps, settings.warmup)
            losses = _losses(model, head, stage, next(drawn))
            weights = LOSSES if len(losses) > 1 else dict.fromkeys(losses, 1.0)
            loss = sum(weights[name] * value for name, value in losses.items())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, float(np.log(100)))
            if (step + 1) % every == 0 or step + 1 == stage.steps:
                shown = "  ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                print(
                    f"{stage.name:8} {step + 1:>6,}  {shown}  scale {model.logit_scale.exp().item():.1f}  "
                    f"processor {time.process_time() - began:.0f} s",
                    flush=True,
                )
    return model.eval()


def _losses(model: Any, head: Any, stage: Stage, batch: Batch) -> dict[str, Any]:
    """Facts by pictures and by texts, and what both together are learned for."""
    import torch
    import torch.nn.functional as F
    from open_clip.loss import ClipLoss

    losses: dict[str, Any] = {}
    if stage.pictures:
        image_BD = model.encode_image(_tensor(batch.images))
        losses["shown"] = _by_facts(head(image_BD), batch.shown)
    if stage.pairs:
        text_ND = _texts(model, batch.tokens)
        losses["told"] = _by_facts(head(text_ND), batch.told)
    if stage.pictures and stage.pairs:
        image_BD = F.normalize(image_BD, dim=-1)
        text_BKD = F.normalize(text_ND, dim=-1).view(BATCH, 2 * stage.pairs, -1)
        scale = model.logit_scale.exp()
        cosine_BK = torch.einsum("bd,bkd->bk", image_BD, text_BKD)
        truth_BK = torch.tensor([1.0, 0.0] * stage.pairs).expand(BATCH, -1)
        losses["truth"] = F.binary_cross_entropy_with_logits(scale * (cosine_BK - MARGIN), truth_BK)
        losses["order"] = F.softplus(scale * (cosine_BK[:, 1::2] - cosine_BK[:, 0::2])).mean()
        losses["matching"] = ClipLoss()(image_BD, text_BKD[:, 0], scale)
    return losses


def _by_facts(logits_NF: Any, targets_NF: np.ndarray) -> Any:
    """The cross entropies of a row's facts, summed; what it leaves unsaid doesn't count."""
    import torch
    import torch.nn.functional as F

    wanted_NF = torch.from_numpy(targets_NF).float()
    told_NF = (wanted_NF != UNSAID).float()
    return F.binary_cross_entropy_with_logits(logits_NF, wanted_NF, weight=told_NF, reduction="sum") / len(
        targets_NF
    )


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate: a linear rise, then half a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / warmup)
    return rise * float(0.02 + 0.49 * (1 + np.cos(np.pi * step / steps)))


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
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of scenes and weights [{SEED}]")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of the training [1]")
    parser.add_argument(
        "--pairs", type=int, default=1000, help="pairs of captions a kind in the check [1000]"
    )
    given = parser.parse_args()
    save(train(Settings(given.seed, given.threads)), given.out)
    size = (given.out / WEIGHTS[0]).stat().st_size
    print(f"{given.out}: {size:,} bytes of weights\n")
    print(show(tell(open_embedder(f"open_clip:{given.out}", "cpu"), CHECK_SEED, given.pairs)))


if __name__ == "__main__":
    main()
