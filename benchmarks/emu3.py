"""Emu3: how fast media become tokens, beside the bare network.

    python benchmarks/emu3.py                  all sections
    python benchmarks/emu3.py --only tokenize  one of them

tokenize   pictures a second of `imm tokenize` (read, decode, resize, encode, file) in this process, of
           `VisionTokenizer` on resized pictures, and of the bare `Emu3VQVAE.encode` in the same batches, on
           one thread, in turns; the best of ROUNDS. The network has random weights: time is the same
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.models.emu3_vq import find_tokenizer
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.store import Store
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest
from pipelines.tokenize.stage import TokenizeConfig, run
from trainers.tiny_vq import network

ROUNDS = 3
PICTURES, SIDE, BATCH = 128, 64, 16


def tokenize(folder: Path) -> None:
    torch.set_num_threads(1)
    network(0).save_pretrained(folder / "vq")
    make_scenes(
        ScenesConfig(
            out=folder / "scenes", count=PICTURES, seed=5, video_share=0, text_only_share=0,
            multi_image_share=0,
        )
    )  # fmt: skip
    inputs = [str(folder / "scenes" / "data.json")]
    ingest(IngestConfig(inputs=inputs, store=str(folder / "store"), out="raw", mode="copy", workers=0))
    store = Store.open(folder / "store")
    library = Manifest.open(store, "raw").library()
    shards = [library.shard(digest) for digest in library.shards()]
    pixels = np.stack([decode_image(s.read(row)).pixels for s in shards for row in range(len(s))])
    found = find_tokenizer(folder / "vq")
    vq, tokenizer = found.model(), found.load("cpu")
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    sizes = torch.tensor([[SIDE, SIDE]] * BATCH)

    def whole() -> None:
        for name in store.names("sidecars/visual_tokens"):
            store.delete(name)
        run(
            TokenizeConfig(
                store=store.url, manifest="raw", out="tokens", tokenizer=str(folder / "vq"),
                area=SIDE * SIDE, batch=BATCH, workers=0, device="cpu", replace=True,
            )
        )  # fmt: skip

    def ours() -> None:
        for at in range(0, len(pixels), BATCH):
            tokenizer.encode_pictures(pixels[at : at + BATCH])

    @torch.inference_mode()
    def bare() -> None:
        for at in range(0, len(scaled), BATCH):
            part = scaled[at : at + BATCH]
            vq.encode(part, sizes[: len(part)])

    took = fastest({"imm tokenize": whole, "VisionTokenizer": ours, "bare Emu3VQVAE.encode": bare})
    for name, seconds in took.items():
        print(f"{name:24}{len(pixels) / seconds:>10.1f} pictures/s")


def fastest(works: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Processor seconds of each, the least of ROUNDS, taken in turns."""
    least = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            began = time.process_time()
            work()
            least[name] = min(least[name], time.process_time() - began)
    return least


SECTIONS: dict[str, Callable[[Path], None]] = {"tokenize": tokenize}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=tuple(SECTIONS), help="one section")
    given = parser.parse_args()
    for name, section in SECTIONS.items():
        if given.only in (None, name):
            print(f"\n{name}")
            with tempfile.TemporaryDirectory() as folder:
                section(Path(folder))


if __name__ == "__main__":
    main()
