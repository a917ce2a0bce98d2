"""Folders of real pictures with known near-duplicates among them."""

import io
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from infinity_mm.media.decode import check_image

DATA = Path(__file__).resolve().parents[2] / "shared/data"
PHOTOGRAPHS = ("flickr8k", "coco_mini", "coco_pairs_full", "imagenet", "cc12m")


class Pictures(NamedTuple):
    """A folder of files; of each file the `group` of what is the same; what should be found, by kind."""

    folder: Path
    group: dict[str, str]
    wanted: dict[str, list[tuple[str, str]]]


def half(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def cropped(image: Image.Image) -> Image.Image:
    """A tenth of the width and of the height off."""
    x, y = image.width // 20, image.height // 20
    return image.crop((x, y, image.width - x, image.height - y))


def marked(image: Image.Image) -> Image.Image:
    """A word in white over the lower right corner."""
    image = image.copy()
    font = ImageFont.load_default(image.height // 10)
    ImageDraw.Draw(image).text((image.width * 0.55, image.height * 0.85), "(c) SAMPLE", "white", font)
    return image


VARIANTS = {
    "copy": None,  # of the bytes
    "half": half,
    "q40": None,  # JPEG of quality 40
    "png": None,
    "crop": cropped,
    "mirror": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "turned": lambda image: image.rotate(5),
    "mark": marked,
    "gray": lambda image: image.convert("L"),
}


def variant(content: bytes, kind: str) -> bytes:
    """The bytes of a variant of a picture: of quality 90 but for what is a copy, q40 or png."""
    if kind == "copy":
        return content
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    change = VARIANTS[kind]
    out = io.BytesIO()
    form, quality = ("PNG", None) if kind == "png" else ("JPEG", 40 if kind == "q40" else 90)
    (change(image) if change else image).save(out, form, **({"quality": quality} if quality else {}))
    return out.getvalue()


def photographs(number: int, least: int = 0) -> list[bytes]:
    """Real photographs of at least so many bytes, all different, in an order of chance."""
    paths = sorted(path for name in PHOTOGRAPHS for path in (DATA / name / "images").iterdir())
    contents = [path.read_bytes() for path in paths]
    contents = [content for content in contents if content[:2] == b"\xff\xd8" and not check_image(content)]
    random.Random(0).shuffle(contents)
    return [content for content in contents if len(content) >= least][:number]


def variants(folder: Path, number: int, least: int = 0) -> Pictures:
    """Photographs of at least so many bytes, and their variants."""
    folder.mkdir(parents=True)
    found = Pictures(folder, {}, {kind: [] for kind in VARIANTS})
    for i, content in enumerate(photographs(number, least)):
        original = f"{i:04d}-0.jpg"
        for kind, data in [("0", content), *((kind, variant(content, kind)) for kind in VARIANTS)]:
            name = f"{i:04d}-{kind}.{'png' if kind == 'png' else 'jpg'}"
            (folder / name).write_bytes(data)
            found.group[name] = str(i)
            if name != original:
                found.wanted[kind].append((original, name))
    return found


# Groups of one photograph; what is not said to be the same picture, nor to be another; turned ones.
JOINED = {
    "euclidean": "forum", "resample": "forum", "rotate": "forum", "alpha_channel_image.png": "ukbench-00120",
}  # fmt: skip
UNSURE = ("custom", "chair", "office-1280")
TURNED = ("flip", "rotat", "__90", "__180", "__270")


def labelled(folder: Path) -> Pictures:
    """The labelled pictures with what they are said to be the same as."""
    folder.mkdir()
    found = Pictures(folder, {}, defaultdict(list))
    for source in ("flickr8k_alt", "coco_pairs_224"):
        for row in rows_of(source):
            pair = [put(folder, row[field]) for field in ("duplicate_of", "image")]
            found.group.update(dict.fromkeys(pair, pair[0]))
            found.wanted[source].append((pair[0], pair[1]))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for source in ("nd_imagededup", "nd_images4", "nd_jenssegers", "nd_perception"):
        for row in rows_of(source):
            if row["group"] in UNSURE or check_image((DATA / row["image"]).read_bytes()):
                continue
            name = put(folder, row["image"])
            group = name if "uniform-" in name else JOINED.get(row["group"], row["group"])
            found.group[name] = group
            groups[group].append(name)
    for names in groups.values():
        for i, one in enumerate(names):
            for other in names[:i]:
                turned = any(word in name for word in TURNED for name in (one, other))
                found.wanted["nd_*, turned" if turned else "nd_*"].append((other, one))
    return found


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines() if line.strip()]


def put(folder: Path, image: str) -> str:
    """A picture of the labelled data copied into the folder: its name there."""
    name = image.replace("/images/", "__")
    (folder / name).write_bytes((DATA / image).read_bytes())
    return name
