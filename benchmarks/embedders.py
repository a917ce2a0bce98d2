"""Embedders: what the tiny CLIP knows, how fast pictures become vectors, copies of photographs found by them.

    python benchmarks/embedders.py                all: about three minutes
    python benchmarks/embedders.py --only areas   one of areas, speed, copies

areas    true against false captions on fresh scenes, as areas under the curve, by what differs
speed    pictures a second of `embed` (read, decode, prepare, model, file) in this process, beside the bare
         model on prepared pictures in the same batches: the floor. One thread a model; best of ROUNDS runs
copies   the 150 photographs of flickr8k_alt beside all of flickr8k: the lowest cosine of two copies of one
         photograph, the highest of two that are none; how near the scaled decode comes to the full one

Pictures and models are those of ../shared; without them only what the project ships is measured.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from infinity_mm.executor import Silent
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.models.embedder import Embedder, find_embedder, open_embedder
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from pipelines.embed import BATCH, Embeddings, embed
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest
from trainers.tiny_clip import show, tell

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
DATA, WEIGHTS = SHARED / "data", SHARED / "weights" / "derived"
SEED = 600_000
ROUNDS = 5


def areas() -> None:
    print(show(tell(open_embedder("tiny", "cpu"), SEED, 1000)))


def models() -> list[str]:
    return ["tiny", *(f"onnx:{file}" for file in sorted(WEIGHTS.glob("*.onnx")))]


def short(spec: str) -> str:
    return spec.rpartition("/")[2].removesuffix(".derived.onnx")


def speed(folder: Path) -> None:
    """Scenes for tiny, photographs for MobileNet."""
    print(f"{'':48}{'pictures':>9}{'embed /s':>10}{'model /s':>10}{'share':>7}")
    make_scenes(ScenesConfig(out=folder / "scenes", count=1500, seed=5, video_share=0, text_only_share=0))
    ours = ingested(folder / "scenes" / "data.json", folder / "store", "scenes")
    theirs = None
    if DATA.is_dir():
        theirs = ingested(DATA / "flickr8k.jsonl", folder / "store", "flickr", map="image=image,text=text")
    for spec in models():
        manifest = ours if spec == "tiny" else theirs
        if manifest is None:
            continue
        embedder = find_embedder(spec, "cpu").load(threads=1)
        pictures = decoded(manifest, embedder)
        prepared = [np.stack(pictures[at : at + BATCH]) for at in range(0, len(pictures), BATCH)]
        bare, whole = fastest(
            lambda e=embedder, p=prepared: [e.vectors(batch) for batch in p],  # type: ignore[misc]
            lambda m=manifest, s=spec: anew(m, s),  # type: ignore[misc]
        )
        count = len(pictures)
        print(f"{short(spec):48}{count:>9,}{count / whole:>10,.0f}{count / bare:>10,.0f}{bare / whole:>7.2f}")


def ingested(data: Path, store: Path, name: str, **more: str) -> Manifest:
    config = IngestConfig(inputs=[str(data)], store=str(store), out=name, mode="copy", workers=0, **more)
    made = ingest(config, Silent())["manifest"]
    return Manifest.open(Store.open(store), made)


def decoded(manifest: Manifest, embedder: Embedder) -> list[np.ndarray]:
    """Every picture of a manifest's media shards, as the model takes it."""
    library = manifest.library()
    return [
        embedder.prepare(decode_image(shard.read(row), min_side=embedder.min_side).pixels)
        for shard in map(library.shard, library.shards())
        for row in range(len(shard))
    ]


def anew(manifest: Manifest, spec: str) -> None:
    """Embed a manifest whose vectors are not there."""
    for name in manifest.store.names("sidecars/embedding"):
        manifest.store.delete(name)
    embed(manifest.store, manifest, spec, workers=0, device="cpu")


def fastest(*works: Callable[[], object]) -> list[float]:
    """Seconds of the fastest of ROUNDS runs of each, in turn: what else the machine does slows all alike."""
    import torch

    torch.set_num_threads(1)
    seconds = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for number, work in enumerate(works):
            started = time.perf_counter()
            work()
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return seconds


def copies(folder: Path) -> None:
    rows = [json.loads(line) for line in (DATA / "flickr8k_alt.jsonl").read_text().splitlines()]
    store = folder / "copies"
    both = [
        ingested(DATA / f"{name}.jsonl", store, name, map="image=image")
        for name in ("flickr8k", "flickr8k_alt")
    ]
    print(f"{'':48}{'copies':>8}{'others':>8}{'margin':>8}{'found':>7}{'false pairs':>12}{'scaled':>9}")
    for spec in models()[1:]:
        vectors: dict[str, np.ndarray] = {}
        for manifest in both:
            files = embed(manifest.store, manifest, spec, workers=0, device="cpu")
            found, library = Embeddings(manifest.store, files), manifest.library()
            for number in range(len(manifest.shards)):
                for sample in manifest.table(number).select(["names", "media"]).to_pylist():
                    shard, row = library.find(sample["media"][0])
                    vectors[sample["names"][0]] = found.vectors(shard)[row].astype(np.float32)
        names = list(vectors)
        place = {name: i for i, name in enumerate(names)}
        cosines = np.stack(list(vectors.values())) @ np.stack(list(vectors.values())).T
        upper = np.triu(np.ones_like(cosines, bool), 1)
        one, two = (np.array([place[row[key]] for row in rows]) for key in ("image", "duplicate_of"))
        same = cosines[one, two]
        upper[np.minimum(one, two), np.maximum(one, two)] = False
        other = cosines[upper]
        limit = (same.min() + min(other.max(), same.min())) / 2
        print(
            f"{short(spec):48}{same.min():>8.4f}{other.max():>8.4f}{same.min() - other.max():>8.4f}"
            f"{(same >= limit).sum():>7,}{(other >= limit).sum():>12,}{scaled(spec):>9.4f}"
        )


def scaled(spec: str) -> float:
    """The lowest cosine between vectors of scaled and of full decodes, over large pictures."""
    embedder = open_embedder(spec, "cpu")
    files = [*sorted((DATA / "coco_mini").rglob("*.jpg")), *sorted((DATA / "imagenet").rglob("*.JPEG"))][:60]
    lowest = 1.0
    for file in files:
        data = file.read_bytes()
        pictures = [decode_image(data, min_side=side).pixels for side in (embedder.min_side, None)]
        one, two = embedder.images(pictures)
        lowest = min(lowest, float(one @ two))
    return lowest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("areas", "speed", "copies"))
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as temporary:
        if only in (None, "areas"):
            areas()
        if only in (None, "speed"):
            speed(Path(temporary))
        if only in (None, "copies") and DATA.is_dir():
            copies(Path(temporary))


if __name__ == "__main__":
    main()
