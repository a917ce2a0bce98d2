"""Training an Emu3-style model in the stages of a recipe (`trainers.stages`)."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from infinity_mm.executor import Report
from infinity_mm.store import Store
from trainers import memory
from trainers.batch import Pack
from trainers.data import Data
from trainers.emu3.card import card
from trainers.emu3.compose import compose
from trainers.emu3.config import Recipe, Stage
from trainers.emu3.data import data_of
from trainers.emu3.documents import KINDS
from trainers.emu3.export import AREAS, export
from trainers.emu3.lengths import Emu3Lengths
from trainers.emu3.model import Emu3
from trainers.emu3.prepare import prepare, sketch
from trainers.flops import Part, attention_width, flops, linear_weights
from trainers.memory import Memory, kept_layers, kept_logits, width_of
from trainers.monitor import Cost
from trainers.optim import freeze
from trainers.parallel import World
from trainers.plan import Figures
from trainers.prepared import Prepared


class Emu3Trainer:
    """What Emu3 adds to a recipe's stages."""

    def __init__(self, recipe: Recipe) -> None:
        parts = recipe.model
        self.recipe, self.areas = recipe, AREAS
        self.composition = compose(
            parts.language_model,
            parts.tokenizer,
            parts.vision_tokenizer,
            qk_norm=parts.qk_norm,
            z_loss=parts.z_loss,
        )

    def sketch(self, stage: Stage) -> Emu3:
        return sketch(self.composition, stage)

    def prepare(self, stage: Stage, ranks: World, report: Report | None) -> Prepared:
        prepared = prepare(self.recipe, stage, self.composition, ranks, report)
        lengths = prepared.plan.lengths
        assert isinstance(lengths, Emu3Lengths)
        pictures = lengths.pictures(prepared.mixture)
        if pictures is not None:  # what it is asked about later is to be as large
            least, most = (codes * self.composition.vision.facts.factor**2 for codes in pictures)
            self.areas = least, most
        return prepared

    def build(self, prepared: Prepared, ranks: World) -> Emu3:
        model = self.composition.build(self.recipe.seed)
        freeze(dict(model.named_parameters()), prepared.stage.train)
        if self.recipe.compute.recompute:
            model.recompute()
        return model.to(ranks.device).train()

    def groups(self, prepared: Prepared) -> Sequence[str]:
        return [f"{source} {kind}" for source in prepared.mixture.sources for kind in KINDS]

    def cost(self, model: Emu3) -> Callable[[Pack], Cost]:
        return pack_cost(model)

    def memory(self, model: Emu3, figures: Figures, ranks: World) -> Memory:
        compute, tokens = self.recipe.compute, figures.largest[0]
        kept = width_of(compute) * tokens * kept_layers(model, compute.recompute)
        kept += kept_logits(tokens, model.config.vocab_size)
        return memory.estimate(model, compute, ranks.size, ranks.device.type, kept)

    def data(self, prepared: Prepared, ranks: World) -> Data:
        pin = ranks.device.type == "cuda"
        return data_of(prepared.plan, prepared.encoding, workers=self.recipe.workers, pin=pin)

    def export(
        self, model: Emu3, state: Mapping[str, torch.Tensor], folder: Path, about: Mapping[str, Any]
    ) -> bool:
        if model.qk_norm:
            print(
                f"{folder} is not written: transformers' Emu3 has no layer for model.qk_norm; the weights "
                "are in the checkpoints",
                file=sys.stderr,
            )
            return False
        dtype, out = getattr(torch, self.recipe.export_dtype), Path(self.recipe.out)
        text = card(out.resolve().name, out, about, Store.open(self.recipe.store), model, self.composition)
        more = {"state": state, "dtype": dtype, "areas": self.areas}
        export(model, self.composition, folder, card=text, replace=True, **more)
        return True


def pack_cost(model: Emu3) -> Callable[[Pack], Cost]:
    """A function that tells a pack's cost: layers, attention within documents, the head where it works."""
    config = model.language_model.config
    body = Part(linear_weights(model.language_model.model), attention_width(config), causal=True)
    head = Part(model.language_model.lm_head.weight.numel())

    def cost(pack: Pack) -> Cost:
        total = flops(body, pack.starts_D.diff().tolist(), trained=True, through=True)
        return Cost(total + flops(head, [len(pack.targets_S)], trained=True, through=True), 0)

    return cost
