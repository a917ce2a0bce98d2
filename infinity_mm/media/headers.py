"""Width, height and number of frames from the headers of image files, by hand: no copy, no decoder.

Each parser takes the bytes (one-dimensional, format "B") and returns (width, height, frames): the size in
pixels as stored, frames None where the header does not tell. What cannot be read raises `HeaderError`;
`struct.error` and `IndexError` escape for a header that ends early.
"""

import re
from collections.abc import Callable
from struct import Struct

Size = tuple[int, int, int | None]


class HeaderError(ValueError):
    """A header that breaks its format's rules; the message is a short reason."""


_BE16x2 = Struct(">HH").unpack_from
_BE32x2 = Struct(">II").unpack_from
_BE32_TAG = Struct(">I4s").unpack_from
_LE16 = Struct("<H").unpack_from
_LE16x2 = Struct("<HH").unpack_from
_LE32 = Struct("<I").unpack_from
_LES32x2 = Struct("<ii").unpack_from
_TAG_LE32 = Struct("<4sI").unpack_from
_NETPBM = re.compile(rb"P[1-6fF](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
_PAM = re.compile(
    rb"WIDTH\s+(\d{1,9})\s(?s:.{0,200}?)HEIGHT\s+(\d{1,9})\s|HEIGHT\s+(\d{1,9})\s+WIDTH\s+(\d{1,9})"
)
_ISPE = re.compile(rb"\0\0\0\x14ispe\0\0\0\0(?s:(.{8}))")
_IHDR = re.compile(rb"ihdr(?s:(.{8}))")
_MAX_STEPS = 1 << 16  # markers, chunks or entries looked at: a hostile file must not hold up an ingest


def jpeg(view: memoryview) -> Size:
    i = 2
    for _ in range(_MAX_STEPS):
        if view[i] != 0xFF:
            raise HeaderError("no marker where one must be")
        marker = view[i + 1]
        if marker == 0xFF:  # a fill byte
            i += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = _BE16x2(view, i + 5)
            return width, height, 1
        if marker in (0xD9, 0xDA):
            raise HeaderError("no frame header before the image data")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            i += 2
        else:
            i += 2 + (view[i + 2] << 8 | view[i + 3])
    raise HeaderError("too many markers")


def png(view: memoryview) -> Size:
    if bytes(view[12:16]) != b"IHDR":
        raise HeaderError("IHDR is not the first chunk" if len(view) > 15 else "truncated header")
    width, height = _BE32x2(view, 16)
    i, end = 33, len(view) - 8
    for _ in range(_MAX_STEPS):
        if i > end:
            return width, height, 1
        length, tag = _BE32_TAG(view, i)
        if tag == b"acTL":
            return width, height, _BE32x2(view, i + 8)[0]
        if tag in (b"IDAT", b"IEND"):
            return width, height, 1
        i += 12 + length
    raise HeaderError("too many chunks")


def gif(view: memoryview) -> Size:
    width, height = _LE16x2(view, 6)
    return width, height, None


def webp(view: memoryview) -> Size:
    tag = bytes(view[12:16])
    if tag == b"VP8 ":
        if bytes(view[23:26]) != b"\x9d\x01\x2a":
            raise HeaderError("no VP8 start code" if len(view) > 25 else "truncated header")
        width, height = _LE16x2(view, 26)
        return width & 0x3FFF, height & 0x3FFF, 1
    if tag == b"VP8L":
        if view[20] != 0x2F:
            raise HeaderError("no VP8L signature")
        bits = _LE32(view, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1
    if tag == b"VP8X":
        width = _LE16(view, 24)[0] + (view[26] << 16) + 1
        height = _LE16(view, 27)[0] + (view[29] << 16) + 1
        return width, height, _webp_frames(view) if view[20] & 2 else 1
    raise HeaderError("no VP8, VP8L or VP8X chunk" if len(view) > 15 else "truncated header")


def _webp_frames(view: memoryview) -> int:
    frames, i, end = 0, 12, len(view) - 8
    for _ in range(_MAX_STEPS):
        if i > end:
            return frames
        tag, length = _TAG_LE32(view, i)
        frames += tag == b"ANMF"
        i += 8 + length + (length & 1)
    raise HeaderError("too many chunks")


def bmp(view: memoryview) -> Size:
    if view[14] == 12:
        width, height = _LE16x2(view, 18)
    else:
        width, height = _LES32x2(view, 18)
    if width < 0:
        raise HeaderError("negative width")
    return width, abs(height), 1


def tiff(view: memoryview) -> Size:
    width = height = None
    frames = 0
    for tags in tiff_directories(view):
        if frames == 0:
            width, height = tags.first(256), tags.first(257)
        frames += 1
    if width is None or height is None:
        raise HeaderError("no size in the first directory")
    return width, height, frames


class Directory:
    """One image file directory of a TIFF: its entries as tag -> (type, count, offset of the value)."""

    def __init__(self, view: memoryview, order: str, entries: dict[int, tuple[int, int, int]]) -> None:
        self.view, self.order, self.entries = view, order, entries

    def values(self, tag: int, limit: int | None = None) -> list[int]:
        """The whole numbers under a tag, at most `limit` of them; empty where the tag is absent."""
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if code is None:
            return []
        count = count if limit is None else min(count, limit)
        return list(Struct(f"{self.order}{count}{code}").unpack_from(self.view, at))

    def first(self, tag: int) -> int | None:
        found = self.values(tag, 1)
        return found[0] if found else None


_TIFF_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


def tiff_directories(view: memoryview) -> list[Directory]:
    """The chain of directories, in file order; a value that lies outside the file is a truncation."""
    order = "<" if view[0] == 0x49 else ">"
    big = 0x2B in (view[2], view[3])
    count_at, entry_at = Struct(order + ("Q" if big else "H")), Struct(order + ("HHQQ" if big else "HHII"))
    next_at = Struct(order + ("Q" if big else "I"))
    at = next_at.unpack_from(view, 8 if big else 4)[0]
    seen: set[int] = set()
    found: list[Directory] = []
    total = 0
    while at:
        if at in seen:
            raise HeaderError("the directories form a loop")
        seen.add(at)
        if at > len(view):  # before struct sees it: 64 bits may be more than an offset can be
            raise IndexError("a directory beyond the end")
        count = count_at.unpack_from(view, at)[0]
        if at + count_at.size + count * entry_at.size + next_at.size > len(view):
            raise IndexError("a directory beyond the end")
        at += count_at.size
        total += count
        if total > _MAX_STEPS:
            raise HeaderError("too many directory entries")
        entries = {}
        for _ in range(count):
            tag, kind, number, value = entry_at.unpack_from(view, at)
            length = _TIFF_SIZES.get(kind, 0) * number
            place = at + entry_at.size - next_at.size if length <= next_at.size else value
            if place + length > len(view):
                raise IndexError("a value beyond the end")
            entries[tag] = (kind, number, place)
            at += entry_at.size
        found.append(Directory(view, order, entries))
        at = next_at.unpack_from(view, at)[0]
    return found


def netpbm(view: memoryview) -> Size:
    if view[1] == 0x37:
        found = _PAM.search(view[:2048])
        if found is None:
            raise HeaderError("no WIDTH and HEIGHT")
        width, height, height2, width2 = found.groups()
        return int(width or width2), int(height or height2), 1
    found = _NETPBM.match(view[:65536])
    if found is None:
        raise HeaderError("no width and height")
    return int(found[1]), int(found[2]), 1


def heif(view: memoryview) -> Size:
    sizes = [_BE32x2(match[1]) for match in _ISPE.finditer(view[: 1 << 16])]
    if not sizes:
        raise HeaderError("no image size box")
    width, height = max(sizes, key=lambda size: size[0] * size[1])  # tiles and thumbnails have one too
    return width, height, None if bytes(view[8:12]) in (b"avis", b"msf1") else 1


def ico(view: memoryview) -> Size:
    count = _LE16(view, 4)[0]
    if count == 0:
        raise HeaderError("no pictures")
    # One byte each, 0 for 256; frames are sizes of one picture, so there is one.
    sizes = [(view[6 + 16 * i] or 256, view[7 + 16 * i] or 256) for i in range(count)]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return width, height, 1


def jp2(view: memoryview) -> Size:
    if view[0] == 0xFF:
        right, bottom, left, top = Struct(">IIII").unpack_from(view, 8)
        return max(right - left, 0), max(bottom - top, 0), 1
    found = _IHDR.search(view[:4096])
    if found is None:
        raise HeaderError("no image header box")
    height, width = _BE32x2(found[1])
    return width, height, 1


def psd(view: memoryview) -> Size:
    height, width = _BE32x2(view, 14)
    return width, height, 1


def qoi(view: memoryview) -> Size:
    width, height = _BE32x2(view, 4)
    return width, height, 1


PARSERS: dict[str, Callable[[memoryview], Size]] = {
    "jpeg": jpeg,
    "png": png,
    "gif": gif,
    "webp": webp,
    "bmp": bmp,
    "tiff": tiff,
    "ppm": netpbm,
    "pfm": netpbm,
    "avif": heif,
    "heic": heif,
    "ico": ico,
    "cur": ico,
    "jp2": jp2,
    "psd": psd,
    "qoi": qoi,
}
