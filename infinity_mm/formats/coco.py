"""COCO captions: one object with `images`, `licenses` and `annotations`, a record for each annotation.

The user turn has the picture, the assistant turn the caption; the picture's and the licence's other fields go
to meta. An image that no annotation names is a reject of its own. What lies where is found by the brackets
alone, in chunks, so no list is held: units are byte ranges of `annotations`, and one unit is the images, for
those without a caption. Annotations name images in any order, so each worker goes once through the images
and keeps where each lies: 24 bytes an image, whatever the file's size.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.formats import json_array, mapped
from infinity_mm.formats.json_array import BLANK
from infinity_mm.formats.json_members import cuts, depths, layout, read_bytes
from infinity_mm.formats.json_value import Bad, parse, type_name
from infinity_mm.formats.media_refs import RecordError, media_of
from infinity_mm.formats.turns import CONVERSATION_FIELDS, printable
from infinity_mm.formats.types import Options, Record, Reject, Unit

LOOK_AT = 20
# What the annotations of COCO's other tasks have, the telling ones first.
OTHER_TASKS = {
    "keypoints": "keypoints",
    "segments_info": "panoptic segments",
    "segmentation": "instances (boxes and masks)",
    "bbox": "boxes",
}


class Images(NamedTuple):
    """Where each image lies, ordered by the hash of its id: first byte and number of bytes."""

    hashes: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


class CocoReader:
    def plan(self, path: Path, unit_bytes: int) -> list[Unit]:
        """Units of about `unit_bytes` of annotations, then the images. Raises OSError.

        Raises ValueError for a file without captions, which names what it is instead.
        """
        members = _with_captions(path)
        start, end = members["annotations"]
        places = [start, *cuts(path, start, end, max(unit_bytes, 1)), end]
        units = [Unit(str(path), "coco", a, b) for a, b in pairwise(places)]
        return [*units, Unit(str(path), "coco", *members["images"])]

    def read(self, unit: Unit, options: Options) -> Iterator[Record | Reject]:
        status = os.stat(unit.path)
        members = layout(unit.path, status.st_size, status.st_mtime_ns).members
        images = _images(unit.path, status.st_size, status.st_mtime_ns)
        if unit.start == members["images"][0]:
            yield from _without_caption(unit, members["annotations"], images)
            return
        licences = _licences(unit.path, members.get("licenses", (0, 0)))
        with open(unit.path, "rb") as file:
            for row, value in json_array.values(unit):
                yield _record(file, images, licences, value, row, unit.path, options)


def is_coco(path: Path) -> bool:
    """Whether a file that begins like a JSON object is one of COCO's, of whatever task."""
    status = os.stat(path)
    members = layout(str(path), status.st_size, status.st_mtime_ns).members
    if "images" not in members or any(field in members for field in CONVERSATION_FIELDS):
        return False
    with open(path, "rb") as file:
        file.seek(members["images"][0])
        head = file.read(4096).lstrip(BLANK)[:1]
    return head in (b"{", b"]") and any(m in members for m in ("annotations", "info", "licenses"))


def _with_captions(path: Path) -> dict[str, tuple[int, int]]:
    """The members of a file with captions. Raises ValueError for any other."""
    status = os.stat(path)
    members, broken = layout(str(path), status.st_size, status.st_mtime_ns)
    if "images" not in members or "annotations" not in members:
        if broken >= 0:
            raise ValueError(
                f"{path} is no sound JSON from byte {broken} on (is it whole?), and its "
                f"{'images' if 'images' not in members else 'annotations'} were not found before that"
            )
        if "images" in members:
            raise ValueError(
                f"{path} lists images without annotations (COCO's image_info): there are no captions in it"
            )
        raise ValueError(f"{path} is not in COCO's format: no lists images and annotations in its object")
    unit = Unit(str(path), "coco", *members["annotations"])
    fields: list[str] = []
    for row, value in json_array.values(unit):
        if isinstance(value, dict) and not isinstance(value, Bad):
            if "caption" in value:
                return members
            fields += [field for field in value if field not in fields]
        if row >= LOOK_AT:
            break
    if not fields:
        raise ValueError(f"{path} has no annotations: there are no captions in it")
    task = next((what for field, what in OTHER_TASKS.items() if field in fields), None)
    what = f"COCO {task}" if task else f"annotations of {', '.join(fields)[:200]}"
    raise ValueError(
        f"{path} holds {what}, no captions: "
        "COCO has those in files of their own, such as captions_train2017.json"
    )


@lru_cache(maxsize=1)
def _images(path: str, size: int, mtime_ns: int) -> Images:
    """The images that have an id, the first of those with the same one first."""
    start, end = layout(path, size, mtime_ns).members["images"]
    found: list[np.ndarray] = []
    opened = np.zeros(0, np.int64)
    with open(path, "rb") as file:
        for where, depth, opens in depths(file, start):
            own = where < end
            opened = np.concatenate((opened, where[own & opens & (depth == 1)]))
            closed = where[own & ~opens & (depth == 0)]
            spans = [(a, b + 1 - a) for a, b in zip(opened.tolist(), closed.tolist(), strict=False)]
            opened = opened[len(closed) :]
            values = ((parse(read_bytes(file, a, a + length)), a, length) for a, length in spans)
            rows = [
                (hash(value["id"]), a, length)
                for value, a, length in values
                if isinstance(value, dict) and _is_id(value.get("id"))
            ]
            found.append(np.array(rows, np.int64).reshape(-1, 3))
            if not own.all():
                break
    table = np.concatenate(found) if found else np.zeros((0, 3), np.int64)
    order = np.argsort(table[:, 0], kind="stable")
    return Images(*(np.ascontiguousarray(table[order, i]) for i in range(3)))


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _at(file: Any, images: Images, image_id: Any) -> tuple[int, dict[str, Any]] | None:
    """The number in `images` of the image with an id, and the image; None if there is none."""
    at = int(np.searchsorted(images.hashes, hash(image_id)))
    while at < len(images.hashes) and images.hashes[at] == hash(image_id):
        start = int(images.starts[at])
        value = parse(read_bytes(file, start, start + int(images.lengths[at])))
        if isinstance(value, dict) and value.get("id") == image_id:
            return at, value
        at += 1
    return None


def _licences(path: str, span: tuple[int, int]) -> dict[Any, dict[str, Any]]:
    found = [value for _, value in json_array.values(Unit(path, "coco", *span))]
    return {v["id"]: v for v in found if isinstance(v, dict) and _is_id(v.get("id"))}


def _record(
    file: Any,
    images: Images,
    licences: dict[Any, dict[str, Any]],
    value: Any,
    row: int,
    path: str,
    options: Options,
) -> Record | Reject:
    if not isinstance(value, dict):
        return mapped.record_from(value, row, path, options)
    try:
        record = _joined(file, images, licences, value)
        given = media_of({"image": record["file_name"]}, path)
    except RecordError as error:
        return Reject(row, error.bad.reason, printable(error.bad.detail))
    if not options.fields:
        options = options._replace(fields=(("text", "caption"),))
    if "file_name" not in dict(options.fields).values():
        del record["file_name"]
    return mapped.record_from(record, row, path, options, None, given)


def _joined(
    file: Any, images: Images, licences: dict[Any, dict[str, Any]], annotation: dict[str, Any]
) -> dict[str, Any]:
    """An annotation with its image's fields and its licence's name and URL. Raises RecordError.

    `id` is the annotation's; a field of the image that the annotation has too goes by `image_` and its name.
    """
    image_id = annotation.get("image_id")
    if not _is_id(image_id):
        raise RecordError("bad_type", f"image_id is {type_name(image_id)}, not a number or string")
    if not isinstance(annotation.get("caption", ""), str):
        raise RecordError("bad_type", f"caption is {type_name(annotation['caption'])}, not a string")
    found = _at(file, images, image_id)
    if found is None:
        raise RecordError("unknown_image", f"image_id {image_id!r:.80} is not among the file's images")
    image = found[1]
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        raise RecordError("bad_type", f"file_name of image {image_id!r:.80} is not a path")
    licence = licences.get(image.get("license")) if _is_id(image.get("license")) else None
    own = {"file_name": image["file_name"]}
    more = {
        f"image_{k}" if k in annotation else k: v for k, v in image.items() if k not in ("id", "file_name")
    }
    names = {f"license_{k}": licence[k] for k in ("name", "url") if licence and k in licence}
    return annotation | more | names | own


def _without_caption(unit: Unit, annotations: tuple[int, int], images: Images) -> Iterator[Reject]:
    """A reject for each image that no annotation names, or whose id can't be told from another's."""
    named = np.zeros(len(images.hashes), bool)
    seen = np.zeros(len(images.hashes), bool)
    with open(unit.path, "rb") as file:
        for _, value in json_array.values(Unit(unit.path, "coco", *annotations)):
            if isinstance(value, dict) and _is_id(value.get("image_id")):
                at = int(np.searchsorted(images.hashes, hash(value["image_id"])))
                while at < len(named) and images.hashes[at] == hash(value["image_id"]):
                    named[at] = True
                    at += 1
        for row, value in json_array.values(unit):
            key = f"images[{row}]"
            if not isinstance(value, dict):
                yield _bad_image(row, value, key)
                continue
            image_id = value.get("id")
            shown = f"image {image_id!r:.80} ({value.get('file_name')!r:.100})"
            found = _at(file, images, image_id) if _is_id(image_id) else None
            if found is None:
                yield Reject(row, "bad_type", f"id is {type_name(image_id)}, not a number or string", key)
            elif seen[found[0]]:
                yield Reject(row, "bad_type", printable(f"{shown}: another image has the same id"), key)
            elif not named[found[0]]:
                yield Reject(row, "no_caption", printable(f"{shown}: no annotation names it"), key)
            if found is not None:
                seen[found[0]] = True


def _bad_image(row: int, value: Any, key: str) -> Reject:
    if isinstance(value, Bad):
        return Reject(row, value.reason, value.detail, key)
    return Reject(row, "not_an_object", f"the image is {type_name(value)}", key)


COCO = CocoReader()
