"""Small real inputs: pictures and records over them; and what became of them."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from infinity_mm.manifest import Manifest
from infinity_mm.schema import Sample, samples_from

IMM = [sys.executable, "-c", "import sys; from infinity_mm.cli import main; sys.exit(main())"]

QA = "image=image,question=question,answer=answer"
# a map for each file of the labelled data; none where it holds conversations already
MAPS = {
    "cc12m": "image=image,text=text",
    "chartqa": f"{QA},id=image",
    "coco_mini": "image=image,text=text.0,id=id",
    "coco_mini_qa": f"{QA},id=id,source=source",
    "coco_pairs_224": "image=image,id=id",
    "coco_pairs_full": "image=image,id=id",
    "datajuicer": "image=image,id=blob",
    "datajuicer_video": "video=video",
    "easy_vqa": QA,
    "flickr8k": "image=image,text=text,id=id",
    "flickr8k_alt": "image=image",
    "flickr8k_conversations": "",
    "flickr8k_match": "image=image,text=text,question='Describe the image.'",
    "gaokao_mm": "images=images,question=question,answer=answer.0,system='请回答下面的问题。'",
    "imagenet": "image=image,text=text",
    "llamafactory": "",
    "llamafactory_video": "",
    "mathv": f"{QA},id=id",
    "nd_imagededup": "image=image",
    "nd_images4": "image=image",
    "nd_jenssegers": "image=image",
    "nd_perception": "image=image",
    "nlvr": "images=images,question=text,answer=label,id=identifier",
    "opencqa": f"{QA},id=id",
    "owleval": "image=image,question=question,id=question_id",
    "sroie": "image=image,text=fields.company",
    "sroie_qa": QA,
    "tabmwp": f"{QA},id=id",
}


def imm(*args: str, **more: Any) -> "subprocess.Popen[bytes]":
    """Start a command in a process group of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*IMM, *args], **pipes, start_new_session=True, **more)


def jpeg(seed: int, size: tuple[int, int] = (24, 16), format: str = "JPEG") -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture of soft blobs: it survives compression and scaling, and no two seeds are alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def write_folder(folder: Path, files: dict[str, int | str | bytes]) -> Path:
    """A folder of files by path; a number is the seed of a picture."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = jpeg(content) if isinstance(content, int) else content
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def record(image: Any, text: str = "What is this?", answer: str = "Noise.", **more: Any) -> dict[str, Any]:
    """A LLaVA record; `image` None is text only."""
    marker = "" if image is None else "<image>\n" * (len(image) if isinstance(image, list) else 1)
    conversations = [{"from": "human", "value": marker + text}, {"from": "gpt", "value": answer}]
    return {**({} if image is None else {"image": image}), "conversations": conversations, **more}


def samples(manifest: Manifest) -> list[Sample]:
    """The selected samples of a manifest, in order."""
    return [
        sample
        for number, shard in enumerate(manifest.shards)
        for sample in samples_from(manifest.table(number).take(shard.selected.rows))
    ]


def ledger(manifest: Manifest) -> list[dict[str, Any]]:
    """The rows of a manifest's ledger."""
    rows: list[dict[str, Any]] = pq.read_table(
        manifest.store.open_file(manifest.document["ledger"]["file"])
    ).to_pylist()
    return rows


def reasons(manifest: Manifest) -> dict[str, str]:
    """Origin -> reason of every record that was not kept."""
    return {row["origin"]: row["reason"] for row in ledger(manifest)}
