"""Codebooks: nearest codes, moving averages by hand, dead codes revived, use told by modality."""

import pytest
import torch

from trainers.codebook import Codebook, Usage, nearest, quantise

TABLE = torch.tensor([[0.0, 0.0], [4.0, 0.0], [100.0, 100.0]])


def test_the_nearest_code_is_by_squared_distance() -> None:
    latents = torch.tensor([[1.0, 1.0], [3.0, -1.0], [60.0, 60.0]])
    assert nearest(latents, TABLE).tolist() == [0, 1, 2]
    assert nearest(latents, TABLE).tolist() == torch.cdist(latents, TABLE).argmin(1).tolist()


def test_gradients_pass_a_code_as_they_are() -> None:
    latents = torch.tensor([[[1.0, 1.0]], [[3.0, -1.0]]], requires_grad=True)
    found = quantise(latents, TABLE)
    assert found.codes.tolist() == [[0], [1]]
    assert torch.equal(found.vectors.detach(), TABLE[[0, 1]][:, None])
    (found.vectors * torch.tensor([2.0, 3.0])).sum().backward()
    assert latents.grad is not None
    assert latents.grad.tolist() == [[[2.0, 3.0]], [[2.0, 3.0]]]


def test_codes_follow_their_latents() -> None:
    table = TABLE.clone()
    book = Codebook(3, 2, decay=0.5, least=0.0)
    book.uses.fill_(1.0)
    book.sums.copy_(table)
    latents = torch.tensor([[1.0, 1.0], [3.0, 1.0], [4.0, 2.0]])
    assert book.update(table, latents, torch.tensor([0, 0, 1]), move=True) == 0
    # halves of (1, 2 uses), (1, 1) and (1, 0); of the sums (0, 0) and (4, 2), (4, 0) and (4, 2), and nothing
    assert book.uses.tolist() == [1.5, 1.0, 0.5]
    assert table[:2].tolist() == [
        pytest.approx([2 / 1.5, 1 / 1.5], rel=1e-4),
        pytest.approx([4, 1], rel=1e-4),
    ]
    assert table[2].tolist() == pytest.approx([100, 100], rel=1e-4)  # its sum fell as its uses did


def test_a_dead_code_takes_a_latent_s_place() -> None:
    torch.manual_seed(0)
    table = TABLE.clone()
    book = Codebook(3, 2, decay=0.5, least=0.2)
    book.begin(table, torch.randn(30, 2))
    table.copy_(TABLE)
    book.sums.copy_(table * book.uses[:, None])
    latents = torch.randn(30, 2) * 0.1
    revived = [book.update(table, latents, nearest(latents, table), move=True) for _ in range(6)]
    assert sum(revived) >= 2
    assert table.abs().max() < 1
    assert len(nearest(latents, table).unique()) == 3


def test_nothing_is_revived_while_all_are_used() -> None:
    table = TABLE.clone()
    book = Codebook(3, 2, decay=0.9, least=0.2)
    latents = TABLE.repeat(10, 1)
    book.begin(table, latents)
    table.copy_(TABLE)
    book.sums.copy_(table * book.uses[:, None])
    assert not any(book.update(table, latents, nearest(latents, table), move=True) for _ in range(20))
    assert torch.allclose(table, TABLE, atol=1e-3)


def test_use_is_told_of_each_modality_and_begins_anew() -> None:
    usage = Usage(8)
    usage.add("pictures", torch.tensor([[0, 1], [2, 3]]))
    usage.add("clips", torch.tensor([5, 5, 5]))
    told = usage.told()
    assert told["pictures"] == {"used": 0.5, "perplexity": pytest.approx(4)}
    assert told["clips"] == {"used": 0.125, "perplexity": pytest.approx(1)}
    assert usage.told() == {}
