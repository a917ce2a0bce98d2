"""One gradient, however a step is cut and whoever takes it: packs, micro-batches, ranks, DDP and FSDP."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import SCRIPT, on_ranks
from toy_training import ALONE, Toy, document, pack, work

from trainers.config import Compute
from trainers.loop import backward
from trainers.parallel import blocks, distribute

Found = tuple[dict[str, torch.Tensor], torch.Tensor]  # gradients, sums of losses


def gradients(packs: list[Any]) -> Found:
    torch.manual_seed(0)
    model = Toy()
    supervised = sum(len(p.targets_S) for p in packs)
    sums = backward(model, packs, supervised, 2, ALONE)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sums


def assert_same(
    found: dict[str, torch.Tensor], want: dict[str, torch.Tensor], rtol: float = 1e-5, atol: float = 1e-7
) -> None:
    assert found.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(
            found[name], want[name], rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def whole() -> Found:
    """Six documents, of which two have no supervised token and two no picture, in one batch."""
    docs = [document(n) for n in range(6)]
    assert [int(d.supervised.sum()) for d in docs].count(0) >= 2
    assert [d.tile is None for d in docs].count(True) == 2
    return gradients([pack(docs)])


def test_cutting_a_step_changes_nothing(whole: Found) -> None:
    docs = [document(n) for n in range(6)]
    for packs in (
        [pack([d]) for d in docs],  # unpacked, one with nothing supervised
        [pack(docs[:1]), pack(docs[1:])],
        [pack(docs[:3]), pack([]), pack(docs[3:])],
    ):
        found, sums = gradients(packs)
        assert_same(found, whole[0])
        torch.testing.assert_close(sums, whole[1])


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    done = on_ranks(2, SCRIPT, "gradients", folder)  # three packs: the second rank takes an empty one
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("float32", 1e-5, 1e-7), ("bfloat16", 0.05, 0.005)])
def test_two_ranks_have_the_gradient_of_one(
    parallel: str, dtype: str, rtol: float, atol: float, two_ranks: Path, whole: Found
) -> None:
    found = torch.load(two_ranks / f"{parallel}-{dtype}.pt")
    assert_same(found["gradients"], whole[0], rtol, atol)
    torch.testing.assert_close(found["sums"], whole[1], rtol=max(rtol, 1e-6), atol=1e-6)
    assert found["supervised"] == int(whole[1][:, 1].sum())
    assert all(gradient.dtype == torch.float32 for gradient in found["gradients"].values())


def test_ddp_sends_each_gradient_once_a_step(two_ranks: Path, whole: Found) -> None:
    found = torch.load(two_ranks / "ddp-float32.pt")  # of two micro-batches a rank
    assert sum(found["sent"]) == sum(gradient.numel() for gradient in whole[0].values())


def test_compiled_layers_give_the_same(whole: Found) -> None:
    torch.manual_seed(0)
    model = distribute(Toy(), Compute(compile=True, dtype="float32"), ALONE)
    assert len(blocks(model)) == 2
    step = next(work(0, 6, 6))
    backward(model, step.packs, sum(len(p.targets_S) for p in step.packs), 2, ALONE)
    assert_same({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, whole[0])
