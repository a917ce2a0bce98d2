"""The formats by name, and what format a file is in, told from its content and never from its name."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infinity_mm.formats import image_folder, json_array, json_lines
from infinity_mm.formats.coco import COCO, is_coco
from infinity_mm.formats.datasets_folder import DATASETS, is_saved
from infinity_mm.formats.image_folder import IMAGE_FOLDER
from infinity_mm.formats.infinity_mm_release import INFINITY_MM, InfinityMMWriter
from infinity_mm.formats.json_files import LLAVA, MAPPED, MESSAGES
from infinity_mm.formats.json_value import Bad
from infinity_mm.formats.llava import LlavaWriter
from infinity_mm.formats.messages import MessagesWriter
from infinity_mm.formats.metadata_rows import NAMES, TEXTS, is_metadata
from infinity_mm.formats.parquet import PARQUET
from infinity_mm.formats.table_writers import DatasetsWriter, ParquetWriter
from infinity_mm.formats.tar_files import is_tar
from infinity_mm.formats.types import Reader, Unit, Writer
from infinity_mm.formats.webdataset import WEBDATASET
from infinity_mm.formats.webdataset_writer import WebDatasetWriter

READERS: dict[str, Reader] = {
    "llava": LLAVA,
    "messages": MESSAGES,
    "mapped": MAPPED,
    "webdataset": WEBDATASET,
    "infinity-mm": INFINITY_MM,
    "parquet": PARQUET,
    "datasets": DATASETS,
    "coco": COCO,
    "imagefolder": IMAGE_FOLDER,
}
WRITERS: dict[str, Writer] = {
    "llava": LlavaWriter(),
    "messages": MessagesWriter(),
    "webdataset": WebDatasetWriter(),
    "infinity-mm": InfinityMMWriter(),
    "parquet": ParquetWriter(),
    "datasets": DatasetsWriter(),
}
HUB = "hf:"
DATA_SUFFIXES = {".json", ".jsonl", ".ndjson", ".tar", ".parquet", ".arrow", ".tgz", ".gz", ".zst"}
NOT_DATA = {
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
}
LOOK_AT = 20
UNCOMPRESS_TAR = "uncompress it: members of a compressed tar have no place of their own"
FIRST_BYTES = [
    (b"\x1f\x8b", "gzip data: gunzip it first; if it is a tar, " + UNCOMPRESS_TAR),
    (b"\x28\xb5\x2f\xfd", "zstd data: unzstd it first; if it is a tar, " + UNCOMPRESS_TAR),
    (b"BZh", "bzip2 data: bunzip2 it first; if it is a tar, " + UNCOMPRESS_TAR),
    (b"\xfd7zXZ\0", "xz data: unxz it first; if it is a tar, " + UNCOMPRESS_TAR),
    (b"PK\x03\x04", "a zip archive: unzip it and give the files in it"),
    (b"<", "HTML or XML, often an error page saved in place of the file: fetch it again"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (b"\xff\xd8\xff", "a JPEG picture: give the file with the conversations"),
    (b"\x89PNG", "a PNG picture: give the file with the conversations"),
    (b"\xff\xfe", "UTF-16 text: convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16 text: convert it to UTF-8"),
    (b"\x80", "possibly a pickle, which is never loaded: save it as JSON Lines or Parquet"),
]
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
CLIPS = (".mp4", ".webm", ".mkv", ".avi", ".mov")
GUESSES = {
    "question": ("question", "q", "query", "prompt", "instruction", "input", "problem"),
    "answer": ("answer", "a", "response", "output", "label", "answers", "solution", "completion"),
    "text": TEXTS,
}


def expand(path: Path, format: str = "auto") -> list[Path]:
    """The inputs a path stands for: itself, or the data files below a folder, sorted by path.

    A folder saved by `datasets`, a hub id ("hf:owner/name") and a folder of images are one input. A folder is
    one of images where `format` says so, or if no data files but the metadata of images are below it: of a
    folder that has other data too, the metadata files are inputs as they are. Hidden, temporary and
    pointer-like files are left out. Raises ValueError where nothing is there.
    """
    if str(path).startswith(HUB):
        return [path]
    if not path.exists():
        raise ValueError(f"{path} is not there")
    if path.is_file() or is_saved(path) or format == image_folder.FORMAT:
        return [path]
    found = list(_below(path))
    if format == "auto" and all(map(is_metadata, found)) and (found or image_folder.has_pictures(path)):
        return [path]
    if not found:
        raise ValueError(f"{path} has no data files ({', '.join(sorted(DATA_SUFFIXES))}) in it")
    return found


def _below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir(), key=lambda p: os.fsencode(p.name)):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            if is_saved(entry):
                yield entry
            else:
                yield from _below(entry)
        elif entry.name not in NOT_DATA and (
            entry.suffix.lower() in DATA_SUFFIXES or (entry.name in NAMES and is_metadata(entry))
        ):
            yield entry


def recognise(path: Path) -> str:
    """The name of the format of an input (see `expand`). Raises ValueError where it cannot be told."""
    if str(path).startswith(HUB):
        return "datasets"
    if path.is_dir():
        if is_saved(path):
            return "datasets"
        inputs = expand(path)
        if inputs == [path]:
            return image_folder.FORMAT
        names = sorted({recognise(p) for p in inputs})
        if len(names) > 1:
            raise ValueError(
                f"{path} has files in several formats ({', '.join(names)}): give them one by one"
            )
        return names[0]
    if not path.exists():
        raise ValueError(f"{path} is not there")
    if is_metadata(path):
        return image_folder.FORMAT
    with open(path, "rb") as file:
        head = file.read(4096)
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise ValueError(f"{path} is empty" if not head else f"{path} has nothing but blanks in it")
    if is_tar(head):
        return "webdataset"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "datasets"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    for magic, what in FIRST_BYTES:
        if head.startswith(magic) or (magic == b"<" and text.startswith(magic)):
            raise ValueError(f"{path} is {what}")
    if text[:1] == b"{" and is_coco(path):
        return "coco"
    if text[:1] in (b"{", b"["):
        return _recognise_json(path)
    raise ValueError(
        f"{path} is in no known format: it begins with {head[:16]!r}; "
        f"the formats are {', '.join(READERS)} (give one with --format)"
    )


def _recognise_json(path: Path) -> str:
    if json_array.shape(path) == "lines":
        values = json_lines.values(Unit(str(path), "", 0, path.stat().st_size))
    else:
        start = json_array.begin(path)
        values = json_array.values(Unit(str(path), "", start, path.stat().st_size))
    problem, first = "no element", None
    for row, value in values:
        if isinstance(value, dict):
            first = value if first is None else first
            if (name := _style(value)) is not None:
                return name
        elif row == 0:
            problem = value.detail if isinstance(value, Bad) else f"the first element is {value!r:.40}"
        if row >= LOOK_AT:
            break
    if first is None:
        raise ValueError(f"{path} looks like JSON, but no record can be read: {problem}")
    keys = ", ".join(first)
    raise ValueError(
        f"{path} has neither conversations nor messages, its fields are: {keys[:300]}. "
        f"Say what they are, e.g. --map {suggest_map(first)}"
    )


def _style(record: dict[str, Any]) -> str | None:
    turns = record.get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[0], dict):
        if "from" in turns[0]:
            return "llava"
        return "messages" if "role" in turns[0] else None
    for field in ("messages", "conversation", "chosen"):
        if isinstance(record.get(field), list):
            return "messages"
    return None


def suggest_map(record: dict[str, Any]) -> str:
    """A `--map` that fits a record as far as its names and values tell."""
    pairs: list[tuple[str, str]] = []
    for target, endings in (("image", PICTURES), ("video", CLIPS)):
        for name in sorted(record, key=lambda k: (not k.startswith(target), k)):
            value = record[name]
            several = isinstance(value, list) and bool(value)
            one = value[0] if several and isinstance(value, list) else value
            if isinstance(one, str) and (one.lower().endswith(endings) or name in (target, target + "s")):
                pairs.append((target + "s" if several else target, _quoted(name)))
                break
    texts = {k: v for k, v in record.items() if v not in (None, "", []) and k not in dict(pairs).values()}
    for target, names in GUESSES.items():
        known = next((n for n in names if n in texts), None)
        if known is not None and not (
            target == "text" and any(t in ("question", "answer") for t, _ in pairs)
        ):
            pairs.append((target, _quoted(known)))
    if not pairs:
        pairs = [("question", "FIELD"), ("answer", "FIELD")]
    return ",".join(f"{t}={v}" for t, v in pairs)


def _quoted(name: str) -> str:
    return name if json.dumps(name) == f'"{name}"' and "," not in name else "FIELD"
