"""Configurations from plain values: what is right comes through, what is wrong is named with its way out."""

import dataclasses
from dataclasses import dataclass

import pytest

from trainers.config import Optimizer, Schedule, build, differences, plain, positive, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    inner: Optimizer
    batch: int = setting(limit=positive)
    names: tuple[str, ...] = ()
    either: str | dict[str, int] = "x"
    maybe: float | None = setting(None, limit=positive)


GIVEN = {"inner": {"lr": {"*": "1e-3"}}, "batch": 2}


def test_values_come_as_their_fields_types() -> None:
    made = build(Outer, {**GIVEN, "names": ["a", "b"], "either": {"k": 1}, "maybe": 2})
    assert made.inner.lr == {"*": 1e-3}  # YAML reads 1e-3 as a text
    assert made.names == ("a", "b") and made.either == {"k": 1}
    assert made.maybe == 2.0 and isinstance(made.maybe, float)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.batch = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"bach": 1}, "bach: no such setting; did you mean 'batch'?"),
        ({"batch": 0}, "batch: 0: give more than 0"),
        ({"batch": 1.5}, "batch: 1.5: give a whole number"),
        ({"batch": True}, "batch: True: give a whole number"),
        ({"names": "a"}, "names: 'a': give a list"),
        ({"either": {"k": "x"}}, "either: {'k': 'x'}: give a text or a mapping"),
        ({"inner": {"lr": {"*": 1}, "betas": [1]}}, "inner.betas: [1]: give a list of 2"),
        ({"inner": {"lr": {"tower": "fast"}}}, "inner.lr.tower: 'fast': give a number"),
        ({"inner": {"lr": {"*": 1}, "clip": -1}}, "inner.clip: -1: give 0 or more"),
        ({"inner": {}}, "inner.lr is missing: give a mapping"),
        ({"inner": 3}, "inner: 3: give a mapping of settings"),
    ],
)
def test_what_is_wrong_is_named(more: dict, words: str) -> None:
    with pytest.raises(ValueError) as error:
        build(Outer, {**GIVEN, **more})
    assert str(error.value) == words


def test_a_choice_is_named() -> None:
    with pytest.raises(ValueError, match="shape: 'sine': give one of cosine, linear, constant"):
        build(Schedule, {"shape": "sine"})


def test_differences_name_each_leaf() -> None:
    before = plain(build(Outer, GIVEN))
    now = plain(build(Outer, {**GIVEN, "batch": 4, "inner": {"lr": {"*": 2e-3}}}))
    assert differences(before, now) == ["inner.lr.*: 0.001, now 0.002", "batch: 2, now 4"]
    assert differences(now, now) == []
