"""Training a LLaVA-style model in the stages of a recipe (`trainers.stages`)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from infinity_mm.executor import Report
from infinity_mm.store import Store
from trainers.batch import Pack
from trainers.llava.card import card
from trainers.llava.config import Recipe, Stage
from trainers.llava.cost import pack_cost
from trainers.llava.data import Data
from trainers.llava.export import export
from trainers.llava.memory import estimate
from trainers.llava.model import Llava
from trainers.llava.prepare import composition_of, prepare, sketch
from trainers.memory import Memory
from trainers.monitor import Cost
from trainers.optim import freeze
from trainers.parallel import World
from trainers.plan import Figures
from trainers.prepared import Prepared


class LlavaTrainer:
    """What LLaVA adds to a recipe's stages."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.composition = composition_of(recipe.model)

    def sketch(self, stage: Stage) -> Llava:
        return sketch(self.composition, stage)

    def prepare(self, stage: Stage, ranks: World, report: Report | None) -> Prepared:
        return prepare(self.recipe, stage, self.composition, ranks, report)

    def build(self, prepared: Prepared, ranks: World) -> Llava:
        model = self.composition.build(torch.float32, self.recipe.seed)
        model.geometry = prepared.encoding.geometry
        freeze(model.trainable(), prepared.stage.train)
        if self.recipe.compute.recompute:
            model.recompute()
        return model.to(ranks.device).train()

    def groups(self, prepared: Prepared) -> Sequence[str]:
        return prepared.mixture.sources

    def cost(self, model: Llava) -> Callable[[Pack], Cost]:
        return pack_cost(model)

    def memory(self, model: Llava, figures: Figures, ranks: World) -> Memory:
        return estimate(model, self.recipe.compute, ranks.size, ranks.device.type, figures.largest)

    def data(self, prepared: Prepared, ranks: World) -> Data:
        return Data(
            prepared.plan,
            prepared.encoding,
            workers=self.recipe.workers,
            fill=self.composition.fill,
            pin=ranks.device.type == "cuda",
        )

    def export(
        self, model: Llava, state: Mapping[str, torch.Tensor], folder: Path, about: Mapping[str, Any]
    ) -> bool:
        dtype, out = getattr(torch, self.recipe.export_dtype), Path(self.recipe.out)
        text = card(out.resolve().name, out, about, Store.open(self.recipe.store), model, self.composition)
        export(model, self.composition, folder, card=text, state=state, dtype=dtype, replace=True)
        return True
