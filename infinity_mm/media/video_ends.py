"""Where a video file ends by its own account: FFmpeg reads a file that is cut as if it ended there."""

from struct import Struct
from struct import error as StructError

_BOX = Struct(">I4s").unpack_from
_BE64 = Struct(">Q").unpack_from
_LE32 = Struct("<I").unpack_from
_MAX_BOXES = 1 << 16
_EBML_SEGMENT = b"\x18\x53\x80\x67"


def announced_end(view: memoryview, form: str) -> int | None:
    """The offset just past the last byte announced by the outermost structure; None where none tells."""
    try:
        if form in ("mp4", "mov"):
            return _iso(view)
        if form == "avi":
            return 8 + _LE32(view, 4)[0]
        if form in ("webm", "mkv"):
            return _matroska(view)
    except (StructError, IndexError):
        return len(view) + 1
    return None


def _iso(view: memoryview) -> int:
    """The end of the last top-level box; junk after the last whole box is no truncation."""
    i = 0
    for _ in range(_MAX_BOXES):
        if i + 8 > len(view):
            break
        size, name = _BOX(view, i)
        if size == 1:
            size = _BE64(view, i + 8)[0]
        if size == 0:  # to the end of the file
            break
        if size < 8 or not name.isalnum():
            break
        i += size
    return i


def _matroska(view: memoryview) -> int | None:
    """The end of the segment; None for one of unknown size, as streams have."""
    size, width = _vint(view, 4)
    at = 4 + width + (size or 0)
    if at + 4 > len(view):
        raise IndexError("no segment")
    if bytes(view[at : at + 4]) != _EBML_SEGMENT:
        return None
    size, width = _vint(view, at + 4)
    return None if size is None else at + 4 + width + size


def _vint(view: memoryview, at: int) -> tuple[int | None, int]:
    """An EBML number and its width in bytes; None for "unknown"."""
    width = 9 - view[at].bit_length()
    if width > 8 or at + width > len(view):
        raise IndexError("an EBML size beyond the end")
    value = int.from_bytes(view[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), width
