"""Near pairs of embeddings: time, memory, stated and true recall by size; and what SemDeDup's rule drops.

    python benchmarks/near_vectors.py                     100,000 and 300,000 vectors, and the rules
    python benchmarks/near_vectors.py --full              1,000,000 as well
    python benchmarks/near_vectors.py --only rules        one of sizes, crowd, rules

sizes   a search at cosine 0.95 in a process of its own: seconds, the most memory of its own and with what it
        mapped, the recall it states, and the share it found of the planted pairs of at least the threshold
crowd   50,000 vectors that are near each other, among 50,000 others
rules   100,000 vectors: of the rows that are dropped, those with no kept row within the threshold. By the
        rule of SemDeDup and NeMo Curator (drop a row whose largest cosine to an earlier row of its cluster,
        dropped or not, is above the threshold), and by keeping a representative

Vectors have 512 numbers, float16, on disk. Their variance falls off as 1 / k over the directions, as that of
embeddings of pictures does (28 directions do most of the work), around a mean that they all share: two random
ones have cosine 0.36. Half lie in clusters whose sizes fall off as 1 / rank, a quarter on their own; a fifth
are planted, as copies of a row at a cosine from 0.9 to 0.999, alone or as chains in which each is a copy of
the one before; and one in twenty is of one crowd, where a planted pair is counted only if `most` did not cut
pairs of its row. Floor: each row once against the square root of their number.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from infinity_mm.near_vectors import Vectors, near_vectors
from infinity_mm.progress import Progress

DIM, THRESHOLD = 512, 0.95
BLOCK = 50_000
SPECTRUM = np.arange(1, DIM + 1, dtype=np.float32) ** -0.5
COPIES, CHAIN = 0.2, 5


def make(folder: Path, count: int, *, crowd: float = 0.05, seed: int = 0) -> None:
    """vectors.npy, float16 [count, 512], and planted.npy, int64 [K, 2]: a row and what it is a copy of."""
    draw = np.random.default_rng(seed)
    place = draw.permutation(count)
    mean = 1.2 * unit(draw.standard_normal((1, DIM)).astype(np.float32) * SPECTRUM)
    clusters = max(10, count // 200)
    centres = unit(shaped(draw, clusters))
    popular = 1 / np.arange(1, clusters + 1)
    middle = unit(shaped(draw, 1))
    out = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (count, DIM))
    planted = []
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        own = size - int(COPIES * size)
        inside = draw.random(own) < 0.7
        rows = unit(shaped(draw, own)) * np.where(inside, 0.8, 1.6)[:, None].astype(np.float32)
        rows += inside[:, None] * 1.4 * centres[draw.choice(clusters, own, p=popular / popular.sum())]
        rows += mean
        many = draw.random(own) < crowd / (1 - COPIES)
        rows[many] = 3 * (middle + mean) + 0.5 * unit(shaped(draw, int(many.sum())))
        rows = unit(rows)
        copied = draw.integers(0, own, size - own)
        for link in range(CHAIN):  # a copy of an original first; each later part continues those before
            part = np.array_split(np.arange(size - own), CHAIN)[link]
            if link:
                chained = part[: len(part) // 4]
                copied[chained] = own + np.array_split(np.arange(size - own), CHAIN)[link - 1][: len(chained)]
            cosine = draw.choice([0.9, 0.955, 0.97, 0.98, 0.99, 0.999], len(part)).astype(np.float32)[:, None]
            source = rows[copied[part]]
            aside = shaped(draw, len(part))
            aside = unit(aside - (aside * source).sum(axis=1, keepdims=True) * source)
            rows = np.concatenate([rows, cosine * source + np.sqrt(1 - cosine**2) * aside])
        out[place[start : start + size]] = rows
        here = place[start : start + size]
        planted.append(np.stack([here[copied], here[own:]], axis=1))
    np.save(folder / "planted.npy", np.sort(np.concatenate(planted), axis=1))


def shaped(draw: np.random.Generator, count: int) -> np.ndarray:
    return draw.standard_normal((count, DIM), np.float32) * SPECTRUM


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def opened(folder: Path) -> Vectors:
    stored = np.load(folder / "vectors.npy", mmap_mode="r")
    return Vectors([(stored, np.arange(len(stored)))])


class Memory:
    """The most memory of this process in MB: its own, looked at 20 times a second, and with mapped files."""

    def __init__(self) -> None:
        self.own = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.own = max(self.own, status("RssAnon"))

    def done(self) -> tuple[float, float]:
        self._stop.set()
        self._thread.join()
        return self.own, status("VmHWM")


def status(field: str) -> float:
    """MB, of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def measured(folder: Path) -> None:
    """One search in this process, told as JSON on stdout."""
    vectors = opened(folder)
    memory = Memory()
    began, used = time.perf_counter(), time.process_time()
    near = near_vectors(vectors, THRESHOLD, report=Progress(), scratch=str(folder))
    took, used = time.perf_counter() - began, time.process_time() - used
    own, total = memory.done()
    planted = np.load(folder / "planted.npy")
    cosine = np.concatenate(
        [
            (vectors.take(part[:, 0]).astype(np.float64) * vectors.take(part[:, 1])).sum(axis=1)
            for part in np.array_split(planted, 1 + len(planted) // BLOCK)
        ]
    )
    planted = planted[cosine.astype(np.float32).astype(np.float64) >= THRESHOLD]
    # A row in the crowd has more near rows than a row's pairs are: what is cut is not missed.
    full = np.bincount(near.pairs[:, 1], minlength=len(vectors)) >= 64
    planted = planted[~full[planted[:, 1]] & (near.same[planted[:, 0]] == planted[:, 0])]
    planted = planted[near.same[planted[:, 1]] == planted[:, 1]]
    known = near.pairs @ np.array([1 << 32, 1])
    has = np.isin(planted @ np.array([1 << 32, 1]), known)
    told = {
        "seconds": took,
        "cpu": used,
        "own": own,
        "total": total,
        "pairs": len(near.pairs),
        "recall": str(near.recall),
        "clusters": near.clusters,
        "probes": near.probes,
        "planted": len(planted),
        "found": int(has.sum()),
    }
    print(json.dumps(told))


def at_size(count: int, crowd: float = 0.05) -> None:
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), count, crowd=crowd)
        done = subprocess.run(
            [sys.executable, __file__, "--alone", name], stdout=subprocess.PIPE, text=True, check=True
        )
    told = json.loads(done.stdout)
    print(
        f"{count:,}: {told['seconds']:.0f} s ({told['cpu']:.0f} s of a core), {told['pairs']:,} pairs, "
        f"{told['clusters']} cells, {told['probes']} probes; memory {told['own']:,.0f} MB of its own, "
        f"{told['total']:,.0f} MB with files\n    stated: {told['recall']}\n    planted pairs found: "
        f"{told['found']:,} of {told['planted']:,} ({told['found'] / told['planted']:.4f})",
        flush=True,
    )


def rules() -> None:
    """100,000 rows by both rules, in the same order of preference."""
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), 100_000)
        vectors = opened(Path(name))
        near = near_vectors(vectors, THRESHOLD)
        rows = vectors.take(np.arange(len(vectors)))
    kept = near.same == np.arange(len(rows))
    earlier, later = near.pairs[np.argsort(near.pairs[:, 1], kind="stable")].T
    starts = np.searchsorted(later, np.arange(len(rows) + 1))
    for row in np.flatnonzero(np.diff(starts)).tolist():
        kept[row] = not kept[earlier[starts[row] : starts[row + 1]]].any()
    told("keep a representative", rows, kept)
    told("SemDeDup", rows, semdedup(rows))


def semdedup(rows: np.ndarray) -> np.ndarray:
    """bool [N], what is kept: k-means, then in each cluster the largest cosine to an earlier row."""
    import faiss

    kmeans = faiss.Kmeans(DIM, 300, niter=20, spherical=True, seed=1)
    kmeans.train(rows)
    cluster = kmeans.index.search(rows, 1)[1][:, 0]
    kept = np.ones(len(rows), bool)
    for number in range(300):
        own = np.flatnonzero(cluster == number)
        cosine = np.triu(rows[own] @ rows[own].T, 1)
        kept[own] = cosine.max(axis=0, initial=0) <= THRESHOLD
    return kept


def told(rule: str, rows: np.ndarray, kept: np.ndarray) -> None:
    dropped = np.flatnonzero(~kept)
    alone = 0
    for part in np.array_split(dropped, 1 + len(dropped) // 1000):
        # Less a hair: the product is float32
        alone += int(((rows[part] @ rows[kept].T).max(axis=1) < THRESHOLD - 1e-5).sum())
    print(
        f"{rule}: {len(dropped):,} of {len(rows):,} dropped, {alone:,} of them "
        f"({alone / len(dropped):.2%}) with no kept row within the threshold",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["sizes", "crowd", "rules"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 300_000])
    parser.add_argument("--full", action="store_true", help="1,000,000 vectors as well")
    parser.add_argument("--alone", type=Path, help="search the vectors of this folder, in this process")
    args = parser.parse_args()
    if args.alone:
        measured(args.alone)
        return
    if args.only in (None, "sizes"):
        for count in [*args.sizes, *([1_000_000] if args.full else [])]:
            at_size(count)
    if args.only in (None, "crowd"):
        print("crowd ", end="")
        at_size(100_000, crowd=0.5)
    if args.only in (None, "rules"):
        rules()


if __name__ == "__main__":
    main()
