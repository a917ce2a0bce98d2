"""WebDataset tars in: neighbouring members with one key are a sample, pictures and clips stay where they are.

A key is a member's path up to the first dot of its base name. The json member is a LLaVA record, messages,
or fields for `--map`; without one a txt member is the caption. Only headers, json, txt and cls members are
read: a medium becomes a byte range. Memory holds one sample; a tar over 256 MB is cut into several units,
for which the plan walks its headers.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infinity_mm.formats import mapped, turns
from infinity_mm.formats.extensions import EXTENSIONS
from infinity_mm.formats.json_value import Bad, parse
from infinity_mm.formats.media_refs import MEDIA_FIELDS, RecordError, media_of
from infinity_mm.formats.tar_files import Damaged, Member, members, read
from infinity_mm.formats.types import Options, Record, Ref, Reject, Unit

PIECE_BYTES = 256 << 20


class WebDatasetReader:
    def __init__(self, format: str) -> None:
        self.format = format

    def plan(self, path: Path, unit_bytes: int) -> list[Unit]:
        """One unit a tar, several where it is large. Raises OSError."""
        size = os.stat(path).st_size
        piece = max(unit_bytes, PIECE_BYTES)
        starts = [(0, 0)]
        if size > piece:
            handle = os.open(path, os.O_RDONLY)
            try:
                for row, (start, _) in enumerate(_starts(handle, size)):
                    if start - starts[-1][0] >= piece:
                        starts.append((start, row))
            finally:
                os.close(handle)
        ends = [start for start, _ in starts[1:]] + [size]
        return [
            Unit(str(path), self.format, start, end, row)
            for (start, row), end in zip(starts, ends, strict=True)
        ]

    def read(self, unit: Unit, options: Options) -> Iterator[Record | Reject]:
        handle = os.open(unit.path, os.O_RDONLY)
        row = max(unit.first, 0)
        try:
            for key, group, damage in groups(handle, unit.start, unit.end):
                if damage is None:
                    yield sample(handle, unit.path, key, group, row, options)
                else:
                    yield Reject(row, "damaged_container", damage, key or None)
                row += 1
        finally:
            os.close(handle)


def _starts(handle: int, size: int) -> Iterator[tuple[int, str]]:
    """Where each sample begins, by headers alone; ends quietly where the tar is damaged."""
    key = None
    try:
        for member in members(handle, 0, size):
            own = split_name(member.name)[0]
            if own and member.kind != "folder" and own != key:
                yield member.start, own
                key = own
    except Damaged:
        return


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member; the key is "" for what belongs to no sample."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem and extension else ("", "")


def groups(handle: int, start: int, end: int) -> Iterator[tuple[str, list[Member], str | None]]:
    """(key, members, None) for each sample; at the end (key, members, what is wrong) for a damaged tar.

    A sample that may have lost members to the damage, having no picture yet, goes with the damage.
    """
    key = ""
    group: list[Member] = []
    try:
        for member in members(handle, start, end):
            own = split_name(member.name)[0]
            if not own or member.kind == "folder":
                continue
            if own != key and group:
                yield key, group, None
                group = []
            key = own
            group.append(member)
    except Damaged as error:
        cut = split_name(error.name)[0]
        if group and cut != key and (cut or any(_medium(m) for m in group)):
            yield key, group, None
            key, group = "", []
        yield cut or key, group, str(error)
        return
    if group:
        yield key, group, None


def _medium(member: Member) -> str | None:
    """The kind of medium a member's extension says it is."""
    return EXTENSIONS.get(split_name(member.name)[1].rpartition(".")[2])


def sample(
    handle: int, path: str, key: str, group: list[Member], row: int, options: Options
) -> Record | Reject:
    """The record of one key."""
    by_extension: dict[str, Member] = {}
    for member in group:
        extension = split_name(member.name)[1]
        if extension in by_extension:
            return Reject(row, "bad_type", f"two members named {member.name}"[:300], key)
        by_extension[extension] = member
    for member in group:
        read_as = _medium(member) or split_name(member.name)[1] in ("json", "txt")
        if read_as and member.kind != "file":
            return Reject(row, "bad_type", f"{member.name} is a {member.kind}, not a file"[:300], key)
    media = _in_order([m for m in group if _medium(m)])
    value: Any = parse(read(handle, by_extension["json"])) if "json" in by_extension else {}
    if isinstance(value, dict):
        value = dict(value)
        texts = {e: read(handle, by_extension[e]) for e in ("txt", "cls") if e in by_extension}
        for extension, data in texts.items():
            try:
                value.setdefault(extension, data.decode().removesuffix("\n"))
            except UnicodeDecodeError as error:
                detail = f"{key}.{extension} is not UTF-8 at byte {error.start}"
                return Reject(row, "bad_encoding", detail, key)
        if media:
            _put_media(value, media, path)
    return _record(value, row, path, options, key, "json" in by_extension)


def _record(value: Any, row: int, path: str, options: Options, key: str, has_json: bool) -> Record | Reject:
    if not isinstance(value, dict) or isinstance(value, Bad):
        return turns.record_from(value, row, path, options, "llava", key)
    if options.fields:
        try:
            given = media_of(value, path)
        except RecordError as error:
            return Reject(row, *error.bad, key)
        rest = {k: v for k, v in value.items() if k not in MEDIA_FIELDS} if given.refs else value
        return mapped.record_from(rest, row, path, options, key, given)
    if "conversations" in value:
        return turns.record_from(value, row, path, options, "llava", key)
    if any(value.get(f) is not None for f in ("messages", "conversation", "chosen")):
        return turns.record_from(value, row, path, options, "messages", key)
    if "txt" in value:
        given = media_of({k: v for k, v in value.items() if k in MEDIA_FIELDS and has_refs(v)}, path)
        rest = {k: v for k, v in value.items() if k not in MEDIA_FIELDS or not has_refs(v)}
        caption = Options((("text", "txt"),), options.source_field)
        return mapped.record_from(rest, row, path, caption, key, given)
    found = f"fields: {', '.join(value)}; name them with --map" if has_json else "no json or txt member"
    return Reject(row, "no_conversation", turns.printable(found[:300]), key)


def has_refs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, Ref) or v in ("image", "video") for v in value)


def _in_order(found: list[Member]) -> list[Member]:
    """By number where all are numbered (KEY.0.jpg, KEY.10.jpg), else as they lie in the tar."""
    numbers = [split_name(m.name)[1].rpartition(".")[0] for m in found]
    if all(n.isdecimal() and n.isascii() for n in numbers):
        return [m for _, m in sorted(zip(map(int, numbers), found, strict=True), key=lambda pair: pair[0])]
    return found


def _put_media(value: dict[str, Any], found: list[Member], path: str) -> None:
    """Make the members the record's media, under the names it has for them; empty members are none."""
    names: dict[str, list[Any]] = {}
    for kind in ("image", "video"):
        one, many = value.pop(kind, None), value.pop(kind + "s", None)
        given = many or one
        names[kind] = given if isinstance(given, list) else [given]
    value.pop("media_order", None)
    media: dict[str, list[Ref]] = {"image": [], "video": []}
    for kind in ("image", "video"):
        own = [m for m in found if _medium(m) == kind]
        if len(names[kind]) != len(own) or not all(isinstance(n, str) and n for n in names[kind]):
            names[kind] = [m.name for m in own]
        for member, name in zip(own, names[kind], strict=True):
            if member.size:
                media[kind].append(Ref("range", path, member.data, member.size, member.name, name))
    kinds = [EXTENSIONS[split_name(m.name)[1].rpartition(".")[2]] for m in found if m.size]
    for kind, refs in media.items():
        if refs:
            value[kind + "s"] = refs
    if kinds != sorted(kinds):
        value["media_order"] = kinds


WEBDATASET = WebDatasetReader("webdataset")
