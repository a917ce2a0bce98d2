"""`imm dedup` beside its peers: pictures, the search of hashes, texts, and what a drop promises.

    python benchmarks/dedup.py                           without the peers
    python benchmarks/dedup.py --peers PYTHON --text-peers PYTHON       with them (see PEERS)
    python benchmarks/dedup.py --only perceptual         or truth, search, large, text, contract
    python benchmarks/dedup.py --only text --texts 1000000

perceptual  real photographs and ten variants of each in one folder, from files to what is kept: ingest and
            dedup from cold beside imagededup and data-juicer; recall by variant and false pairs
truth       the same over the labelled near-duplicates: other sizes and compressions, groups, distinct ones
search      1,000,000 distinct hashes of the shape of real ones at radius 8: search and choice, every witness
            checked; comparing all hashes, on a part
large       10,000,000 at radius 4, the same: several minutes
text        captions with planted near-duplicates, from JSON to what is kept, beside datatrove and datasketch
            at equal permutations, bands and shingles; a million takes its time
contract    dropped rows that no kept row is near, by our rule, by that of SemDeDup and NeMo Curator, and by
            components: on planted chains and on variants of real photographs

Ratios are of one run, best of `--rounds`; CPU seconds, of all processes, are disturbed less than seconds.
`start` is what the commands take for eleven files, and what a peer's imports take; `work` is the rest. The
decode is what nobody can do without: each file once, strictly, in gray at the scale that is hashed.
"""

import argparse
import hashlib
import json
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filter import IMM, at, ran, record
from hamming import ROWS_CHECKED, make, resident, wrong_rows
from hash_sets import chains, clusters, hash_of
from near_text import PERMUTATIONS, SIZE, THRESHOLD, captions, similarity
from picture_sets import DATA, VARIANTS, Pictures, labelled, photographs, variant, variants

from infinity_mm import hamming
from infinity_mm.executor import Silent
from infinity_mm.hamming import Neighbours, neighbours
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.media.photometry import MIN_SIDE
from infinity_mm.minhash import bands_for
from infinity_mm.near_text import NearPairs, exact_pairs
from infinity_mm.shingles import shingle_sets
from infinity_mm.store import Store
from pipelines.dedup.choosing import choose
from pipelines.dedup.classes import Classes
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.methods import METHODS
from pipelines.dedup.population import Population
from pipelines.dedup.relations import Relations, measures_of_media, measures_of_samples
from pipelines.frames import shard_table
from pipelines.measure import measure, settings_of

HERE = Path(__file__).resolve()
RADIUS = 8
PEERS = """\
The peers were left out. In two environments of their own, in the first a torch for the CPU before the others:
  pip install imagededup==0.3.3.post2 py-data-juicer==1.6.1 aiohttp scipy av
  pip install datatrove==0.10.1 datasketch==2.0.0 'xxhash<4' orjson regex tokenizers
  python benchmarks/dedup.py --peers FIRST_PYTHON --text-peers SECOND_PYTHON"""
TIME_BOX = 600  # seconds that a peer may take
LARGE = 64_000


class Found(NamedTuple):
    """What a tool says: pairs of names, if it says them, and the names it keeps."""

    pairs: set[tuple[str, str]] | None
    kept: set[str]


class Timed(NamedTuple):
    """Seconds, CPU seconds, and those of them that are start."""

    seconds: float
    cpu: float
    start: float = 0.0


def perceptual(scratch: Path, args: argparse.Namespace) -> None:
    if not DATA.is_dir():
        print("perceptual: left out, the labelled data is not beside the checkout")
        return
    compare(variants(scratch / "all/files", args.originals), args.rounds, args.peers)
    print(f"\nphotographs of {LARGE // 1000} KB and more")
    compare(variants(scratch / "large/files", args.originals, LARGE), args.rounds, args.peers)


def truth(scratch: Path, args: argparse.Namespace) -> None:
    if not DATA.is_dir():
        print("truth: left out, the labelled data is not beside the checkout")
        return
    compare(labelled(scratch / "files"), 1, args.peers)


def compare(pictures: Pictures, rounds: int, peers: str | None) -> None:
    """Every tool over the same files, in rounds. `lost`: pictures of which no file is kept."""
    scratch = pictures.folder.parent
    times: defaultdict[str, list[Timed]] = defaultdict(list)
    found: dict[str, Found] = {}
    versions: dict[str, str] = {}
    for number in range(rounds):
        store = scratch / f"store-{number}"
        for step, timed in ours(pictures, store):
            times[step].append(timed)
        found |= {f"imm-{radius}": what_we_found(pictures, store, radius) for radius in (8, 10)}
        for name in ("imagededup-8", "imagededup-10", "data-juicer") if peers else ():
            timed, said = theirs(str(peers), name, pictures.folder)
            times[name].append(timed)
            pairs = {(one, other) for one, other in said["pairs"]} if "pairs" in said else None
            found[name] = Found(pairs, set(said["kept"]))
            versions |= said["versions"]
    files = len(pictures.group)
    size = sum((pictures.folder / name).stat().st_size for name in pictures.group)
    print(
        f"{files:,} files of {size / files / 1000:.0f} KB, {len(set(pictures.group.values())):,} different "
        f"pictures; best of {rounds}; {', '.join(f'{name} {number}' for name, number in versions.items())}"
    )
    whole = best(times["imm ingest and dedup"])
    print(
        "\n| | s | CPU s with start | times ours | start | work | times ours |\n|---|---|---|---|---|---|---|"
    )
    for name, all_timed in times.items():
        seconds, cpu, start = best(all_timed)
        print(
            f"| {name:22} | {seconds:.2f} | {cpu:.1f} | {cpu / whole.cpu:.2f} | {start:.1f} "
            f"| {cpu - start:.1f} | {(cpu - start) / (whole.cpu - whole.start):.2f} |"
        )
    print(f"| the decode alone | | | | | {decode_seconds(pictures):.1f} | |")
    head = "".join(f" {kind} ({len(pairs)}) |" for kind, pairs in pictures.wanted.items())
    print(f"\n| | pairs | false | kept | lost |{head}\n{'|---' * (len(pictures.wanted) + 5)}|")
    for name, (pairs, kept) in found.items():
        lost = set(pictures.group.values()) - {pictures.group[name] for name in kept}
        told = ("", "")
        if pairs is not None:
            false = sum(pictures.group[one] != pictures.group[other] for one, other in pairs)
            told = (f"{len(pairs):,}", str(false))
        cells = [share([is_found(pair, pairs, kept) for pair in w]) for w in pictures.wanted.values()]
        print(f"| {' | '.join((name, *told, f'{len(kept):,}', str(len(lost)), *cells))} |")


def is_found(pair: tuple[str, str], pairs: set[tuple[str, str]] | None, kept: set[str]) -> bool:
    """Whether a pair is told; where pairs are not, whether one of the two is gone."""
    return not kept.issuperset(pair) if pairs is None else tuple(sorted(pair)) in pairs


def share(found: Sequence[bool]) -> str:
    return f"{sum(found) / len(found):.2f}"


def best(timed: Sequence[Timed]) -> Timed:
    return Timed(*map(min, zip(*timed, strict=True)))


def ours(pictures: Pictures, store: Path) -> Iterator[tuple[str, Timed]]:
    """The commands, into a store of their own, and the two together."""
    records = pictures.folder.parent / "records.jsonl"
    with open(records, "w") as file:
        for name in sorted(pictures.group):
            image = f"{pictures.folder.name}/{name}"
            file.write(json.dumps(record("<image>\nWhat is this?", "A picture.", image)) + "\n")
    log = pictures.folder.parent / "log"
    steps = {
        "imm ingest": [IMM, "ingest", records, *at(store), "--out", "raw"],
        "imm dedup": [IMM, "dedup", "raw", "--by", "perceptual", "--out", "kept", *at(store)],
    }
    few = pictures.folder.parent / "few.jsonl"
    few.write_text("".join(records.read_text().splitlines(keepends=True)[:11]))
    total = Timed(0, 0)
    for step, command in steps.items():
        swapped = {records: few, at(store)[1]: store.with_name(f"{store.name}-few")}
        start = ran([swapped.get(word, word) for word in command], log).cpu
        process = ran(command, log)
        total = Timed(total.seconds + process.wall, total.cpu + process.cpu, total.start + start)
        yield step, Timed(process.wall, process.cpu, start)
    yield "imm ingest and dedup", total


def decode_seconds(pictures: Pictures) -> float:
    """CPU seconds."""
    data = [(pictures.folder / name).read_bytes() for name in pictures.group]
    started = time.process_time()
    for one in data:
        decode_image(one, min_side=MIN_SIDE, channels=1)
    return time.process_time() - started


def theirs(python: str, name: str, given: Path, parameters: str = "{}") -> tuple[Timed, dict[str, Any]]:
    """A peer's run, its imports left out, and what it said."""
    result = given.parent / "result"
    command = [python, HERE.with_name("peers_dedup.py"), name, given, result, parameters]
    process = ran(["timeout", TIME_BOX, *command], given.parent / "log")
    said = json.loads(result.read_text())
    return Timed(said["seconds"], process.cpu, said["imports"]), said


def what_we_found(pictures: Pictures, folder: Path, radius: int) -> Found:
    """What the stage kept at the default radius, and the pairs that its method takes for near at this one."""
    names: defaultdict[bytes, list[str]] = defaultdict(list)
    for name in sorted(pictures.group):
        names[hashlib.sha256((pictures.folder / name).read_bytes()).digest()[:16]].append(name)
    store = Store.open(str(folder))
    manifest = Manifest.open(store, "raw")
    kept = Population(Manifest.open(store, "kept"))
    config = DedupConfig(store=str(folder), manifest="raw", out="pairs", by=["perceptual"], radius=radius)
    wanted = [*measures_of_media(config), *measures_of_samples(config)]
    files, _ = measure(store, manifest, settings_of(config, wanted), workers=1)
    population = Population(manifest)
    relations = Relations(config, population, [files], np.arange(population.total), Silent())
    of, pairs, _ = METHODS["perceptual"](config, relations).classes
    media = [bytes(one) for one in population.media_ids[population.media]]  # a picture a sample
    members: defaultdict[int, list[str]] = defaultdict(list)
    for sample, unit in enumerate(of.tolist()):
        members[unit].extend(names[media[sample]])
    kept_names = {names[bytes(one)][0] for one in kept.media_ids[kept.media]}
    return Found(named(members, pairs.tolist()), kept_names)


def named(members: Mapping[int, list[str]], pairs: Iterable[tuple[int, int]]) -> set[tuple[str, str]]:
    """All pairs of names of the same class and of those of two near classes."""
    found = {pair for own in members.values() for pair in combinations(sorted(own), 2)}
    for one, other in pairs:
        found |= {(min(a, b), max(a, b)) for a in members[one] for b in members[other]}
    return found


# the search of hashes and the choice


def search(scratch: Path, args: argparse.Namespace) -> None:
    alone(searched, args.hashes, RADIUS, scratch / "hashes.npy")
    alone(compared, scratch / "hashes.npy", RADIUS)


def large(scratch: Path, args: argparse.Namespace) -> None:
    alone(searched, 10 * args.hashes, 4, scratch / "hashes.npy")


def alone(function: Callable[..., None], *args: Any) -> None:
    """Call it in a process of its own, whose peak memory is then its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{function.__name__} ended with {process.exitcode}")


def made(count: int, file: Path) -> None:
    np.save(file, clusters(count) if DATA.is_dir() else make(count, skewed=True))


def searched(count: int, radius: int, file: Path) -> None:
    """Search and choice over hashes, a tenth of which occur twice; every witness checked."""
    alone(made, count, file)
    hashes = np.load(file)
    draw = np.random.default_rng(3)
    of = draw.permutation(np.concatenate([np.arange(count), draw.integers(0, count, count // 10)]))
    order = draw.permutation(of.size)
    before, clock, used = resident(), [time.perf_counter()], [time.process_time()]
    found = neighbours(hashes, radius)
    clock.append(time.perf_counter())
    used.append(time.process_time())
    after_search = resident()
    here = np.repeat(np.arange(count, dtype=np.int32), np.diff(found.starts))
    once = here < found.others
    pairs = np.stack([here[once], found.others[once]], axis=1).astype(np.int64)
    distance = found.distances[once].astype(np.float32)
    del here, once
    choice = choose([Classes(of, pairs, distance)], order)
    clock.append(time.perf_counter())
    used.append(time.process_time())
    peak = resident()
    kept = choice.witness < 0
    dropped = np.flatnonzero(~kept)
    apart = hamming.popcount(hashes[of[dropped]] ^ hashes[of[choice.witness[dropped]]])
    units = np.zeros(count, np.int64)
    np.add.at(units, of[kept], 1)
    wrong = {
        "witnesses that are not kept": int((~kept[choice.witness[dropped]]).sum()),
        "beyond the radius": int((apart > radius).sum()),
        "at another distance": int((apart != choice.distance[dropped]).sum()),
        "hashes kept twice": int((units > 1).sum()),
        "near pairs both kept": int(((units[pairs[:, 0]] > 0) & (units[pairs[:, 1]] > 0)).sum()),
        f"of {ROWS_CHECKED} rows of the search wrong": wrong_rows(hashes, radius, found),
    }
    seconds, cpu = np.diff(clock), np.diff(used)
    print(
        f"{of.size:,} samples of {count:,} distinct hashes, radius {radius}: {len(pairs):,} pairs\n"
        f"  search {seconds[0]:.1f} s (CPU {cpu[0]:.1f}), choice {seconds[1]:.1f} s (CPU {cpu[1]:.1f}), "
        f"{seconds.sum():.1f} s in all; {dropped.size:,} dropped\n"
        f"  peak {after_search:,.0f} MB in the search, {peak:,.0f} MB in all; before {before:,.0f} MB\n"
        f"  {', '.join(f'{number} {what}' for what, number in wrong.items())}",
        flush=True,
    )


def compared(file: Path, radius: int, part: int = 10_000) -> None:
    """Some hashes compared with all, by faiss: what comparing all would take."""
    import faiss

    hashes = np.load(file)
    rows = hashes.view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryFlat(64)
    index.add(rows)
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        began, used = time.perf_counter(), time.process_time()
        index.range_search(rows[:part], radius + 1)
        took, used = time.perf_counter() - began, time.process_time() - used
        print(
            f"  faiss flat, {threads} threads: {part:,} hashes against {len(hashes):,} in {took:.1f} s (CPU "
            f"{used:.1f}); all, extrapolated: {took * len(hashes) / part:,.0f} s "
            f"(CPU {used * len(hashes) / part:,.0f})",
            flush=True,
        )


# texts


def text(scratch: Path, args: argparse.Namespace) -> None:
    """Captions from JSON to what is kept."""
    for count in args.texts:
        folder = scratch / str(count)
        folder.mkdir()
        texts, planted = captions(count)
        bands = bands_for(THRESHOLD, PERMUTATIONS)
        near = exact_pairs(shingle_sets(texts, SIZE), THRESHOLD)
        pairs = {pair for pair in planted if similarity(texts[pair[0]], texts[pair[1]]) >= THRESHOLD}
        lines = folder / "texts.jsonl"
        with open(lines, "w") as file, open(folder / "records.jsonl", "w") as records:
            for row, said in enumerate(texts):
                file.write(json.dumps({"id": str(row), "text": said}) + "\n")
                records.write(json.dumps(record("Describe the picture.", said)) + "\n")
        print(
            f"{count:,} captions, Jaccard {THRESHOLD}, {PERMUTATIONS} permutations, {bands.number} bands of "
            f"{bands.rows}, shingles of {SIZE}; {len(near.pairs):,} pairs by exact search\n"
            f"| | s | CPU s | MB | kept | planted pairs found of {len(pairs):,} "
            f"| dropped with no kept one near |\n|---|---|---|---|---|---|---|"
        )
        runs: list[tuple[str, Callable[[], tuple[float, float, float, set[int]]]]] = [
            ("imm ingest and dedup", partial(our_texts, folder))
        ]
        asked = {"shingle": SIZE, "permutations": PERMUTATIONS, "bands": bands.number, "rows": bands.rows}
        for name in ("datatrove", "datasketch") if args.text_peers else ():
            runs.append((name, partial(their_texts, args.text_peers, name, lines, json.dumps(asked))))
        for name, run in runs:
            try:
                seconds, cpu, largest, kept = run()
            except RuntimeError as error:
                print(f"| {name} | failed, or not done in {TIME_BOX} s: {str(error).splitlines()[-1]} |")
                continue
            found = sum(not kept.issuperset(pair) for pair in pairs)
            print(
                f"| {name} | {seconds:.1f} | {cpu:.1f} | {largest:,.0f} | {len(kept):,} "
                f"| {found:,} | {unwitnessed(near, kept):,} |",
                flush=True,
            )


def our_texts(folder: Path) -> tuple[float, float, float, set[int]]:
    """Seconds, CPU seconds, MB of the largest process, and the rows kept."""
    store, out = folder / "store", []
    ingest = ["ingest", folder / "records.jsonl", "--out", "raw"]
    dedup = ["dedup", "raw", "--by", "text", "--field", "answers", "--out", "kept"]
    for command in (ingest, dedup):
        out.append(ran([IMM, *command, *at(store)], folder / "log", watch=True))
        print(f"| {command[0]} | {out[-1].wall:.1f} | {out[-1].cpu:.1f} | {max(out[-1][2:]):,.0f} | | | |")
    manifest = Manifest.open(Store.open(str(store)), "kept")
    origins = [
        shard_table(manifest, number, ["origin"])["origin"].to_pylist()
        for number in range(len(manifest.shards))
    ]
    kept = {int(origin.rpartition(":")[2]) for of_shard in origins for origin in of_shard}
    return sum(o.wall for o in out), sum(o.cpu for o in out), max(max(o[2:]) for o in out), kept


def their_texts(python: str, name: str, lines: Path, asked: str) -> tuple[float, float, float, set[int]]:
    result = lines.parent / "result"
    command = ["timeout", TIME_BOX, python, HERE.with_name("peers_dedup.py"), name, lines, result, asked]
    process = ran(command, lines.parent / "log", watch=True)
    said = json.loads(result.read_text())
    return said["seconds"], process.cpu - said["imports"], max(process[2:]), set(said["kept"])


def unwitnessed(near: NearPairs, kept: set[int]) -> int:
    """The rows that are gone though no kept row has the same shingles or is near."""
    stays = np.zeros(len(near.same), bool)
    stays[list(kept)] = True
    stands = np.zeros(len(near.same), bool)  # of the first of equal rows
    stands[near.same[stays]] = True
    beside = stands.copy()
    for side in (0, 1):
        beside[near.pairs[stands[near.pairs[:, 1 - side]], side]] = True
    return int((~stays & ~beside[near.same]).sum())


# what a drop promises


def contract(scratch: Path, args: argparse.Namespace) -> None:
    """Three rules over the same pairs, in the same order."""
    sets = {"planted chains": chains(100_000)}
    if DATA.is_dir():
        pictures = photographs(args.originals)
        found = [hash_of(variant(content, kind)) for content in pictures for kind in ("copy", *VARIANTS)]
        sets[f"{len(pictures)} photographs and their variants"] = np.unique(np.array(found, np.uint64))
    rules = {"imm": by_choice, "SemDeDup, NeMo Curator": by_earlier, "components": by_component}
    for name, hashes in sets.items():
        near = neighbours(hashes, RADIUS)
        order = np.random.default_rng(4).permutation(hashes.size)
        print(
            f"{name}: {hashes.size:,} hashes, {near.others.size // 2:,} pairs within {RADIUS} bits\n"
            f"| | dropped | with no kept one within {RADIUS} bits | kept ones near another |\n"
            "|---|---|---|---|"
        )
        here = np.repeat(np.arange(hashes.size), np.diff(near.starts))
        for rule, decide in rules.items():
            kept = decide(near, order)
            with_kept = np.zeros(hashes.size, bool)
            with_kept[here[kept[near.others]]] = True
            bare = int((~kept & ~with_kept).sum())
            dropped = int((~kept).sum())
            print(
                f"| {rule} | {dropped:,} | {bare:,} ({bare / max(1, dropped):.1%}) "
                f"| {int((kept & with_kept).sum()):,} |"
            )


def by_choice(near: Neighbours, order: np.ndarray) -> np.ndarray:
    """bool [N]: what `imm dedup` keeps."""
    here = np.repeat(np.arange(order.size), np.diff(near.starts))
    once = here < near.others
    pairs = np.stack([here[once], near.others[once]], axis=1).astype(np.int64)
    distance = near.distances[once].astype(np.float32)
    return choose([Classes(np.arange(order.size), pairs, distance)], order).witness < 0


def by_earlier(near: Neighbours, order: np.ndarray) -> np.ndarray:
    """What has no near one before it, dropped ones too: the largest of the upper triangle of similarities."""
    rank = np.argsort(order)
    here = np.repeat(np.arange(order.size), np.diff(near.starts))
    kept = np.ones(order.size, bool)
    kept[here[rank[near.others] < rank[here]]] = False
    return kept


def by_component(near: Neighbours, order: np.ndarray) -> np.ndarray:
    """The first of each connected component, as by fastdup and datatrove."""
    here = np.repeat(np.arange(order.size), np.diff(near.starts))
    rank = np.argsort(order)
    first = rank.copy()  # the least rank of what is linked, as far as is known
    while True:
        before = first.copy()
        np.minimum.at(first, here, before[near.others])
        first = first[order[first]]
        if np.array_equal(first, before):
            return np.asarray(first == rank)


PARTS = {
    "perceptual": perceptual,
    "truth": truth,
    "search": search,
    "large": large,
    "text": text,
    "contract": contract,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--peers", help="a Python whose environment has imagededup and data-juicer")
    parser.add_argument("--text-peers", help="one that has datatrove and datasketch [default: --peers]")
    parser.add_argument("--originals", type=int, default=400, help="photographs, each with ten variants")
    parser.add_argument("--rounds", type=int, default=3, help="of the part perceptual")
    parser.add_argument("--hashes", type=int, default=1_000_000, help="of search; of large ten times")
    parser.add_argument("--texts", type=int, nargs="+", default=[100_000])
    args = parser.parse_args()
    args.text_peers = args.text_peers or args.peers
    for name, part in PARTS.items():
        if args.only == name or (args.only is None and name != "large"):
            print(f"\n{name}", flush=True)
            with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as scratch:
                part(Path(scratch).resolve(), args)
    if not args.peers and args.only in (None, "perceptual", "truth", "text"):
        print(PEERS)


if __name__ == "__main__":
    main()
