"""A small store of conversations about pictures of many sizes, two pictures, clips, and nothing."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from inputs import picture, record, saved
from PIL import Image

from infinity_mm.chat import Chat, chat_of
from infinity_mm.manifest import Manifest
from infinity_mm.models.tokenizer import tokenizer
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip
from infinity_mm.store import Store
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

SIZES = ((40, 24), (16, 16), (17, 90), (64, 64), (100, 30), (33, 32))
SAMPLES = 30


def chat() -> Chat:
    """The small tokenizer with its built-in template."""
    return chat_of(tokenizer(), "chatml")


def on_its_side(seed: int) -> bytes:
    """A JPEG of 30 by 70 pixels whose EXIF turns it to 70 by 30."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture(seed, (30, 70)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def files() -> dict[str, bytes]:
    """Pictures by name, a clip and a picture on its side."""
    found = {f"{n}.png": saved(picture(n, size)) for n, size in enumerate(SIZES)}
    clip = encode_clip(draw_clip(np.random.default_rng(0), 64))
    return {**found, "clip.mp4": clip, "side.jpg": on_its_side(9)}


def records() -> list[dict[str, Any]]:
    """SAMPLES records: pictures of all sizes, and of every ten one text, one of two pictures, one of a clip,
    one on its side."""
    told: list[dict[str, Any]] = []
    for n in range(SAMPLES):
        text, answer = f"Question {n}, " + "and more " * (n % 5) + "?", f"Answer {n}" + " 红" * (n % 3)
        kind = n % 10
        if kind == 1:
            told.append(record(None, text, answer))
        elif kind == 4:
            told.append(record([f"{n % 6}.png", f"{(n + 1) % 6}.png"], text, answer))
        elif kind == 7:
            told.append({**record(None, "<video>\n" + text, answer), "video": "clip.mp4"})
        else:
            told.append(record("side.jpg" if kind == 8 else f"{n % 6}.png", text, answer))
    return told


def ingested(
    folder: Path,
    told: list[dict[str, Any]],
    media: dict[str, bytes],
    out: str = "raw",
    **options: Any,
) -> Manifest:
    """A manifest of records over media files, in the store of a folder."""
    source = folder / out
    source.mkdir(parents=True)
    for name, data in media.items():
        (source / name).write_bytes(data)
    (source / "data.json").write_text(json.dumps(told))
    store = str(folder / "store")
    config = IngestConfig(
        inputs=[str(source / "data.json")], store=store, out=out, **{"workers": 0, "source": out, **options}
    )
    made = run_ingest(config)["manifest"]
    return Manifest.open(Store.open(store), made)
