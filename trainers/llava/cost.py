"""What a pack costs a model in floating-point operations: vision tower, projector, language model and head.

Each tile is attended to whole, each document causally and alone; the head is counted where it works, at
supervised positions. What is frozen costs its forward pass, and where gradients go through it to what comes
before, that too.
"""

from collections.abc import Callable

from torch import nn

from trainers.batch import Pack
from trainers.flops import Part, attention_width, flops, linear_weights
from trainers.llava.model import Llava
from trainers.monitor import Cost


def pack_cost(model: Llava) -> Callable[[Pack], Cost]:
    """A function that tells a pack's cost, of a model whose parameters are frozen or not already.

    It keeps nothing of the model but numbers, so that it can be sharded afterwards.
    """
    tower = Part(linear_weights(model.vision_tower), attention_width(model.vision_tower.config))
    projector = Part(linear_weights(model.multi_modal_projector))
    body = model.language_model.model
    language = Part(linear_weights(body), attention_width(model.language_model.config), causal=True)
    head = Part(model.language_model.lm_head.weight.numel())
    sees = any_trained(model.vision_tower)
    projects = any_trained(model.multi_modal_projector)
    speaks = any_trained(body)
    scores = any_trained(model.language_model.lm_head)
    before_language = sees or projects or model.image_newline.requires_grad
    patches = model.geometry.grid**2
    seen = patches + model.leading

    def cost(pack: Pack) -> Cost:
        tiles = len(pack.tiles_N)
        lengths = pack.starts_D.diff().tolist()
        vision = flops(tower, [seen] * tiles, trained=sees, through=False)
        total = (
            vision
            + flops(projector, [patches] * tiles, trained=projects, through=sees)
            + flops(language, lengths, trained=speaks, through=before_language)
            + flops(head, [len(pack.targets_S)], trained=scores, through=before_language or speaks)
        )
        return Cost(total, vision)

    return cost


def any_trained(module: nn.Module) -> bool:
    """Whether any of its parameters is."""
    return any(p.requires_grad for p in module.parameters())
