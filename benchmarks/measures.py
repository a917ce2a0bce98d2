"""Media measures: their speed against the decode nobody can avoid, and what they are worth on real pictures.

    python benchmarks/measures.py                          all but peers: about two minutes
    python benchmarks/measures.py --only documents         one of speed, documents, text, hashes, blur, peers
    python benchmarks/measures.py --peers /path/to/python  cleanvision too, from an interpreter that has it

speed      strict full RGB decode (simplejpeg, Pillow for PNG), scaled decode, scaled decode and all measures
documents  the rule text_like >= A or chart_like >= B: its limits chosen on one half of the files, its
           precision and recall on the other
text       text_like against the area of the lines that SROIE's annotators boxed
hashes     Hamming distances between phash on the scaled decode and imagehash.phash on the full one
blur       acuity of pictures as they are and blurred by Gaussians of a share of their shorter side
peers      ranks and decisions of cleanvision on photographs: as they are, darkened, bleached, blurred, dulled

Pictures are those of ../shared/data; one process, with the environment that workers have.
"""

import argparse
import ast
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import simplejpeg
from PIL import Image, ImageFilter

from infinity_mm.executor import WORKER_ENVIRONMENT
from infinity_mm.media.decode import decode_image
from infinity_mm.media.luma_look import luma_look
from infinity_mm.media.photometry import MIN_SIDE, Photometry, photometry

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
DOCUMENTS = ("sroie", "chartqa", "opencqa", "tabmwp", "mathv", "gaokao_mm")
PHOTOGRAPHS = (
    *("flickr8k", "flickr8k_alt", "coco_mini", "coco_pairs_full", "coco_pairs_224", "imagenet", "cc12m"),
    *("nd_images4", "nd_imagededup", "nd_jenssegers", "nd_perception"),
)
RECOMMENDED = 0.15, 0.5  # text_like, chart_like
ROUNDS = 5
CLEANVISION = """
import json, sys, time
from cleanvision import Imagelab
paths = json.loads(sys.stdin.read())
kinds = ("dark", "light", "blurry", "low_information", "odd_aspect_ratio", "grayscale", "near_duplicates")
started = time.perf_counter()
lab = Imagelab(filepaths=paths)
lab.find_issues({kind: {} for kind in kinds}, n_jobs=1, verbose=False)
seconds = time.perf_counter() - started
rows = lab.issues.loc[paths]
columns = {name: rows[name].tolist() for kind in kinds[:4] for name in (kind + "_score", f"is_{kind}_issue")}
print(json.dumps({"seconds": seconds, **columns}))
"""


def pictures() -> list[dict]:
    """The rows of the list of files that are pictures, each with its source and its bytes."""
    rows = [json.loads(line) for line in (DATA / "MANIFEST.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "image"]
    return [
        row | {"source": row["path"].partition("/")[0], "data": (DATA / row["path"]).read_bytes()}
        for row in rows
    ]


def measured(data: bytes) -> Photometry:
    return photometry(decode_image(data, min_side=MIN_SIDE, channels=4).pixels)


def phash_of(data: bytes) -> int:
    return luma_look(decode_image(data, min_side=MIN_SIDE, channels=1).pixels[:, :, 0]).phash


def full_decode(data: bytes) -> np.ndarray:
    if data[:2] == b"\xff\xd8":
        return simplejpeg.decode_jpeg(data, strict=True)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def speed(rows: list[dict]) -> None:
    works: dict[str, Callable[[bytes], object]] = {
        "floor": full_decode,
        "scaled": lambda data: decode_image(data, min_side=MIN_SIDE, channels=4),
        "all": measured,
    }
    print(
        f"milliseconds a picture, each file's best of {ROUNDS}; ratio: images a second of ours to the floor's"
    )
    print(f"  {'':22}{'files':>6}{'KB':>6}{'floor':>8}{'scaled':>8}{'all':>8}{'ratio':>7}")
    sums: dict[str, np.ndarray] = {}
    for form in ("JPEG", "PNG"):
        for source in sorted({row["source"] for row in rows if row["format"] == form}):
            files = [row["data"] for row in rows if (row["source"], row["format"]) == (source, form)]
            lines = [
                np.array([1, len(data) / 1000, *(best(work, data) for work in works.values())])
                for data in files
                if strict(data)
            ]
            print_speed(f"{form} {source}", np.sum(lines, axis=0))
            for line in lines:
                group = "JPEG of 80 KB and more" if form == "JPEG" and line[1] >= 80 else None
                for total in filter(None, (f"{form} altogether", group, "altogether")):
                    sums[total] = sums.get(total, 0) + line
    for name in sorted(sums):
        print_speed(name, sums[name])


def best(work: Callable[[bytes], object], data: bytes) -> float:
    """Seconds of the fastest of ROUNDS runs."""
    seconds = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work(data)
        seconds = min(seconds, time.perf_counter() - started)
    return seconds


def strict(data: bytes) -> bool:
    """Whether the floor decodes it too: it has no patience with odd but harmless headers."""
    try:
        full_decode(data)
    except (ValueError, OSError):
        return False
    return True


def print_speed(name: str, line: np.ndarray) -> None:
    files, size, *seconds = line
    each = "".join(f"{1000 * value / files:8.3f}" for value in seconds)
    print(f"  {name:22}{files:6.0f}{size / files:6.0f}{each}{seconds[0] / seconds[2]:7.2f}")


def documents(rows: list[dict]) -> None:
    rows = [row for row in rows if row["source"] in DOCUMENTS + PHOTOGRAPHS]
    found = np.array([(m.text_like, m.chart_like) for m in (measured(row["data"]) for row in rows)])
    source = np.array([row["source"] for row in rows])
    truth = np.isin(source, DOCUMENTS)
    held_out = np.array([crc32(row["path"].encode()) % 2 == 1 for row in rows])

    def score(limits: tuple[float, float], part: np.ndarray) -> tuple[float, float, np.ndarray]:
        called = np.asarray((found >= limits).any(axis=1))
        right = (called & truth & part).sum()
        return right / max(1, (called & part).sum()), right / (truth & part).sum(), called

    def agreement(limits: tuple[float, float]) -> float:
        precision, recall, _ = score(limits, ~held_out)
        return 2 * precision * recall / max(1e-9, precision + recall)

    grid = [(a, b) for a in np.arange(0.04, 0.41, 0.01) for b in np.arange(0.2, 0.81, 0.01)]
    for name, limits in (
        ("chosen on the other half", max(grid, key=agreement)),
        ("recommended", RECOMMENDED),
    ):
        precision, recall, called = score(limits, held_out)
        print(
            f"text_like >= {limits[0]:.2f} or chart_like >= {limits[1]:.2f} ({name}):"
            f" precision {precision:.3f}, recall {recall:.3f} on {held_out.sum()} held-out files"
        )
    print(f"  {'':18}{'files':>6}{'called':>8}   text_like 5/50/95 %   chart_like 5/50/95 %")
    for name in DOCUMENTS + PHOTOGRAPHS:
        part = held_out & (source == name)
        shares = ["/".join(f"{v:.2f}" for v in np.percentile(found[part, i], (5, 50, 95))) for i in (0, 1)]
        print(f"  {name:18}{part.sum():6}{(called & part).sum():8}   {shares[0]:22}{shares[1]}")


def text(rows: list[dict]) -> None:
    boxed, found = [], []
    for row in map(json.loads, (DATA / "sroie.jsonl").read_text().splitlines()):
        decoded = decode_image((DATA / row["image"]).read_bytes(), min_side=MIN_SIDE)
        mask = np.zeros((decoded.height, decoded.width), bool)
        lines = row["ocr"] if isinstance(row["ocr"], list) else ast.literal_eval(row["ocr"])
        for line in lines:
            x, y = line["box"][0::2], line["box"][1::2]
            mask[min(y) : max(y), min(x) : max(x)] = True
        boxed.append(mask.mean())
        found.append(photometry(decoded.pixels).text_like)
    print(
        f"{len(found)} receipts: {np.mean(boxed):.3f} of the area is boxed, text_like is {np.mean(found):.3f}"
        f" on average; correlation {np.corrcoef(boxed, found)[0, 1]:.2f}"
    )


def hashes(rows: list[dict]) -> None:
    for name, sources in (("photographs", PHOTOGRAPHS), ("documents", DOCUMENTS)):
        distances = [
            (phash_of(row["data"]) ^ int(row["phash"], 16)).bit_count()
            for row in rows
            if row["source"] in sources
        ]
        counts = dict(zip(*(part.tolist() for part in np.unique(distances, return_counts=True)), strict=True))
        print(f"{len(distances)} {name}: distance to imagehash.phash: files {counts}")


def blur(rows: list[dict]) -> None:
    for name, sources in (("photographs", PHOTOGRAPHS), ("documents", DOCUMENTS)):
        some = [row for row in rows if row["source"] in sources][::4]
        for share in (0.0, 0.01, 0.02, 0.06, 0.1):
            found = []
            for row in some:
                image = Image.fromarray(decode_image(row["data"], min_side=MIN_SIDE).pixels)
                image = image.filter(ImageFilter.GaussianBlur(share * min(image.size)))
                found.append(photometry(np.asarray(image)).acuity)
            values = [value for value in found if value is not None]
            shown = "/".join(f"{v:.4f}" for v in np.percentile(values, (0, 5, 50, 95, 100)))
            missing = len(found) - len(values)
            print(
                f"{name} blurred by {share:4.0%}: acuity least/5/50/95 %/most {shown} of {len(values)},"
                f" not applicable {missing}"
            )


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing their mean."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[which]


def peers(rows: list[dict], python: str) -> None:
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "as they are": lambda image: image,
        "darkened": lambda image: image.point(lambda v: v // 8),
        "bleached": lambda image: image.point(lambda v: 255 - (255 - v) // 32),
        "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 40)),
        "dulled": lambda image: image.point(lambda v: 128 + (v - 128) // 40),
    }
    photographs = [row for row in rows if row["source"] in ("flickr8k", "coco_mini", "imagenet")][::6]
    with tempfile.TemporaryDirectory() as folder:
        paths, kinds = [], []
        for number, row in enumerate(photographs):
            for kind, change in changes.items():
                path = Path(folder) / f"{number}_{kind.replace(' ', '_')}.jpg"
                change(Image.open(io.BytesIO(row["data"])).convert("RGB")).save(path, quality=92)
                paths.append(str(path))
                kinds.append(kind)
        started = time.perf_counter()
        ours = [measured(Path(path).read_bytes()) for path in paths]
        seconds = time.perf_counter() - started
        run = subprocess.run(
            [python, "-c", CLEANVISION], input=json.dumps(paths), capture_output=True, text=True, check=True
        )
    theirs = json.loads(run.stdout.splitlines()[-1])
    print(
        f"{len(paths)} files, one process each: ours {len(paths) / seconds:,.0f} images/s, cleanvision"
        f" {len(paths) / theirs['seconds']:,.0f} images/s, {theirs['seconds'] / seconds:.1f} times as long"
    )
    kind_of = np.array(kinds)
    value = {name: np.array([getattr(one, name) for one in ours]) for name in Photometry._fields}
    called = {
        "dark": value["brightness_p99"] < 0.32,
        "light": value["brightness_p5"] > 0.95,
        "low_information": value["entropy"] < 3 - np.log2(3),  # theirs is of three histograms in one
    }
    for kind, name in (
        ("dark", "brightness_p99"),
        ("light", "brightness_p5"),
        ("low_information", "entropy"),
    ):
        rank = np.corrcoef(ranks(value[name]), ranks(np.array(theirs[f"{kind}_score"])))[0, 1]
        issue = np.array(theirs[f"is_{kind}_issue"])
        print(
            f"  {name} and {kind}_score: rank correlation {rank:+.3f}; it calls {issue.sum()}, our rule"
            f" {called[kind].sum()}, the same answer for {(called[kind] == issue).mean():.1%}"
        )
    part = np.isin(kind_of, ("as they are", "blurred"))
    truth = kind_of[part] == "as they are"
    for name, score in (
        ("sharpness", value["sharpness"]),
        ("acuity", np.array([one.acuity or 0.0 for one in ours])),
        ("blurry_score", np.array(theirs["blurry_score"])),
    ):
        order = ranks(score[part])
        wins = order[truth].sum() - truth.sum() * (truth.sum() - 1) / 2
        print(f"  {name}: {wins / (truth.sum() * (~truth).sum()):.4f} of pairs (sharp, blurred) in order")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("speed", "documents", "text", "hashes", "blur", "peers"))
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter with cleanvision")
    options = parser.parse_args()
    if not WORKER_ENVIRONMENT.items() <= os.environ.items():  # read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | WORKER_ENVIRONMENT)
    rows = pictures()
    for work in (speed, documents, text, hashes, blur):
        if options.only in (None, work.__name__):
            print(f"== {work.__name__}")
            work(rows)
    if options.peers and options.only in (None, "peers"):
        print("== peers")
        peers(rows, options.peers)


if __name__ == "__main__":
    main()
