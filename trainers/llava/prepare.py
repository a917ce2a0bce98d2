"""A stage made ready: its data measured, mixed and planned, and its model's shape, without a weight."""

from dataclasses import replace

import torch

from infinity_mm.executor import Report
from infinity_mm.models.shipped import shipped_folder
from infinity_mm.store import Store
from trainers.hub_parts import folder_of
from trainers.llava.compose import Composition, compose, exported
from trainers.llava.config import Parts, Recipe, Stage
from trainers.llava.documents import Encoding
from trainers.llava.lengths import measure_lengths
from trainers.llava.model import Llava
from trainers.llava.parts import Part
from trainers.mixture import Mixture
from trainers.optim import freeze
from trainers.parallel import World
from trainers.plan import Plan
from trainers.prepared import Prepared, batching


def composition_of(parts: Parts) -> Composition:
    """What the recipe's model is made of. Raises ValueError, in one line with the way out."""
    if parts.checkpoint is not None:
        return exported(folder_of("checkpoint", str(shipped_folder(parts.checkpoint))))
    assert parts.vision_tower is not None and parts.language_model is not None
    return compose(
        parts.vision_tower,
        parts.language_model,
        tokenizer=parts.tokenizer,
        projector=parts.projector,
        feature_layer=parts.feature_layer,
        template=parts.template,
        image_token=parts.image_token,
    )


def prepare(
    recipe: Recipe, stage: Stage, composition: Composition, world: World, report: Report | None = None
) -> Prepared:
    """Open a stage's manifests, measure what lengths are missing, and plan its steps.

    The first rank measures, the others read what it wrote. Raises ValueError for a manifest that is not there
    or damaged, for an empty mixture, and for samples longer than a pack where they are refused.
    """
    store = Store.open(recipe.store)
    geometry = stage.geometry(composition.side, composition.patch)
    encoding = Encoding(chat=composition.tokens.chat, geometry=geometry, frames=stage.frames)
    with store.using():
        mixture = Mixture.open(store, stage.data)
        if not world.first:
            world.wait()
        lengths = measure_lengths(mixture.manifests, encoding, workers=recipe.workers, report=report)
        if world.first:
            world.wait()
    plan = Plan(mixture, lengths, batching(recipe, stage, stage.tiles))
    return Prepared(stage, mixture, encoding, plan)


def sketch(composition: Composition, stage: Stage) -> Llava:
    """The model of a stage without numbers: its parameters' shapes, and which of them are trained.
    Raises ValueError for a pattern that matches nothing."""
    tower, language = (Part(part.config, None) for part in (composition.tower, composition.language))
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = replace(composition, whole=None, tower=tower, language=language).build()
    torch.set_rng_state(state)
    model.geometry = stage.geometry(composition.side, composition.patch)
    freeze(model.trainable(), stage.train)
    return model
