"""What is trained and how fast: patterns of parameter names, AdamW's groups, the schedule, clipping.

A pattern is a module's name, which takes all parameters below it, or a parameter's, with `*`, `?` and `[…]`
as in file names: `vision_tower`, `language_model.model.layers.*.mlp`, `*`. A pattern that decides nothing is
an error, whether no name matches or later patterns take every one of its names.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from trainers.config import Optimizer, Schedule

# the share of the learning rate left when a share of the steps after the warm-up is done
SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}


def matches(name: str, pattern: str) -> bool:
    """Whether a parameter's name is the pattern's, or lies below a module that is."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def decide(names: Iterable[str], patterns: Sequence[str], where: str) -> dict[str, str]:
    """The pattern that decides each name that any matches: the last one. Raises ValueError, its message
    begun by `where`, for a pattern that decides none."""
    names = list(names)
    found = {}
    for name in names:
        decider = next((p for p in reversed(patterns) if matches(name, p)), None)
        if decider is not None:
            found[name] = decider
    for pattern in patterns:
        if pattern in found.values():
            continue
        if any(matches(name, pattern) for name in names):
            raise ValueError(
                f"{where}: {pattern!r}: later patterns take all it matches: leave it out, or put it last"
            )
        parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
        raise ValueError(f"{where}: {pattern!r} matches no parameter; the names begin with {parts}")
    return found


def freeze(parameters: Mapping[str, nn.Parameter], train: Sequence[str]) -> list[str]:
    """Let those parameters be trained that a pattern of `train` matches, and no other; their names.
    Raises ValueError."""
    trained = decide(parameters, train, "train")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    return list(trained)


def groups(model: nn.Module, config: Optimizer) -> list[dict]:
    """AdamW's parameter groups: one for each learning rate and decay; `name` is its pattern, `peak` its rate.

    A vector is whatever has fewer than two axes: norms, biases, the newline of a picture.
    Raises ValueError for a trained parameter without a learning rate, and as `decide` does.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decided = decide(trained, list(config.lr), "optimizer.lr")
    missing = next((name for name in trained if name not in decided), None)
    if missing:
        raise ValueError(
            f"optimizer.lr: no pattern matches {missing}, which is trained: add one, such as '*'"
        )
    found: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decays = config.decay > 0 and (config.decay_vectors or parameter.ndim > 1)
        found.setdefault((decided[name], decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": pattern,
            "peak": config.lr[pattern],
            "lr": config.lr[pattern],
            "weight_decay": config.decay if decays else 0.0,
        }
        for (pattern, decays), parameters in found.items()
    ]


def adamw(model: nn.Module, config: Optimizer) -> torch.optim.AdamW:
    """AdamW over the trained parameters; one fused kernel where they lie on a GPU. Raises ValueError."""
    parts = groups(model, config)
    fused = all(p.is_cuda for part in parts for p in part["params"])
    return torch.optim.AdamW(parts, betas=config.betas, eps=config.eps, fused=fused)


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    """AdamW's state of each trained parameter, by name; where it has none yet, what it begins with."""
    found = {}
    fused = bool(optimizer.defaults["fused"])
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state[parameter]
        if not state:
            # AdamW keeps its count of steps on the CPU unless it is fused
            state["step"] = torch.zeros((), device=parameter.device if fused else "cpu")
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        found[name] = dict(state)
    return found


def rate_share(schedule: Schedule, step: int, steps: int) -> float:
    """The share of the learning rate that step `step` (from 0) of `steps` is taken with.

    The warm-up is that share of the steps, rounded up; its first step is not taken at rate 0.
    """
    rise = math.ceil(schedule.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, steps - rise))
    return schedule.floor + (1 - schedule.floor) * SHAPES[schedule.shape](done)


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> dict[str, float]:
    """Set each group's learning rate to its peak's share; the rates by pattern."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def clip(parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
    """The norm of the gradient, a scalar tensor, over all ranks' shards; what is longer than `limit` is
    shortened to it, unless that is 0."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    if limit > 0:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def counts(model: nn.Module) -> Mapping[str, int]:
    """Parameters, and those that are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"parameters": sum(n for n, _ in sizes), "trained": sum(n for n, trained in sizes if trained)}
