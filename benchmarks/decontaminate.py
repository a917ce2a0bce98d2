"""What decontamination finds and what it drops that it should not.

    python benchmarks/decontaminate.py                 all but `scale`, some ten minutes
    python benchmarks/decontaminate.py --only scenes   one of scenes, real, fine, scale

scenes  benchmark items planted in drawn records, as their bytes or as a worse JPEG: precision and recall by
        picture and question, by picture, and by text
real    fingerprints of real benchmarks against other real data, of which nothing may be dropped; photographs
        against their resized and recompressed copies, all of which should be; bytes an item
fine    finer hashes of real documents and of drawn scenes: pairs of different pictures with near 64-bit
        hashes, and pictures against their copies in JPEG and in other sizes
scale   100,000 benchmark questions against 200,000 texts, and 100,000 hashes against 1,000,000, one process:
        seconds of a core and memory
"""

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1] / "tests"))
from inputs import MAPS

from infinity_mm.cli.tables import columns
from infinity_mm.fine_hash import LIKE, NEAR, apart, fine_hashes
from infinity_mm.hamming import neighbours
from infinity_mm.interval import share
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.media.luma_look import luma_look
from infinity_mm.media.photometry import MIN_SIDE, working
from infinity_mm.media.thumbnail import alike, coarse, coarsely_alike, low_information, thumbnail
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.shingles import shingle_sets, text_key
from infinity_mm.store import Store
from pipelines.decontaminate.config import DecontaminateConfig
from pipelines.decontaminate.stage import run as decontaminate
from pipelines.decontaminate.texts import TextIndex
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.fingerprint import FingerprintConfig
from pipelines.fingerprint import run as fingerprint
from pipelines.frames import shard_table
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COUNT, SEEDS, DEFECTS = 4000, (11, 12, 13), 0.4
WAYS = ("both", "image", "text")
BENCHMARKS = ("chartqa", "gaokao_mm", "owleval", "mathv", "nlvr", "sroie_qa", "coco_mini_qa")
TRAINING = (
    "flickr8k", "flickr8k_match", "flickr8k_conversations", "imagenet", "cc12m", "coco_pairs_full",
    "coco_mini", "easy_vqa", "opencqa", "tabmwp", "sroie", "chartqa", "mathv", "nlvr", "llamafactory",
)  # fmt: skip
# Sets that share pictures, so that a drop is no error.
SHARED = {("coco_mini_qa", "coco_mini"), ("sroie_qa", "sroie")}
DOCUMENTS = ("chartqa", "gaokao_mm", "sroie", "tabmwp", "opencqa", "mathv", "nlvr")
RADIUS = 8


def scenes(folder: Path) -> None:
    """Each way alone on three sets of drawn records, after `imm filter`."""
    found: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
    for seed in SEEDS:
        here = folder / f"scenes-{seed}"
        make_scenes(ScenesConfig(out=here, count=COUNT, seed=seed, defects=DEFECTS))
        truth = [json.loads(line) for line in (here / "truth.jsonl").read_text().splitlines()]
        url = str(folder / f"store-{seed}")
        run_ingest(IngestConfig(inputs=[str(here / "benchmark.json")], store=url, out="bench"))
        run_ingest(IngestConfig(inputs=[str(here / "data.json")], store=url, out="raw"))
        run_filter(FilterConfig(store=url, manifest="raw", out="sound"))
        file = str(folder / f"{seed}.parquet")
        fingerprint(FingerprintConfig(store=url, manifest="bench", out=file))
        sound = Manifest.open(Store.open(url), "sound")
        origins = [shard_table(sound, n, ["origin"]) for n in range(len(sound.shards))]
        came = {place for table in origins for place in _places(table)}
        planted = {i for i in came if "benchmark_leak" in truth[i]["defects"]}
        for way in WAYS:
            decontaminate(
                DecontaminateConfig(store=url, manifest="sound", against=[file], by=way, out=f"by-{way}")
            )
            made = Manifest.open(sound.store, f"by-{way}")
            table = pq.read_table(sound.store.open_file(made.document["ledger"]["file"]))
            dropped = set(_places(table))
            found[way].update(planted=len(planted), dropped=len(dropped), hit=len(dropped & planted))
    rows = [("by", "planted", "dropped", "right", "precision", "recall", "recall, 95 %")]
    for way, n in found.items():
        low, high = share(n["hit"], n["planted"])
        rows.append(
            (
                *(way, str(n["planted"]), str(n["dropped"]), str(n["hit"])),
                *(f"{n['hit'] / max(n['dropped'], 1):.3f}", f"{n['hit'] / n['planted']:.3f}"),
                f"{low:.3f} to {high:.3f}",
            )
        )
    print(f"\nscenes: {COUNT:,} records of each of seeds {SEEDS}, those that imm filter keeps")
    print("\n".join(columns(rows, right=range(1, 7))))


def _places(table: pa.Table) -> list[int]:
    return [int(origin.rsplit(":", 1)[1]) for origin in table.column("origin").to_pylist()]


def real(folder: Path) -> None:
    """Real benchmarks against other real data, and photographs against their copies."""
    url = str(folder / "store")
    for name in sorted({*BENCHMARKS, *TRAINING, "flickr8k_alt", "coco_pairs_224", "coco_pairs_full"}):
        config = IngestConfig(
            inputs=[str(DATA / f"{name}.jsonl")], store=url, out=name, source=name, map=MAPS[name] or None,
            mode="reference",
        )  # fmt: skip
        run_ingest(config)
    rows = [("benchmark", "items", "bytes an item")]
    for name in (*BENCHMARKS, "flickr8k_alt", "coco_pairs_224"):
        made = fingerprint(FingerprintConfig(store=url, manifest=name, out=str(folder / f"{name}.parquet")))
        rows.append((name, f"{made['kept']:,}", f"{made['bytes'] / made['kept']:,.0f}"))
    print("\nreal fingerprints")
    print("\n".join(columns(rows, right=range(1, 3))))
    rows = [("data", "samples", "against", *WAYS)]
    total = Counter[str]()
    for name in TRAINING:
        for bench in BENCHMARKS:
            if name in bench or (bench, name) in SHARED:
                continue
            result = decontaminate(
                DecontaminateConfig(
                    store=url, manifest=name, against=[str(folder / f"{bench}.parquet")], dry_run=True
                )
            )
            (told,) = result["benchmarks"]
            counts = [told["samples"][way] for way in WAYS]
            total.update(dict(zip(WAYS, counts, strict=True)), pairs=result["in"])
            if any(counts):
                rows.append((name, f"{result['in']:,}", bench, *map(str, counts)))
    print(f"\nother data: {total['pairs']:,} samples compared with a benchmark that has none of them; found")
    rows.append(("all", "", "", *(str(total[way]) for way in WAYS)))
    print("\n".join(columns(rows, right=(1, 3, 4, 5))))
    for bench, name in (("flickr8k_alt", "flickr8k"), ("coco_pairs_224", "coco_pairs_full")):
        config = DecontaminateConfig(
            store=url, manifest=name, against=[str(folder / f"{bench}.parquet")], by="image", out=f"of-{name}"
        )
        decontaminate(config)
        made = Manifest.open(Store.open(url), f"of-{name}")
        table = pq.read_table(made.store.open_file(made.document["ledger"]["file"]))
        records = _records(name)
        dropped = {records[i]["image"] for i in _places(table)}
        copied = {record["duplicate_of"] for record in _records(bench)}
        print(
            f"{bench} found in {name} by picture: {len(dropped & copied)} of {len(copied)} originals, "
            f"{len(dropped - copied)} pictures that are none"
        )


def _records(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]


def fine(folder: Path) -> None:
    """Finer hashes: how far different pictures with near hashes are apart, and copies of one."""
    make_scenes(
        ScenesConfig(
            out=folder / "fine", count=2500, seed=21, multi_image_share=0, video_share=0, text_only_share=0
        )
    )
    drawn = {}
    for line in (folder / "fine/truth.jsonl").read_text().splitlines():
        record = json.loads(line)
        if len(record["files"]) == 1:
            drawn.setdefault(json.dumps(record["scene_keys"]), folder / "fine" / record["files"][0])
    documents = [p for name in DOCUMENTS for p in sorted((DATA / name / "images").iterdir())]
    rows = [("pictures", "low", "near 64 bits", f"within {NEAR}", f"within {LIKE}", "alike thumbnails")]
    more = [("copies", "of", f"within {NEAR}", f"within {LIKE}", "alike thumbnails")]
    for kind, files in (("documents", documents), ("scenes", list(drawn.values()))):
        looks = [_look(path.read_bytes()) for path in files]
        hashes, low = np.array([h for h, _, _ in looks], np.uint64), np.array([n for _, n, _ in looks])
        thumbnails = np.stack([t for _, _, t in looks])
        told = fine_hashes(thumbnails)
        distinct, of = np.unique(hashes, return_inverse=True)
        near = neighbours(distinct, RADIUS)
        within = np.eye(len(distinct), dtype=bool)
        within[np.repeat(np.arange(len(distinct)), np.diff(near.starts)), near.others] = True
        pairs = np.argwhere(np.tril(within[of][:, of], -1))
        pairs = pairs[low[pairs].any(axis=1)]
        one, other = thumbnails[pairs[:, 0]], thumbnails[pairs[:, 1]]
        same = (one == other).all(axis=1)
        away = apart(told[pairs[~same, 0]], told[pairs[~same, 1]])
        equal = (coarsely_alike(coarse(one), coarse(other)) & alike(one, other))[~same]
        counts = (len(away), (away <= NEAR).sum(), (away <= LIKE).sum(), equal.sum())
        rows.append((kind, f"{low.sum():,} of {len(files):,}", *(f"{n:,}" for n in counts)))
        for copy in ("JPEG of 40 to 70", "0.5 to 2 times, PNG", "0.5 to 2 times, JPEG of 60"):
            draw = np.random.default_rng(7)
            copies = np.stack([_look(_copied(path, copy, draw))[2] for path in files])[low]
            away = apart(told[low], fine_hashes(copies))
            equal = coarsely_alike(coarse(thumbnails[low]), coarse(copies)) & alike(thumbnails[low], copies)
            shares = ((away <= NEAR).mean(), (away <= LIKE).mean(), equal.mean())
            more.append((f"{kind}, {copy}", f"{low.sum():,}", *(f"{s:.3f}" for s in shares)))
    print("\nfine: pairs of different pictures, of which either is of low information")
    print("\n".join(columns(rows, right=range(1, 6))))
    print("\nfine: copies")
    print("\n".join(columns(more, right=range(1, 5))))


def _look(data: bytes) -> tuple[int, bool, np.ndarray]:
    pixels = decode_image(data, min_side=MIN_SIDE, channels=4).pixels
    found = luma_look(decode_image(data, min_side=MIN_SIDE, channels=1).pixels[:, :, 0])
    low = low_information(found.luma_uniformity, found.luma_drawn, found.phash_margin)
    shorter = min(Image.open(io.BytesIO(data)).size)
    return found.phash, bool(low), np.frombuffer(thumbnail(working(pixels), shorter), np.uint8)


def _copied(path: Path, copy: str, draw: np.random.Generator) -> bytes:
    image = Image.open(path).convert("RGB")
    buffer = io.BytesIO()
    scale = float(draw.choice([0.5, 0.75, 1.5, 2.0]))
    if "times" in copy:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
    if "PNG" in copy:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=60 if "times" in copy else int(draw.integers(40, 71)))
    return buffer.getvalue()


def scale(folder: Path) -> None:
    """The index of many questions, and texts that are looked up in it."""
    draw = np.random.default_rng(1)
    words = np.array([f"word{i}" for i in range(20_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()

    def texts(count: int) -> list[str]:
        lengths = draw.integers(5, 40, count)
        flat = words[draw.choice(len(words), int(lengths.sum()), p=weights)]
        ends = np.cumsum(lengths)
        return [" ".join(flat[end - n : end]) for end, n in zip(ends, lengths, strict=True)]

    questions, said = texts(100_000), texts(200_000)
    said[::1000] = questions[:200]
    began = time.process_time()
    index = TextIndex.made(shingle_sets(questions), [text_key(q) for q in questions], 5)
    print(f"\nscale: index of {len(questions):,} questions: {time.process_time() - began:.1f} s")
    began = time.process_time()
    found = [index.find(said[at : at + 1024], 0.8) for at in range(0, len(said), 1024)]
    spent = time.process_time() - began
    print(
        f"{len(said):,} texts looked up: {spent:.1f} s, {spent / len(said) * 1e6:.0f} µs each; "
        f"{sum(len(f.sample) for f in found):,} matches of 200 planted"
    )
    theirs, ours = (np.unique(draw.integers(0, 1 << 64, n, np.uint64)) for n in (100_000, 1_000_000))
    ours[:1000] = theirs[:1000] ^ np.uint64(0b1010101)
    began = time.process_time()
    near = neighbours(theirs, RADIUS, np.unique(ours))
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(theirs):,} hashes against {len(ours):,} within {RADIUS} bits: {spent:.1f} s, "
        f"{len(near.others):,} pairs; peak {peak:.2f} GB"
    )


PARTS = {"scenes": scenes, "real": real, "fine": fine, "scale": scale}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=tuple(PARTS))
    only = parser.parse_args().only
    for name, part in PARTS.items():
        if name == only or (only is None and name != "scale"):
            if name in ("real", "fine") and not DATA.is_dir():
                print(f"{name}: left out, the labelled data is not beside the checkout")
                continue
            with tempfile.TemporaryDirectory(prefix=".bench-") as folder:
                part(Path(folder))


if __name__ == "__main__":
    main()
