"""A seeded training order that takes no memory: a permutation computed index by index.

`permute` is a Feistel network of four rounds over the smallest even number of bits that holds n, with
cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). It is our own so that the
order stands whatever library version computes it.
"""

import numpy as np

ROUNDS = 4


def mix(values: np.ndarray, key: int) -> np.ndarray:
    """A 64-bit mixing of uint64 values with a key (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64((key * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def permute(indices: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The images of `indices` (each in 0..n-1) under the seeded permutation of range(n); int64."""
    return _walk(indices, n, seed, back=False)


def unpermute(images: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The indices whose images under `permute` these are; int64."""
    return _walk(images, n, seed, back=True)


def _walk(values: np.ndarray, n: int, seed: int, back: bool) -> np.ndarray:
    """Through the network, forth or back, as often as it takes each value to be below n again."""
    if n <= 1:
        return np.zeros(len(values), np.int64)
    half = np.uint64(((n - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    out = np.asarray(values).astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = out[todo] >> half, out[todo] & mask
        for i in reversed(range(ROUNDS)) if back else range(ROUNDS):
            if back:
                left, right = right ^ (mix(left, (seed << 3) + i) & mask), left
            else:
                left, right = right, left ^ (mix(right, (seed << 3) + i) & mask)
        out[todo] = (left << half) | right
        todo = todo[out[todo] >= n]
    return out.astype(np.int64)
