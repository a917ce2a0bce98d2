"""Measuring and filtering, against the decode that nobody can avoid and against the peers. Ratios in one run.

    python benchmarks/filter.py                     without the peers
    python benchmarks/filter.py --peers PYTHON      with them; PYTHON's environment has them (see PEERS)
    python benchmarks/filter.py --only speed        one of speed, agree, memory, decide

speed   all media measures of the same files in two processes, beside a strict full decode and nothing else
        (the floor), cleanvision and data-juicer; rounds interleaved, the best of each
agree   our measures and cleanvision's where they mean the same: rank correlation, agreement of the decisions
memory  peak resident memory of `imm measure` and `imm filter` at 2 to 200 thousand samples
decide  `imm filter` over 1,000,000 samples whose measures are there already, again with another threshold
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from ctypes import CDLL
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import simplejpeg
from ingest import make_data
from PIL import Image

from infinity_mm.media.decode import check_image
from infinity_mm.media.probe import probe
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.measures.registry import FAMILIES
from pipelines.measuring import MeasureConfig
from pipelines.measuring import run as run_measure

HERE = Path(__file__).resolve()
DATA = HERE.parents[2] / "shared/data"
IMM = Path(sys.executable).with_name("imm")
WORKERS = 2
# This file as a module: a worker imports its parent's main script anew, and `imm` is a lighter one than this.
INSIDE = [
    sys.executable,
    "-c",
    f"import sys; sys.path[0] = {str(HERE.parent)!r}; import filter; filter.main()",
]
PEERS = """\
The peers were left out. In an environment of their own:
  pip install cleanvision==0.3.7 py-data-juicer==1.6.1 aiohttp imagededup scipy av ray opencv-python-headless
  python benchmarks/filter.py --peers THAT_PYTHON"""
CONTENDERS = {
    "cleanvision": "cleanvision, all checks",
    "cleanvision-properties": "cleanvision, no duplicates",
    "data-juicer-shape": "data-juicer, shape size aspect",
    "data-juicer-subplot": "data-juicer, these and subplot",
    "data-juicer-phash": "data-juicer, these and pHash",
}
# What of cleanvision means the same as a measure of ours: its score, its verdict, ours on its scale, and its
# threshold. Its entropy is of the three channels together, log2 3 more than ours where they are alike; its
# odd sizes are relative to the folder's, which is a quantile rule here.
SAME = (
    ("dark_score", "dark_issue", "brightness_p99", 0.32),
    ("light_score", "light_issue", "1 - brightness_p5", 0.05),
    ("low_information_score", "low_information_issue", "(entropy + 1.585) / 10", 0.3),
    ("odd_aspect_ratio_score", "odd_aspect_ratio_issue", "LEAST(aspect, 1 / aspect)", 0.35),
    ("grayscale_score", "grayscale_issue", "CAST(colour_mode <> 'L' AS INT)", 0.5),
    ("brightness", None, "brightness", 0.0),
    ("blurriness", None, "sharpness", 0.0),
)
MEDIA_FAMILIES = [name for name, family in FAMILIES.items() if family.of == "media"]
ENDINGS = {"jpeg": "jpg", "png": "png"}
WORDS = ("the", "a", "cat", "dog", "runs", "over", "red", "图", "里", "有", "what", "is", "3", "people")
RULES = (
    "chars >= 40",
    "chars >= 60",
    "width >= 9 AND chars >= 40",
    "chars <= QUANTILE_DISC(chars, 0.95) OVER (PARTITION BY source)",
    "chars >= 250",
)


class Ran(NamedTuple):
    """A command and all its processes: seconds, CPU seconds, peak resident MB of the first and of another."""

    wall: float
    cpu: float
    first: float
    other: float


def ran(command: list[Any], log: Path, watch: bool = False) -> Ran:
    """Run a command to its end, its output into `log`; `watch` its memory. Raises if it fails.

    This process must have no other children: it waits for all of them.
    """
    CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what it leaves behind is waited for, and counted
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    offline = {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1"}  # data-juicer installs packages while it runs
    peaks: dict[int, float] = {}
    started = time.perf_counter()
    with open(log, "w") as out:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=subprocess.STDOUT, env=os.environ | offline
        )
        while watch and process.poll() is None:
            _look(process.pid, peaks)
            time.sleep(0.01)
        code = process.wait()
    wall = time.perf_counter() - started
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise RuntimeError(f"{command[:3]} failed:\n{log.read_text()[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first = peaks.pop(process.pid, 0.0)
    return Ran(wall, cpu, first, max(peaks.values(), default=0.0))


def _look(pid: int, peaks: dict[int, float]) -> None:
    """The peak resident MB so far of a process and of those below it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), None)
    if peak is not None:
        peaks[pid] = int(peak.split()[1]) / 1024
    for child in children.split():
        _look(int(child), peaks)


class Picture(NamedTuple):
    source: str
    ending: str
    content: bytes


SETS: dict[str, Callable[[Picture], bool]] = {
    "JPEG and PNG": lambda picture: True,
    "JPEG": lambda picture: picture.ending == "jpg",
    "JPEG of 64 KB and more": lambda picture: picture.ending == "jpg" and len(picture.content) >= 64_000,
    "PNG": lambda picture: picture.ending == "png",
}


def real_pictures(scratch: Path) -> list[Picture]:
    """Every JPEG and PNG of the shared data that decodes strictly, shuffled; cleanvision stops at others."""
    pictures = []
    for path in sorted(DATA.rglob("images/**/*")):
        content = path.read_bytes() if path.is_file() else b""
        kind = probe(content).format
        if kind in ENDINGS and check_image(content) is None:
            pictures.append(Picture(path.relative_to(DATA).parts[0], ENDINGS[kind], content))
    if not pictures:
        print("  the shared data is not there: one generated photograph, over and over")
        make_data(scratch / "made", 100)
        made = sorted((scratch / "made/images").iterdir())
        pictures = [Picture("made", "jpg", path.read_bytes()) for path in made]
    random.Random(0).shuffle(pictures)
    return pictures


def write_files(folder: Path, pictures: list[Picture], number: int) -> list[Path]:
    """`number` files, all different: past the first of each picture, copies with a comment in the header."""
    folder.mkdir(parents=True)
    paths: list[Path] = []
    seen = set()
    for i, picture in zip(range(number), cycle(pictures), strict=False):
        content = commented(picture.content, str(i)) if picture.content in seen else picture.content
        seen.add(content)
        paths.append(folder / f"{i:06d}-{picture.source}.{picture.ending}")
        paths[-1].write_bytes(content)
    return paths


def commented(content: bytes, text: str) -> bytes:
    """A JPEG or PNG with a comment after its first header."""
    body = text.encode()
    if content[:2] == b"\xff\xd8":
        return content[:2] + b"\xff\xfe" + (len(body) + 2).to_bytes(2) + body + content[2:]
    body = b"tEXtComment\0" + body
    chunk = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    return content[:33] + chunk + content[33:]


def stored(folder: Path, paths: list[Path]) -> Path:
    """The files in a store, under the name `raw`."""
    records = folder / "records.jsonl"
    with open(records, "w") as file:
        for path in paths:
            image = f"{path.parent.name}/{path.name}"
            file.write(json.dumps(record("<image>\nWhat is this?", "A picture.", image)) + "\n")
    ran([IMM, "ingest", records, *at(folder / "store"), "--out", "raw"], folder / "log")
    return folder / "store"


def at(store: Path) -> list[Any]:
    """The options that every command here is given."""
    return ["--store", store, "--workers", WORKERS]


def record(question: str, answer: str, image: str | None = None) -> dict[str, Any]:
    """A conversation as LLaVA writes it."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns} | ({"image": image} if image else {})


def decode_fully(path: str) -> None:
    """Strictly, all pixels in RGB: what no measure of pixels in their full number goes without."""
    with open(path, "rb") as file:
        content = file.read()
    if content[:2] == b"\xff\xd8":
        try:
            simplejpeg.decode_jpeg(content, "RGB", strict=True)
            return
        except ValueError:  # a colour space that it does not turn into RGB
            pass
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").load()


def run_floor(folder: str) -> dict[str, Any]:
    paths = sorted(entry.path for entry in os.scandir(folder))
    imports, started = time.process_time(), time.perf_counter()
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        for _ in pool.imap_unordered(decode_fully, paths, chunksize=16):
            pass
    return {"seconds": time.perf_counter() - started, "imports": imports, "images": len(paths)}


def run_ours(url: str) -> dict[str, Any]:
    """`imm measure` of every measure of media, once its modules are imported."""
    config = MeasureConfig.model_validate(
        {"store": url, "manifest": "raw", "with": MEDIA_FAMILIES, "workers": WORKERS}
    )
    imports, started = time.process_time(), time.perf_counter()
    found = run_measure(config)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "imports": imports, "images": found["measures"]["brightness"]["n"]}


def speed(scratch: Path, args: argparse.Namespace) -> None:
    pictures = real_pictures(scratch)
    for number, (label, wanted) in enumerate(SETS.items()):
        chosen = [picture for picture in pictures if wanted(picture)]
        if chosen and (number == 0 or len(chosen) < len(pictures)):
            paths = write_files(scratch / f"{number}/files", chosen, args.files)
            print(f"{label}: {min(len(chosen), len(paths)):,} pictures in {len(paths):,} files")
            _race(paths, args.rounds, args.peers if number == 0 else None)
            shutil.rmtree(scratch / str(number))


class Timed(NamedTuple):
    """Seconds and CPU seconds of all processes without the imports; seconds with them."""

    seconds: float
    cpu: float
    whole: float


def _race(paths: list[Path], rounds: int, peers: str | None) -> None:
    """One table: everybody over the same files, in rounds."""
    files = paths[0].parent
    folder = files.parent
    store = stored(folder, paths)
    commands: dict[str, list[Any]] = {
        "floor: strict full decode": [*INSIDE, "--floor", files],
        "imm, every media measure": [*INSIDE, "--ours", store],
    }
    for name, label in CONTENDERS.items() if peers else ():
        commands[label] = [peers, HERE.with_name("peers_filter.py"), name, files]
    runs: dict[str, list[Timed]] = {label: [] for label in commands}
    for _ in range(rounds):
        for label, command in commands.items():
            shutil.rmtree(store / "sidecars", ignore_errors=True)
            process = ran([*command, folder / "result"], folder / "log")
            found = json.loads((folder / "result").read_text())
            if found["images"] != len(paths):
                raise RuntimeError(f"{label} saw {found['images']} of {len(paths)} files")
            runs[label].append(Timed(found["seconds"], process.cpu - found["imports"], process.wall))
    versions = f"; {_versions(found)}" if peers else ""
    best = {label: Timed(*map(min, zip(*timed, strict=True))) for label, timed in runs.items()}
    floor = best["floor: strict full decode"]
    size = sum(path.stat().st_size for path in paths) / len(paths)
    print(
        f"  {size / 1000:.0f} KB each; {WORKERS} processes, best of {rounds} rounds{versions}\n"
        f"  {'':<32} {'s':>7} {'images/s':>9} {'of floor':>8} | {'CPU s':>6} {'of floor':>8} | with imports s"
    )
    for label, (seconds, cpu, whole) in best.items():
        print(
            f"  {label:<32} {seconds:7.2f} {len(paths) / seconds:9,.0f} {floor.seconds / seconds:8.2f} | "
            f"{cpu:6.1f} {floor.cpu / cpu:8.2f} | {whole:14.2f}"
        )


def _versions(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def agree(scratch: Path, args: argparse.Namespace) -> None:
    if not args.peers or not DATA.is_dir():
        print("our measures beside cleanvision's: left out, for want of the peers or of the shared data")
        return
    pictures = real_pictures(scratch)
    paths = write_files(scratch / "files", pictures, len(pictures))
    store = stored(scratch, paths)
    ran([IMM, "measure", "raw", *at(store)], scratch / "log")
    command = [args.peers, HERE.with_name("peers_filter.py"), "cleanvision-properties", scratch / "files"]
    ran([*command, scratch / "result"], scratch / "log")
    found = json.loads((scratch / "result").read_text())
    frame = pl.DataFrame(
        {
            "media_id": [hashlib.sha256(path.read_bytes()).digest()[:16] for path in paths],
            **{name: [values[path.name] for path in paths] for name, values in found["scores"].items()},
        }
    )
    for family in MEDIA_FAMILIES:
        measures = pl.read_parquet(store / "sidecars" / family / "*.parquet").drop("error")
        frame = frame.join(measures, on="media_id", how="left", validate="1:1")
    print(f"our measures beside cleanvision's over {len(paths):,} files ({_versions(found)})")
    print(
        f"  {'theirs':<23} {'ours':<38} {'rank corr.':>10} {'theirs':>7} {'ours':>6} {'both':>6} {'same':>7}"
    )
    for score, issue, sql, threshold in SAME:
        both = frame.select(theirs=pl.col(score).cast(pl.Float64), ours=pl.sql_expr(sql).cast(pl.Float64))
        rank = both.select(pl.corr("theirs", "ours", method="spearman")).item()
        line = f"  {score:<23} {sql + (f' < {threshold}' if issue else ''):<38} {rank:10.3f}"
        if issue:
            theirs, ours = frame[issue].to_numpy(), both["ours"].to_numpy() < threshold
            counts = (theirs.sum(), ours.sum(), (theirs & ours).sum())
            line += " {:7,} {:6,} {:6,}".format(*counts) + f" {(theirs == ours).mean():7.2%}"
        print(line)


def memory(scratch: Path, args: argparse.Namespace) -> None:
    print("peak resident memory: the process, and the largest of its workers")
    for samples in (2000, 20_000, 200_000):
        folder = scratch / str(samples)
        ran([sys.executable, HERE.with_name("ingest.py"), "--small", folder, samples], scratch / "log")
        for words in (["measure", "raw"], ["filter", "raw", "--out", "kept", "--where", "draw < 0.9"]):
            process = ran([IMM, *words, *at(folder / "store")], scratch / "log", watch=True)
            print(
                f"  {samples:>9,} samples  imm {words[0]:<8} {process.first:5.0f} MB  {process.other:5.0f} MB"
                f"  {samples / process.wall:8,.0f} samples/s"
            )


def decide(scratch: Path, args: argparse.Namespace) -> None:
    """Half of the samples without a medium; of the others ten share a tiny picture."""
    (scratch / "images").mkdir()
    rng = random.Random(0)
    with open(scratch / "records.jsonl", "w") as file:
        for i in range(args.samples):
            image = f"images/{i // 20}.png" if i % 2 else None
            if image and i % 20 == 1:
                colour = (i // 20 % 256, i // 5120 % 256, i // 1_310_720)
                Image.new("RGB", (8 + i % 7, 8), colour).save(scratch / image)
            question = f"{i} {' '.join(rng.choices(WORDS, k=rng.randint(3, 12)))}?"
            answer = f"{' '.join(rng.choices(WORDS, k=rng.randint(1, 60)))}."
            asked = record(f"<image>\n{question}" if image else question, answer, image)
            file.write(json.dumps(asked, ensure_ascii=False) + "\n")
    store = scratch / "store"
    ran([IMM, "ingest", scratch / "records.jsonl", *at(store), "--out", "raw"], scratch / "log")
    families = [word for name in ("structure", "text", *MEDIA_FAMILIES) for word in ("--with", name)]
    measured = ran([IMM, "measure", "raw", *families, *at(store)], scratch / "log")
    print(
        f"deciding over {args.samples:,} samples, half of them with a picture\n"
        f"  measured once, in {measured.wall:.0f} s ({args.samples / measured.wall:,.0f} samples/s)\n"
        f"  {'rule':<62} {'dropped':>9} {'s':>6} {'command s':>9} {'peak MB':>7}"
    )
    for number, rule in enumerate(RULES):
        place = [store, rule, f"inside-{number}", scratch / "result"]
        ran([*INSIDE, "--decide", *place], scratch / "log")
        found = json.loads((scratch / "result").read_text())
        command = [IMM, "filter", "raw", "--where", rule, "--out", f"whole-{number}", *at(store)]
        whole = ran(command, scratch / "log", watch=True)
        print(
            f"  {rule:<62} {found['dropped']:9,} {found['seconds']:6.2f} {whole.wall:9.2f} {whole.first:7.0f}"
        )


def run_decide(url: str, rule: str, name: str) -> dict[str, Any]:
    """What `imm filter` does once its modules are imported."""
    config = FilterConfig(store=url, manifest="raw", out=name, where=[rule], workers=WORKERS)
    started = time.perf_counter()
    found = run_filter(config)
    return {"seconds": time.perf_counter() - started, "dropped": found["dropped"]}


PARTS = {"speed": speed, "agree": agree, "memory": memory, "decide": decide}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--peers", help="a Python interpreter whose environment has the peers")
    parser.add_argument("--files", type=int, default=4000, help="of a table of the part speed")
    parser.add_argument("--rounds", type=int, default=3, help="of the part speed")
    parser.add_argument("--samples", type=int, default=1_000_000, help="of the part decide")
    parser.add_argument("--floor", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--decide", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for run, given in ((run_floor, args.floor), (run_ours, args.ours), (run_decide, args.decide)):
        if given:
            *place, result = given
            Path(result).write_text(json.dumps(run(*place)))
            return
    for name, part in PARTS.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as scratch:
                part(Path(scratch).resolve(), args)
    if not args.peers and args.only in (None, "speed", "agree"):
        print(PEERS)


if __name__ == "__main__":
    main()
