"""Near-duplicate texts: time, memory and recall of planted pairs, beside datasketch at equal parameters.

    python benchmarks/near_text.py                        100,000 and 1,000,000 texts
    python benchmarks/near_text.py --texts 20000          another number
    python benchmarks/near_text.py --peers PYTHON         datasketch too; PYTHON's environment has it

captions   two captions of the labelled data in one text, a tenth Chinese, with three words of ten exchanged;
           each fourth text is planted again with one word exchanged, at its end for half of them
templated  one sentence with a number in it: nearly all texts are near nearly all others

Truth is the Jaccard similarity of sets of tuples of words, by hand. datasketch gets the same shingles, by the
same number of permutations and the same bands; its candidates are not verified, which ours are, by default.
Each case runs in a process of its own; memory is the most that it held, less what it held once the texts were
there. Both tools work in one thread; CPU seconds are told, since other load disturbs those less. Floor:
splitting the texts into words once.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infinity_mm.minhash import bands_for
from infinity_mm.near_text import exact_pairs, measure_recall, near_pairs
from infinity_mm.shingles import normalised, shingle_sets

ROOT = Path(__file__).resolve().parents[1]
CAPTIONS = ROOT.parent / "shared" / "data" / "flickr8k.jsonl"
THRESHOLD, PERMUTATIONS, SIZE = 0.8, 128, 5
PEER = """
import json, resource, sys, time
from datasketch import MinHash, MinHashLSH
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def shingles(text):
    words = text.split()
    return [" ".join(words[i:i + size]).encode() for i in range(len(words) - size + 1)]
texts, size, permutations, bands = json.load(sys.stdin)
before, started = peak(), time.process_time()
index, pairs = MinHashLSH(num_perm=permutations, params=bands), []
for row, text in enumerate(texts):
    signature = MinHash(num_perm=permutations)
    signature.update_batch(shingles(text))
    pairs += [(other, row) for other in index.query(signature)]
    index.insert(row, signature, check_duplication=False)
json.dump([pairs, {"all": time.process_time() - started}, peak() - before], sys.stdout)
"""


def captions(count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Normalised texts, so that words are told by spaces for every tool; and the planted pairs."""
    rows = [json.loads(line) for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    english = [normalised(text).split() for row in rows for text in row["text"]]
    chinese = [normalised(text).split() for row in rows for text in row["text_zh"]]
    chance = random.Random(7)
    words = {id(of): [word for text in of for word in text] for of in (english, chinese)}
    texts: list[str] = []
    planted: list[tuple[int, int]] = []
    while len(texts) < count:
        of = chinese if chance.random() < 0.1 else english
        text = [
            chance.choice(words[id(of)]) if chance.random() < 0.3 else word
            for word in chance.choice(of) + chance.choice(of)
        ]
        texts.append(" ".join(text))
        if chance.random() < 0.25:
            text[-1 if chance.random() < 0.5 else chance.randrange(len(text))] = chance.choice(words[id(of)])
            planted.append((len(texts) - 1, len(texts)))
            texts.append(" ".join(text))
    return texts[:count], [pair for pair in planted if pair[1] < count]


def templated(count: int) -> tuple[list[str], list[tuple[int, int]]]:
    sentence = "there are many small shapes of one colour in this picture and their number is"
    return [f"{sentence} {i}" for i in range(count)], []


CASES: dict[str, Callable[[int], tuple[list[str], list[tuple[int, int]]]]] = {
    "captions": captions,
    "templated": templated,
}


def similarity(one: str, other: str) -> float:
    runs = []
    for words in (one.split(), other.split()):
        runs.append({tuple(words[i : i + SIZE]) for i in range(len(words) - SIZE + 1)})
    return len(runs[0] & runs[1]) / max(1, len(runs[0] | runs[1]))


def peak() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(texts: list[str]) -> tuple[list[list[int]], dict[str, float], float, str]:
    """Pairs, equal sets among them; CPU seconds of each step; MB; what is said of the recall."""
    before, clock = peak(), [time.process_time()]
    sets = shingle_sets(texts, SIZE)
    clock.append(time.process_time())
    near = near_pairs(sets, THRESHOLD, PERMUTATIONS)
    clock.append(time.process_time())
    held = peak() - before
    stated = str(measure_recall(sets, near, THRESHOLD))
    clock.append(time.process_time())
    steps = ("shingles", "pairs", "statement of recall")
    seconds = {step: clock[i + 1] - clock[i] for i, step in enumerate(steps)}
    if len(near.pairs) < len(texts):  # exact search of templated texts would find the square of their number
        started = time.process_time()
        exact = exact_pairs(sets, THRESHOLD)
        seconds["exact search instead"] = time.process_time() - started
        stated += f"; {len(near.pairs)} of all {len(exact.pairs)} pairs"
    linked = len(set(near.pairs.ravel().tolist())) / len(texts)
    same = [[j, i] for i, j in enumerate(near.same.tolist()) if i != j]
    return near.pairs.tolist() + same, seconds, held, f"{stated}; {linked:.1%} of texts are in a pair"


def theirs(texts: list[str], python: str) -> tuple[list[list[int]], dict[str, float], float, str]:
    bands = bands_for(THRESHOLD, PERMUTATIONS)
    asked = json.dumps([texts, SIZE, PERMUTATIONS, bands])
    done = subprocess.run([python, "-c", PEER], input=asked, capture_output=True, text=True, check=True)
    pairs, seconds, held = json.loads(done.stdout)
    return pairs, seconds, held, "candidates, as they come"


def report(case: str, count: int, peer: str | None) -> None:
    texts, planted = CASES[case](count)
    true = {pair for pair in planted if similarity(texts[pair[0]], texts[pair[1]]) >= THRESHOLD}
    pairs, seconds, held, stated = theirs(texts, peer) if peer else ours(texts)
    found = {(i, j) for i, j in pairs}
    chosen = random.Random(1).sample(sorted(found), min(len(found), 20_000))
    false = sum(similarity(texts[i], texts[j]) < THRESHOLD for i, j in chosen)
    total = sum(value for step, value in seconds.items() if step in ("shingles", "pairs", "all"))
    tool = "datasketch" if peer else "ours"
    print(f"{case} {count:,}  {tool}: {total:.1f} s, {held:.0f} MB, {len(found):,} pairs")
    print(f"    {', '.join(f'{step} {value:.2f} s' for step, value in seconds.items())}")
    print(
        f"    planted pairs found: {len(found & true):,} of {len(true):,}; false: {false} of {len(chosen):,}"
    )
    print(f"    {stated}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--peers", help="the Python of an environment that has datasketch")
    parser.add_argument("--alone", action="store_true", help="one case in this process, of one tool")
    args = parser.parse_args()
    if args.alone:
        report(args.case[0], args.texts[0], args.peers)
        return
    for count in args.texts:
        for case in args.case:
            # datasketch keeps every pair of templated texts, the square of their number
            for peer in [None, args.peers] if args.peers and case == "captions" else [None]:
                asked = [
                    "--alone",
                    "--texts",
                    str(count),
                    "--case",
                    case,
                    *(["--peers", peer] if peer else []),
                ]
                subprocess.run([sys.executable, __file__, *asked], check=True)


if __name__ == "__main__":
    main()
