"""A folder of images with captions: metadata files as `datasets` has them, or `NAME.txt` beside `NAME.jpg`.

A metadata file (see `metadata_rows`) rules its folder and all below it: its rows are the records, and a
picture there that no row names is a reject. In other folders each picture goes with the text of its name; a
picture or text without the other is a reject. No caption is made up from a folder's name. Units are ranges
of a metadata file, or of a folder's sorted pictures and texts; `state` says what such a range held. Memory:
the names in one folder, and 8 bytes for each name in the metadata files.
"""

import hashlib
import os
import posixpath
import stat
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infinity_mm.formats import mapped, metadata_rows
from infinity_mm.formats.extensions import EXTENSIONS
from infinity_mm.formats.json_value import dump
from infinity_mm.formats.media_refs import RecordError, media_of
from infinity_mm.formats.types import Options, Record, Reject, Unit

FORMAT = "imagefolder"
# What datasets takes for a picture by its name and `EXTENSIONS` has not.
PICTURES = {e for e, kind in EXTENSIONS.items() if kind == "image"} | {"jfif", "jpe", "j2k", "apng", "dib"}
# A text counts as this much of a unit: opening it costs about what reading so many bytes does.
TEXT_BYTES = 1024
MOST_BYTES = 1 << 20
SETTLED_NS = 2_000_000_000


class Listing(NamedTuple):
    """The names in a folder that matter, each list sorted by its bytes."""

    pictures: list[str]
    texts: list[str]
    metadata: list[str]
    folders: list[str]


class Pair(NamedTuple):
    picture: str | None
    text: str | None


class ImageFolderReader:
    def plan(self, path: Path, unit_bytes: int) -> list[Unit]:
        """Rows of the metadata files, pairs of the folders without, then what the metadata leave out.

        A metadata file given by itself is its rows alone. Raises OSError, and ValueError for a folder without
        captions, or a metadata file without the names of pictures.
        """
        if path.is_file():
            return metadata_rows.plan(path, FORMAT, unit_bytes)
        units: list[Unit] = []
        left_out: list[Unit] = []
        pairs = pictures = 0
        ruled: Path | None = None
        for folder, listing in walk(path):
            for name in listing.metadata:
                units += metadata_rows.plan(folder / name, FORMAT, unit_bytes)
            if listing.metadata and not (ruled and folder.is_relative_to(ruled)):
                ruled = folder
                left_out.append(Unit(str(folder), FORMAT, 0, 1))
            pictures += len(listing.pictures)
            if not (ruled and folder.is_relative_to(ruled)):
                found = _pairs(listing)
                pairs += sum(pair.picture is not None and pair.text is not None for pair in found)
                step = max(unit_bytes // TEXT_BYTES, 1)
                starts = range(0, len(found), step)
                units += [Unit(str(folder), FORMAT, a, min(a + step, len(found)), a) for a in starts]
        if not left_out and not pairs:
            raise ValueError(_no_captions(path, pictures))
        return units + left_out

    def read(self, unit: Unit, options: Options) -> Iterator[Record | Reject]:
        folder = Path(unit.path)
        if not folder.is_dir():
            for row, value in metadata_rows.values(unit):
                yield metadata_rows.record(value, row, unit.path, options)
        elif look(folder).metadata:
            yield from _left_out(folder)
        else:
            for row, pair in enumerate(pairs_of(folder)[unit.start : unit.end], unit.start):
                yield _record(folder, pair, row, options)


def has_pictures(path: Path) -> bool:
    return any(listing.pictures for _, listing in walk(path))


def state(unit: Unit) -> tuple[int, int]:
    """(count, digest) of what a unit of a folder is read from: names, and sizes and times of the texts."""
    folder = Path(unit.path)
    digest = hashlib.sha256()
    count = 0
    if look(folder).metadata:
        for below, listing in walk(folder):
            names = [str(below.relative_to(folder)), *listing.pictures]
            names += [_dated(below, name) for name in listing.metadata]
            digest.update(os.fsencode("\0".join(names)) + b"\0\0")
            count += len(names)
    else:
        for pair in pairs_of(folder)[unit.start : unit.end]:
            text = "" if pair.text is None else _dated(folder, pair.text)
            digest.update(os.fsencode(f"{pair.picture or ''}\0{text}\0\0"))
            count += 1
    return count, int.from_bytes(digest.digest()[:8]) >> 1


def _dated(folder: Path, name: str) -> str:
    try:
        status = os.stat(folder / name)
    except OSError:
        return name
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}"


def walk(path: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[Path, Listing]]:
    """Each folder from `path` down, before those below it; a link back up is not followed. Raises OSError."""
    listing = look(path)
    yield path, listing
    above = (*above, os.path.realpath(path))
    for name in listing.folders:
        if os.path.realpath(path / name) not in above:
            yield from walk(path / name, above)


def look(path: Path) -> Listing:
    """A folder's names; hidden ones and `__MACOSX` are left out, as datasets does. Raises OSError."""
    found = Listing([], [], [], [])
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith((".", "__")):
                continue
            extension = name.rpartition(".")[2].lower()
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
                found.folders.append(name)
            elif name in metadata_rows.NAMES:
                found.metadata.append(name)
            elif extension in PICTURES:
                found.pictures.append(name)
            elif extension == "txt":
                found.texts.append(name)
    for names in found:
        names.sort(key=os.fsencode)
    return found


def _pairs(listing: Listing) -> list[Pair]:
    """Each picture with the text of its name, and each text without a picture, by name."""
    texts = {_stem(name): name for name in listing.texts}
    alone = dict(texts)
    found = []
    for picture in listing.pictures:
        found.append(Pair(picture, texts.get(_stem(picture))))
        alone.pop(_stem(picture), None)
    found += [Pair(None, name) for name in alone.values()]
    return sorted(found, key=lambda pair: os.fsencode(pair.picture or pair.text or ""))


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def pairs_of(folder: Path) -> list[Pair]:
    """The pairs in a folder; listed anew unless the folder has been as it is for a while."""
    changed = os.stat(folder).st_mtime_ns
    if time.time_ns() - changed < SETTLED_NS:
        return _pairs(look(folder))
    return _settled(str(folder), changed)


@lru_cache(maxsize=1)
def _settled(folder: str, mtime_ns: int) -> list[Pair]:
    return _pairs(look(Path(folder)))


def _record(folder: Path, pair: Pair, row: int, options: Options) -> Record | Reject:
    if pair.picture is None or pair.text is None:
        if pair.picture is not None:
            detail = f"{pair.picture} has no text: {_stem(pair.picture)}.txt is not there"
            return Reject(row, "no_caption", detail, pair.picture)
        return Reject(row, "missing_file", f"{pair.text} has no picture of its name", pair.text)
    text = _text(folder / pair.text)
    if isinstance(text, Reject):
        return text._replace(row=row, key=pair.picture)
    value = {"file_name": pair.picture, "text": text}
    fields = options.fields or (("text", "text"),)
    if "file_name" not in dict(fields).values():
        del value["file_name"]
    try:
        given = media_of({"image": pair.picture}, str(folder))
    except RecordError as error:
        return Reject(row, *error.bad, pair.picture)
    return mapped.record_from(value, row, str(folder), options._replace(fields=fields), pair.picture, given)


def _text(path: Path) -> str | Reject:
    """A caption, its line ends as \\n and the last one gone, or why it can't be had."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return Reject(0, "bad_type", f"{path.name} is not a regular file")
        if status.st_size > MOST_BYTES:
            return Reject(0, "bad_type", f"{path.name} has {status.st_size} bytes: it is no caption")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Reject(0, "bad_encoding", f"{path.name} is not UTF-8 at byte {error.start}")
    except OSError as error:
        return Reject(0, "unreadable_file", f"{path.name}: {error.strerror}")
    return text.replace("\r\n", "\n").removesuffix("\n")


def _left_out(folder: Path) -> Iterator[Reject]:
    """A reject for each picture below a folder that no row of the metadata files below it names."""
    named = np.unique(np.fromiter((_digest(name) for name in _named(folder)), np.uint64))
    row = 0
    for below, listing in walk(folder):
        relative = below.relative_to(folder).as_posix()
        paths = [posixpath.normpath(posixpath.join(relative, name)) for name in listing.pictures]
        known = np.isin(np.array([_digest(path) for path in paths], np.uint64), named)
        for path, is_known in zip(paths, known.tolist(), strict=True):
            if not is_known:
                yield Reject(row, "no_caption", f"{path} is named by no row of a metadata file", path)
                row += 1


def _named(folder: Path) -> Iterator[str]:
    for below, listing in walk(folder):
        relative = below.relative_to(folder).as_posix()
        for name in listing.metadata:
            for unit in metadata_rows.plan(below / name, FORMAT, 1 << 62):
                for _, value in metadata_rows.values(unit):
                    if isinstance(value, dict):
                        for given in metadata_rows.named(value):
                            yield posixpath.normpath(posixpath.join(relative, given))


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest())


def _no_captions(path: Path, pictures: int) -> str:
    """What to do with a folder that has no captions."""
    if not pictures:
        return f"{path} has no pictures in it"
    example = dump({"file_name": "PATH/OF/PICTURE.jpg", "text": "CAPTION"})
    classes = [f.name for f, listing in walk(path) if listing.pictures and f != path]
    named = f" (the folders' names, such as {', '.join(classes[:3])}, are no captions)" if classes else ""
    return (
        f"{path} has no captions for its pictures, {pictures} of them{named}: write "
        f"{path / 'metadata.jsonl'} with a line like {example} for each, or a NAME.txt beside each NAME.jpg"
    )


IMAGE_FOLDER = ImageFolderReader()
