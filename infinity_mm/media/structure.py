"""Whether an image container is whole, told from its structure before any decoder sees it.

Pillow forgives much (missing ends, bad checksums of PNG image data) and can be told by anyone in the process
to forgive more; what is checked here does not depend on it. Every function raises MediaError.
"""

import zlib
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError

from infinity_mm.media.errors import MediaError
from infinity_mm.media.headers import HeaderError, tiff_directories

MAX_ANCILLARY = 16 << 20  # bytes that a PNG's profile or text may inflate to: real profiles stay below 4 MB
_CHUNK = Struct(">I4s").unpack_from
_BE32 = Struct(">I").unpack_from
_LE16x4 = Struct("<HHHH").unpack_from
_TAG_LE32 = Struct("<4sI").unpack_from

_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT"))
# Chunks whose damage is forgiven. An unknown one is not: a flipped bit turns tRNS into "uRNS".
_REMARKS = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tIME", b"pHYs"))


@dataclass(frozen=True, slots=True)
class Whole:
    """A container that is whole: the bytes to decode, how many frames (None: ask the decoder), its EXIF."""

    raw: bytes
    frames: int | None = None
    exif: bytes = b""


def png(raw: bytes) -> Whole:
    """Checks the order and length of the chunks, their CRC but for remarks, and what those inflate to.

    The bytes returned hold only the chunks that make pixels: damaged text harms no pixel, and Pillow would
    inflate it. Bytes after IEND are ignored.
    """
    view, i, kept, seen, exif = memoryview(raw), 8, [(0, 8)], list[bytes](), b""
    announced = controls = 0
    while True:
        if i + 12 > len(raw):
            raise MediaError("truncated", "no IEND chunk")
        length, tag = _CHUNK(raw, i)
        end = i + 12 + length
        if not tag.isalpha():
            raise MediaError("corrupt", f"no chunk name at byte {i + 4}")
        if end > len(raw):
            raise MediaError("truncated", f"{_name(tag)} chunk ends beyond the file")
        if tag not in _REMARKS and zlib.crc32(view[i + 4 : end - 4]) != _BE32(raw, end - 4)[0]:
            raise MediaError("corrupt", f"bad CRC in the {_name(tag)} chunk at byte {i}")
        if tag in _PIXEL_CHUNKS:
            if tag == b"acTL":
                if length < 8 or b"IDAT" in seen or announced:
                    raise MediaError("corrupt", "misplaced acTL chunk")
                announced = _BE32(raw, i + 8)[0]
                if not 0 < announced < 1 << 31:
                    raise MediaError("corrupt", f"{announced} frames announced")
            controls += tag == b"fcTL"
            if kept[-1][1] == i:
                kept[-1] = (kept[-1][0], end)
            else:
                kept.append((i, end))
        elif tag[0] & 0x20 == 0:
            raise MediaError("unsupported", f"critical chunk {_name(tag)}")
        elif tag == b"eXIf":
            exif = raw[i + 8 : end - 4]
        elif tag in (b"iCCP", b"zTXt", b"iTXt"):
            _check_inflated(tag, view[i + 8 : end - 4])
        if not seen or seen[-1] != tag:
            seen.append(tag)
        i = end
        if tag == b"IEND":
            break
    if seen[0] != b"IHDR" or seen.count(b"IDAT") != 1:
        raise MediaError("corrupt", "not one IHDR chunk and one run of IDAT chunks")
    if announced and controls < announced:
        raise MediaError("truncated", f"{controls} of {announced} frames")
    if len(kept) == 1 and kept[0][1] == len(raw):
        return Whole(raw, exif=exif)
    return Whole(b"".join(view[start:end] for start, end in kept), exif=exif)


def _name(tag: bytes) -> str:
    return tag.decode("ascii")


def _check_inflated(tag: bytes, body: memoryview) -> None:
    """Refuses a zip bomb in a chunk that holds a deflated profile or text."""
    fields = bytes(body[:512]).split(b"\0", 1)[0]
    start = len(fields) + 2
    if tag == b"iTXt":
        if bytes(body[start - 1 : start]) != b"\1":
            return
        head = bytes(body[start + 1 : start + 1024]).split(b"\0", 2)
        start += 1 + sum(len(part) + 1 for part in head[:2])
    try:
        size = len(zlib.decompressobj().decompress(body[start:], MAX_ANCILLARY + 1))
    except zlib.error:
        return  # damaged text harms no pixel
    if size > MAX_ANCILLARY:
        raise MediaError("bomb", f"the {_name(tag)} chunk inflates to more than {MAX_ANCILLARY >> 20} MB")


def gif(raw: bytes) -> Whole:
    """Walks all blocks to the trailer and counts the frames; bytes after the trailer are ignored."""
    i, frames = 13 + (3 << (raw[10] & 7) + 1 if len(raw) > 10 and raw[10] & 0x80 else 0), 0
    try:
        while (block := raw[i]) != 0x3B:
            if block == 0x21:
                i += 2
            elif block == 0x2C:
                width, height = _LE16x4(raw, i + 1)[2:]
                if width == 0 or height == 0:
                    raise MediaError("zero_size", f"frame {frames} is {width} by {height}")
                i += 10 + (3 << (raw[i + 9] & 7) + 1 if raw[i + 9] & 0x80 else 0)
                if not 1 <= raw[i] <= 11:
                    raise MediaError("corrupt", f"LZW codes of {raw[i]} bits")
                i += 1
                frames += 1
            elif block == 0:  # some writers pad between blocks
                i += 1
                continue
            else:
                raise MediaError("corrupt", f"no GIF block at byte {i}")
            while length := raw[i]:
                i += length + 1
            i += 1
    except (IndexError, StructError):
        raise MediaError("truncated", "no GIF trailer") from None
    if frames == 0:
        raise MediaError("corrupt", "a GIF without a frame")
    return Whole(raw, frames)


def webp(raw: bytes) -> Whole:
    """Checks that the RIFF chunk and all within lie in the file; bytes after it are ignored."""
    size = _TAG_LE32(raw, 0)[1] + 8
    if size > len(raw) + 1:  # the pad byte of an odd chunk is missing from some files
        raise MediaError("truncated", f"{len(raw)} of {size} bytes")
    i, exif = 12, b""
    while i + 8 <= min(size, len(raw)):
        tag, length = _TAG_LE32(raw, i)
        if i + 8 + length > min(size, len(raw)):
            raise MediaError("corrupt", f"the WebP chunk at byte {i} ends beyond the file")
        if tag == b"EXIF":
            exif = raw[i + 8 : i + 8 + length]
        i += 8 + length + (length & 1)
    return Whole(raw, exif=exif)


def bmp(raw: bytes) -> Whole:
    """Checks that rows stored raw lie in the file."""
    offset, header = int.from_bytes(raw[10:14], "little"), raw[14]
    if header == 12:
        width, height, _, depth = _LE16x4(raw, 18)
        compression = 0
    else:
        width, height, _, depth, compression = Struct("<iiHHI").unpack_from(raw, 18)
    stride = (width * depth + 31) // 32 * 4
    if compression in (0, 3) and offset + stride * abs(height) > len(raw):
        raise MediaError("truncated", f"{len(raw)} of {offset + stride * abs(height)} bytes")
    return Whole(raw)


def tiff(raw: bytes) -> Whole:
    """Checks that every directory, value, strip and tile lies in the file."""
    try:
        directories = tiff_directories(memoryview(raw))
        for number, directory in enumerate(directories):
            offsets = directory.values(273) or directory.values(324)
            lengths = directory.values(279) or directory.values(325)
            if not offsets or (lengths and len(lengths) != len(offsets)):
                raise MediaError("corrupt", f"directory {number} does not say where its pixels lie")
            if any(o + n > len(raw) for o, n in zip(offsets, lengths or [1] * len(offsets), strict=True)):
                raise MediaError("truncated", f"pixels of directory {number} lie beyond the file")
    except (IndexError, StructError):
        raise MediaError("truncated", "a TIFF directory lies beyond the file") from None
    except HeaderError as error:
        raise MediaError("corrupt", str(error)) from None
    return Whole(raw, len(directories), raw)


CHECKS = {"png": png, "gif": gif, "webp": webp, "bmp": bmp, "tiff": tiff}
