"""How fast `imm train llava` trains: beside the Trainer and nanoVLM on a CPU, and the 2B model on a GPU.

    python benchmarks/train_llava.py                       a small model, the same samples in all, in turn
    python benchmarks/train_llava.py --nanovlm CHECKOUT    nanoVLM's own code too, from its repository
    python benchmarks/train_llava.py --gpu                 SigLIP-so400m + Qwen2.5-1.5B, made-up packs

beside  A step is the same 32 scenes, on one thread, in float32, with AdamW and clipping. Ours takes them
        packed; Hugging Face's Trainer, with the same weights, padded to the longest of each micro-batch of
        8; nanoVLM, a model of its own as near in size as it can be (benchmarks/nanovlm_step.py says what
        differs), in rows by its own packer and collator as its train.py does, and padded as the Trainer.
        Decoding and tiling are in none. Of each are told: parameters, positions of a step with padding and
        the share that documents fill, work (floating-point operations as a multiple of ours, padding's too),
        the fastest and the median step by the clock, the fastest by the processor (which another process's
        turns do not lengthen), and supervised tokens a second at the fastest by the clock. The Trainer needs
        accelerate, nanoVLM einops.
gpu     Bfloat16 with float32 weights, recomputation, one rank; a pack is documents of a picture of 5 tiles
        and 200 tokens of text, a third of them supervised. Told are tokens/s, peak memory, and the share of
        the dense bfloat16 peak with the vision tower counted and without.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import nanovlm_step as nanovlm
import numpy as np
import torch

from infinity_mm.cli import main as imm
from infinity_mm.image_tokens import Visual
from trainers import tiny_tower
from trainers.batch import Document, Pack
from trainers.config import Compute, Optimizer
from trainers.flops import Part, attention_width, flops, linear_weights, peak
from trainers.llava.compose import Composition, compose
from trainers.llava.config import SHIPPED, read
from trainers.llava.cost import pack_cost
from trainers.llava.data import Data
from trainers.llava.documents import join
from trainers.llava.export import export
from trainers.llava.model import Llava
from trainers.llava.prepare import composition_of, prepare
from trainers.loop import backward
from trainers.optim import adamw, clip, freeze
from trainers.parallel import World, distribute, inner, world

BATCH, MICRO = 32, 8
SETTINGS = Optimizer(lr={"*": 1e-4})
TOWER = {
    "model_type": "siglip_vision_model",
    "image_size": 384,
    "patch_size": 14,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
LANGUAGE = {
    "model_type": "qwen2",
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}
Step = Callable[[], float]


def stepper(model: torch.nn.Module, packs: list[Pack], ranks: World) -> Step:
    """Our step over some packs; its loss."""
    optimizer = adamw(inner(model), SETTINGS)
    trained = [p for p in model.parameters() if p.requires_grad]
    supervised = sum(len(pack.targets_S) for pack in packs)

    def step() -> float:
        sums = backward(model, packs, supervised, 1 + max(int(p.sources_S.max()) for p in packs), ranks)
        clip(trained, SETTINGS.clip)
        optimizer.step()
        optimizer.zero_grad()
        return float(sums[:, 0].sum()) / supervised

    return step


# beside Hugging Face's Trainer and nanoVLM


class Side(NamedTuple):
    """One of those measured: its step, and what a step takes."""

    parameters: int
    positions: int  # of the language model, with padding
    operations: int  # floating-point
    step: Step


def beside(steps: int, checkout: Path | None) -> dict[str, Any]:
    """Steps of each, in turn."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packs, composition, geometry = scenes(folder)
        model = composition.build(seed=0).train()
        model.geometry = geometry
        freeze(model.trainable(), ("*",))
        export(model, composition, folder / "model", card="")
        sides, absent = {"ours": our_side(model, packs)}, {}
        if find_spec("accelerate"):
            sides["trainer"] = trainer_side(folder, model, packs, composition)
        else:
            absent["trainer"] = "left out: pip install accelerate"
        if checkout is not None:
            sides |= nanovlm_sides(checkout, folder, packs, composition)
        else:
            absent["nanovlm"] = "left out: give a checkout of huggingface/nanoVLM with --nanovlm"
        first = {who: side.step() for who, side in sides.items()}
        seconds: dict[str, list[float]] = {who: [] for who in sides}
        processor: dict[str, list[float]] = {who: [] for who in sides}
        for _ in range(steps):
            for who, side in sides.items():
                began, spent = time.perf_counter(), time.process_time()
                side.step()
                seconds[who].append(time.perf_counter() - began)
                processor[who].append(time.process_time() - spent)
    supervised = sum(len(pack.targets_S) for pack in packs)
    tokens = sum(len(pack.tokens_T) for pack in packs)
    told = {
        who: {
            "parameters": side.parameters,
            "positions": side.positions,
            "filled": tokens / side.positions,
            "work": side.operations / sides["ours"].operations,
            "first_loss": first[who],
            "fastest_seconds": min(seconds[who]),
            "median_seconds": statistics.median(seconds[who]),
            "processor_seconds": min(processor[who]),
            "supervised_per_second": supervised / min(seconds[who]),
        }
        for who, side in sides.items()
    }
    return {"samples": BATCH, "tokens": tokens, "supervised": supervised, "steps": steps, **told, **absent}


def our_side(model: Llava, packs: list[Pack]) -> Side:
    lengths = [n for pack in packs for n in pack.starts_D.diff().tolist()]
    scored = sum(len(pack.targets_S) for pack in packs)
    work = operations(llava_parts(model), model, packs, lengths, scored)
    step = stepper(model, packs, World(0, 1, torch.device("cpu")))
    return Side(parameters(model), sum(lengths), work, step)


def trainer_side(folder: Path, model: Llava, packs: list[Pack], composition: Composition) -> Side:
    batches = padded(packs, composition)
    sizes = [batch["input_ids"].shape for batch in batches]
    lengths = [length for count, length in sizes for _ in range(count)]
    work = operations(llava_parts(model), model, packs, lengths, sum(lengths))
    step = trainer(folder, batches, sum(len(pack.targets_S) for pack in packs))
    return Side(parameters(model), sum(lengths), work, step)


def nanovlm_sides(
    checkout: Path, folder: Path, packs: list[Pack], composition: Composition
) -> dict[str, Side]:
    """In rows and padded, each with a model of its own."""
    found = {}
    supervised = sum(len(pack.targets_S) for pack in packs)
    for who in ("nanovlm_rows", "nanovlm_padded"):
        torch.manual_seed(0)
        model = nanovlm.build(checkout, composition, folder / "model")
        samples = nanovlm.documents(
            packs, model, [tiles_of(v, composition) for p in packs for v in p.visuals]
        )
        rows = who == "nanovlm_rows"
        batches = nanovlm.rows(samples, model) if rows else nanovlm.padded(shuffled(samples), model, MICRO)
        lengths = [len(row) for batch in batches for row in batch["input_ids"]]
        work = operations(nanovlm.parts(model, composition), composition, packs, lengths, sum(lengths))
        assert sum(int((batch["labels"] >= 0).sum()) for batch in batches) == supervised
        step = nanovlm.stepper(model, batches, SETTINGS.lr["*"], SETTINGS.clip)
        found[who] = Side(parameters(model), sum(lengths), work, step)
    return found


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def llava_parts(model: Llava) -> tuple[Part, ...]:
    """Tower, projector, language model and head, as costs of a token."""
    body = model.language_model.model
    return (
        Part(linear_weights(model.vision_tower), attention_width(model.vision_tower.config)),
        Part(linear_weights(model.multi_modal_projector)),
        Part(linear_weights(body), attention_width(model.language_model.config), causal=True),
        Part(model.language_model.lm_head.weight.numel()),
    )


def operations(
    parts: tuple[Part, ...], seen: Llava | Composition, packs: list[Pack], lengths: list[int], scored: int
) -> int:
    """Of a step over rows of these lengths, the head at so many positions, as cost.py counts."""
    tiles = [seen.geometry.grid**2] * sum(len(pack.tiles_N) for pack in packs)
    sizes = (tiles, tiles, lengths, [scored])
    return sum(flops(part, of, trained=True, through=True) for part, of in zip(parts, sizes, strict=True))


def scenes(folder: Path) -> tuple[list[Pack], Composition, Any]:
    """A step of scenes of one picture or none, for the tiny model."""
    kinds = ["--multi-image-share", "0", "--video-share", "0", "--text-only-share", "0.1"]
    imm(["scenes", "--out", str(folder / "scenes"), "--count", str(BATCH), *kinds])
    imm(["ingest", str(folder / "scenes" / "data.json"), "--store", str(folder / "store"), "--out", "scenes"])
    recipe = read(SHIPPED / "tiny.yaml")
    parts = replace(recipe.model, vision_tower={"model_type": "siglip_vision_model", **tiny_tower.TOWER})
    recipe = replace(recipe, model=parts, store=str(folder / "store"), workers=0)
    stage = replace(recipe.stages[0], data={"scenes": 1.0}, batch=BATCH, grid=2)
    composition = composition_of(recipe.model)
    prepared = prepare(recipe, stage, composition, World(0, 1, torch.device("cpu")))
    data = Data(prepared.plan, prepared.encoding, workers=0, fill=composition.fill)
    return list(next(data.steps()).packs), composition, prepared.encoding.geometry


def trainer(folder: Path, batches: list[dict[str, torch.Tensor]], supervised: int) -> Step:
    """A step of the Trainer over micro-batches; its loss."""
    from transformers import LlavaOnevisionForConditionalGeneration, Trainer, TrainingArguments

    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder / "model").train()
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=BATCH // MICRO,
        use_cpu=True,
        report_to=[],
    )
    made = Trainer(model=model, args=arguments)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.lr["*"], weight_decay=0.0)
    items = torch.tensor(supervised)
    made.current_gradient_accumulation_steps = len(batches)

    def step() -> float:
        loss = sum(float(made.training_step(model, dict(b), num_items_in_batch=items)) for b in batches)
        torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def padded(packs: list[Pack], composition: Composition) -> list[dict[str, torch.Tensor]]:
    """Documents of one picture or none as the Trainer's micro-batches."""
    documents: list[tuple[torch.Tensor, torch.Tensor, Visual | None, torch.Tensor]] = []
    mean, std = (torch.tensor(v)[:, None, None] for v in (composition.mean, composition.std))
    for pack in packs:
        labels = torch.full_like(pack.tokens_T, -100)
        labels[pack.target_at_S + 1] = pack.targets_S
        visuals, tiles = iter(pack.visuals), pack.tiles_N
        for start, end in pairwise(pack.starts_D.tolist()):
            own = pack.tokens_T[start:end]
            visual = next(visuals) if (own == composition.tokens.image).any() else None
            count = 0 if visual is None else tiles_of(visual, composition)
            pixels, tiles = (tiles[:count] / 255 - mean) / std, tiles[count:]
            documents.append((own, labels[start:end], visual, pixels))
    documents = shuffled(documents)
    return [batch_of(documents[at : at + MICRO]) for at in range(0, len(documents), MICRO)]


def shuffled(documents: list[Any]) -> list[Any]:
    """In an order of chance, as a loader has them: that of our packs is by length, which spares padding."""
    return random.Random(0).sample(documents, len(documents))


def tiles_of(visual: Visual, composition: Composition) -> int:
    side = composition.side
    grids = tuple((side * i, side * j) for i in (1, 2) for j in (1, 2))
    return composition.geometry._replace(pinpoints=grids, limit=4).tiles(visual)


def batch_of(documents: list[Any]) -> dict[str, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    tokens, labels = ([document[n] for document in documents] for n in (0, 1))
    found = {
        "input_ids": pad(tokens, batch_first=True),
        "attention_mask": pad([torch.ones_like(one) for one in tokens], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=-100),
    }
    seen = [(visual, pixels) for _, _, visual, pixels in documents if visual is not None]
    if seen:
        found["pixel_values"] = pad([pixels for _, pixels in seen], batch_first=True)
        found["image_sizes"] = torch.tensor([[visual.height, visual.width] for visual, _ in seen])
        found["batch_num_images"] = torch.tensor([int(visual is not None) for *_, visual, _ in documents])
    return found


# the 2B model


def alone(length: int, steps: int, small: bool, compile: bool) -> dict[str, Any]:
    """Steps of one pack on this machine's first GPU, or of a small model on a CPU to see that it runs."""
    device = "cpu" if small else "cuda"
    tower, language = (dict(TOWER), dict(LANGUAGE))
    if small:
        tower |= {"image_size": 56, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
        language |= {"hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 2}
    compute = Compute(dtype="bfloat16", recompute=True, compile=compile)
    with world(compute, device) as ranks:
        composition = compose(tower, language, tokenizer="tiny", feature_layer=-2)
        side = composition.side
        grids = tuple((side * i, side * j) for i in (1, 2) for j in (1, 2))
        model = composition.build(seed=0).train()
        model.geometry = composition.geometry._replace(pinpoints=grids, limit=4)
        freeze(model.trainable(), ("*",))
        model.recompute()
        packs = [made_up(length, composition, model.geometry)]
        cost = pack_cost(model)(packs[0])
        llava = distribute(model.to(ranks.device), compute, ranks)
        step = stepper(llava, packs, ranks)
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
        best = min(seconds)
        most = peak(ranks.device, None if not small else 0.05) or float("nan")
        tokens = len(packs[0].tokens_T)
        return {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "parameters": sum(p.numel() for p in llava.parameters()),
            "tokens": tokens,
            "tiles": len(packs[0].tiles_N),
            "step_seconds": best,
            "first_step_seconds": seconds[0],
            "tokens_per_second": tokens / best,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
            "mfu": cost.total / best / most,
            "mfu_without_vision": (cost.total - cost.vision) / best / most,
        }


def made_up(length: int, composition: Composition, geometry: Any) -> Pack:
    """Documents of a picture of 5 tiles and 200 tokens of text, as many as fit, one at least."""
    rng = np.random.default_rng(0)
    visual = Visual("single", 2 * geometry.side, 2 * geometry.side)
    image = np.full(geometry.tokens(visual), composition.tokens.image)
    tiles = rng.integers(0, 256, (geometry.tiles(visual), 3, geometry.side, geometry.side), np.uint8)
    size = len(image) + 200
    documents = []
    for _ in range(max(1, length // size)):
        tokens = np.concatenate([image, rng.integers(300, 4000, 200)]).astype(np.int32)
        supervised = np.arange(size) >= size - 67
        documents.append(Document(b"", 0, tokens, supervised, (visual,), tiles))
    return join(documents, geometry.side)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanovlm", type=Path, help="a checkout of huggingface/nanoVLM")
    parser.add_argument("--gpu", action="store_true", help="the 2B model on this machine's GPU")
    parser.add_argument("--small", action="store_true", help="with --gpu: a small model on a CPU, to try it")
    parser.add_argument("--compile", action="store_true", help="with --gpu: compile each layer")
    parser.add_argument("--length", type=int, default=8192, help="tokens of a pack [8192]")
    parser.add_argument("--steps", type=int, default=10, help="steps of each [10]")
    given = parser.parse_args()
    if given.nanovlm and not (given.nanovlm / "models" / "vision_language_model.py").is_file():
        parser.error(f"--nanovlm {given.nanovlm}: no models/vision_language_model.py: give a checkout")
    if given.gpu or given.small:
        result = alone(given.length, given.steps, given.small, given.compile)
    else:
        result = beside(given.steps, given.nanovlm)
    print(json.dumps(result, indent=1))
