"""A stage made ready: its data's tokens checked against the model, measured, mixed and planned."""

from dataclasses import replace

import numpy as np
import torch

from infinity_mm.executor import Report
from infinity_mm.store import Store
from trainers.emu3.compose import Composition
from trainers.emu3.config import Recipe, Stage
from trainers.emu3.documents import Encoding
from trainers.emu3.layouts import Weights
from trainers.emu3.lengths import Emu3Lengths, measure_lengths, tokens_of
from trainers.emu3.model import Emu3
from trainers.mixture import Mixture
from trainers.optim import freeze
from trainers.parallel import World
from trainers.plan import Plan
from trainers.prepared import Prepared, batching


def encoding_of(recipe: Recipe, stage: Stage, composition: Composition) -> Encoding:
    """How a stage lays samples out."""
    return Encoding(
        tokenizer=composition.tokenizer,
        vocabulary=composition.vocabulary,
        weights=Weights(stage.weights.text, stage.weights.vision, stage.weights.marks),
        answers_only=stage.answers_only,
        captions=stage.captions,
        drawn=stage.drawn,
        null_prompt=stage.null_prompt,
        seed=recipe.seed,
    )


def prepare(
    recipe: Recipe, stage: Stage, composition: Composition, world: World, report: Report | None = None
) -> Prepared:
    """Open a stage's manifests, check their tokens, measure what lengths are missing, and plan its steps.

    The first rank measures, the others read what it wrote. Raises ValueError for a manifest that is not there
    or damaged, without visual tokens or with those of another tokenizer, for an empty mixture, for a context
    that is too short for a picture, and for samples longer than a pack where they are refused.
    """
    context = composition.config.max_position_embeddings
    if stage.length > context:
        raise ValueError(
            f"stage {stage.name}: length {stage.length:,} is more than the model's context of {context:,}: "
            "lower it, or raise model.language_model.max_position_embeddings"
        )
    store = Store.open(recipe.store)
    encoding = encoding_of(recipe, stage, composition)
    with store.using():
        mixture = Mixture.open(store, stage.data)
        _check_tokens(mixture, stage, composition)
        if not world.first:
            world.wait()
        lengths = measure_lengths(mixture.manifests, encoding, workers=recipe.workers, report=report)
        if world.first:
            world.wait()
    if stage.overlong == "refuse":
        _check_pictures(mixture, lengths, stage)
    return Prepared(stage, mixture, encoding, Plan(mixture, lengths, batching(recipe, stage, tiles=1)))


def sketch(composition: Composition, stage: Stage) -> Emu3:
    """The model of a stage without numbers: its parameters' shapes, and which of them are trained.
    Raises ValueError for a pattern that matches nothing."""
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = replace(composition, folder=None).build()
    torch.set_rng_state(state)
    freeze(dict(model.named_parameters()), stage.train)
    return model


def _check_tokens(mixture: Mixture, stage: Stage, composition: Composition) -> None:
    """Whether the data's tokens are of the model's vision tokenizer."""
    facts = composition.vision.facts
    for name, tokens in zip(stage.data, tokens_of(mixture.manifests), strict=True):
        if tokens is not None and tokens.tokenizer != facts.digest:
            raise ValueError(
                f"stage {stage.name}: the tokens of {name} were made by vision tokenizer "
                f"{tokens.tokenizer[:12]}…, and the model's, {composition.vision.spec}, is "
                f"{facts.digest[:12]}…: give the one that made them, or run `imm tokenize` with this one"
            )


def _check_pictures(mixture: Mixture, lengths: Emu3Lengths, stage: Stage) -> None:
    """Whether a pack can hold each picture alone, between BOS and EOS."""
    largest, place = stage.length - 2, None
    for number, shard in enumerate(mixture.shards):
        rows = shard.selected.rows
        sizes = lengths.column(shard.sha256, "visual")[rows]
        if len(sizes) and sizes.max() > largest:
            largest, place = int(sizes.max()), (number, int(rows[sizes.argmax()]))
    if place is not None:
        (identity,) = mixture.ids(np.array([place]))
        raise ValueError(
            f"stage {stage.name}: a context of {stage.length:,} tokens is too short for one picture: sample "
            f"{identity.hex()} shows one of {largest:,} tokens; give more length, tokenize smaller pictures, "
            "or overlong: skip"
        )
