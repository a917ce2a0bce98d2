"""How a picture is turned when it is decoded, from the first of its bytes; no pixel is decoded.

It tells what `decode_image` will do, for JPEG, PNG and WebP by their EXIF, and for TIFF by its own directory.
A PNG whose EXIF comes after its pixels is taken to have none.
"""

from collections.abc import Callable
from struct import Struct
from struct import error as StructError

from infinity_mm.media.orientation import orientation

HEAD = 1 << 16  # bytes that tell it for nearly every picture
_BE16 = Struct(">H").unpack_from
_BE32_TAG = Struct(">I4s").unpack_from
_TAG_LE32 = Struct("<4sI").unpack_from


def turned(head: bytes, form: str, whole: bool) -> int | None:
    """The EXIF orientation, 1 to 8, of a picture of a format that begins with `head`, or is it if `whole`.

    None where more of it must be read. Damage is for the decoder to tell, and counts as 1 here.
    """
    find = _FINDERS.get(form)
    if find is None:
        return 1
    try:
        return find(head)
    except (IndexError, StructError):
        return 1 if whole else None


def is_on_its_side(orientation: int) -> bool:
    """Whether width and height change places when a picture is turned upright."""
    return orientation >= 5


def _jpeg(head: bytes) -> int:
    found, i = 1, 2
    while True:
        if head[i] != 0xFF:
            return found
        marker = head[i + 1]
        if marker == 0xFF:
            i += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            i += 2
            continue
        if marker in (0xD9, 0xDA):
            return found
        start, i = i, i + 2 + _BE16(head, i + 2)[0]
        if marker == 0xE1 and head[start + 4 : start + 10] == b"Exif\0\0":
            found = orientation(_slice(head, start + 10, i))


def _png(head: bytes) -> int:
    i = 8
    while True:
        length, tag = _BE32_TAG(head, i)
        if tag == b"eXIf":
            return orientation(_slice(head, i + 8, i + 8 + length))
        if tag in (b"IDAT", b"IEND"):
            return 1
        i += 12 + length


def _webp(head: bytes) -> int:
    flags = head[20]
    if head[12:16] != b"VP8X" or not flags & 8:
        return 1
    i = 12
    while True:
        tag, length = _TAG_LE32(head, i)
        if tag == b"EXIF":
            return orientation(_slice(head, i + 8, i + 8 + length))
        i += 8 + length + (length & 1)


def _tiff(head: bytes) -> int:
    at = Struct(("<" if head[:2] == b"II" else ">") + "I").unpack_from(head, 4)[0]
    count = Struct(("<" if head[:2] == b"II" else ">") + "H").unpack_from(head, at)[0]
    return orientation(_slice(head, 0, at + 2 + 12 * count))


def _slice(head: bytes, start: int, end: int) -> bytes:
    if end > len(head):
        raise IndexError
    return head[start:end]


_FINDERS: dict[str, Callable[[bytes], int]] = {"jpeg": _jpeg, "png": _png, "webp": _webp, "tiff": _tiff}
