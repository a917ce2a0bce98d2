"""Near pictures: what is found and what is wrongly found on real pictures, and where the limits are from.

    python benchmarks/near_pictures.py                    all but crowds: about ten minutes
    python benchmarks/near_pictures.py --only documents   one of limits, tones, truth, transforms, documents,
                                                          small, symmetries, imagehash, clips, speed, crowds

limits      of low information and of the second test: chosen on one half of the files, told of the other
tones       photographs in another tone found, and documents that are not the same taken for it, by half
truth       pairs that the labelled data says are the same photograph; false pairs are all others
transforms  ten of 250 photographs, by radius: recall, and false pairs among the originals and the variants,
            with mirrored and turned hashes and without
documents   charts, tables, receipts, diagrams, exam pages: pairs at the default radius, all of them listed to
            be looked at, beside those of the hash alone; recall on rescaled and recompressed copies
small       what the second test tells apart: a block of a document exchanged for another of it, by its size;
            a line of a receipt; the total of a drawn receipt, by the height of its digits
symmetries  bits between a hash of a symmetry and the hash of the picture really turned
imagehash   bits between our hash, of a scaled decode, and imagehash.phash of the whole picture
clips       real clips re-encoded and rescaled: bits of their frames' hashes, and those of other clips
speed       the pass that decodes, with the families of looks and without
crowds      100,000 pages with one hash: seconds, pairs, memory, and how many of the planted copies are found

Pictures are those of ../shared/data. A pair is false unless the data says otherwise or the bytes are equal.
"""

import argparse
import ast
import io
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import av
import imagehash
import numpy as np
from picture_sets import VARIANTS, labelled, photographs, variant
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from infinity_mm.media import thumbnail as second
from infinity_mm.media import tone
from infinity_mm.media.decode import MediaError, decode_image
from infinity_mm.media.luma_look import luma_look
from infinity_mm.media.phash import SYMMETRIES, phash, symmetric_bits, turned
from infinity_mm.media.photometry import MIN_SIDE, working
from infinity_mm.media.probe import probe
from infinity_mm.media.video import iter_frames, watch
from infinity_mm.near_pictures import Looks, near_pictures
from pipelines.measures.look_alike import CLIP_HASH, HASH, SYMMETRIC, THUMBNAIL
from pipelines.measures.medium_look import STILLS, MediumLook
from pipelines.measures.photometry import PHOTOMETRY
from pipelines.measures.validity import VALIDITY

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
DOCUMENTS = ("sroie", "chartqa", "opencqa", "tabmwp", "mathv", "gaokao_mm", "nlvr", "easy_vqa")
SCENES = ("flickr8k", "coco_mini", "coco_pairs_full", "imagenet", "cc12m")
# A transparent copy of a picture that has a group of its own; looked at.
SEEN = {"nd_imagededup__alpha_channel_image.png": "ukbench-00120"}
DEFAULT = 8
RADII = (4, 6, 8, 10, 12)


class Look(NamedTuple):
    """What is measured of a picture."""

    phash: int
    low: bool
    wide: bool  # has a thumbnail
    tonal: bool
    thumbnail: bytes
    symmetries: list[int]
    measures: tuple[float, float, float]
    shorter: int


def look(data: bytes) -> Look:
    found = decode_image(data, min_side=MIN_SIDE, channels=4)
    seen = working(found.pixels)
    own = luma_look(decode_image(data, min_side=MIN_SIDE, channels=1).pixels[:, :, 0])
    measures = own.luma_uniformity, own.luma_drawn, own.phash_margin
    shorter = min(found.width, found.height)
    return Look(
        own.phash,
        bool(second.low_information(*measures)),
        bool(second.low_information(*measures, wider=second.WIDER)) or tone.is_pale(own.working),
        bool(tone.tonal(own.luma_drawn, own.phash_margin)),
        second.thumbnail(seen, shorter),
        symmetric_bits(own.working),
        measures,
        shorter,
    )


def looks_of(found: list[Look], *, flips: bool = False, trusting: bool = False) -> Looks:
    """As the stage has them; `trusting`: the hash alone decides."""
    low = np.array([one.low and not trusting for one in found], bool)
    has = np.array([one.wide for one in found], bool)
    return Looks(
        np.array([one.phash for one in found], np.uint64),
        low,
        np.where(has, np.arange(len(found)), -1),
        np.frombuffer(b"".join(one.thumbnail for one in found), np.uint8).reshape(-1, second.SIZE),
        np.array([one.symmetries for one in found], np.uint64) if flips else None,
        np.array([one.tonal for one in found], bool),
    )


def pairs_of(looks: Looks, radius: int) -> set[tuple[int, int]]:
    """Pairs of rows, those of equals with it."""
    near = near_pictures(looks, radius)
    groups: dict[int, list[int]] = {}
    for row, to in enumerate(near.same.tolist()):
        groups.setdefault(to, []).append(row)
    pairs = {(i, j) for group in groups.values() for j in group for i in group if i < j}
    for i, j in near.pairs.tolist():
        pairs |= {(min(a, b), max(a, b)) for a in groups[i] for b in groups[j]}
    return pairs


def files(*sources: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (DATA / "MANIFEST.jsonl").read_text().splitlines()]
    found = []
    for row in rows:
        source = row["path"].partition("/")[0]
        if row["kind"] != "image" or source not in sources:
            continue
        data = (DATA / row["path"]).read_bytes()
        try:
            found.append(row | {"source": source, "data": data, "look": look(data)})
        except MediaError:
            continue
    return found


def opened(data: bytes) -> Image.Image:
    """RGB over white."""
    return Image.fromarray(decode_image(data).pixels)


def encoded(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def scaled(image: Image.Image, share: float) -> Image.Image:
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    return image.resize(size, Image.Resampling.LANCZOS)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "half PNG": lambda image: encoded(scaled(image, 0.5), "PNG"),
    "half q75": lambda image: encoded(scaled(image, 0.5), "JPEG", quality=75),
    "half q40": lambda image: encoded(scaled(image, 0.5), "JPEG", quality=40),
    "0.7 q75": lambda image: encoded(scaled(image, 0.7), "JPEG", quality=75),
    "q40": lambda image: encoded(image, "JPEG", quality=40),
    "PNG": lambda image: encoded(image, "PNG"),
}


def held_out(path: str) -> bool:
    return crc32(path.encode()) % 2 == 1


def same_cells(one: Look, other: Look) -> bool:
    pair = [np.frombuffer(each.thumbnail, np.uint8)[None] for each in (one, other)]
    return bool(second.coarsely_alike(*map(second.coarse, pair))[0] and second.alike(*pair)[0])


def limits() -> None:
    documents, scenes = files(*DOCUMENTS), files(*SCENES)
    copies = {name: [look(make(opened(row["data"]))) for row in documents] for name, make in COPIES.items()}
    strangers = {
        name: strangers_of([row | {"look": one} for row, one in zip(documents, found, strict=True)], 10)
        for name, found in {"": [row["look"] for row in documents], **copies}.items()
    }
    chosen = second.UNIFORMITY, second.DRAWN
    print("low information: documents called so, photographs called so, those with a thumbnail, by half;")
    print("pairs of half-size copies of quality 40 of different documents within 10 bits, neither called so")
    print(
        f"  uniformity  drawn {'chosen on: docs photos wide':>30}{'held out: docs photos wide':>30}   pairs"
    )
    for uniformity in (0.25, 0.3, 0.35, 0.4, 0.5):
        for drawn in (0.25, 0.3, 0.35, 0.4):
            second.UNIFORMITY, second.DRAWN = uniformity, drawn
            cells = []
            for half in (False, True):
                of = [
                    np.array([r["look"].measures for r in rows if held_out(r["path"]) == half]).T
                    for rows in (documents, scenes)
                ]
                shares = [second.low_information(*part).mean() for part in of]
                shares.append(second.low_information(*of[1], wider=second.WIDER).mean())
                cells.append("".join(f"{share:7.4f}" for share in shares))
            trusted = sum(
                not any(second.low_information(*row["look"].measures) for row in pair)
                for pair in strangers["half q40"]
            )
            print(f"  {uniformity:>10}{drawn:>7}   {cells[0]:>29} {cells[1]:>29}{trusted:8}")
    second.UNIFORMITY, second.DRAWN = chosen
    print("the second test: share of copies found, by half; different documents within 10 bits taken for one")
    shares_chosen = second.SHARES
    pairs = [(row, one) for found in copies.values() for row, one in zip(documents, found, strict=True)]
    for change in (-0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2):
        second.SHARES = tuple(share + change for share in shares_chosen)
        found = [
            np.mean([same_cells(row["look"], one) for row, one in pairs if held_out(row["path"]) == half])
            for half in (False, True)
        ]
        false = [sum(same_cells(a["look"], b["look"]) for a, b in of) for of in strangers.values()]
        of_copies = sum(map(len, strangers.values())) - len(strangers[""])
        print(
            f"  shares {change:+.2f}: {found[0]:.4f} chosen on, {found[1]:.4f} held out; taken for one: as"
            f" they are {false[0]} of {len(strangers[''])}, copies {sum(false[1:])} of {of_copies}"
        )
    second.SHARES = shares_chosen


def strangers_of(rows: list[dict[str, Any]], radius: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    pairs = pairs_of(looks_of([row["look"] for row in rows], trusting=True), radius)
    return [(rows[i], rows[j]) for i, j in sorted(pairs) if rows[i]["sha256"] != rows[j]["sha256"]]


def brighter(image: Image.Image, times: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(times)


TONES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "1.15 brighter": lambda image: brighter(image, 1.15),
    "1.3 brighter": lambda image: brighter(image, 1.3),
    "1.5 brighter": lambda image: brighter(image, 1.5),
    "half, 1.3 brighter": lambda image: brighter(scaled(image, 0.5), 1.3),
    "0.7 as bright": lambda image: brighter(image, 0.7),
    "contrast 1.3": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "contrast 0.7": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "gray": lambda image: image.convert("L"),
    "gray, 1.3 brighter": lambda image: brighter(image.convert("L"), 1.3),
    "gamma 0.8": lambda image: image.point([round(255 * (i / 255) ** 0.8) for i in range(256)] * 3),
    "saturation 0.5": lambda image: ImageEnhance.Color(image).enhance(0.5),
}


def tones() -> None:
    scenes, documents = files(*SCENES), files(*DOCUMENTS)
    changed = {
        name: [look(encoded(change(opened(row["data"])), "JPEG", quality=90)) for row in scenes]
        for name, change in TONES.items()
    }
    tonal = [np.mean([row["look"].tonal for row in rows]) for rows in (scenes, documents)]
    thumbs = np.mean([row["look"].wide for row in scenes])
    print(f"tones are compared of {tonal[0]:.3f} of photographs and {tonal[1]:.3f} of documents;")
    print(f"{thumbs:.3f} of photographs have a thumbnail")
    halves = [np.array([held_out(row["path"]) == half for row in scenes]) for half in (False, True)]
    print(
        f"photographs found at radius {DEFAULT}, by half, chosen on and held out: of the second test alone,"
    )
    print("with tones by the limit of what looks drawn, of the hash alone")
    limits_tried = (0.3, 0.5, 0.6, tone.DRAWN, 0.9, 9.0)
    print(f"  {'':20}{'alone':>14}{''.join(f'{limit:>14}' for limit in limits_tried)}{'hash':>14}")
    for name, found in changed.items():
        near, alone, alike, drawn = (
            np.array(column)
            for column in zip(
                *(told(row["look"], one) for row, one in zip(scenes, found, strict=True)), strict=True
            )
        )
        columns = [alone, *(alone | (alike & (drawn < limit)) for limit in limits_tried), near]
        cells = (" ".join(f"{column[half].mean():.3f}" for half in halves) for column in columns)
        print(f"  {name:20}{''.join(f'{cell:>14}' for cell in cells)}")
    print("different documents within 16 bits; alike in another tone, whatever their drawn share and margin;")
    print("of those, pairs whose tones are compared")
    of = {"as they are": lambda image: encoded(image, "PNG")} | COPIES
    of |= {
        name: lambda image, change=change: encoded(change(image), "JPEG", quality=75)
        for name, change in TONES.items()
    }  # type: ignore[misc]
    own = np.array([row["look"].phash for row in documents], np.uint64)
    for name, make in of.items():
        found = [look(make(opened(row["data"]))) for row in documents]
        bits = np.bitwise_count(own[:, None] ^ np.array([one.phash for one in found], np.uint64))
        pairs = [
            (documents[i]["look"], found[j])
            for i, j in np.argwhere(bits <= 16).tolist()
            if documents[i]["sha256"] != documents[j]["sha256"]
        ]
        one, other = (cells_of([pair[k] for pair in pairs]) for k in (0, 1))
        alike = tone.toned_alike(one, other)
        compared = [a.tonal and b.tonal for a, b in pairs]
        counts = len(pairs), alike.sum(), sum(compared), sum(alike & compared)
        print("  {:20}{:6} pairs, alike {}; compared {}, alike {}".format(name, *counts))


def told(one: Look, other: Look) -> tuple[bool, bool, bool, float]:
    """Whether the hashes are near, near and trusted or alike, alike in another tone; the drawn share."""
    near = (one.phash ^ other.phash).bit_count() <= DEFAULT
    alone = near and (not (one.low or other.low) or (one.wide and other.wide and same_cells(one, other)))
    drawn = max(each.measures[1] for each in (one, other))
    asked = (
        near
        and not alone
        and one.wide
        and other.wide
        and min(one.measures[2], other.measures[2]) >= second.MARGIN
    )
    alike = asked and bool(tone.toned_alike(cells_of([one]), cells_of([other]))[0])
    return near, alone, alike, drawn


def cells_of(looks: list[Look]) -> np.ndarray:
    return np.frombuffer(b"".join(one.thumbnail for one in looks), np.uint8).reshape(-1, second.SIZE)


def truth() -> None:
    with tempfile.TemporaryDirectory() as folder:
        known = labelled(Path(folder) / "labelled")
        names = list(known.group)
        found = [look((known.folder / name).read_bytes()) for name in names]
    group = [SEEN.get(name, known.group[name]) for name in names]
    at = {name: i for i, name in enumerate(names)}
    wanted = {kind: {ordered(at[a], at[b]) for a, b in pairs} for kind, pairs in known.wanted.items()}
    for row in files(*SCENES):
        if row["path"].replace("/images/", "__") not in at:
            names.append(row["path"])
            group.append(row["path"])
            found.append(row["look"])
    print(f"{len(names)} files")
    for flips in (False, True):
        for radius in RADII:
            pairs = pairs_of(looks_of(found, flips=flips), radius)
            told = ", ".join(f"{kind} {len(pairs & of)}/{len(of)}" for kind, of in wanted.items())
            false = sorted((i, j) for i, j in pairs if group[i] != group[j])
            print(f"flips {flips!s:5} radius {radius:2}: {told}; {len(false)} false pairs")
            for i, j in false if radius <= DEFAULT else []:
                print(f"    {names[i]}  {names[j]}")


def ordered(i: int, j: int) -> tuple[int, int]:
    return (i, j) if i < j else (j, i)


def transforms() -> None:
    originals = photographs(250)
    kinds = list(VARIANTS)
    found = [look(data) for data in originals]
    for data in originals:
        found += [look(variant(data, kind)) for kind in kinds]
    low = np.mean([one.low for one in found[: len(originals)]])
    print(f"{len(originals)} photographs, {low:.1%} of low information, {len(found)} files")
    print(f"  {'':28}{''.join(f'{kind:>8}' for kind in kinds)}   false")
    for name, flips, trusting in (
        ("", False, False),
        ("flips", True, False),
        ("the hash alone", False, True),
    ):
        looks = looks_of(found, flips=flips, trusting=trusting)
        for radius in (0, 2, *RADII):
            pairs = pairs_of(looks, radius)
            recall = Counter[str]()
            wrong = []
            for i, j in sorted(pairs):
                of = [row if row < 250 else (row - 250) // len(kinds) for row in (i, j)]
                if of[0] != of[1]:
                    wrong.append((i, j))
                if of[0] == of[1] and i < 250 <= j:
                    recall[kinds[(j - 250) % len(kinds)]] += 1
            shares = "".join(f"{recall[kind] / 250:8.3f}" for kind in kinds)
            print(f"  radius {radius:2} {name:17}{shares}{len(wrong):8}")
            for i, j in wrong if radius <= DEFAULT else []:
                print("    false: " + ", ".join(named(row, kinds) for row in (i, j)))


def named(row: int, kinds: list[str]) -> str:
    """A file of `transforms`."""
    return f"{row}" if row < 250 else f"{kinds[(row - 250) % len(kinds)]} of {(row - 250) // len(kinds)}"


def documents() -> None:
    rows = files(*DOCUMENTS, "owleval")
    found = [row["look"] for row in rows]
    equal = {
        (i, j)
        for group in groups_by([row["sha256"] for row in rows]).values()
        for j in group
        for i in group
        if i < j
    }
    print(
        f"{len(rows)} documents: {dict(Counter(row['source'] for row in rows))};"
        f" {len(equal)} pairs of equal files"
    )
    for flips in (False, True):
        for radius in (*RADII, 16):
            ours = pairs_of(looks_of(found, flips=flips), radius) - equal
            alone = pairs_of(looks_of(found, flips=flips, trusting=True), radius) - equal
            print(f"flips {flips!s:5} radius {radius:2}: {len(ours)} pairs, of the hash alone {len(alone)}")
            for i, j in sorted(ours):
                print(f"    {rows[i]['path']}  {rows[j]['path']}")
    print(f"recall on copies at radius {DEFAULT} (held-out files), and of the hash alone")
    print(f"  {'':12}{''.join(f'{name:>18}' for name in COPIES)}")
    for source in (*DOCUMENTS, "all"):
        cells = []
        part = [
            row
            for row in rows
            if row["source"] in (DOCUMENTS if source == "all" else (source,)) and held_out(row["path"])
        ]
        for make in COPIES.values():
            copies = [look(make(opened(row["data"]))) for row in part]
            near = [near_pair(row["look"], copy) for row, copy in zip(part, copies, strict=True)]
            cells.append(f"{np.mean([n[0] for n in near]):10.3f} ({np.mean([n[1] for n in near]):.3f})")
        print(f"  {source:12}{''.join(f'{cell:>18}' for cell in cells)}")


def near_pair(one: Look, other: Look) -> tuple[bool, bool]:
    """Whether the two are near, and by the hash alone."""
    return tuple(bool(pairs_of(looks_of([one, other], trusting=t), DEFAULT)) for t in (False, True))  # type: ignore[return-value]


def groups_by(keys: list[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return groups


def small() -> None:
    chance = np.random.default_rng(0)
    print("one block exchanged for another of the same document, of these shares of its sides; told apart")
    for share in (0.03, 0.04, 0.06, 0.08, 0.15):
        told = Counter[str]()
        of = Counter[str]()
        for row in files("sroie", "chartqa", "opencqa", "gaokao_mm", "tabmwp", "mathv")[::3]:
            other = exchanged(opened(row["data"]), share, chance)
            if other is not None:
                size = "400 pixels and more" if row["look"].shorter >= 400 else "smaller"
                of[size] += 1
                told[size] += not near_pair(row["look"], look(encoded(other, "PNG")))[0]
        print(f"  {share:.0%}: " + ", ".join(f"{size}: {told[size]}/{of[size]}" for size in sorted(of)))
    told_lines = []
    for row in map(json.loads, (DATA / "sroie.jsonl").read_text().splitlines()):
        image = opened((DATA / row["image"]).read_bytes())
        lines = row["ocr"] if isinstance(row["ocr"], list) else ast.literal_eval(row["ocr"])
        boxes = [
            (min(b["box"][::2]), min(b["box"][1::2]), max(b["box"][::2]), max(b["box"][1::2])) for b in lines
        ]
        before = look(encoded(image, "PNG"))
        for number in (1, 3, 8):
            changed = image.copy()
            for k in chance.choice(len(boxes), min(number, len(boxes)), replace=False):
                x, y, right, bottom = boxes[k]
                donors = [b for b, line in zip(boxes, lines, strict=True) if line["text"] != lines[k]["text"]]
                patch = image.crop(donors[chance.integers(len(donors))])
                changed.paste(patch.resize((right - x, bottom - y)), (x, y))
            told_lines.append((number, not near_pair(before, look(encoded(changed, "PNG")))[0]))
    for number in (1, 3, 8):
        part = [told for n, told in told_lines if n == number]
        print(f"real receipts with {number} lines exchanged: {sum(part)}/{len(part)} told apart")
    for height in (20, 26, 30, 36, 44):
        part = []
        for _ in range(40):
            totals = [f"{chance.integers(1, 100)}.{chance.integers(100):02d}" for _ in range(2)]
            part.append(not near_pair(*(look(encoded(receipt(total, height), "PNG")) for total in totals))[0])
        print(
            f"drawn receipts of 420 by 640 pixels, another total, {height} pixels high:"
            f" {sum(part)}/40 told apart"
        )


def exchanged(image: Image.Image, share: float, chance: np.random.Generator) -> Image.Image | None:
    """A block with strokes in it replaced by another that looks otherwise; None where there is none."""
    gray = np.asarray(image.convert("L")).astype(float)
    height, width = max(6, round(image.height * share)), max(8, round(image.width * share * 1.6))
    if height >= image.height or width >= image.width:
        return None
    for _ in range(60):
        y, x = chance.integers(image.height - height), chance.integers(image.width - width)
        v, u = chance.integers(image.height - height), chance.integers(image.width - width)
        one, other = gray[y : y + height, x : x + width], gray[v : v + height, u : u + width]
        if min(one.std(), other.std()) > 25 and np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.3:
            changed = image.copy()
            changed.paste(image.crop((u, v, u + width, v + height)), (x, y))
            return changed
    return None


def receipt(total: str, height: int) -> Image.Image:
    image = Image.new("RGB", (420, 640), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(height)
    lines = ("CITY STORES LTD", "12 HIGH STREET", "Tea    3.20", "Bread  1.75", f"TOTAL {total}", "THANK YOU")
    for i, line in enumerate(lines):
        draw.text((30, 30 + 90 * i), line, "black", font)
    return image


def symmetries() -> None:
    apart: dict[str, list[int]] = {name: [] for name in SYMMETRIES}
    for row in files("coco_mini", "imagenet", "cc12m"):
        pixels = opened(row["data"])
        for number, name in enumerate(SYMMETRIES, 1):
            other = turned(np.asarray(pixels).transpose(2, 0, 1), number).transpose(1, 2, 0)
            bits = look(encoded(Image.fromarray(np.ascontiguousarray(other)), "PNG")).phash
            apart[name].append((row["look"].symmetries[number - 1] ^ bits).bit_count())
    for name, bits in apart.items():
        print(f"  {name:12} bits: files {dict(sorted(Counter(bits).items()))}")


def against_imagehash() -> None:
    for name, sources in (("photographs", SCENES), ("documents", DOCUMENTS)):
        bits = []
        for row in files(*sources):
            theirs = int(str(imagehash.phash(opened(row["data"]))), 16)
            bits.append((row["look"].phash ^ theirs).bit_count())
        print(f"  {len(bits)} {name}: bits: files {dict(sorted(Counter(bits).items()))}")


def clips() -> None:
    paths = [path for path in sorted(DATA.glob("*/videos/*")) if path.suffix == ".mp4"]
    originals = [path.read_bytes() for path in paths]
    hashes = [frame_hashes(data) for data in originals]
    for path, data, own in zip(paths, originals, hashes, strict=True):
        for name, change in (("half size", (0.5, 1)), ("half size, half the frames", (0.5, 2))):
            bits = [
                (a ^ b).bit_count() for a, b in zip(own, frame_hashes(recoded(data, *change)), strict=True)
            ]
            print(f"  {path.relative_to(DATA)} {name}: bits {bits}")
    least = [
        max((a ^ b).bit_count() for a, b in zip(one, other, strict=True))
        for i, one in enumerate(hashes)
        for other in hashes[:i]
    ]
    print(f"  {len(least)} pairs of other clips: the frame that differs most, bits {sorted(least)}")
    for data in originals:
        started = time.perf_counter()
        watch(data, 0)
        alone = time.perf_counter() - started
        started = time.perf_counter()
        [phash(luma) for luma in watch(data, STILLS)[1]]
        print(f"  check {alone:.3f} s, with {STILLS} hashes {time.perf_counter() - started:.3f} s")


def frame_hashes(data: bytes) -> list[int]:
    return [phash(luma).bits for luma in watch(data, STILLS)[1]]


def recoded(data: bytes, share: float, every: int) -> bytes:
    info = watch(data, 0)[0]
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=max(1, round((info.fps or 25) / every)))
        size = round(info.width * share / 2) * 2, round(info.height * share / 2) * 2
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in iter_frames(data, every):
            shown = np.asarray(Image.fromarray(frame).resize(size))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown)))
        container.mux(stream.encode())
    return out.getvalue()


def speed() -> None:
    sets = {
        name: [row["data"] for row in files(*of)]
        for name, of in (("photographs", SCENES), ("documents", DOCUMENTS[:6]))
    }
    before, after = (VALIDITY, PHOTOMETRY), (VALIDITY, PHOTOMETRY, HASH, SYMMETRIC, THUMBNAIL, CLIP_HASH)
    for name, pictures in sets.items():
        best = {len(of): float("inf") for of in (before, after)}
        for _ in range(5):
            for families in (before, after):
                opened_families = [family.open({}) for family in families]
                started = time.process_time()
                for data in pictures:
                    one = MediumLook(
                        {"kind": "image", "format": probe(data).format}, lambda data=data: data, 1 << 28
                    )  # type: ignore[misc]
                    for measure in opened_families:
                        measure(one)
                best[len(families)] = min(best[len(families)], time.process_time() - started)
        each = [1000 * seconds / len(pictures) for seconds in best.values()]
        print(
            f"  {len(pictures)} {name}: {each[0]:.3f} ms a picture, with the looks {each[1]:.3f} ms:"
            f" {each[1] / each[0]:.3f} times"
        )


def crowds() -> None:
    for kind in ("blank", "word", "lines"):
        count = 100_000
        chance = np.random.default_rng(0)
        pages = np.full((count, second.SIZE), 250, np.uint8)
        pages[:, 4096:-2], pages[:, -2:] = 128, np.frombuffer((600).to_bytes(2, "little"), np.uint8)
        cells = pages[:, :4096].reshape(-1, 64, 64)
        if kind == "word":
            for page, (y, x) in zip(cells, chance.integers(0, 58, (count, 2)), strict=True):
                page[y : y + 2, x : x + 5] -= chance.integers(40, 150, (2, 5)).astype(np.uint8)
        if kind == "lines":
            for y in range(6, 58, 4):
                ink = chance.integers(60, 140, (count, 2, 50)).astype(np.uint8)
                cells[:, y : y + 2, 6:56] -= ink * (chance.random((count, 2, 50)) < 0.8)
        half = count // 2
        source = chance.choice(half, count // 10, replace=False)
        copy = half + chance.choice(half, count // 10, replace=False)
        pages[copy] = pages[source]
        pages[:, :4096] -= chance.integers(0, 4, (count, 4096), np.uint8)
        hashes = np.full(count, 0x80C3010203040506, np.uint64)
        looks = Looks(hashes, np.ones(count, bool), np.arange(count), pages, None, np.ones(count, bool))
        before, started = peak(), time.process_time()
        near = near_pictures(looks, DEFAULT)
        seconds = time.process_time() - started
        found = set(map(tuple, near.pairs.tolist()))
        told = np.mean([pair in found for pair in zip(source.tolist(), copy.tolist(), strict=True)])
        partner = np.isin(copy, near.pairs[:, 1]).mean()
        print(
            f"  {kind:6} {count:,} pages: {seconds:.0f} s of a core, {len(near.pairs):,} pairs, at most "
            f"{np.bincount(near.pairs[:, 1]).max()} a page, {peak() - before:.0f} MB more; planted copies: "
            f"{told:.1%} with their original, {partner:.1%} with some",
            flush=True,
        )


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PARTS: dict[str, Callable[[], None]] = {
    "limits": limits,
    "tones": tones,
    "truth": truth,
    "transforms": transforms,
    "documents": documents,
    "small": small,
    "symmetries": symmetries,
    "imagehash": against_imagehash,
    "clips": clips,
    "speed": speed,
    "crowds": crowds,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    if not DATA.is_dir():
        sys.exit(f"needs the labelled data in {DATA}, which is not there")
    for name, part in PARTS.items():
        if name == only or (only is None and name != "crowds"):
            print(f"\n{name}", flush=True)
            part()


if __name__ == "__main__":
    main()
