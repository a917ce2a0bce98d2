"""What is trained, with which rate, and the schedule."""

import math

import pytest
import torch
from torch import nn
from toy_training import Toy

from trainers.config import Optimizer, Schedule
from trainers.optim import adamw, clip, decide, freeze, groups, moments, rate_share, set_rates


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def test_only_what_matches_is_trained() -> None:
    model = Toy()
    assert freeze(named(model), ("tower", "layers.*.0.weight")) == [
        "tower.weight",
        "tower.bias",
        "layers.0.0.weight",
        "layers.1.0.weight",
    ]
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        "tower.weight",
        "tower.bias",
        "layers.0.0.weight",
        "layers.1.0.weight",
    ]


def test_a_pattern_that_decides_nothing_is_refused() -> None:
    with pytest.raises(
        ValueError, match="train: 'towr' matches no parameter; the names begin with tower, embed"
    ):
        freeze(named(Toy()), ("towr",))
    with pytest.raises(ValueError, match="lr: 'tower': later patterns take all it matches"):
        decide(["tower.weight"], ["tower", "*"], "lr")


def test_the_last_pattern_gives_the_rate_and_vectors_do_not_decay() -> None:
    model = Toy()
    freeze(named(model), ("*",))
    found = groups(model, Optimizer(lr={"*": 1e-2, "tower": 1e-3}, decay=0.1))
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in found for p in g["params"]}
    assert rates[id(model.tower.weight)] == (1e-3, 0.1)
    assert rates[id(model.tower.bias)] == (1e-3, 0.0)
    assert rates[id(model.norm.weight)] == (1e-2, 0.0)
    assert rates[id(model.head.weight)] == (1e-2, 0.1)
    assert sum(len(g["params"]) for g in found) == len(list(model.parameters()))
    every = groups(model, Optimizer(lr={"*": 1e-2}, decay=0.1, decay_vectors=True))
    assert [g["weight_decay"] for g in every] == [0.1]


def test_rates_of_what_is_not_trained_are_refused() -> None:
    model = Toy()
    freeze(named(model), ("head",))
    with pytest.raises(ValueError, match=r"optimizer.lr: 'tower' matches no parameter"):
        groups(model, Optimizer(lr={"*": 1e-2, "tower": 1e-3}))
    freeze(named(model), ("head", "tower"))
    with pytest.raises(ValueError, match=r"no pattern matches head.weight, which is trained"):
        groups(model, Optimizer(lr={"tower": 1e-3}))


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_the_schedule_rises_and_falls(shape: str) -> None:
    schedule = Schedule(shape=shape, warmup=0.1, floor=0.2)  # type: ignore[arg-type]
    shares = [rate_share(schedule, step, 100) for step in range(100)]
    assert shares[:10] == [(i + 1) / 10 for i in range(10)]
    assert shares[10] == 1.0 and min(shares[10:]) >= 0.2
    assert shares[10:] == sorted(shares[10:], reverse=True)
    if shape == "cosine":
        assert shares[55] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert rate_share(Schedule(warmup=0), 0, 1) == 1.0


def test_rates_are_set_from_each_groups_peak() -> None:
    model = Toy()
    optimizer = adamw(model, Optimizer(lr={"*": 1e-2, "tower": 1e-3}))
    assert set_rates(optimizer, 0.5) == {"*": 5e-3, "tower": 5e-4}
    assert set_rates(optimizer, 0.5) == {"*": 5e-3, "tower": 5e-4}  # not of what was set before


def test_clipping_shortens_to_the_limit_and_tells_the_norm_before() -> None:
    one, two = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    one.grad, two.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip([one, two], 0) == 5 and one.grad[0] == 3
    assert clip([one, two], 1.0) == 5
    assert torch.cat([one.grad, two.grad]).norm() == pytest.approx(1.0, rel=1e-5)


def test_moments_begin_as_adamw_begins() -> None:
    torch.manual_seed(0)
    plain, asked = nn.Linear(2, 2), nn.Linear(2, 2)
    asked.load_state_dict(plain.state_dict())
    config = Optimizer(lr={"*": 1e-2}, decay=0.1)
    optimizers = [adamw(plain, config), adamw(asked, config)]
    assert set(moments(asked, optimizers[1])) == {"weight", "bias"}
    for _ in range(3):
        for model, optimizer in zip((plain, asked), optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
    assert torch.equal(plain.weight, asked.weight)
