"""Choosing tokens: guidance, cuts, and chance by a row's own seed."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.emu3.choose import Sampling, chances, choose, guided

SCORES = torch.tensor([[0.0, 3.0, 1.0, 2.0]])  # shares 0.03, 0.64, 0.09, 0.24


def drawn(number: int = 4000, **how: Any) -> list[float]:
    """The shares in which the four tokens are drawn."""
    found = choose(SCORES.expand(number, 4), chances([0], number)[0], Sampling(**how))
    return [float((found == token).float().mean()) for token in range(4)]


def test_shares_are_the_probabilities() -> None:
    assert drawn() == pytest.approx([0.032, 0.644, 0.087, 0.237], abs=0.02)
    assert drawn(temperature=2.0) == pytest.approx(SCORES[0].div(2).softmax(0).tolist(), abs=0.02)
    assert drawn(temperature=0.0) == [0, 1, 0, 0]


def test_top_k_and_top_p_leave_the_likeliest() -> None:
    assert drawn(top_k=2) == pytest.approx([0, 0.731, 0, 0.269], abs=0.02)
    assert drawn(top_p=0.8) == pytest.approx([0, 0.731, 0, 0.269], abs=0.02)
    assert drawn(top_p=0.9, top_k=2) == pytest.approx([0, 0.731, 0, 0.269], abs=0.02)
    # of the two kept, the first alone has 0.73
    assert drawn(top_p=0.7, top_k=2) == [0, 1, 0, 0]
    assert drawn(top_k=99) == drawn()


def test_guidance_is_between_log_probabilities() -> None:
    rows = torch.tensor([[1.0, 2.0, 4.0], [5.0, 5.0, 5.0]])
    assert guided(rows, 1.0) is rows
    with_, without = rows.log_softmax(-1)
    torch.testing.assert_close(guided(rows, 3.0), (without + 3 * (with_ - without))[None])


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=9), st.integers(0, 12), st.integers(0, 99))
def test_what_is_drawn_is_a_token_with_a_chance(scores: list[float], top_k: int, seed: int) -> None:
    row = torch.tensor([[*scores, -torch.inf]])
    (place,) = choose(row, chances([seed], 1)[0], Sampling(top_k=top_k, top_p=0.9)).tolist()
    assert place < len(scores)
    if top_k:
        assert scores[place] >= sorted(scores)[-min(top_k, len(scores))]


def test_chances_are_a_seeds_own() -> None:
    both = chances([4, 9], 50)
    assert torch.equal(chances([9, 1, 4], 50)[[2, 0]], both)
    assert torch.equal(chances([4], 20)[0], both[0, :20])
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("wrong", [{"guidance": -1.0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}])
def test_sampling_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)
