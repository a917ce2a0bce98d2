"""Perceptual hashes with near-duplicates among them: of the shape of real ones, and in chains."""

import io
import json
import random
from collections import defaultdict
from functools import cache

import numpy as np
from picture_sets import DATA, VARIANTS, photographs, variant
from PIL import Image

from infinity_mm.hamming import Hashes
from infinity_mm.media.phash import phash

# Of a million pictures these are of the shape of each source; the rest are photographs.
SHAPES = {"flickr8k": 0.9, "chartqa": 0.04, "tabmwp": 0.02, "sroie": 0.02, "gaokao_mm": 0.02}
AFAR = ("mirror", "turned")  # variants whose hashes are others


@cache
def real_hashes() -> tuple[dict[str, Hashes], Hashes]:
    """Hashes of the labelled pictures by source, and the bits by which variants of photographs differ."""
    by: defaultdict[str, list[int]] = defaultdict(list)
    for line in (DATA / "MANIFEST.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row.get("phash") and row["path"].split("/")[0] in SHAPES:
            by[row["path"].split("/")[0]].append(int(row["phash"], 16))
    differing = []
    for content in photographs(100):
        own = hash_of(content)
        differing += [own ^ hash_of(variant(content, kind)) for kind in VARIANTS if kind not in AFAR]
    return {name: np.array(of, np.uint64) for name, of in by.items()}, np.array(differing, np.uint64)


def hash_of(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as image:
        return phash(np.asarray(image.convert("L"))).bits


def clusters(count: int, seed: int = 0) -> Hashes:
    """`count` distinct hashes in any order: heads and 0 to 19 variants of each.

    A head takes each row of frequencies from a real picture of its source; a variant differs from it in the
    bits in which a variant of a real photograph did.
    """
    by, differing = real_hashes()
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 21, count // 3)
    heads = np.zeros(sizes.size, np.uint64)
    source = draw.choice(len(SHAPES), sizes.size, p=list(SHAPES.values()))
    for number, name in enumerate(SHAPES):
        mine = np.flatnonzero(source == number)
        for row in range(8):
            mask = np.uint64(0xFF << 8 * row)
            heads[mine] |= draw.choice(by[name], mine.size) & mask
    hashes = np.repeat(heads, sizes)
    first = np.flatnonzero(np.diff(np.repeat(np.arange(sizes.size), sizes), prepend=-1))
    flips = draw.choice(differing, hashes.size)
    flips[first] = 0
    hashes = np.unique(hashes ^ flips)
    draw.shuffle(hashes)
    assert hashes.size >= count, f"{hashes.size:,} hashes came of it"
    return hashes[:count].copy()


def chains(count: int) -> Hashes:
    """Distinct hashes in groups of 1 to 20, of which each has 0 to 8 bits of an earlier one flipped."""
    draw = random.Random(5)
    found: set[int] = set()
    while len(found) < count:
        group = [draw.getrandbits(64)]
        for _ in range(draw.randrange(20)):
            flips = sum(1 << bit for bit in draw.sample(range(64), draw.randrange(9)))
            group.append(draw.choice(group) ^ flips)
        found.update(group)
    return np.array(sorted(found), np.uint64)
