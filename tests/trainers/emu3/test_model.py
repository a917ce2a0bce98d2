"""The model: transformers' numbers, whatever is packed beside; weighted losses however a step is cut."""

from pathlib import Path

import pytest
import torch
from tiny_emu3 import composition, pack, sequences
from toy_training import ALONE

from trainers.batch import Pack
from trainers.emu3.compose import Composition
from trainers.emu3.model import Emu3
from trainers.head import head_losses
from trainers.loop import backward, before
from trainers.optim import freeze


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Composition:
    return composition(tmp_path_factory.mktemp("emu3"))


@pytest.fixture(scope="module")
def model(made: Composition) -> Emu3:
    model = made.build(seed=1)
    for parameter in model.parameters():  # an untrained model says nothing of where a number went
        torch.nn.init.normal_(parameter, 0, 0.3) if parameter.ndim > 1 else None
    return model.eval()


def test_logits_are_those_of_transformers(made: Composition, model: Emu3) -> None:
    from transformers import Emu3ForCausalLM

    theirs = Emu3ForCausalLM._from_config(made.config, attn_implementation="eager", dtype=torch.float32)
    theirs.load_state_dict(model.language_model.state_dict())
    laid = sequences(made)
    with torch.no_grad():
        logits_TV = model.logits(pack(made, laid))
        want = [theirs.eval()(torch.from_numpy(one.ids)[None].long()).logits[0] for one in laid]
    torch.testing.assert_close(logits_TV, torch.cat(want), rtol=0, atol=1e-5)


def test_a_pack_asks_for_each_sequences_tokens_and_no_pad(made: Composition) -> None:
    laid = sequences(made)
    one = pack(made, laid)
    targets = [number for each in laid for number in each.ids[each.weights > 0].tolist()]
    assert one.targets_S.tolist() == targets and made.vocabulary.pad not in targets
    assert one.weights_S.tolist() == [w for each in laid for w in each.weights.tolist() if w]
    assert torch.equal(one.tokens_T[one.target_at_S + 1], one.targets_S)
    starts = one.starts_D[:-1].tolist()
    assert not {at + 1 for at in one.target_at_S.tolist()} & set(starts)  # nothing tells a first token
    codes = one.targets_S >= made.vocabulary.visual
    assert torch.equal(one.sources_S == 1, codes) and set(one.weights_S[codes].tolist()) == {0.5}


def gradients(model: Emu3, packs: list[Pack]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    model.zero_grad()
    freeze(dict(model.named_parameters()), ("*",))

    class Step:
        skipped, sample_ids, consumed = (), (), 0

    Step.packs = packs  # type: ignore[attr-defined]
    _, weight, _, _ = before(ALONE, Step, [])  # type: ignore[arg-type]
    sums = backward(model, packs, weight, 3, ALONE)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, sums


def test_however_a_step_is_packed_its_gradient_is_the_weighted_means(made: Composition, model: Emu3) -> None:
    laid = sequences(made)
    whole, sums = gradients(model, [pack(made, laid)])
    model.zero_grad()
    losses, weights = [], []
    for one in laid:  # each alone, by transformers' own cross entropy
        logits = model.language_model.lm_head(model.hidden(pack(made, [one])))
        ids = torch.from_numpy(one.ids).long()
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none"))
        weights.append(torch.from_numpy(one.weights)[1:])
    loss = (torch.cat(losses) * torch.cat(weights)).sum() / torch.cat(weights).sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(whole[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert float(sums[:, 0].sum() / sums[:, 1].sum()) == pytest.approx(float(loss.detach()), rel=1e-5)
    for cut in ([laid[:2], laid[2:]], [laid[:1], [], laid[1:]], [[one] for one in laid]):
        parts, told = gradients(model, [pack(made, each) for each in cut])
        torch.testing.assert_close(told, sums, rtol=1e-6, atol=1e-6)
        for name, gradient in parts.items():
            torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)


def test_z_loss_and_its_gradient_are_those_written_down() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (7,))
    logits = hidden.float() @ weight.float().T
    want = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    want = want + 0.1 * logits.logsumexp(1) ** 2
    wanted = torch.autograd.grad(want.sum(), (hidden, weight))
    found = head_losses(hidden.float(), weight.float(), targets, 22, 0.1)
    torch.testing.assert_close(found, want)
    for one, two in zip(torch.autograd.grad(found.sum(), (hidden, weight)), wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_a_z_loss_is_in_the_models_losses(tmp_path: Path, made: Composition) -> None:
    plain, with_z = (composition(tmp_path, z_loss=z).build(seed=1) for z in (0.0, 0.5))
    one = pack(made, sequences(made))
    square = plain.logits(one)[one.target_at_S].logsumexp(dim=-1).square()
    torch.testing.assert_close(with_z(one), plain(one) + 0.5 * square)


def test_heads_can_be_normalised_and_such_a_model_is_not_exported(tmp_path: Path) -> None:
    from trainers.emu3.export import export

    made = composition(tmp_path, qk_norm=True)
    model = made.build()
    attention = model.language_model.model.layers[0].self_attn
    heads = attention.q_proj(100 * torch.randn(3, 32)).unflatten(-1, (2, 16))
    torch.testing.assert_close(heads.square().mean(-1), torch.ones(3, 2), rtol=1e-3, atol=1e-3)
    assert "language_model.model.layers.0.self_attn.k_proj.norm.weight" in model.state_dict()
    with pytest.raises(ValueError, match="qk_norm can't be exported"):
        export(model, made, tmp_path / "out", card="")
    assert not (tmp_path / "out").exists()


def test_dropout_is_where_transformers_has_it(tmp_path: Path) -> None:
    """On what attention and MLP put out, and in attention: each alone changes the numbers."""
    made = composition(tmp_path, attention_dropout=0.5)
    model, one = made.build().train(), pack(made, sequences(made))
    torch.manual_seed(0)
    first, second = model(one), model(one)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(model(one), first)
    assert torch.equal(model.eval()(one), model(one))
