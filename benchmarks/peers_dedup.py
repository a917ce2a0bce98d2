"""One peer's deduplication of a folder of pictures or a file of texts, by the peer's own interpreter.

    PYTHON benchmarks/peers_dedup.py CONTENDER INPUT RESULT [PARAMETERS]

run by `dedup.py --peers`. It writes one JSON object to RESULT: `seconds` (imports left out), `imports` (their
CPU seconds), `versions`, `kept` (names of files, or rows) and, where the peer tells them, `pairs` of names.
PARAMETERS, of texts, are JSON: shingle, permutations, bands, rows. It knows nothing of this project.

Each peer gets its best chance: two processes where it has them, no progress switched on, texts whose words
are told by spaces, so that no tokenizer and no normalising takes time or makes other shingles of them.
"""

# mypy: disable-error-code="import-not-found"
# (the peers' environment has what is imported here)

import argparse
import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers_filter import PHASH, _torchvision_without_cuda, data_juicer

PACKAGES = ("imagededup", "py-data-juicer", "datatrove", "datasketch")


def imagededup(radius: int, folder: Path, parameters: dict[str, int]) -> dict[str, Any]:
    """`PHash.find_duplicates` with its own processes, and the files that it would remove."""
    _torchvision_without_cuda()
    from imagededup.methods import PHash
    from imagededup.utils.general_utils import get_files_to_remove

    imports, started = time.process_time(), time.perf_counter()
    method = PHash(verbose=False)
    found = method.find_duplicates(image_dir=str(folder), max_distance_threshold=radius, scores=True)
    removed = set(get_files_to_remove({name: [other for other, _ in near] for name, near in found.items()}))
    seconds = time.perf_counter() - started
    pairs = [(name, other) for name, near in found.items() for other, _ in near if name < other]
    kept = [path.name for path in folder.iterdir() if path.name not in removed]
    return {"seconds": seconds, "imports": imports, "pairs": pairs, "kept": kept}


def juicer(folder: Path, parameters: dict[str, int]) -> dict[str, Any]:
    """`image_deduplicator`: pictures whose hashes are equal."""
    found = data_juicer(folder, [PHASH])
    lines = (folder.parent / "data_juicer/kept.jsonl").read_text().splitlines()
    return found | {"kept": [json.loads(line)["text"] for line in lines]}


def datatrove(file: Path, parameters: dict[str, int]) -> dict[str, Any]:
    """The four stages of MinHash over JSON lines of `id` and `text`; two tasks at a time."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.text import TextNormConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Split(WordTokenizer):
        word_tokenize = staticmethod(str.split)
        sent_tokenize = span_tokenize = None

    config = MinhashConfig(
        n_grams=parameters["shingle"],
        num_buckets=parameters["bands"],
        hashes_per_bucket=parameters["rows"],
        norm_config=TextNormConfig(False, False, False, False, False),
    )
    work, halves = file.parent / "datatrove", file.parent / "halves"
    for folder in (work, halves):
        shutil.rmtree(folder, ignore_errors=True)
    halves.mkdir()
    with open(file) as lines, open(halves / "0.jsonl", "w") as one, open(halves / "1.jsonl", "w") as other:
        for row, line in enumerate(lines):
            (other if row % 2 else one).write(line)
    imports, started = time.process_time(), time.perf_counter()
    read = partial(JsonlReader, str(halves), glob_pattern="*.jsonl")
    signatures, buckets, clusters = (str(work / name) for name in ("signatures", "buckets", "clusters"))
    stages = (
        ([read(), MinhashDedupSignature(signatures, config, Split())], 2),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
        ([MinhashDedupCluster(buckets, clusters, config=config)], 1),
        ([read(), MinhashDedupFilter(clusters), JsonlWriter(str(work / "kept"), compression=None)], 2),
    )
    for number, (pipeline, tasks) in enumerate(stages):
        logs = str(work / f"logs-{number}")
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=2, logging_dir=logs).run()
    seconds = time.perf_counter() - started
    outputs = sorted((work / "kept").iterdir())
    kept = [int(json.loads(line)["id"]) for path in outputs for line in path.read_text().splitlines()]
    return {"seconds": seconds, "imports": imports, "kept": kept}


def datasketch(file: Path, parameters: dict[str, int]) -> dict[str, Any]:
    """A text is kept unless the index has a candidate among those kept before: one process, in memory."""
    from datasketch import MinHash, MinHashLSH

    imports, started = time.process_time(), time.perf_counter()
    size, permutations = parameters["shingle"], parameters["permutations"]
    index, kept = MinHashLSH(num_perm=permutations, params=(parameters["bands"], parameters["rows"])), []
    with open(file) as lines:
        for row, line in enumerate(lines):
            words = json.loads(line)["text"].split()
            shingles = [" ".join(words[i : i + size]).encode() for i in range(len(words) - size + 1)]
            signature = MinHash(num_perm=permutations)
            signature.update_batch(shingles)
            if not index.query(signature):
                index.insert(row, signature, check_duplication=False)
                kept.append(row)
    return {"seconds": time.perf_counter() - started, "imports": imports, "kept": kept}


CONTENDERS: dict[str, Callable[[Path, dict[str, int]], dict[str, Any]]] = {
    "imagededup-8": partial(imagededup, 8),
    "imagededup-10": partial(imagededup, 10),
    "data-juicer": juicer,
    "datatrove": datatrove,
    "datasketch": datasketch,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contender", nargs="?", choices=CONTENDERS)
    parser.add_argument("input", nargs="?", type=Path)
    parser.add_argument("result", nargs="?", type=Path)
    parser.add_argument("parameters", nargs="?", type=json.loads, default={})
    args = parser.parse_args()
    if args.result is None:
        print("run by benchmarks/dedup.py --peers PYTHON")
        return
    found = CONTENDERS[args.contender](args.input, args.parameters)
    found["versions"] = {name: version(name) for name in PACKAGES if _installed(name)}
    args.result.write_text(json.dumps(found))


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
