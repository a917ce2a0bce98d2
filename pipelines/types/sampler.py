"""Drawing types for pictures: the best-fitting ones more often, and no type over and over.

The pictures of a shard are drawn for in order, from the first one on: a type that was drawn much so far in
the shard comes less. What is drawn depends on the table, the seed, and the ids and tags of the shard's
pictures, never on workers or on other shards; a job that goes on draws a shard again from its start, which
asks no model.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from pipelines.tag.kept import Tagged
from pipelines.types.table import Table

TEMPERATURE = 0.1
VARIETY = 2.0
LEAST = 0.5


class Sampler:
    """Draws types for the pictures of one shard, in order.

    A type takes part in a picture's draw if its fit is at least LEAST of the best one's. Of these, without
    replacement, types are drawn with chances that grow as exp(fit / `temperature`), and fall with the power
    `variety` of 1 + how often the type was drawn so far in the shard over the mean of all types: one drawn as
    often as the mean has a quarter of the chance of one never drawn. `variety` 0 looks at the fit alone.
    """

    def __init__(
        self,
        table: Table,
        seed: int,
        shard: str,
        temperature: float = TEMPERATURE,
        variety: float = VARIETY,
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature:g}: give more than 0; the best fit alone is 0.01")
        if variety < 0:
            raise ValueError(f"variety is {variety:g}: give 0 or more")
        self.table, self.seed, self.shard = table, seed, shard
        self.temperature, self.variety = temperature, variety
        self.drawn: Counter[str] = Counter()

    def draw(self, picture: bytes, tags: Sequence[Tagged], k: int) -> list[str]:
        """`k` types for the next picture (its 16-byte id), or as many as take part; the first drawn first."""
        fits = self.table.fit(tags)
        best = fits[0].fit
        mean = max(self.drawn.total() / len(fits), 1.0)
        keyed = []
        for type, fit in fits:
            if fit >= LEAST * best:
                often = self.variety * math.log1p(self.drawn[type] / mean)
                chance = (fit - best) / self.temperature - often
                keyed.append((chance - math.log(-math.log(self._uniform(picture, type))), type))
        chosen = [type for _, type in sorted(keyed, key=lambda one: -one[0])[:k]]
        self.drawn.update(chosen)
        return chosen

    def _uniform(self, picture: bytes, type: str) -> float:
        """A number above 0 and below 1. With such numbers u, the largest of log p - log(-log u) is a draw
        with chances p (Gumbel), the k largest a draw without replacement."""
        text = f"{self.seed}\0{self.shard}\0{picture.hex()}\0{type}"
        bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11
        return (bits + 0.5) / (1 << 53)
