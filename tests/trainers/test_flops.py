"""Operations counted by formula, against torch's own count."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainers.flops import Part, flops, linear_weights, peak


@pytest.mark.parametrize(("trained", "through"), [(True, True), (True, False), (False, True), (False, False)])
def test_products_are_what_torch_counts(trained: bool, through: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 4))
    model.requires_grad_(trained)
    x = torch.randn(7, 6, requires_grad=through)
    with FlopCounterMode(display=False) as counted:
        y = model(x)
        if trained or through:
            y.sum().backward()
    want = flops(Part(linear_weights(model)), [7], trained=trained, through=through)
    first = 2 * 7 * 60 if trained and not through else 0  # its input's gradient, which nobody wants
    assert counted.get_total_flops() == want - first


def test_attention_is_within_each_document_and_half_where_causal() -> None:
    assert flops(Part(0, attention=8), [3, 5], trained=False, through=False) == 4 * 8 * (9 + 25)
    assert flops(Part(0, 8, causal=True), [3, 5], trained=True, through=True) == 3 * 2 * 8 * (9 + 25)


def test_embeddings_are_not_multiplied() -> None:
    assert linear_weights(nn.ModuleList([nn.Embedding(9, 4), nn.Linear(4, 5), nn.Conv2d(3, 2, 2)])) == 20 + 24


def test_a_cpu_has_the_stated_peak_only() -> None:
    assert peak(torch.device("cpu")) is None
    assert peak(torch.device("cpu"), 0.5) == 0.5e12
