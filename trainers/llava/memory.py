"""How much memory a stage of a LLaVA-style model takes on each rank (`trainers.memory`)."""

from trainers import memory
from trainers.config import Compute
from trainers.llava.cost import any_trained
from trainers.llava.model import Llava
from trainers.memory import Memory, kept_layers, kept_logits, width_of


def estimate(model: Llava, compute: Compute, ranks: int, device: str, largest: tuple[int, int]) -> Memory:
    """The memory of a model, frozen or not already, whose largest pack has so many tokens and tiles."""
    return memory.estimate(model, compute, ranks, device, _kept(model, compute, *largest))


def _kept(model: Llava, compute: Compute, tokens: int, tiles: int) -> int:
    """Bytes that a forward pass keeps for the backward one."""
    seen = tiles * (model.geometry.grid**2 + model.leading)
    sees = any_trained(model.vision_tower)
    vision = seen * kept_layers(model.vision_tower, compute.recompute) if sees else 0
    language = tokens * kept_layers(model.language_model, compute.recompute)
    text = model.language_model.config
    projected = 3 * seen * text.hidden_size
    return width_of(compute) * (vision + language + projected) + kept_logits(tokens, text.vocab_size)
