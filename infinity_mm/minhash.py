"""MinHash signatures of sets, and the bands of locality-sensitive hashing that find similar ones.

Two sets agree in one place of their signatures with the probability of their Jaccard similarity. Signatures
are cut into bands of rows; sets that agree in all rows of a band are candidates. Sources: Broder, "On the
resemblance and containment of documents", 1997; bands as in Leskovec, Rajaraman and Ullman, "Mining of
massive datasets", 3.4. A place holds the upper 32 bits of the least a * x + b modulo 2**64 over the set, with
a odd (multiply-shift, Dietzfelbinger and others, 1997): elements must be hashes already, as shingles are.
"""

from typing import NamedTuple

import numpy as np

from infinity_mm.order import mix
from infinity_mm.shingles import ShingleSets

_AT_ONCE = 1 << 14  # shingles: what is worked on stays in the cache


class Bands(NamedTuple):
    number: int
    rows: int

    def recall(self, similarity: float) -> float:
        """The probability that two sets of this similarity agree in at least one band."""
        return 1 - (1 - similarity**self.rows) ** self.number


def check_threshold(threshold: float) -> None:
    """Raises ValueError unless the threshold is a Jaccard similarity above 0."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold}: a Jaccard similarity above 0 and up to 1 is needed")


def bands_for(threshold: float, permutations: int, recall: float = 0.99) -> Bands:
    """The bands of most rows, so of fewest false candidates, that keep `recall` at the threshold.

    At a threshold for which there are too few permutations the bands are of one row, and recall falls short:
    `Bands.recall(threshold)` says by how much. Raises ValueError for settings out of range.
    """
    check_threshold(threshold)
    if not 0 <= recall < 1:
        raise ValueError(f"recall {recall}: it must be at least 0 and below 1")
    if permutations < 1:
        raise ValueError(f"permutations {permutations}: at least 1 is needed")
    choices = [Bands(permutations // rows, rows) for rows in range(permutations, 0, -1)]
    return next((bands for bands in choices if bands.recall(threshold) >= recall), choices[-1])


def signatures(sets: ShingleSets, permutations: int = 128, seed: int = 1) -> np.ndarray:
    """uint32 [N, permutations]: the MinHash signature of each set.

    Raises ValueError if a set is empty: a signature of nothing would make all such texts alike.
    """
    if (sets.sizes() == 0).any():
        raise ValueError(
            f"set {int(np.argmin(sets.sizes()))} is empty and has no signature: compare its text exactly"
        )
    places = np.arange(permutations, dtype=np.uint64)
    factors, terms = mix(places, 2 * seed) | np.uint64(1), mix(places, 2 * seed + 1)
    out = np.empty((len(sets.offsets) - 1, permutations), np.uint32)
    first = 0
    while first < len(out):
        last = max(first + 1, int(np.searchsorted(sets.offsets, sets.offsets[first] + _AT_ONCE, "right")) - 1)
        values = sets.values[sets.offsets[first] : sets.offsets[last]]
        starts = sets.offsets[first:last] - sets.offsets[first]
        hashed, least = np.empty_like(values), np.empty((permutations, last - first), np.uint64)
        for place in range(permutations):
            np.multiply(values, factors[place], out=hashed)
            np.add(hashed, terms[place], out=hashed)
            np.minimum.reduceat(hashed, starts, out=least[place])
        out[first:last] = (least >> np.uint64(32)).T
        first = last
    return out


def band_keys(signature: np.ndarray, bands: Bands, seed: int = 1) -> np.ndarray:
    """uint64 [N, bands.number] of signatures [N, P]: equal where all rows of a band are, and else rarely."""
    used = signature[:, : bands.number * bands.rows].reshape(len(signature), bands.number, bands.rows)
    weights = mix(np.arange(bands.rows, dtype=np.uint64), seed) | np.uint64(1)
    keys = np.zeros(used.shape[:2], np.uint64)
    for row in range(bands.rows):
        keys += used[:, :, row] * weights[row]
    return mix(keys, seed)
