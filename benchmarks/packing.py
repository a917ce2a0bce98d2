"""How full packs are, and what packing costs: trainers/packing.py beside nanoVLM's packer. No data needed.

    python benchmarks/packing.py                       ours, and nanoVLM's way restated here
    python benchmarks/packing.py --nanovlm CHECKOUT    nanoVLM's own code too, from its repository

buffer  both get the same samples, as many as fill 4 batches of rows: nanoVLM packs such a buffer at a time.
        Rows hold 4,096 tokens and 18 pictures, its defaults. Its way: samples from the longest on, each into
        the emptiest row that can take it, beginning with 5 rows more than tokens need.
step    ours alone, a step of 512 samples of LLaVA-OneVision's kind at once, for rows of several sizes

`least` is a bound that no packing can beat: tokens or tiles, whichever need more rows.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainers.packing import fewest, pack

SEED = 0
LENGTH, PICTURES, SPARE = 4096, 18, 5  # nanoVLM's lm_max_length, max_images_per_knapsack and delta
Packer = Callable[[np.ndarray], list[list[int]]]


def finevision(rng: np.random.Generator, n: int) -> np.ndarray:
    """Tokens and pictures: some hundred tokens of text, most with a picture of 5 to 17 tiles at 66 tokens."""
    text = np.minimum(np.exp(rng.normal(5.6, 0.9, n)), 2500).astype(np.int64) + 30
    pictures = rng.choice([0, 1, 2, 3], n, p=[0.1, 0.8, 0.06, 0.04])
    tiles = rng.choice([5, 7, 10, 13, 17], (n, 3), p=[0.1, 0.2, 0.25, 0.35, 0.1])
    shown = np.arange(3) < pictures[:, None]
    tokens = np.minimum(text + 66 * (tiles * shown).sum(axis=1), LENGTH - 1)
    return np.stack([tokens, pictures], axis=1)


def onevision(rng: np.random.Generator, n: int) -> np.ndarray:
    """Tokens and tiles: a base tile of 729 tokens, and for most 2 to 9 tiles at about 600."""
    text = np.minimum(np.exp(rng.normal(5.3, 0.9, n)), 3000).astype(np.int64) + 20
    tiles = rng.choice([0, 1, 3, 5, 7, 10], n, p=[0.15, 0.25, 0.2, 0.2, 0.15, 0.05])
    return np.stack([text + np.minimum(tiles, 1) * 729 + np.maximum(tiles - 1, 0) * 600, tiles], axis=1)


def emptiest_first(sizes: np.ndarray) -> list[list[int]]:
    """nanoVLM's way, from its description."""
    count = -(-int(sizes[:, 0].sum()) // LENGTH) + SPARE
    loads: list[list[int]] = [[0, 0] for _ in range(count)]
    rows: list[list[int]] = [[] for _ in range(count)]
    for sample in sorted(range(len(sizes)), key=lambda s: -sizes[s, 0]):
        tokens, pictures = sizes[sample].tolist()
        order = sorted(range(len(rows)), key=lambda row: loads[row][0])
        fits = [r for r in order if loads[r][0] + tokens <= LENGTH and loads[r][1] + pictures <= PICTURES]
        row = fits[0] if fits else len(rows)
        if not fits:
            rows.append([])
            loads.append([0, 0])
        rows[row].append(sample)
        loads[row] = [loads[row][0] + tokens, loads[row][1] + pictures]
    return [row for row in rows if row]


def nanovlm(checkout: Path) -> Packer:
    """nanoVLM's own code."""
    spec = importlib.util.spec_from_file_location("nanovlm", checkout / "data" / "advanced_datasets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dataset: Any = object.__new__(module.ConstantLengthDataset)

    def packed(sizes: np.ndarray) -> list[list[int]]:
        samples = [{"input_ids": range(tokens), "images": range(n)} for tokens, n in sizes.tolist()]
        rows: list[list[int]] = dataset._balanced_greedy_knapsack(samples, LENGTH, SPARE, PICTURES)
        return rows

    return packed


def buffer_of(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Samples until they would fill so many rows."""
    sizes = finevision(rng, 40 * rows)
    return sizes[: int(np.searchsorted(np.cumsum(sizes[:, 0]), LENGTH * rows)) + 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanovlm", type=Path, help="a checkout of huggingface/nanoVLM")
    parser.add_argument("--repeats", type=int, default=50, help="buffers or steps of each kind [50]")
    given = parser.parse_args()
    packers: dict[str, Packer] = {"ours": lambda s: pack(s, (LENGTH, PICTURES)), "restated": emptiest_first}
    if given.nanovlm:
        packers["nanoVLM"] = nanovlm(given.nanovlm)
    print(
        f"buffer   {'batch':>6}{'samples':>9}{'least':>8}"
        + "".join(f"{n + ': fill, rows, ms':>26}" for n in packers)
    )
    for batch in (2, 4, 8, 16):
        rng = np.random.default_rng(SEED)
        told: dict[str, list[tuple[float, int, float]]] = {name: [] for name in packers}
        least, samples = [], []
        for _ in range(given.repeats):
            sizes = buffer_of(rng, 4 * batch)
            samples.append(len(sizes))
            least.append(fewest(sizes, (LENGTH, PICTURES)))
            for name, packer in packers.items():
                began = time.process_time()
                rows = packer(sizes)
                spent = time.process_time() - began
                assert sorted(s for row in rows for s in row) == list(range(len(sizes)))
                told[name].append((sizes[:, 0].sum() / (len(rows) * LENGTH), len(rows), spent))
        line = f"         {batch:>6}{np.mean(samples):>9.0f}{np.mean(least):>8.1f}"
        for cases in told.values():
            fill, rows_used, spent = np.mean(cases, axis=0)
            line += f"{fill:>13.1%}{rows_used:>7.1f}{1000 * spent:>6.1f}"
        print(line)
    print(f"\nstep     {'tokens':>6}{'tiles':>9}{'least':>8}{'rows':>8}{'fill':>8}{'tiles':>8}{'ms':>7}")
    for length, tiles in ((8192, 16), (16384, 32), (32768, 48), (32768, 64)):
        rng = np.random.default_rng(SEED)
        cases = []
        for _ in range(given.repeats):
            sizes = onevision(rng, 512)
            began = time.process_time()
            rows = pack(sizes, (length, tiles))
            spent = time.process_time() - began
            full = sizes.sum(axis=0) / (len(rows) * np.array([length, tiles]))
            cases.append((fewest(sizes, (length, tiles)), len(rows), *full, 1000 * spent))
        least_rows, used, fill, tile_fill, ms = np.mean(cases, axis=0)
        print(
            f"         {length:>6}{tiles:>9}{least_rows:>8.1f}{used:>8.1f}"
            f"{fill:>8.1%}{tile_fill:>8.1%}{ms:>7.1f}"
        )


if __name__ == "__main__":
    main()
