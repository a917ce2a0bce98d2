"""Random numbers: one stream for each (seed, record, purpose), the same on every machine."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from numpy.random import PCG64, Generator, SeedSequence

T = TypeVar("T")

# Purposes: each gets its own stream, so that a defect does not change what the clean record would have been.
PLAN, CONTENT, PICTURE, PLANT, ROUND, SUIT, DEFECT, BENCHMARK = range(8)


def stream(seed: int, index: int, purpose: int) -> Generator:
    """The generator of one record (or block of records) for one purpose."""
    return Generator(PCG64(SeedSequence([seed, index, purpose])))


def pick(rng: Generator, items: Sequence[T]) -> T:
    """One item, uniformly."""
    return items[int(rng.integers(len(items)))]


def pick_weighted(rng: Generator, weights: Mapping[str, float]) -> str:
    """One key, in proportion to its weight."""
    point = float(rng.random()) * sum(weights.values())
    for key, weight in weights.items():
        point -= weight
        if point < 0:
            return key
    return next(reversed(list(weights)))


def shuffled(rng: Generator, items: Sequence[T]) -> list[T]:
    """The items in a random order."""
    return [items[i] for i in rng.permutation(len(items))]


def chance(rng: Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)
