"""The recall of an approximate search, counted against exact search on a sample, and what may be claimed."""

from typing import NamedTuple, Self

from infinity_mm.interval import share

ENOUGH_PAIRS = 300  # true pairs below which no recall is claimed


class Recall(NamedTuple):
    """How many of the true pairs of an exact search on a sample were found; low and high bound it by 95 %.

    The interval takes pairs to be independent, which pairs within one large cluster are not.
    """

    found: int
    of: int
    low: float
    high: float
    wanted: float

    @classmethod
    def counted(cls, found: int, of: int, wanted: float) -> Self:
        """With the 95 % interval of what was counted."""
        return cls(found, of, *share(found, of), wanted)

    @property
    def claimed(self) -> bool:
        """Whether the lower bound, from enough pairs, supports the recall that was wanted."""
        return self.of >= ENOUGH_PAIRS and self.low >= self.wanted

    def __str__(self) -> str:
        if self.of < ENOUGH_PAIRS:
            return f"too few pairs: {self.found} of {self.of} found, {ENOUGH_PAIRS} are needed"
        verdict = "at least" if self.claimed else "not shown to be"
        return (
            f"recall {self.found / self.of:.4f} ({self.low:.4f} to {self.high:.4f}, {self.of} pairs): "
            f"{verdict} {self.wanted}"
        )
