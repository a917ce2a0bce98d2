"""Hamming radius search: what it costs at a size, where bands begin to pay, and that it is exact at scale.

    python benchmarks/hamming.py                    all but `large`, about two minutes on a free core
    python benchmarks/hamming.py --only million     one of costs, crossover, million, large

costs      nanoseconds a compared pair, a visited bucket, a slice of a bucket and a sorted hash: the constants
           of infinity_mm/hamming.py
crossover  bands beside comparing every pair, in one run, by size; with faiss where it is installed
million    1,000,000 hashes at radius 8, even and skewed: seconds, pairs, peak memory of a process, and 200
           rows checked by comparing them with all
large      10,000,000 hashes at radius 4, the same: several minutes

Hashes are random heads in clusters of 1 to 20 of which the others have 0 to 8 bits flipped; `skewed` sets 24
bits of a fifth of them to one value, as blank pages and text pages do. The floor is comparing each candidate
once, at the first figure of `costs`.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from infinity_mm import hamming
from infinity_mm.hamming import Hashes, Neighbours, neighbours

ROWS_CHECKED = 200
FIXED = np.uint64(0xFFFFFF << 40)
SHARED = np.uint64(0x80C301 << 40)


def make(count: int, *, skewed: bool, seed: int = 0) -> Hashes:
    """`count` distinct hashes in any order, uint64."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 21, count // 8 + 1000)
    hashes = np.repeat(draw.integers(0, 1 << 64, sizes.size, np.uint64), sizes)
    flips = draw.integers(0, 9, hashes.size)
    flips[np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint64(1)))] = 0
    for flip in range(8):
        bit = np.uint64(1) << draw.integers(0, 64, hashes.size, np.uint64)
        hashes ^= np.where(flips > flip, bit, np.uint64(0))
    if skewed:
        some = draw.random(hashes.size) < 0.2
        hashes[some] = hashes[some] & ~FIXED | SHARED
    hashes = np.unique(hashes)
    draw.shuffle(hashes)
    assert hashes.size >= count
    return hashes[:count].copy()


def wrong_rows(hashes: Hashes, radius: int, found: Neighbours) -> int:
    """How many of some rows differ from comparing the row with every hash."""
    wrong = 0
    for row in np.random.default_rng(1).choice(hashes.size, ROWS_CHECKED, replace=False).tolist():
        apart = hamming.popcount(hashes ^ hashes[row])
        within = np.flatnonzero(apart <= radius)
        within = within[within != row]
        within = within[np.argsort(apart[within], kind="stable")]
        own = slice(found.starts[row], found.starts[row + 1])
        wrong += not (
            np.array_equal(found.others[own], within) and np.array_equal(found.distances[own], apart[within])
        )
    return wrong


def seconds(run: Callable[[], object], rounds: int = 3) -> float:
    """The best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def costs() -> None:
    draw = np.random.default_rng(2)
    hashes = draw.integers(0, 1 << 64, 20_000, np.uint64)
    compared = seconds(lambda: list(hamming._compare(hashes, hashes, 4, triangle=False)))
    print(f"a pair    {compared / hashes.size**2 * 1e9:9.2f} ns")
    buckets = np.arange(1 << 14, dtype=np.uint64)
    visited = {flips: seconds(partial(searched, buckets, flips)) for flips in (0, 2)}
    masks = {flips: len(hamming._masks(14, flips)) / 2 for flips in visited}
    bucket = visited[0] / buckets.size
    print(f"a bucket  {bucket * 1e9:9.0f} ns")
    print(f"a slice   {(visited[2] - visited[0]) / buckets.size / (masks[2] - masks[0]) * 1e9:9.0f} ns")
    many = draw.integers(0, 1 << 64, 1_000_000, np.uint64)
    ordered = seconds(lambda: hamming._sorted_by(many, tuple(range(14))))
    print(f"a sort    {ordered / many.size * 1e9:9.0f} ns a hash")


def searched(hashes: Hashes, flips: int) -> list[hamming.Pairs]:
    """A search in one band whose every bucket holds one hash."""
    return list(hamming._search_band(hashes, None, 0, hamming._Band(tuple(range(14)), flips)))


def crossover() -> None:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError:
        faiss = None
        print("faiss is not installed: its column is left out")
    print(f"{'hashes':>8} {'radius':>6} {'bands':>24} {'search s':>9} {'all s':>9} {'faiss flat s':>12}")
    for count in (5_000, 10_000, 20_000, 40_000, 80_000):
        hashes = make(count, skewed=False)
        for radius in (4, 8, 12, 20):
            plan = hamming._plan(hashes, None, radius)
            bands = " ".join(f"{len(band.bits)}/{band.flips}" for band in plan) or "none"
            ours = seconds(partial(neighbours, hashes, radius))
            every = seconds(partial(every_pair, hashes, radius))
            line = f"{hashes.size:>8,} {radius:>6} {bands[:24]:>24} {ours:>9.3f} {every:>9.3f}"
            if faiss:
                faiss.omp_set_num_threads(1)
                index = faiss.IndexBinaryFlat(64)
                rows = hashes.view(np.uint8).reshape(-1, 8)
                index.add(rows)
                line += f" {seconds(partial(index.range_search, rows, radius + 1), 1):>12.3f}"
            print(line, flush=True)


def every_pair(hashes: Hashes, radius: int) -> list[hamming.Pairs]:
    return list(hamming._compare(hashes, hashes, radius, triangle=True))


def at_size(count: int, radius: int) -> None:
    for skewed in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/hashes.npy"
            np.save(file, make(count, skewed=skewed))
            process = multiprocessing.get_context("spawn").Process(
                target=measured, args=(file, radius, skewed)
            )
            process.start()
            process.join()


def measured(file: str, radius: int, skewed: bool) -> None:
    """One search in a process of its own, whose peak memory is then that of the search."""
    hashes = np.load(file)
    before = resident()
    bands = " ".join(f"{len(band.bits)}/{band.flips}" for band in hamming._plan(hashes, None, radius))
    began, used = time.perf_counter(), time.process_time()
    found = neighbours(hashes, radius)
    took, used = time.perf_counter() - began, time.process_time() - used
    peak = resident()
    print(
        f"{'skewed' if skewed else 'even':>6}: {hashes.size:,} hashes, radius {radius}, bands {bands}: "
        f"{took:.1f} s ({used:.1f} s of a core), {found.others.size:,} directed pairs, peak {peak:,.0f} MB "
        f"(before the search {before:,.0f} MB), "
        f"{wrong_rows(hashes, radius, found)} of {ROWS_CHECKED} rows wrong",
        flush=True,
    )


def resident() -> float:
    """The most memory this process has had, MB; getrusage would count its parent's before it was spawned."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM")


PARTS: dict[str, Callable[[], None]] = {
    "costs": costs,
    "crossover": crossover,
    "million": lambda: at_size(1_000_000, 8),
    "large": lambda: at_size(10_000_000, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    for name, part in PARTS.items():
        if name == only or (only is None and name != "large"):
            print(f"\n{name}")
            part()


if __name__ == "__main__":
    main()
